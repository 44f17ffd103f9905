"""Note transcription of a pitch track: its tuning, and notes on semitones.

Inputs: MIDI pitches float64 [frame] at 100 frames per second, nan where unvoiced; levels in
decibels. Outputs: the tuning in semitones [frame] and `TuneNote`s. Notes are the likeliest path
through the semitones and a rest state (as in Tony: Mauch et al., "Computer-aided melody note
transcription", 2015), so that glides and vibrato cause no spurious notes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.melody.salience import TRACK_RATE_HZ
from melisma.melody.viterbi import likeliest_path

MIN_NOTE_SECONDS = 0.08
"""Shorter notes are dropped: two frames of the language model."""
_SPREAD_SEMITONES = 0.4
"""Standard deviation of a voice around its note (chosen); the cost saturates at 2.4 of it."""
_MAX_COST, _CHANGE_COST = 3.0, 10.0
"""Maximum cost of a frame on another note, and cost of a change: notes under 70 ms are skipped."""
_REST_COST, _GAP_COST = 1.5, 1.0
"""Cost of a voiced frame in a rest, and of an unvoiced one in a note."""
_ONSET_DB, _ONSET_FRAMES = 6.0, 5
"""A rise of the level by this much within this number of frames is a new onset."""
_VIBRATO_FRAMES = 19
"""About one period of vocal vibrato (5 to 6 Hz), over which pitches are averaged."""
_STEADY_SEMITONES = 0.03
"""Maximum movement per frame of a steady pitch; faster is a glide."""
_DRIFTS = np.arange(-100, 101, 5) / 100.0
"""Candidate tuning drifts over the whole track, in semitones; unaccompanied singers drift."""
_DRIFT_COST = 0.1
"""Gain in concentration that a drift of one semitone must bring to be accepted (chosen)."""
_DRIFT_FRAMES = 400
"""Minimum number of steady frames to estimate a drift."""


@dataclass(frozen=True, kw_only=True)
class TuneNote:
    """A transcribed note."""

    onset_seconds: float
    offset_seconds: float
    pitch: int
    """MIDI pitch, the nearest semitone in the tune's own tuning."""


def line_tuning(pitches: np.ndarray) -> np.ndarray:
    """Estimates the deviation of the tuning from A = 440 Hz.

    Circular mean of the deviations from the nearest semitone, along the linear drift that
    concentrates them most; its mean lies between -.5 and .5, so that a voice that sinks by a
    semitone in the course of the tune keeps its scale.

    Args:
        pitches: MIDI pitches, float64 [frame], nan where unvoiced.

    Returns:
        Deviation in semitones, float64 [frame].
    """
    position = np.linspace(-0.5, 0.5, len(pitches))
    middle = _without_vibrato(pitches)
    steady = np.isfinite(middle) & (np.abs(np.gradient(middle)) < _STEADY_SEMITONES)
    if not steady.any():
        middle, steady = pitches, np.isfinite(pitches)
    if not steady.any():
        return np.zeros(len(pitches))
    drifts = _DRIFTS if steady.sum() >= _DRIFT_FRAMES else np.zeros(1)
    detrended = middle[steady] - drifts[:, None] * position[steady]
    means = np.exp(2j * np.pi * detrended).mean(axis=1)
    best = int(np.argmax(np.abs(means) - _DRIFT_COST * np.abs(drifts)))
    return np.angle(means[best]) / (2 * np.pi) + drifts[best] * position


def find_notes(pitches: np.ndarray, levels_db: np.ndarray) -> tuple[TuneNote, ...]:
    """Segments a pitch track into notes.

    Args:
        pitches: MIDI pitches relative to the track's own tuning, float64 [frame], nan where
            unvoiced.
        levels_db: Level of the audio, float64 [frame].

    Returns:
        Notes by onset, none shorter than `MIN_NOTE_SECONDS`.
    """
    voiced = np.isfinite(pitches)
    if not voiced.any():
        return ()
    lowest = int(np.floor(np.nanmin(pitches)))
    semitones = np.arange(lowest, int(np.ceil(np.nanmax(pitches))) + 1)
    deviation = np.where(voiced, pitches, 0.0)[:, None] - semitones
    cost = np.minimum(0.5 * (deviation / _SPREAD_SEMITONES) ** 2, _MAX_COST)
    cost = np.where(voiced[:, None], cost, _GAP_COST)
    rest = np.where(voiced, _REST_COST, 0.0)[:, None]
    scores = -np.concatenate([cost, rest], axis=1)
    path = likeliest_path(scores, step_cost=0.0, jump_cost=_CHANGE_COST, reach=0)
    edges = np.flatnonzero(np.diff(path) != 0) + 1
    onsets = _onsets(levels_db)
    borders = np.unique(np.concatenate([[0], edges, onsets, [len(path)]]))
    notes: list[TuneNote] = []
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        state = int(path[first])
        if state == len(semitones):
            continue
        pitch, onset, offset = int(semitones[state]), first / TRACK_RATE_HZ, last / TRACK_RATE_HZ
        joins = bool(notes) and abs(notes[-1].offset_seconds - onset) < 1e-9
        if offset - onset < MIN_NOTE_SECONDS:
            # A fragment that an onset splits from the surrounding note is merged into it.
            if joins and notes[-1].pitch == pitch:
                onset = notes.pop().onset_seconds
            else:
                continue
        notes.append(TuneNote(onset_seconds=onset, offset_seconds=offset, pitch=pitch))
    return tuple(notes)


def _without_vibrato(pitches: np.ndarray) -> np.ndarray:
    """Means over a period of vibrato, nan where any of its frames is unvoiced; float64 [frame]."""
    if len(pitches) <= _VIBRATO_FRAMES:
        return np.full(len(pitches), np.nan)
    means = np.lib.stride_tricks.sliding_window_view(pitches, _VIBRATO_FRAMES).mean(axis=1)
    half = _VIBRATO_FRAMES // 2
    return np.pad(means, half, constant_values=np.nan)


def _onsets(levels_db: np.ndarray) -> np.ndarray:
    """Frames at which the level rises suddenly, int64 [onset]."""
    if len(levels_db) <= _ONSET_FRAMES:
        return np.zeros(0, dtype=np.int64)
    rise = levels_db[_ONSET_FRAMES:] - levels_db[:-_ONSET_FRAMES]
    around = np.pad(rise, 8, mode="edge")
    highest = np.lib.stride_tricks.sliding_window_view(around, 17).max(axis=1)
    found = np.flatnonzero((rise >= _ONSET_DB) & (rise >= highest)) + _ONSET_FRAMES // 2
    return found[np.diff(found, prepend=-100) > 8]
