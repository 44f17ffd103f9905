"""Performances: notes in seconds, as played, with the times of beats and bars.

The stage between a score (beats) and audio: `as_written` performs a score without changes,
`melisma.data.render` with expressive timing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.symbolic.beats import beat_grid
from melisma.values import Score, Track
from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class Part:
    """One instrument's notes, sorted by start."""

    program: int
    """General MIDI program 0-127 (for drums: the kit)."""
    is_drum: bool
    is_lead: bool
    """Whether this part carries the melody; at most one part of a performance does."""
    start_seconds: np.ndarray
    """float64 [note]."""
    duration_seconds: np.ndarray
    """float64 [note], positive."""
    pitch: np.ndarray
    """int64 [note], MIDI pitch; for drums the percussion key."""
    velocity: np.ndarray
    """int64 [note], 1-127."""


@dataclass(frozen=True, kw_only=True)
class Performance:
    """A whole piece as played."""

    parts: tuple[Part, ...]
    beat_seconds: np.ndarray
    """float64 [beat], when each quarter note falls (dotted quarter in 6/8), ascending."""
    bar_seconds: np.ndarray
    """float64 [bar], when each downbeat falls, ascending."""
    metre: str | None
    """One of `METRES` where the whole performance keeps it, otherwise None."""

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        ends = [
            float((p.start_seconds + p.duration_seconds).max()) for p in self.parts if len(p.pitch)
        ]
        return max(ends, default=0.0)


@dataclass(frozen=True, kw_only=True)
class TimeMap:
    """Time of each beat of a score, piecewise linear between grid points."""

    beats: np.ndarray
    """float64 [point], quarter notes, ascending from 0."""
    seconds: np.ndarray
    """float64 [point]."""

    def at(self, beats: np.ndarray) -> np.ndarray:
        """Converts positions in quarter notes (any shape) to seconds."""
        return np.interp(beats, self.beats, self.seconds)


def _changes(score: Score) -> np.ndarray:
    """Positions of tempo changes in quarter notes, float64 [change]."""
    beats = score.tempo.beats
    return beats[(beats > 0) & (beats < score.end_beats + 8.0)]


def tempo_changes(score: Score) -> int:
    """Number of tempo changes of a score."""
    return len(_changes(score))


def time_map(score: Score, speed: float = 1.0) -> TimeMap:
    """Time map of a score at its notated tempi.

    Args:
        score: The score.
        speed: Factor on all tempi.
    """
    beats = np.arange(0.0, score.end_beats + 8.5, 0.5)
    beats = np.unique(np.concatenate([beats, _changes(score)]))
    steps = np.diff(score.tempo.seconds(beats) / speed)
    return TimeMap(beats=beats, seconds=np.concatenate([[0.0], np.cumsum(steps)]))


def as_part(
    track: Track, start: np.ndarray, end: np.ndarray, *, shift: int = 0, leads: bool = False
) -> Part:
    """Converts a track to a performed part.

    Args:
        track: The notated track.
        start: Onset of each note in seconds, float64 [note].
        end: End of each note in seconds, float64 [note].
        shift: Transposition in semitones; pitches beyond the piano's range move by an octave.
        leads: Whether the part carries the melody; it is then a little louder.
    """
    pitch = track.notes.pitch
    if not track.is_drum:
        pitch = pitch + shift
        pitch = pitch + 12 * (pitch < 21) - 12 * (pitch > 108)
    velocity = track.notes.velocity + (6 if leads else 0)
    start = np.maximum(start, 0.0)
    duration = np.maximum(end - start, 0.03)
    order = np.lexsort((pitch, start))
    start, duration, pitch = start[order], duration[order], pitch[order]
    return Part(
        program=track.program,
        is_drum=track.is_drum,
        is_lead=leads,
        start_seconds=start,
        duration_seconds=_separate(start, duration, pitch),
        pitch=pitch.astype(np.int64),
        velocity=np.clip(velocity[order], 1, 127).astype(np.int64),
    )


def _separate(start: np.ndarray, duration: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Durations shortened to end before the next onset of the same pitch."""
    order = np.lexsort((start, pitch))
    gap = np.diff(start[order])
    same = np.diff(pitch[order]) == 0
    limit = np.full(len(order), np.inf)
    limit[order[:-1][same]] = np.maximum(gap[same] - 0.008, 0.01)
    return np.minimum(duration, limit)


def as_written(score: Score) -> Performance:
    """Performs a score as notated, without expressive changes.

    Raises:
        MelismaError: The score holds no note.
    """
    if not any(len(track.notes) for track in score.tracks):
        raise MelismaError("the score holds no note: there is nothing to perform")
    times, grid = time_map(score), beat_grid(score)
    parts = []
    for track in score.tracks:
        if len(notes := track.notes):
            ends = times.at(notes.start_beats + notes.duration_beats)
            parts.append(as_part(track, times.at(notes.start_beats), ends))
    return Performance(
        parts=tuple(parts),
        beat_seconds=times.at(grid.beats),
        bar_seconds=times.at(grid.bars),
        metre=grid.metre,
    )
