"""Automatic leveller: halves slow changes of level, keeps attacks and the shape of phrases.

A slow dynamic range compressor, like an engineer riding the fader (Giannoulis, Massberg and Reiss,
"Digital Dynamic Range Compressor Design", JAES 2012, sections 2 and 3: feed-forward, in decibels;
here with a zero-phase detector, which neither pumps nor lags). The level of generated music drifts
more than that of recorded music (`benchmarks/levels.py`); this removes about the excess.

Input and output: `Waveform` of the same length and rate.
"""

from __future__ import annotations

import numpy as np

from melisma.sound.filters import gaussian_filter1d
from melisma.values import Waveform

RATIO = 2.0
"""Compression ratio: decibels of deviation from the reference level per decibel that remains."""
MAX_GAIN_DB = 6.0
"""Largest gain or attenuation."""
DETECTOR_SECONDS = 0.25
"""Standard deviation of the Gaussian over which the level is measured: slower than notes, faster
than phrases."""
REFERENCE_SECONDS = 4.0
"""Standard deviation of the Gaussian over which the reference level is measured: long crescendos
are kept."""
PAUSE_DB = 24.0
"""Level below the reference that counts as a pause, which is not amplified."""

_HOP_SECONDS = 0.02
_SILENCE = 1e-10


def level(waveform: Waveform) -> Waveform:
    """Halves slow deviations of the level from that of its surroundings.

    Args:
        waveform: Any number of channels, which share the gain.

    Returns:
        Of the same length and rate.
    """
    samples = waveform.samples.astype(np.float64)
    hop = max(1, round(_HOP_SECONDS * waveform.rate_hz))
    count = samples.shape[1] // hop
    if count < 2:
        return waveform
    power = np.square(samples[:, : count * hop]).mean(axis=0).reshape(count, hop).mean(axis=1)
    gain_db = leveling_gains(power)
    centres = (np.arange(count) + 0.5) * hop
    gains = 10 ** (np.interp(np.arange(samples.shape[1]), centres, gain_db) / 20)
    return Waveform(samples=(samples * gains).astype(np.float32), rate_hz=waveform.rate_hz)


def leveling_gains(power: np.ndarray) -> np.ndarray:
    """Mean squares float64 [hop] of 20 ms each -> gains in decibels, float64 [hop]."""
    near = gaussian_filter1d(power, DETECTOR_SECONDS / _HOP_SECONDS)
    level_db = 10 * np.log10(near + _SILENCE)
    # The reference level is that of the sound, without the pauses.
    weight = power / (power + 10 ** (-PAUSE_DB / 10) * power.max() + _SILENCE)
    width = REFERENCE_SECONDS / _HOP_SECONDS
    total = gaussian_filter1d(weight, width, mode="reflect")
    reference_db = gaussian_filter1d(weight * level_db, width, mode="reflect") / (total + _SILENCE)
    deviation_db = level_db - reference_db
    gain_db = np.clip(-deviation_db * (1 - 1 / RATIO), -MAX_GAIN_DB, MAX_GAIN_DB)
    # The gain fades to 0 dB in a pause, so that noise is not amplified.
    sounding = np.clip((deviation_db + PAUSE_DB) / (PAUSE_DB / 2), 0.0, 1.0)
    return gaussian_filter1d(gain_db * sounding, DETECTOR_SECONDS / _HOP_SECONDS)
