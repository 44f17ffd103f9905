"""Detection of hiss: a constant noise floor under the music.

The band above 6 kHz is measured in its quietest frames while music plays: drums and cymbals come in
bursts and have decayed by then, a noise floor remains. The remainder may be noise or the high
partials of a sustained tone; its spectral flatness decides (geometric over arithmetic mean of the
power: Johnston, "Transform coding of audio signals using perceptual noise criteria", 1988).
"""

from __future__ import annotations

import numpy as np

from melisma.analysis.audio.frames import magnitude_frames, mono_samples
from melisma.values import Waveform

RATE_HZ = 24_000
WINDOW_SAMPLES = 2_048
HOP_SAMPLES = 512
MIN_HZ = 6_000.0
MAX_HZ = 11_000.0
"""The band: few notes have loud partials there, and codecs and resamplers cut off above it."""
PART_BINS = 42
"""Bins (.5 kHz) over which flatness is computed, so that a slope is not mistaken for tones."""
QUIET_SHARE = 0.03
"""Share of the frames, the quietest in the band, that count (tuned: with .06 drums count more)."""
MIN_FRAMES = 8
PLAYING_SHARE = 1e-3
"""Power of a frame relative to the mean above which music plays (-30 dB)."""
FLATNESS_POWER = 5
"""Exponent of the flatness that weights the power (tuned: with 1, saw leads and harpsichords have
more "hiss" than noise at -30 dB; with 5, noise at -35 dB is distinguished from 99 renders in 100,
at -40 dB it is not)."""
QUIETEST_DB = -100.0


def measure_hiss(waveform: Waveform) -> float:
    """Level of steady noise from 6 to 11 kHz in decibels relative to the music.

    Returns:
        At least -100 dB. White noise at -40 dB measures about -45; audio without content above
        6 kHz, silence and clips shorter than .2 s measure -100.
    """
    samples = mono_samples(waveform, RATE_HZ)
    if len(samples) < MIN_FRAMES * HOP_SAMPLES:
        return QUIETEST_DB
    power = magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES).astype(np.float64) ** 2
    total = power[:, 1:].sum(axis=1)
    if total.max() < 1e-8:
        return QUIETEST_DB
    playing = total > PLAYING_SHARE * total.mean()
    bin_hz = RATE_HZ / WINDOW_SAMPLES
    band = power[playing, round(MIN_HZ / bin_hz) : round(MAX_HZ / bin_hz)]
    count = min(max(MIN_FRAMES, round(QUIET_SHARE * len(band))), len(band))
    quiet = np.argsort(band.sum(axis=1))[:count]
    spectrum = band[quiet].mean(axis=0)
    parts = spectrum[: len(spectrum) // PART_BINS * PART_BINS].reshape(-1, PART_BINS) + 1e-14
    arithmetic = parts.mean(axis=1)
    flatness = np.exp(np.log(parts).mean(axis=1)) / arithmetic
    noise = PART_BINS * float((arithmetic * flatness**FLATNESS_POWER).sum())
    return float(max(10.0 * np.log10(noise / total[playing].mean() + 1e-12), QUIETEST_DB))
