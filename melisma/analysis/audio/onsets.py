"""Onset detection, and precision and recall of detected onsets.

Follows SuperFlux (Boeck and Widmer, "Maximum filter vibrato suppression for onset detection", DAFx
2013): logarithmic band energies, a maximum filter over neighbouring bands of the earlier frame so
that vibrato is not an onset, half-wave rectified difference, and the online peak picking of the
same paper, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, uniform_filter1d

from melisma.analysis.audio.frames import magnitude_frames, mel_filters, mono_samples
from melisma.values import Waveform

RATE_HZ = 24_000
HOP_SAMPLES = 240
ENVELOPE_RATE_HZ = RATE_HZ / HOP_SAMPLES
"""Frames per second of onset envelopes (chosen: 10 ms, a fifth of the matching tolerance)."""
WINDOW_SAMPLES = 1_024
BANDS = 80
COMPRESSION = 1_000.0
"""Gain before the logarithm (tuned on clean renders; levels below -60 dB hardly count)."""
ONSET_TOLERANCE_SECONDS = 0.05
"""Tolerance for matching two onsets (the convention of MIREX and of mir_eval)."""
THRESHOLD = 0.2
"""Minimum height of a peak above its local mean, relative to a strong onset (tuned)."""


@dataclass(frozen=True, kw_only=True)
class OnsetScore:
    """Agreement of detected onsets with a reference."""

    precision: float
    recall: float
    f1: float


def onset_bands(waveform: Waveform) -> np.ndarray:
    """Half-wave rectified spectral flux by band, float32 [frame, band], low bands first."""
    samples = mono_samples(waveform, RATE_HZ)
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < 1e-5:
        return np.zeros((len(samples) // HOP_SAMPLES + 1, BANDS), dtype=np.float32)
    magnitudes = magnitude_frames(samples / peak, WINDOW_SAMPLES, HOP_SAMPLES)
    filters = mel_filters(RATE_HZ, WINDOW_SAMPLES, BANDS, 30.0, 11_000.0)
    energies = np.log1p(COMPRESSION * (magnitudes @ filters))
    widened = maximum_filter1d(energies, size=3, axis=1)
    flux = np.zeros_like(energies)
    flux[2:] = np.maximum(energies[2:] - widened[:-2], 0.0)
    return flux


def onset_envelope(waveform: Waveform) -> np.ndarray:
    """Onset strength envelope, float32 [frame] at `ENVELOPE_RATE_HZ`."""
    return onset_bands(waveform).mean(axis=1)


def above_surroundings(rows: np.ndarray, smear_frames: float) -> np.ndarray:
    """Envelopes smoothed, minus their local mean over one second, half-wave rectified.

    Keeps rises rather than loudness.

    Args:
        rows: envelopes at `ENVELOPE_RATE_HZ`, [..., frame].
        smear_frames: standard deviation of the Gaussian smoothing.

    Returns:
        float64, same shape.
    """
    smooth = gaussian_filter1d(rows.astype(np.float64), smear_frames, axis=-1)
    local = uniform_filter1d(smooth, round(ENVELOPE_RATE_HZ) + 1, axis=-1)
    return np.maximum(smooth - local, 0.0)


def find_onsets(waveform: Waveform) -> np.ndarray:
    """Note onsets in seconds, ascending, float64 [onset]; empty for silence."""
    envelope = onset_envelope(waveform)
    strong = float(np.percentile(envelope, 98)) if len(envelope) else 0.0
    if strong < 1e-3:
        return np.zeros(0)
    local_mean = uniform_filter1d(envelope, size=21)
    highest = maximum_filter1d(envelope, size=7)
    is_peak = (envelope >= highest) & (envelope > local_mean + THRESHOLD * strong)
    frames: list[int] = []
    for frame in np.flatnonzero(is_peak):
        if not frames or frame - frames[-1] > 3:
            frames.append(int(frame))
    # The flux compares frames two hops apart: it peaks about one hop after the note onset.
    return np.maximum(np.array(frames, dtype=np.float64) - 0.5, 0.0) / ENVELOPE_RATE_HZ


def match_onsets(
    reference_seconds: np.ndarray,
    found_seconds: np.ndarray,
    tolerance_seconds: float = ONSET_TOLERANCE_SECONDS,
) -> int:
    """Number of pairs that can be matched one to one within the tolerance.

    Both lists are ascending. Because all windows have the same width, greedily taking the earliest
    unmatched partner gives a maximum matching (Glover, "Maximum matching in a convex bipartite
    graph", 1967).
    """
    matched = first = 0
    for onset in found_seconds:
        while first < len(reference_seconds) and (
            onset - reference_seconds[first] > tolerance_seconds
        ):
            first += 1
        if first == len(reference_seconds):
            break
        if abs(reference_seconds[first] - onset) <= tolerance_seconds:
            matched += 1
            first += 1
    return matched


def score_onsets(
    reference_seconds: np.ndarray,
    found_seconds: np.ndarray,
    tolerance_seconds: float = ONSET_TOLERANCE_SECONDS,
) -> OnsetScore:
    """Precision, recall and F1; two empty lists agree perfectly."""
    if len(reference_seconds) == 0 and len(found_seconds) == 0:
        return OnsetScore(precision=1.0, recall=1.0, f1=1.0)
    matched = match_onsets(reference_seconds, found_seconds, tolerance_seconds)
    precision = matched / max(len(found_seconds), 1)
    recall = matched / max(len(reference_seconds), 1)
    total = len(reference_seconds) + len(found_seconds)
    return OnsetScore(precision=precision, recall=recall, f1=2 * matched / total)
