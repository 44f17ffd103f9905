"""Integrated loudness (LUFS) and true peak (dBTP) by ITU-R BS.1770-4.

The true peak is that of annex 2: the highest amplitude after four-fold oversampling. Input:
`Waveform`. (The tests compare with pyloudnorm, whose import takes longer than a measurement.)
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
"""Relative gate of BS.1770-4: blocks further below the mean loudness do not count."""
SILENCE_LUFS = -70.0
"""Absolute gate of BS.1770-4: blocks below it count as silence."""


def integrated_lufs(waveform: Waveform) -> float | None:
    """Measures the integrated loudness.

    Sound shorter than a gating block is repeated until it fills one, which is exact for steady
    sound.

    Returns:
        LUFS, or None for silence (everything below the absolute gate).
    """
    samples = waveform.samples.astype(np.float64)
    if not samples.any():
        return None
    block = math.ceil(BLOCK_SECONDS * waveform.rate_hz) + 1
    if samples.shape[1] < block:
        samples = np.tile(samples, (1, math.ceil(block / samples.shape[1])))
    return _gated(_block_powers(_k_weighted(samples, waveform.rate_hz), waveform.rate_hz))


def _k_weighted(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """K-weighting (annex 1) at any sample rate; the standard gives its two filters for 48 kHz."""
    shelf = high_shelf(4.0, 1_500.0, rate_hz)
    return sosfilt(high_pass(38.0, rate_hz, q=0.5), sosfilt(shelf, samples))


def _block_powers(weighted: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mean squares of the gating blocks, summed over channels, [block]; blocks overlap by 75 %."""
    length, step = BLOCK_SECONDS * rate_hz, BLOCK_SECONDS / 4 * rate_hz
    count = round((weighted.shape[1] - length) / step) + 1
    first = (np.arange(count) * step).astype(int)
    last = np.minimum((np.arange(count) * step + length).astype(int), weighted.shape[1])
    sums = np.concatenate([[0.0], np.square(weighted).sum(axis=0).cumsum()])
    return (sums[last] - sums[first]) / length


def _gated(powers: np.ndarray) -> float | None:
    """Loudness of the blocks above both gates; None where there is none."""

    def lufs(power: np.ndarray | float) -> np.ndarray:
        return -0.691 + 10 * np.log10(np.maximum(power, 1e-20))

    loud = powers[lufs(powers) >= SILENCE_LUFS]
    if len(loud) == 0:
        return None
    loud = loud[lufs(loud) > lufs(float(loud.mean())) - RELATIVE_GATE_DB]
    loudness = float(lufs(float(loud.mean())))
    return loudness if loudness > SILENCE_LUFS else None


@functools.cache
def _interpolator() -> np.ndarray:
    """Polyphase filters of the points between samples: float64 [point, tap]."""
    radius = 10 * OVERSAMPLING
    taps = np.arange(-radius, radius + 1)
    kernel = np.sinc(taps / OVERSAMPLING) * np.kaiser(len(taps), 5.0)
    padded = np.pad(OVERSAMPLING * kernel / kernel.sum(), (0, OVERSAMPLING - 1))
    return padded.reshape(-1, OVERSAMPLING).T


def oversampled_peaks(samples: np.ndarray) -> np.ndarray:
    """Peak amplitude around each sample: that of the sample itself and of the three interpolated
    points up to the next, the largest of all channels.

    Args:
        samples: [channel, sample].

    Returns:
        float64 [sample].
    """
    peaks = np.abs(samples).max(axis=0).astype(np.float64)
    delay = (_interpolator().shape[1] - 1) // 2
    for channel in samples.astype(np.float64):
        for taps in _interpolator():
            between = np.convolve(channel, taps)[delay : delay + len(channel)]
            np.maximum(peaks, np.abs(between), out=peaks)
    return peaks


def true_peak_db(waveform: Waveform) -> float:
    """True peak in dB relative to full scale (dBTP); minus infinity for silence."""
    if waveform.samples.size == 0:
        return -math.inf
    peak = float(oversampled_peaks(waveform.samples).max())
    return 20.0 * math.log10(peak) if peak > 0 else -math.inf
