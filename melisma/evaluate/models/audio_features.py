"""Audio features of the judge, which share no weights and no code with the generator's.

Input: a `Waveform`. Output: `AudioFeatures`: a log-mel spectrogram for timbre, the tempogram for
tempo and chroma for the key. Silence yields zeros throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melisma.analysis.audio.frames import magnitude_frames, mel_filters, mono_samples
from melisma.analysis.audio.key import summarise_chroma
from melisma.analysis.audio.tempo import measure_tempogram
from melisma.values import Waveform

RATE_HZ = 24_000
WINDOW_SAMPLES = 1_024
HOP_SAMPLES = 480
MEL_RATE_HZ = RATE_HZ // HOP_SAMPLES
"""Frames of the log-mel spectrogram per second."""
BANDS = 80
FLOOR = 1e-4
"""Band magnitude that counts as silence after the level is normalised (-80 dB)."""
TEMPOGRAM_WIDTH = 32
"""Four groups of bands, two kinds of onset strength, four multiples; see `measure_tempogram`."""


@dataclass(frozen=True, kw_only=True)
class AudioFeatures:
    """Features of one piece."""

    mel: np.ndarray
    """float16 [frame, band], about 0 to 4, at `MEL_RATE_HZ`."""
    tempogram: np.ndarray
    """float32 [TEMPOGRAM_WIDTH, candidate tempo]."""
    chroma: np.ndarray
    """float32 [4, 12]; see `summarise_chroma`."""


def extract_features(waveform: Waveform) -> AudioFeatures:
    """Features of a piece of one second or more; its level (RMS) is normalised first."""
    samples = mono_samples(waveform, RATE_HZ)
    level = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
    samples = samples * (0.1 / level) if level > 1e-5 else samples * 0.0
    magnitudes = magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES)
    bands = magnitudes @ mel_filters(RATE_HZ, WINDOW_SAMPLES, BANDS, 40.0, 11_000.0)
    mel = np.log10(np.maximum(bands, FLOOR) / FLOOR)
    tempogram = measure_tempogram(waveform)
    return AudioFeatures(
        mel=mel.astype(np.float16),
        tempogram=tempogram.reshape(TEMPOGRAM_WIDTH, -1),
        chroma=summarise_chroma(waveform),
    )


def stack_mels(features: Sequence[AudioFeatures]) -> np.ndarray:
    """Log-mel spectrograms as float32 [piece, frame, band]; shorter ones are padded with
    silence."""
    frames = max(len(one.mel) for one in features)
    stacked = np.zeros((len(features), frames, BANDS), dtype=np.float32)
    for row, one in zip(stacked, features, strict=True):
        row[: len(one.mel)] = one.mel
    return stacked
