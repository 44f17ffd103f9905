"""How loud sound is, and how high it really peaks.

Loudness is ITU-R BS.1770-4's (the tests compare with pyloudnorm, whose import takes longer than a
piece); the true peak is its annex 2: the highest amplitude after four-fold oversampling. Enters:
`Waveform`.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from melisma.sound.filters import high_pass, high_shelf, sosfilt
from melisma.values import Waveform

OVERSAMPLING = 4
"""BS.1770-4, annex 2, for rates up to 48 kHz."""

BLOCK_SECONDS = 0.4
"""Gating block of BS.1770-4."""

RELATIVE_GATE_DB = 10.0
"""How far under the rest what counts may lie, likewise."""
SILENCE_LUFS = -70.0
"""Absolute gate of BS.1770-4: what lies below counts as silence."""


def integrated_lufs(waveform: Waveform) -> float | None:
    """Integrated loudness in LUFS, None for silence (all below the absolute gate).

    Sound shorter than one gating block is repeated until it fills one, which is exact for steady
    sound and the only fair reading of a shorter one.
    """
    samples = waveform.samples.astype(np.float64)
    if not samples.any():
        return None
    block = math.ceil(BLOCK_SECONDS * waveform.rate_hz) + 1
    if samples.shape[1] < block:
        samples = np.tile(samples, (1, math.ceil(block / samples.shape[1])))
    return _gated(_block_powers(_k_weighted(samples, waveform.rate_hz), waveform.rate_hz))


def _k_weighted(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """K-weighting (annex 1), whose two filters the standard gives for 48 kHz, at any rate."""
    shelf = high_shelf(4.0, 1_500.0, rate_hz)
    return sosfilt(high_pass(38.0, rate_hz, q=0.5), sosfilt(shelf, samples))


def _block_powers(weighted: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mean squares of the gating blocks, the sum over channels [block]; they overlap by three
    quarters."""
    length, step = BLOCK_SECONDS * rate_hz, BLOCK_SECONDS / 4 * rate_hz
    count = round((weighted.shape[1] - length) / step) + 1
    first = (np.arange(count) * step).astype(int)
    last = np.minimum((np.arange(count) * step + length).astype(int), weighted.shape[1])
    sums = np.concatenate([[0.0], np.square(weighted).sum(axis=0).cumsum()])
    return (sums[last] - sums[first]) / length


def _gated(powers: np.ndarray) -> float | None:
    """Loudness of what lies above both gates; None where nothing does."""

    def lufs(power: np.ndarray | float) -> np.ndarray:
        return -0.691 + 10 * np.log10(np.maximum(power, 1e-20))

    loud = powers[lufs(powers) >= SILENCE_LUFS]
    if len(loud) == 0:
        return None
    loud = loud[lufs(loud) > lufs(float(loud.mean())) - RELATIVE_GATE_DB]
    found = float(lufs(float(loud.mean())))
    return found if found > SILENCE_LUFS else None


@functools.cache
def _interpolator() -> np.ndarray:
    """The filter of the points between samples: float64 [point, tap]."""
    reach = 10 * OVERSAMPLING
    taps = np.arange(-reach, reach + 1)
    whole = np.sinc(taps / OVERSAMPLING) * np.kaiser(len(taps), 5.0)
    filled = np.pad(OVERSAMPLING * whole / whole.sum(), (0, OVERSAMPLING - 1))
    return filled.reshape(-1, OVERSAMPLING).T


def oversampled_peaks(samples: np.ndarray) -> np.ndarray:
    """The highest amplitude around each sample: float64 [sample] from [channel, sample].

    The largest over channels of the sample itself and the three points between it and the next.
    """
    found = np.abs(samples).max(axis=0).astype(np.float64)
    reach = (_interpolator().shape[1] - 1) // 2
    for channel in samples.astype(np.float64):
        for taps in _interpolator():
            between = np.convolve(channel, taps)[reach : reach + len(channel)]
            np.maximum(found, np.abs(between), out=found)
    return found


def true_peak_db(waveform: Waveform) -> float:
    """True peak in dB relative to full scale (dBTP); minus infinity for silence."""
    if waveform.samples.size == 0:
        return -math.inf
    peak = float(oversampled_peaks(waveform.samples).max())
    return 20.0 * math.log10(peak) if peak > 0 else -math.inf
