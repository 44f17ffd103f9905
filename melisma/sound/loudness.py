"""Integrated loudness (LUFS) and true peak (dBTP) by ITU-R BS.1770-4.

The true peak is that of annex 2: the highest amplitude after four-fold oversampling. Input:
`Waveform`. (The tests compare with pyloudnorm, whose import takes longer than a measurement.)
"""

from __future__ import annotations

import functools
import math

import numpy as np

from melisma.sound.filters import Section, SectionFilter, high_pass, high_shelf, sosfilt
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


class LoudnessMeter:
    """Integrated loudness of sound that comes in consecutive blocks, together at least a gating
    block long."""

    def __init__(self, *, rate_hz: int, channels: int, length: int) -> None:
        """
        Args:
            rate_hz: Sample rate.
            channels: Number of channels.
            length: Samples that will come in all.
        """
        shelf, low = _k_weighting(rate_hz)
        self._filters = SectionFilter(shelf, channels), SectionFilter(low, channels)
        self._first, self._last = _gating_blocks(length, rate_hz)
        self._gating_samples = BLOCK_SECONDS * rate_hz
        self._edges = np.unique(np.concatenate([self._first, self._last]))
        self._sums = np.zeros(len(self._edges))
        self._seen, self._total = 0, 0.0

    def add(self, samples: np.ndarray) -> None:
        """Measures the next samples, [channel, sample]."""
        weighted = samples.astype(np.float64)
        for one in self._filters:
            weighted = one.step(weighted)
        sums = self._total + np.concatenate([[0.0], np.square(weighted).sum(axis=0).cumsum()])
        after = self._seen + samples.shape[1]
        inside = (self._edges >= self._seen) & (self._edges <= after)
        self._sums[inside] = sums[self._edges[inside] - self._seen]
        self._seen, self._total = after, float(sums[-1])

    def integrated_lufs(self) -> float | None:
        """LUFS of everything; None for silence."""
        last, first = (np.searchsorted(self._edges, e) for e in (self._last, self._first))
        return _gated((self._sums[last] - self._sums[first]) / self._gating_samples)


def _k_weighting(rate_hz: int) -> tuple[Section, Section]:
    """K-weighting (annex 1) at any sample rate; the standard gives its two filters for 48 kHz."""
    return high_shelf(4.0, 1_500.0, rate_hz), high_pass(38.0, rate_hz, q=0.5)


def _k_weighted(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Sound through both filters of the K-weighting."""
    shelf, low = _k_weighting(rate_hz)
    return sosfilt(low, sosfilt(shelf, samples))


def _gating_blocks(length: int, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """First sample of every gating block, and the sample after its last, int64 [block]; blocks
    overlap by 75 %."""
    size, step = BLOCK_SECONDS * rate_hz, BLOCK_SECONDS / 4 * rate_hz
    starts = np.arange(round((length - size) / step) + 1) * step
    return starts.astype(int), np.minimum((starts + size).astype(int), length)


def _block_powers(weighted: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mean squares of the gating blocks, summed over channels, [block]."""
    first, last = _gating_blocks(weighted.shape[1], rate_hz)
    sums = np.concatenate([[0.0], np.square(weighted).sum(axis=0).cumsum()])
    return (sums[last] - sums[first]) / (BLOCK_SECONDS * rate_hz)


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


def interpolation_reach() -> int:
    """Samples on each side that `oversampled_peaks` looks at."""
    return _interpolator().shape[1]


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


class TruePeakMeter:
    """True peak of sound that comes in consecutive blocks, see `true_peak_db`."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._waiting: np.ndarray | None = None
        """The last samples, which are interpolated with those that follow, [channel, sample]."""
        self._measured = 0
        """How many of the waiting samples were measured before."""

    def add(self, samples: np.ndarray) -> None:
        """Measures the next samples, [channel, sample]."""
        if self._waiting is not None:
            samples = np.concatenate([self._waiting, samples], axis=1)
        reach = interpolation_reach()
        stop = samples.shape[1] - reach
        if stop > self._measured:
            # No sum of weighted samples exceeds the largest sample times the sum of the weights.
            most = float(np.abs(samples).max()) * float(np.abs(_interpolator()).sum(axis=1).max())
            if most > self._peak:
                peaks = oversampled_peaks(samples)[self._measured : stop]
                self._peak = max(self._peak, float(peaks.max()))
            first = max(stop - reach, 0)
            samples, self._measured = samples[:, first:], stop - first
        self._waiting = samples

    def peak_db(self) -> float:
        """The true peak of everything in dB relative to full scale; minus infinity for silence."""
        peak = self._peak
        if self._waiting is not None and self._waiting.shape[1] > self._measured:
            peaks = oversampled_peaks(self._waiting)[self._measured :]
            peak = max(peak, float(peaks.max()))
        return 20.0 * math.log10(peak) if peak > 0 else -math.inf
