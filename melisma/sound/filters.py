"""Filters for mastering: recursive ones as machine code, and moving averages and minima.

What `scipy.signal` and `scipy.ndimage` have too, for the few that every finished piece passes
through: importing those takes longer than a piece of ten seconds. The tests compare with them.

Sound is float64 [..., sample]. A second-order section is (b0, b1, b2, a1, a2), with a0 = 1.
"""

from __future__ import annotations

import math

import numba
import numpy as np

Section = tuple[float, float, float, float, float]


def high_pass(cutoff_hz: float, rate_hz: int) -> Section:
    """A Butterworth high-pass of second order by the bilinear transform."""
    warped = math.tan(math.pi * cutoff_hz / rate_hz)
    a0 = 1 + math.sqrt(2) * warped + warped**2
    a1, a2 = 2 * (warped**2 - 1), 1 - math.sqrt(2) * warped + warped**2
    return 1 / a0, -2 / a0, 1 / a0, a1 / a0, a2 / a0


@numba.njit(nogil=True, cache=True)
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


def filtered(samples: np.ndarray, section: Section, *, steady: bool = False) -> np.ndarray:
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


def filtered_both_ways(samples: np.ndarray, section: Section, pad: int) -> np.ndarray:
    """Sound through a section forwards and backwards, so that no phase is turned; `pad` samples are
    put before and behind it, its ends turned about themselves."""
    first, last = samples[..., :1], samples[..., -1:]
    before = 2 * first - samples[..., pad:0:-1]
    behind = 2 * last - samples[..., -2 : -pad - 2 : -1]
    padded = np.concatenate([before, samples, behind], axis=-1)
    for _ in range(2):
        padded = filtered(padded, section, steady=True)[..., ::-1]
    return padded[..., pad : padded.shape[-1] - pad]


def smoothed(values: np.ndarray, deviation: float, *, mirrored: bool = False) -> np.ndarray:
    """A moving average of float64 [place] under a bell curve that is cut off at four standard
    deviations. The first and the last value go on for ever, or, `mirrored`, all of them
    backwards."""
    reach = int(4 * deviation + 0.5)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded = np.pad(values, reach, mode="symmetric" if mirrored else "edge")
    return np.convolve(padded, bell / bell.sum(), mode="valid")


def lowest_around(values: np.ndarray, reach: int) -> np.ndarray:
    """The smallest of each value and its `reach` neighbours on both sides, [place]."""
    width, known = 2 * reach + 1, 1
    lowest = np.pad(values, reach, mode="edge")
    while known < width:  # the smallest of ever wider windows
        step = min(known, width - known)
        lowest = np.minimum(lowest[:-step], lowest[step:])
        known += step
    return lowest
