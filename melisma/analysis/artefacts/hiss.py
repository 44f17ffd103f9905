"""Hiss: a floor of noise under the music that never stops.

The band above 6 kHz is looked at in its quietest moments while music sounds: drums and cymbals
come in bursts and are gone by then, a floor of noise is still there. What is left may be noise or
the high partials of a held tone; the flatness of its spectrum tells (geometric over arithmetic mean
of power: Johnston, "Transform coding of audio signals using perceptual noise criteria", 1988).
"""

from __future__ import annotations

import numpy as np

from melisma.analysis.audio.frames import magnitude_frames, mono_samples
from melisma.values import Waveform

RATE_HZ = 24_000
WINDOW_SAMPLES = 2_048
HOP_SAMPLES = 512
LOWEST_HZ = 6_000.0
HIGHEST_HZ = 11_000.0
"""The band: few notes have loud partials there, and codecs and resamplers end above it."""
PART_BINS = 42
"""Bins (.5 kHz) whose flatness is taken together, so that a slope is not mistaken for tones."""
QUIET_SHARE = 0.03
"""Share of the frames, the quietest of the band, that count (tuned: with .06 drums count more)."""
LEAST_FRAMES = 8
PLAYING_SHARE = 1e-3
"""Power of a frame over the mean above which music sounds (-30 dB)."""
FLATNESS_POWER = 5
"""Power by flatness to this power is what counts (tuned: with 1, saw leads and harpsichords have
more "hiss" than noise at -30 dB; with 5, noise at -35 dB is told from 99 renders in 100, at -40
dB it is not)."""
QUIETEST_DB = -100.0


def measure_hiss(waveform: Waveform) -> float:
    """Level of steady noise from 6 to 11 kHz in decibels relative to the music, at least -100.

    White noise at -40 dB reads about -45. Sound that ends below 6 kHz, silence and clips of less
    than .2 s read -100.
    """
    samples = mono_samples(waveform, RATE_HZ)
    if len(samples) < LEAST_FRAMES * HOP_SAMPLES:
        return QUIETEST_DB
    power = magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES).astype(np.float64) ** 2
    total = power[:, 1:].sum(axis=1)
    if total.max() < 1e-8:
        return QUIETEST_DB
    playing = total > PLAYING_SHARE * total.mean()
    bin_hz = RATE_HZ / WINDOW_SAMPLES
    band = power[playing, round(LOWEST_HZ / bin_hz) : round(HIGHEST_HZ / bin_hz)]
    count = min(max(LEAST_FRAMES, round(QUIET_SHARE * len(band))), len(band))
    quiet = np.argsort(band.sum(axis=1))[:count]
    spectrum = band[quiet].mean(axis=0)
    parts = spectrum[: len(spectrum) // PART_BINS * PART_BINS].reshape(-1, PART_BINS) + 1e-14
    arithmetic = parts.mean(axis=1)
    flatness = np.exp(np.log(parts).mean(axis=1)) / arithmetic
    noise = PART_BINS * float((arithmetic * flatness**FLATNESS_POWER).sum())
    return float(max(10.0 * np.log10(noise / total[playing].mean() + 1e-12), QUIETEST_DB))
