"""How loud sound is, and how high it really peaks.

Loudness is ITU-R BS.1770-4's (pyloudnorm); the true peak is its annex 2: the highest amplitude
after four-fold oversampling. Enters: `Waveform`.
"""

from __future__ import annotations

import math

import numpy as np
import pyloudnorm
from scipy.signal import resample_poly

from melisma.values import Waveform

OVERSAMPLING = 4
"""BS.1770-4, annex 2, for rates up to 48 kHz."""

BLOCK_SECONDS = 0.4
"""Gating block of BS.1770-4."""

SILENCE_LUFS = -70.0
"""Absolute gate of BS.1770-4: what lies below counts as silence."""


def integrated_lufs(waveform: Waveform) -> float | None:
    """Integrated loudness in LUFS, None for silence (all below the absolute gate).

    Sound shorter than one gating block is repeated until it fills one, which is exact for steady
    sound and the only fair reading of a shorter one.
    """
    samples = waveform.samples.T.astype(np.float64)
    if len(samples) == 0 or not samples.any():
        return None
    block = math.ceil(BLOCK_SECONDS * waveform.rate_hz) + 1
    if len(samples) < block:
        samples = np.tile(samples, (math.ceil(block / len(samples)), 1))
    meter = pyloudnorm.Meter(waveform.rate_hz)
    # The absolute gate may leave no block; the meter then takes the logarithm of 0 or of nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        lufs = float(meter.integrated_loudness(samples))
    return lufs if math.isfinite(lufs) and lufs > SILENCE_LUFS else None


def oversampled_peaks(samples: np.ndarray) -> np.ndarray:
    """The highest amplitude around each sample: float64 [sample] from [channel, sample].

    The largest over channels of the sample itself and the three points between it and the next.
    """
    dense = resample_poly(samples.astype(np.float64), OVERSAMPLING, 1, axis=-1)
    dense = np.abs(dense).max(axis=0).reshape(-1, OVERSAMPLING).max(axis=-1)
    return np.maximum(dense, np.abs(samples).max(axis=0))


def true_peak_db(waveform: Waveform) -> float:
    """True peak in dB relative to full scale (dBTP); minus infinity for silence."""
    if waveform.samples.size == 0:
        return -math.inf
    peak = float(oversampled_peaks(waveform.samples).max())
    return 20.0 * math.log10(peak) if peak > 0 else -math.inf
