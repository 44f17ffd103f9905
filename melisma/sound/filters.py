"""Filters for mastering, under scipy's names: those few that every finished piece passes through.

Importing `scipy.signal` and `scipy.ndimage` takes longer than a piece of ten seconds; the tests
compare with them. Sound is float64 [..., sample]. A second-order section is (b0, b1, b2, a1, a2),
with a0 = 1.
"""

from __future__ import annotations

import math

import numpy as np

from melisma.simd.jit import compiled_loop

Section = tuple[float, float, float, float, float]
BUTTERWORTH_Q = 1 / math.sqrt(2)
"""Quality of a Butterworth filter of second order."""


def high_pass(cutoff_hz: float, rate_hz: int, q: float = BUTTERWORTH_Q) -> Section:
    """A high-pass of second order by the bilinear transform (Bristow-Johnson's formulae)."""
    angle = 2 * math.pi * cutoff_hz / rate_hz
    alpha, cosine = math.sin(angle) / (2 * q), math.cos(angle)
    a0 = 1 + alpha
    side = (1 + cosine) / 2 / a0
    return side, -2 * side, side, -2 * cosine / a0, (1 - alpha) / a0


def high_shelf(gain_db: float, corner_hz: float, rate_hz: int, q: float = BUTTERWORTH_Q) -> Section:
    """A shelf of second order that lifts what lies above its corner (likewise)."""
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
    """Filters float64 [channel, sample] in place, from the states float64 [channel] on; transposed
    direct form II."""
    for channel in range(x.shape[0]):
        one, two, row = s1[channel], s2[channel], x[channel]
        for i in range(x.shape[1]):
            old = row[i]
            new = b0 * old + one
            one = b1 * old - a1 * new + two
            two = b2 * old - a2 * new
            row[i] = new


def sosfilt(section: Section, samples: np.ndarray, *, steady: bool = False) -> np.ndarray:
    """Sound through a section. `steady`: as if the first sample had always been there."""
    rows = np.array(samples, np.float64).reshape(-1, samples.shape[-1])
    states = np.zeros((2, len(rows)))
    if steady:
        b0, b1, b2, a1, a2 = section
        gain = (b0 + b1 + b2) / (1 + a1 + a2)
        states[1] = (b2 - a2 * gain) * rows[:, 0]
        states[0] = (b1 - a1 * gain) * rows[:, 0] + states[1]
    _run_section(rows, *section, *states)
    return rows.reshape(samples.shape)


def sosfiltfilt(section: Section, samples: np.ndarray, padlen: int) -> np.ndarray:
    """Sound through a section forwards and backwards, so that no phase is turned; `padlen` samples
    are put before and behind it, its ends turned about themselves."""
    first, last = samples[..., :1], samples[..., -1:]
    before = 2 * first - samples[..., padlen:0:-1]
    behind = 2 * last - samples[..., -2 : -padlen - 2 : -1]
    padded = np.concatenate([before, samples, behind], axis=-1)
    for _ in range(2):
        padded = sosfilt(section, padded, steady=True)[..., ::-1]
    return padded[..., padlen : padded.shape[-1] - padlen]


def gaussian_filter1d(values: np.ndarray, sigma: float, mode: str = "nearest") -> np.ndarray:
    """A moving average of float64 [place] under a bell that is cut off at four standard deviations.
    The first and the last value go on for ever ("nearest"), or all of them backwards ("reflect").
    """
    reach = int(4 * sigma + 0.5)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, reach, mode="edge" if mode == "nearest" else "symmetric")
    return np.convolve(padded, bell / bell.sum(), mode="valid")


def minimum_filter1d(values: np.ndarray, size: int) -> np.ndarray:
    """The smallest of each value [place] and those around it, an odd number in all; the first and
    the last go on for ever."""
    known = 1
    lowest = np.pad(values, size // 2, mode="edge")
    while known < size:  # the smallest of ever wider windows
        step = min(known, size - known)
        lowest = np.minimum(lowest[:-step], lowest[step:])
        known += step
    return lowest
