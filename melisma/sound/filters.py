"""Digital filters for mastering, under scipy's names.

Importing `scipy.signal` and `scipy.ndimage` takes longer than mastering ten seconds of sound; the
tests compare with them. Sound is float64 [..., sample]. A second-order section is (b0, b1, b2, a1,
a2), with a0 = 1.
"""

from __future__ import annotations

import math

import numpy as np

from melisma.simd.jit import compiled_loop

Section = tuple[float, float, float, float, float]
"""A second-order section."""
BUTTERWORTH_Q = 1 / math.sqrt(2)
"""Quality factor of a second-order Butterworth filter."""


def high_pass(cutoff_hz: float, rate_hz: int, q: float = BUTTERWORTH_Q) -> Section:
    """Second-order high-pass by the bilinear transform (Bristow-Johnson, Audio EQ Cookbook).

    Args:
        cutoff_hz: Cut-off frequency.
        rate_hz: Sample rate.
        q: Quality factor.
    """
    angle = 2 * math.pi * cutoff_hz / rate_hz
    alpha, cosine = math.sin(angle) / (2 * q), math.cos(angle)
    a0 = 1 + alpha
    side = (1 + cosine) / 2 / a0
    return side, -2 * side, side, -2 * cosine / a0, (1 - alpha) / a0


def high_shelf(gain_db: float, corner_hz: float, rate_hz: int, q: float = BUTTERWORTH_Q) -> Section:
    """Second-order high shelf by the bilinear transform (Bristow-Johnson, Audio EQ Cookbook).

    Args:
        gain_db: Gain above the corner.
        corner_hz: Corner frequency.
        rate_hz: Sample rate.
        q: Quality factor.
    """
    gain, angle = 10 ** (gain_db / 40), 2 * math.pi * corner_hz / rate_hz
    cosine, root = math.cos(angle), math.sqrt(gain) * math.sin(angle) / q
    more, less = gain + 1, gain - 1
    a0 = more - less * cosine + root
    return (
        gain * (more + less * cosine + root) / a0,
        -2 * gain * (less + more * cosine) / a0,
        gain * (more + less * cosine - root) / a0,
        2 * (less - more * cosine) / a0,
        (more - less * cosine - root) / a0,
    )


@compiled_loop
def _run_section(x, b0, b1, b2, a1, a2, s1, s2):
    """Filters float64 [channel, sample] in place, in transposed direct form II, from the initial
    states float64 [channel], which become the final ones."""
    for channel in range(x.shape[0]):
        one, two, row = s1[channel], s2[channel], x[channel]
        for i in range(x.shape[1]):
            old = row[i]
            new = b0 * old + one
            one = b1 * old - a1 * new + two
            two = b2 * old - a2 * new
            row[i] = new
        s1[channel], s2[channel] = one, two


def _steady_states(section: Section, first: np.ndarray) -> np.ndarray:
    """Final states float64 [2, channel] after endlessly many samples of the values [channel]."""
    b0, b1, b2, a1, a2 = section
    gain = (b0 + b1 + b2) / (1 + a1 + a2)
    second = (b2 - a2 * gain) * first
    return np.stack([(b1 - a1 * gain) * first + second, second])


def sosfilt(section: Section, samples: np.ndarray, *, steady: bool = False) -> np.ndarray:
    """Filters sound with a second-order section.

    Args:
        section: The filter.
        samples: [..., sample].
        steady: Whether the initial state is the steady state for the first sample (scipy's
            `sosfilt_zi`); else zero.

    Returns:
        float64, of the same shape.
    """
    rows = np.array(samples, np.float64).reshape(-1, samples.shape[-1])
    states = np.zeros((2, len(rows)))
    if steady:
        states[:] = _steady_states(section, rows[:, 0])
    _run_section(rows, *section, *states)
    return rows.reshape(samples.shape)


class SectionFilter:
    """A second-order section over consecutive blocks: the last samples of one act on the next."""

    def __init__(self, section: Section, channels: int) -> None:
        """A filter whose initial state is zero."""
        self.section = section
        self._states = np.zeros((2, channels))

    def step(self, samples: np.ndarray) -> np.ndarray:
        """Filters the next block, float64 [channel, sample]."""
        rows = np.array(samples, np.float64, order="C")
        _run_section(rows, *self.section, *self._states)
        return rows

    def settle(self, samples: np.ndarray) -> None:
        """Sets the steady state for the first sample of a block [channel, sample]."""
        self._states[:] = _steady_states(self.section, samples[:, 0])


def sosfiltfilt(section: Section, samples: np.ndarray, padlen: int) -> np.ndarray:
    """Filters forward and backward, without phase shift.

    Args:
        section: The filter.
        samples: float64 [..., sample].
        padlen: Samples of odd extension at both ends.

    Returns:
        float64, of the same shape.
    """
    first, last = samples[..., :1], samples[..., -1:]
    left = 2 * first - samples[..., padlen:0:-1]
    right = 2 * last - samples[..., -2 : -padlen - 2 : -1]
    padded = np.concatenate([left, samples, right], axis=-1)
    for _ in range(2):
        padded = sosfilt(section, padded, steady=True)[..., ::-1]
    return padded[..., padlen : padded.shape[-1] - padlen]


def gaussian_filter1d(values: np.ndarray, sigma: float, mode: str = "nearest") -> np.ndarray:
    """Gaussian filter, truncated at four standard deviations.

    Args:
        values: float64 [index].
        sigma: Standard deviation, in indices.
        mode: Extension at both ends: "nearest" repeats the last value, "reflect" mirrors.

    Returns:
        float64 [index].
    """
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, radius, mode="edge" if mode == "nearest" else "symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def minimum_filter1d(values: np.ndarray, size: int) -> np.ndarray:
    """Minimum over a centred window.

    Args:
        values: [index]; the first and the last value are repeated beyond the ends.
        size: Of the window, odd.

    Returns:
        [index].
    """
    covered = 1
    lowest = np.pad(values, size // 2, mode="edge")
    while covered < size:  # windows of doubling width
        step = min(covered, size - covered)
        lowest = np.minimum(lowest[:-step], lowest[step:])
        covered += step
    return lowest
