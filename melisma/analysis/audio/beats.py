"""Beats of a piece, and how evenly they fall.

Beats are the path through the onset envelope that meets strong onsets at steps near one period
(Ellis, "Beat tracking by dynamic programming", Journal of New Music Research 36, 2007),
the period being that of `measure_tempo`. For evenness each beat is moved to the onset that is next
to it, read between frames; beats where nothing begins say nothing.
"""

from __future__ import annotations

import numpy as np

from melisma.analysis.audio.onsets import ENVELOPE_RATE_HZ, above_surroundings, onset_envelope
from melisma.analysis.audio.tempo import measure_tempo
from melisma.values import Waveform

TIGHTNESS = 100.0
"""Weight of an even step against strong onsets (chosen: the value that librosa takes)."""
SMOOTHING_FRAMES = 1.0
"""Standard deviation by which the envelope is smoothed (chosen: 10 ms)."""
LEAST_CONFIDENCE = 0.12
"""Periodicity (`TempoEstimate.confidence`) below which a piece has no pulse (chosen: one
render in twenty lies there)."""
SEARCH_SHARE = 0.12
"""An onset belongs to a beat within this share of the period: less than half of a sixteenth."""
LEAST_ONSET = 0.35
"""Height of an onset that marks a beat, over the usual height at the beats (chosen)."""
LEAST_INTERVALS = 6
"""Fewer intervals between neighbouring marked beats say nothing about evenness (chosen)."""


def _envelope(waveform: Waveform) -> np.ndarray:
    """Onset strength above its surroundings over its standard deviation, float64 [frame]."""
    above = above_surroundings(onset_envelope(waveform), SMOOTHING_FRAMES)
    return above / (above.std() + 1e-9)


def _best_path(envelope: np.ndarray, period_frames: float) -> np.ndarray:
    """Frames of the beats, int64 [beat], ascending (Ellis 2007)."""
    steps = np.arange(round(period_frames / 2), round(2 * period_frames) + 1)
    penalty = -TIGHTNESS * np.log(steps / period_frames) ** 2
    longest = int(steps[-1])
    # Frames before the piece: a path may begin anywhere, at no cost.
    total = np.zeros(longest + len(envelope))
    before = np.full(len(envelope), -1, dtype=np.int64)
    for frame, strength in enumerate(envelope):
        candidates = total[frame + longest - steps] + penalty
        best = int(np.argmax(candidates))
        if candidates[best] > 0.0:
            before[frame] = frame - steps[best]
            strength = strength + candidates[best]
        total[frame + longest] = strength
    ending = total[longest:][-round(1.5 * period_frames) :]
    frame = len(envelope) - len(ending) + int(np.argmax(ending))
    path = [frame]
    while before[path[-1]] >= 0:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1], dtype=np.int64)


def _beat_frames(waveform: Waveform, envelope: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Frames of the beats and the period in frames; None where there is no pulse."""
    tempo = measure_tempo(waveform)
    if tempo.bpm is None or tempo.confidence < LEAST_CONFIDENCE:
        return None
    period_frames = 60.0 * ENVELOPE_RATE_HZ / tempo.bpm
    return _best_path(envelope, period_frames), period_frames


def track_beats(waveform: Waveform) -> np.ndarray:
    """Times of the beats in seconds, ascending, float64 [beat]; empty where there is no pulse."""
    found = _beat_frames(waveform, _envelope(waveform))
    if found is None:
        return np.zeros(0)
    # As in `find_onsets`: the flux peaks half a hop to a hop after the note begins.
    return np.maximum(found[0] - 0.5, 0.0) / ENVELOPE_RATE_HZ


def _onset_places(envelope: np.ndarray, beats: np.ndarray, reach: int) -> np.ndarray:
    """Place of the onset next to each beat, in frames and fractions; nan where there is none."""
    places = np.full(len(beats), np.nan)
    heights = np.zeros(len(beats))
    for index, beat in enumerate(beats):
        first, last = max(beat - reach, 1), min(beat + reach, len(envelope) - 2)
        if first > last:
            continue
        peak = first + int(np.argmax(envelope[first : last + 1]))
        left, middle, right = envelope[peak - 1 : peak + 2]
        if middle < left or middle < right or middle <= 0.0:
            continue
        heights[index] = middle
        places[index] = peak + 0.5 * (left - right) / (left - 2.0 * middle + right - 1e-12)
    heard = heights[heights > 0.0]
    if len(heard):
        places[heights < LEAST_ONSET * np.median(heard)] = np.nan
    return places


def beat_variation(waveform: Waveform) -> float | None:
    """Coefficient of variation of the intervals between beats (standard deviation over mean).

    Synthetic steady beats have less than .008, a tempo that goes up and down by 3 % about .02,
    intervals that scatter by 3 % about .03. Renders of real scores have .017 (median) to .11 (99th
    percentile), rubato and slow attacks included: 3 % cannot be told from those.
    None where there is no pulse or where fewer than six intervals begin and end at an onset.
    """
    envelope = _envelope(waveform)
    found = _beat_frames(waveform, envelope)
    if found is None:
        return None
    beats, period_frames = found
    places = _onset_places(envelope, beats, max(round(SEARCH_SHARE * period_frames), 2))
    intervals = np.diff(places)
    intervals = intervals[np.isfinite(intervals)]
    if len(intervals) < LEAST_INTERVALS:
        return None
    # A step to another level of the metre is a mistake of the tracker, not a beat out of place.
    intervals = intervals[np.abs(intervals / np.median(intervals) - 1.0) < 0.25]
    if len(intervals) < LEAST_INTERVALS:
        return None
    return float(intervals.std() / intervals.mean())
