"""Riding the gain: slow swells of level are halved, attacks and phrases keep their shape.

What an engineer's hand on the fader does, and what a levelling amplifier does without one
(Giannoulis, Massberg and Reiss, "Digital Dynamic Range Compressor Design", JAES 2012, sections 2
and 3: a feed-forward compressor in decibels, here with a smooth detector that looks both ways, so
that it neither pumps nor comes late). The level of drawn music wanders more than that of played
music (`benchmarks/levels.py`); this takes back about what was too much.

Enters and leaves: `Waveform` of the same length and rate.
"""

from __future__ import annotations

import numpy as np

from melisma.sound.filters import gaussian_filter1d
from melisma.values import Waveform

RATIO = 2.0
"""Decibels that a level may differ from the reference for each that is left of them."""
MOST_GAIN_DB = 6.0
"""The fader moves no further up or down."""
DETECTOR_SECONDS = 0.25
"""Standard deviation of the bell over which the level is heard: slower than notes, faster than
phrases."""
REFERENCE_SECONDS = 4.0
"""Standard deviation of the bell over which the usual level is heard: long crescendos stay."""
PAUSE_DB = 24.0
"""What lies so far under the reference is a pause: it is not turned up."""

_HOP_SECONDS = 0.02
_SILENCE = 1e-10


def level(waveform: Waveform) -> Waveform:
    """Turns slow swells down and slow dips up, by half of what they differ from what surrounds
    them."""
    samples = waveform.samples.astype(np.float64)
    hop = max(1, round(_HOP_SECONDS * waveform.rate_hz))
    count = samples.shape[1] // hop
    if count < 2:
        return waveform
    power = np.square(samples[:, : count * hop]).mean(axis=0).reshape(count, hop).mean(axis=1)
    gain_db = ride(power)
    places = (np.arange(count) + 0.5) * hop
    gains = 10 ** (np.interp(np.arange(samples.shape[1]), places, gain_db) / 20)
    return Waveform(samples=(samples * gains).astype(np.float32), rate_hz=waveform.rate_hz)


def ride(power: np.ndarray) -> np.ndarray:
    """Mean squares float64 [hop] of 20 ms each -> gains in decibels [hop]."""
    near = gaussian_filter1d(power, DETECTOR_SECONDS / _HOP_SECONDS)
    heard_db = 10 * np.log10(near + _SILENCE)
    # The usual level is that of the sound, not of the pauses between.
    weight = power / (power + 10 ** (-PAUSE_DB / 10) * power.max() + _SILENCE)
    width = REFERENCE_SECONDS / _HOP_SECONDS
    total = gaussian_filter1d(weight, width, mode="reflect")
    usual_db = gaussian_filter1d(weight * heard_db, width, mode="reflect") / (total + _SILENCE)
    apart_db = heard_db - usual_db
    gain_db = np.clip(-apart_db * (1 - 1 / RATIO), -MOST_GAIN_DB, MOST_GAIN_DB)
    # Into a pause the gain goes back to none, so that no noise is pulled up.
    sounding = np.clip((apart_db + PAUSE_DB) / (PAUSE_DB / 2), 0.0, 1.0)
    return gaussian_filter1d(gain_db * sounding, DETECTOR_SECONDS / _HOP_SECONDS)
