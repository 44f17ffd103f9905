"""Chroma and key estimation from audio; the key is one of `values.TONALITIES`.

Spectral peaks of long windows vote for the pitch classes of which they may be a harmonic, with
decreasing weight (Gomez, "Tonal description of polyphonic audio", 2006, section 3.2, harmonic pitch
class profiles); the tuning is the circular mean of the peaks' deviation from equal temperament.
The mean chroma is correlated with the 24 rotated key profiles of `analysis/key_profiles.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.analysis.audio.frames import magnitude_frames, mono_samples
from melisma.analysis.key_profiles import MAJOR_PROFILE, MINOR_PROFILE
from melisma.values import Waveform
from melisma.values.attributes import TONALITIES

RATE_HZ = 12_000
WINDOW_SAMPLES = 4_096
HOP_SAMPLES = 1_024
MIN_HZ = 55.0
MAX_HZ = 2_600.0
HARMONICS = 5
HARMONIC_DECAY = 0.6
"""Weight of a peak as harmonic h + 1 relative to harmonic h (the value of Gomez)."""


@dataclass(frozen=True, kw_only=True)
class KeyEstimate:
    """An estimated key with its evidence."""

    tonality: str | None
    """The key, one of `TONALITIES`; None without pitched content."""
    confidence: float
    """0 to 1: margin of its correlation over that of the second best key, times ten."""
    chroma: np.ndarray
    """Share of each pitch class, C first, float64 [12]; sums to 1, zeros for silence."""
    tuning_cents: float
    """Deviation of the tuning from A = 440 Hz, -50 to 50 cents."""
    ranking: tuple[str, ...]
    """All keys, most likely first; empty without pitched content."""


def _peaks(magnitudes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectral peaks: frame index, frequency in Hz (parabolic interpolation), magnitude."""
    bin_hz = RATE_HZ / WINDOW_SAMPLES
    low, high = int(MIN_HZ / bin_hz), int(MAX_HZ / bin_hz)
    inner = magnitudes[:, low:high]
    before, after = magnitudes[:, low - 1 : high - 1], magnitudes[:, low + 1 : high + 1]
    floor = 0.01 * np.maximum(magnitudes.max(axis=1, keepdims=True), 1e-6)
    surroundings = np.median(inner, axis=1, keepdims=True)
    is_peak = (inner > before) & (inner >= after) & (inner > floor) & (inner > 2 * surroundings)
    frame, bin_index = np.nonzero(is_peak)
    left, middle, right = (
        np.log(part[frame, bin_index] + 1e-12) for part in (before, inner, after)
    )
    shift = 0.5 * (left - right) / (left - 2.0 * middle + right - 1e-12)
    frequency_hz = (bin_index + low + np.clip(shift, -0.5, 0.5)) * bin_hz
    return frame, frequency_hz, inner[frame, bin_index].astype(np.float64)


def _tuning_semitones(pitch: np.ndarray, weight: np.ndarray) -> float:
    """Circular mean of the fractional MIDI pitches, -.5 to .5."""
    turns = np.exp(2j * np.pi * pitch) * weight
    return float(np.angle(turns.sum()) / (2.0 * np.pi))


@dataclass(frozen=True, kw_only=True)
class _Partials:
    """Spectral peaks of a piece as pitches, one entry per peak."""

    frames: int
    """Number of frames of the piece, about 12 per second."""
    frame: np.ndarray
    """Frame index, int64 [peak]."""
    pitch: np.ndarray
    """MIDI pitch relative to the piece's own tuning, float64 [peak]."""
    weight: np.ndarray
    """Square root of the magnitude, float64 [peak]."""
    tuning: float
    """Deviation of the tuning from A = 440 Hz in semitones."""


def _partials(waveform: Waveform) -> _Partials:
    samples = mono_samples(waveform, RATE_HZ)
    magnitudes = magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES)
    if np.abs(samples).max(initial=0.0) < 1e-4:
        magnitudes = magnitudes * 0.0
    frame, frequency_hz, magnitude = _peaks(magnitudes)
    pitch = 69.0 + 12.0 * np.log2(frequency_hz / 440.0)
    weight = np.sqrt(magnitude)
    tuning = _tuning_semitones(pitch, weight) if len(pitch) else 0.0
    return _Partials(
        frames=len(magnitudes), frame=frame, pitch=pitch - tuning, weight=weight, tuning=tuning
    )


def _vote(partials: _Partials, harmonics: int, highest_pitch: float = 128.0) -> np.ndarray:
    """Votes of the peaks below `highest_pitch` for pitch classes, float64 [frame, 12]."""
    chroma = np.zeros((partials.frames, 12))
    weight = partials.weight * (partials.pitch < highest_pitch)
    for harmonic in range(1, harmonics + 1):
        fundamental = partials.pitch - 12.0 * np.log2(harmonic)
        nearest = np.round(fundamental)
        closeness = np.cos(np.pi * np.clip(fundamental - nearest, -0.5, 0.5)) ** 2
        vote = weight * HARMONIC_DECAY ** (harmonic - 1) * closeness
        np.add.at(chroma, (partials.frame, nearest.astype(np.int64) % 12), vote)
    return chroma


def measure_chroma(waveform: Waveform) -> np.ndarray:
    """Chroma (harmonic pitch class profile), C first, float64 [frame, 12], about 12 frames/s."""
    return _vote(_partials(waveform), HARMONICS)


def summarise_chroma(waveform: Waveform) -> np.ndarray:
    """Shares of the pitch classes in four views of a piece.

    Returns:
        float32 [4, 12]: of the whole, of the bass (below middle C), of the last three seconds, and
        of all frames with equal weight. Zeros for silence.
    """
    partials = _partials(waveform)
    chroma = _vote(partials, HARMONICS)
    bass = _vote(partials, 1, highest_pitch=59.5)
    ending = chroma[-round(3.0 * RATE_HZ / HOP_SAMPLES) :]
    even = chroma / (chroma.sum(axis=1, keepdims=True) + 1e-9)
    rows = np.stack([part.sum(axis=0) for part in (chroma, bass, ending, even)])
    return (rows / (rows.sum(axis=1, keepdims=True) + 1e-9)).astype(np.float32)


def key_correlations(chroma: np.ndarray) -> np.ndarray:
    """Pearson correlation of a chroma [12] with each profile of `TONALITIES`, float64 [24]."""
    centred = chroma - chroma.mean()
    centred = centred / (np.linalg.norm(centred) + 1e-12)
    scores = np.zeros(24)
    for mode, profile in enumerate((MAJOR_PROFILE, MINOR_PROFILE)):
        shape = profile - profile.mean()
        shape = shape / np.linalg.norm(shape)
        for tonic in range(12):
            scores[mode * 12 + tonic] = float(centred @ np.roll(shape, tonic))
    return scores


def measure_tonality(waveform: Waveform) -> KeyEstimate:
    """Estimates a single key for the whole piece."""
    partials = _partials(waveform)
    total = _vote(partials, HARMONICS).sum(axis=0)
    if total.sum() <= 0.0:
        return KeyEstimate(
            tonality=None, confidence=0.0, chroma=total, tuning_cents=0.0, ranking=()
        )
    scores = key_correlations(total)
    order = np.argsort(-scores)
    confidence = float(np.clip(10.0 * (scores[order[0]] - scores[order[1]]), 0.0, 1.0))
    return KeyEstimate(
        tonality=TONALITIES[int(order[0])],
        confidence=confidence,
        chroma=total / total.sum(),
        tuning_cents=100.0 * partials.tuning,
        ranking=tuple(TONALITIES[int(index)] for index in order),
    )
