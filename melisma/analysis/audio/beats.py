"""Beat tracking, and the regularity of the beats.

Beats are the best path through the onset envelope that visits strong onsets at steps near one
period (Ellis, "Beat tracking by dynamic programming", Journal of New Music Research 36, 2007); the
period is that of `measure_tempo`. To measure regularity each beat is moved to the onset nearest to
it, interpolated between frames; beats without an onset are ignored.
"""

from __future__ import annotations

import numpy as np

from melisma.analysis.audio.onsets import ENVELOPE_RATE_HZ, above_surroundings, onset_envelope
from melisma.analysis.audio.tempo import measure_tempo
from melisma.values import Waveform

TIGHTNESS = 100.0
"""Weight of regular steps relative to strong onsets (chosen: the default of librosa)."""
SMOOTHING_FRAMES = 1.0
"""Standard deviation by which the envelope is smoothed (chosen: 10 ms)."""
MIN_CONFIDENCE = 0.12
"""Periodicity (`TempoEstimate.confidence`) below which a piece has no pulse (chosen: true of one
render in twenty)."""
SEARCH_SHARE = 0.12
"""An onset belongs to a beat within this share of the period, less than half a sixteenth."""
MIN_ONSET_HEIGHT = 0.35
"""Minimum height of an onset that marks a beat, relative to the median at the beats (chosen)."""
MIN_INTERVALS = 6
"""Minimum number of intervals between neighbouring beats with an onset (chosen)."""


def _envelope(waveform: Waveform) -> np.ndarray:
    """Onset strength above its local mean, at unit standard deviation, float64 [frame]."""
    above = above_surroundings(onset_envelope(waveform), SMOOTHING_FRAMES)
    return above / (above.std() + 1e-9)


def _best_path(envelope: np.ndarray, period_frames: float) -> np.ndarray:
    """Frames of the beats, int64 [beat], ascending (Ellis 2007)."""
    steps = np.arange(round(period_frames / 2), round(2 * period_frames) + 1)
    penalty = -TIGHTNESS * np.log(steps / period_frames) ** 2
    longest = int(steps[-1])
    # Padded by frames before the piece: a path may begin anywhere, at no cost.
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
    if tempo.bpm is None or tempo.confidence < MIN_CONFIDENCE:
        return None
    period_frames = 60.0 * ENVELOPE_RATE_HZ / tempo.bpm
    return _best_path(envelope, period_frames), period_frames


def track_beats(waveform: Waveform) -> np.ndarray:
    """Times of the beats in seconds, ascending, float64 [beat]; empty where there is no pulse."""
    found = _beat_frames(waveform, _envelope(waveform))
    if found is None:
        return np.zeros(0)
    # As in `find_onsets`: the flux peaks half a hop to a hop after the note onset.
    return np.maximum(found[0] - 0.5, 0.0) / ENVELOPE_RATE_HZ


def _nearest_onsets(envelope: np.ndarray, beats: np.ndarray, reach: int) -> np.ndarray:
    """Fractional frame of the onset nearest to each beat, float64 [beat]; nan without one."""
    positions = np.full(len(beats), np.nan)
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
        positions[index] = peak + 0.5 * (left - right) / (left - 2.0 * middle + right - 1e-12)
    detected = heights[heights > 0.0]
    if len(detected):
        positions[heights < MIN_ONSET_HEIGHT * np.median(detected)] = np.nan
    return positions


def beat_variation(waveform: Waveform) -> float | None:
    """Coefficient of variation of the intervals between beats (standard deviation over mean).

    Synthetic steady beats have less than .008, a tempo that oscillates by 3 % about .02, intervals
    with 3 % jitter about .03. Renders of real scores have .017 (median) to .11 (99th percentile),
    including rubato and slow attacks: 3 % cannot be distinguished from those.

    Returns:
        None where there is no pulse, or where fewer than six intervals begin and end at an onset.
    """
    envelope = _envelope(waveform)
    found = _beat_frames(waveform, envelope)
    if found is None:
        return None
    beats, period_frames = found
    positions = _nearest_onsets(envelope, beats, max(round(SEARCH_SHARE * period_frames), 2))
    intervals = np.diff(positions)
    intervals = intervals[np.isfinite(intervals)]
    if len(intervals) < MIN_INTERVALS:
        return None
    # A step to another metrical level is an error of the tracker, not an irregular beat.
    intervals = intervals[np.abs(intervals / np.median(intervals) - 1.0) < 0.25]
    if len(intervals) < MIN_INTERVALS:
        return None
    return float(intervals.std() / intervals.mean())
