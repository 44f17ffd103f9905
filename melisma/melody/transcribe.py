"""From a line of pitches to notes: its tuning, and the semitones that it rests on.

Enters: MIDI pitches float64 [frame] at 100 frames a second, nan where none; levels in decibels.
Leaves: the tuning in semitones [frame] and `TuneNote`s. Notes are the likeliest path through the
semitones and the rest (as in Tony: Mauch et al., "Computer-aided melody note transcription", 2015),
so that a glide or a vibrato makes no notes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.melody.salience import TRACK_RATE_HZ
from melisma.melody.viterbi import likeliest_path

SHORTEST_NOTE_SECONDS = 0.08
"""A shorter note is no note: two frames of the language model."""
_SPREAD_SEMITONES = 0.4
"""How far a voice lies from its note (chosen); what is farther than 2.4 of it costs no more."""
_MOST_COST, _CHANGE_COST = 3.0, 10.0
"""Cost of a frame on another note and of a change: a note lasts 70 ms or is passed over."""
_REST_COST, _GAP_COST = 1.5, 1.0
"""Cost of a frame with pitch in a rest, and of one without pitch in a note."""
_STRUCK_DB, _STRUCK_FRAMES = 6.0, 5
"""A note that grows louder by so much within so many frames has begun anew."""
_VIBRATO_FRAMES = 19
"""About a period of a voice's vibrato (5 to 6 Hz): its mean is what is meant."""
_STEADY_SEMITONES = 0.03
"""A line that moves by more in a frame is on the way to another note."""
_DRIFTS = np.arange(-100, 101, 5) / 100.0
"""Semitones by which the tuning may move until the end; singers without an instrument do."""
_DRIFT_COST = 0.1
"""Agreement that a drift of a semitone must bring to be believed (chosen)."""
_DRIFT_FRAMES = 400
"""Frames with pitch, at least, that tell a drift."""


@dataclass(frozen=True, kw_only=True)
class TuneNote:
    """A note as it was meant."""

    onset_seconds: float
    offset_seconds: float
    pitch: int
    """MIDI pitch, the nearest semitone in the tune's own tuning."""


def line_tuning(pitches: np.ndarray) -> np.ndarray:
    """Distance of the tuning from A = 440 Hz in semitones, float64 [frame].

    Circular mean of the distances from the nearest semitone, along the straight drift that brings
    them closest together; its mean lies between -.5 and .5, so that a voice that sinks by a
    semitone on the way stays in its scale.
    """
    place = np.linspace(-0.5, 0.5, len(pitches))
    middle = _without_vibrato(pitches)
    steady = np.isfinite(middle) & (np.abs(np.gradient(middle)) < _STEADY_SEMITONES)
    if not steady.any():
        middle, steady = pitches, np.isfinite(pitches)
    if not steady.any():
        return np.zeros(len(pitches))
    drifts = _DRIFTS if steady.sum() >= _DRIFT_FRAMES else np.zeros(1)
    straight = middle[steady] - drifts[:, None] * place[steady]
    means = np.exp(2j * np.pi * straight).mean(axis=1)
    best = int(np.argmax(np.abs(means) - _DRIFT_COST * np.abs(drifts)))
    return np.angle(means[best]) / (2 * np.pi) + drifts[best] * place


def find_notes(pitches: np.ndarray, levels_db: np.ndarray) -> tuple[TuneNote, ...]:
    """Notes of a line that is in tune, by onset; none is shorter than 80 ms."""
    known = np.isfinite(pitches)
    if not known.any():
        return ()
    lowest = int(np.floor(np.nanmin(pitches)))
    semitones = np.arange(lowest, int(np.ceil(np.nanmax(pitches))) + 1)
    away = np.where(known, pitches, 0.0)[:, None] - semitones
    cost = np.minimum(0.5 * (away / _SPREAD_SEMITONES) ** 2, _MOST_COST)
    cost = np.where(known[:, None], cost, _GAP_COST)
    rest = np.where(known, _REST_COST, 0.0)[:, None]
    scores = -np.concatenate([cost, rest], axis=1)
    path = likeliest_path(scores, step_cost=0.0, jump_cost=_CHANGE_COST, reach=0)
    edges = np.flatnonzero(np.diff(path) != 0) + 1
    struck = _struck(levels_db)
    borders = np.unique(np.concatenate([[0], edges, struck, [len(path)]]))
    notes: list[TuneNote] = []
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        state = int(path[first])
        if state == len(semitones):
            continue
        pitch, onset, offset = int(semitones[state]), first / TRACK_RATE_HZ, last / TRACK_RATE_HZ
        joins = bool(notes) and abs(notes[-1].offset_seconds - onset) < 1e-9
        if offset - onset < SHORTEST_NOTE_SECONDS:
            # What a stroke cuts off the note around it stays with it.
            if joins and notes[-1].pitch == pitch:
                onset = notes.pop().onset_seconds
            else:
                continue
        notes.append(TuneNote(onset_seconds=onset, offset_seconds=offset, pitch=pitch))
    return tuple(notes)


def _without_vibrato(pitches: np.ndarray) -> np.ndarray:
    """Means over a period of vibrato, nan where any of it has no pitch; float64 [frame]."""
    if len(pitches) <= _VIBRATO_FRAMES:
        return np.full(len(pitches), np.nan)
    means = np.lib.stride_tricks.sliding_window_view(pitches, _VIBRATO_FRAMES).mean(axis=1)
    half = _VIBRATO_FRAMES // 2
    return np.pad(means, half, constant_values=np.nan)


def _struck(levels_db: np.ndarray) -> np.ndarray:
    """Frames at which the sound grows suddenly louder, int64 [stroke]."""
    if len(levels_db) <= _STRUCK_FRAMES:
        return np.zeros(0, dtype=np.int64)
    rise = levels_db[_STRUCK_FRAMES:] - levels_db[:-_STRUCK_FRAMES]
    around = np.pad(rise, 8, mode="edge")
    highest = np.lib.stride_tricks.sliding_window_view(around, 17).max(axis=1)
    found = np.flatnonzero((rise >= _STRUCK_DB) & (rise >= highest)) + _STRUCK_FRAMES // 2
    return found[np.diff(found, prepend=-100) > 8]
