"""Chord recognition from notes: the triad of each segment of a clip.

Inputs: a weighted piano roll [frame, 128] and the frames at which segments (perceived beats) begin.
Output: a chord per frame, int8 [frame]: 0 none, 1..12 major, 13..24 minor (root pitch class + 1,
+ 12 for minor).

Each segment is matched with 24 chord templates (the template method of Fujishima, ICMC 1999, here
on notes instead of audio), and a Viterbi path with a penalty on every change prevents single
passing tones from changing the chord (Sheh and Ellis, ISMIR 2003).
"""

from __future__ import annotations

import numpy as np

from melisma.symbolic.beats import beat_grid
from melisma.values import ChordMark, Score
from melisma.values.events import CHORD_NAMES, TICKS_PER_BEAT

ROLL_TICKS = 6
"""Ticks per frame of the piano roll for chord recognition: a sixteenth note."""

CHORDS = 25
"""No chord, 12 major, 12 minor."""

_TONE_WEIGHTS = {"root": 1.0, "third": 0.9, "fifth": 0.8}
_SEVENTH_WEIGHT = 0.3
"""A seventh is neither required nor penalised (chosen)."""
_BASS_SHARE = 0.35
"""Weight of the bass pitch class relative to the whole profile (chosen; a bass on the root decides
between relatives, e.g. C E A as A minor or C6)."""
_NONE_MATCH = 0.66
"""Match of "no chord": a triad must fit better (one note alone reaches 0.63)."""
_CHANGE_PENALTY = 0.12
"""Penalty of a change, in units of the match summed over segments of a beat (chosen)."""


def _templates() -> np.ndarray:
    """Unit-length profiles of the 24 triads, [24, 12]."""
    rows = np.zeros((24, 12))
    for root in range(12):
        for mode, third in enumerate((4, 3)):
            row = rows[root + 12 * mode]
            row[root] = _TONE_WEIGHTS["root"]
            row[(root + third) % 12] = _TONE_WEIGHTS["third"]
            row[(root + 7) % 12] = _TONE_WEIGHTS["fifth"]
            row[(root + 10) % 12] = _SEVENTH_WEIGHT
            if mode == 0:
                row[(root + 11) % 12] = _SEVENTH_WEIGHT / 2
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


_TEMPLATES = _templates()
PITCH_TO_CLASS = np.eye(12)[np.arange(128) % 12]
"""One-hot pitch class of each MIDI pitch, [128, 12]."""


def segment_profiles(roll: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Pitch-class profile of each segment with emphasis on the bass.

    Args:
        roll: velocity of the sounding notes, [frame, 128].
        edges: segment i covers the frames from `edges[i]` to `edges[i + 1]`.

    Returns:
        float64 [segment, 12], rows of unit length or zeros.
    """
    starts = edges[:-1]
    profile = np.add.reduceat(roll @ PITCH_TO_CLASS, starts, axis=0)
    sounding = roll > 0
    lowest = sounding.argmax(axis=1)
    bass = PITCH_TO_CLASS[lowest] * roll[np.arange(len(roll)), lowest][:, None]
    bass_profile = np.add.reduceat(bass, starts, axis=0)
    return _unit(_unit(profile) + _BASS_SHARE * _unit(bass_profile))


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def chord_path(profiles: np.ndarray) -> np.ndarray:
    """Most likely chord sequence, int64 [segment], of profiles [segment, 12] (Viterbi)."""
    matches = np.empty((len(profiles), CHORDS))
    matches[:, 1:] = profiles @ _TEMPLATES.T
    silent = ~profiles.any(axis=1)
    matches[:, 0] = np.where(silent, 2.0, _NONE_MATCH)
    best = matches[0].copy()
    came_from = np.zeros((len(profiles), CHORDS), dtype=np.int64)
    for index in range(1, len(profiles)):
        leader = int(best.argmax())
        changed = best[leader] - _CHANGE_PENALTY
        stay = best >= changed
        came_from[index] = np.where(stay, np.arange(CHORDS), leader)
        best = np.where(stay, best, changed) + matches[index]
    path = np.empty(len(profiles), dtype=np.int64)
    path[-1] = int(best.argmax())
    for index in range(len(profiles) - 1, 0, -1):
        path[index - 1] = came_from[index, path[index]]
    path[silent] = 0
    return path


def frame_chords(roll: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Chord of each frame of a piano roll.

    Args:
        roll: velocity of the sounding notes, [frame, 128].
        edges: ascending segment edges in frames, from 0 to the number of frames.

    Returns:
        int8 [frame], as in the module docstring.
    """
    path = chord_path(segment_profiles(roll, edges))
    return np.repeat(path, np.diff(edges)).astype(np.int8)


def chord_marks(score: Score) -> tuple[ChordMark, ...]:
    """The triad of each perceived beat, listed at the first beat and wherever it changes.

    Long silences are "N.C."; a score with drums only has no chord marks.
    """
    pitched = [track for track in score.tracks if not track.is_drum]
    if not pitched:
        return ()
    frames = max(int(np.ceil(score.end_beats * TICKS_PER_BEAT / ROLL_TICKS)), 1)
    roll = np.zeros((frames, 128), dtype=np.float32)
    for track in pitched:
        notes = track.notes
        begin = np.round(notes.start_beats * TICKS_PER_BEAT / ROLL_TICKS).astype(int)
        end = np.round((notes.start_beats + notes.duration_beats) * TICKS_PER_BEAT / ROLL_TICKS)
        for first, last, pitch, velocity in zip(
            begin, np.maximum(end.astype(int), begin + 1), notes.pitch, notes.velocity, strict=True
        ):
            roll[first:last, pitch] = np.maximum(roll[first:last, pitch], velocity)
    beats = beat_grid(score).beats
    marks = np.unique(np.round(beats * TICKS_PER_BEAT / ROLL_TICKS).astype(int))
    edges = np.unique(np.concatenate([[0], marks[(marks > 0) & (marks < frames)], [frames]]))
    chords = frame_chords(roll, edges)[edges[:-1]]
    changed_here = np.concatenate([[True], np.diff(chords) != 0])
    return tuple(
        ChordMark(beat=float(at) * ROLL_TICKS / TICKS_PER_BEAT, name=CHORD_NAMES[int(chord)])
        for at, chord in zip(edges[:-1][changed_here], chords[changed_here], strict=True)
    )
