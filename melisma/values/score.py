"""Notation as a value: tracks of notes in beats, a tempo map and metres.

A *beat* is a quarter note throughout the program, whatever the metre.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Notes as columns of equal length, sorted by start and then by pitch."""

    start_beats: np.ndarray
    """float64 [note], quarter notes from the start of the score."""
    duration_beats: np.ndarray
    """float64 [note], positive."""
    pitch: np.ndarray
    """int64 [note], MIDI pitch 0-127 (for drums: the General MIDI percussion key)."""
    velocity: np.ndarray
    """int64 [note], 1-127."""

    def __post_init__(self) -> None:
        lengths = {
            len(c) for c in (self.start_beats, self.duration_beats, self.pitch, self.velocity)
        }
        if len(lengths) != 1:
            raise MelismaError(f"the columns of notes differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.pitch)


PITCH_BEND = 128
"""Number of pitch bend among the controllers of `Controls`."""


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Changes of controllers as columns of equal length, sorted by beat."""

    beats: np.ndarray
    """float64 [change], quarter notes from the start of the score."""
    number: np.ndarray
    """int64 [change], MIDI controller 0-127, or `PITCH_BEND`."""
    value: np.ndarray
    """int64 [change], 0-127; for pitch bend 0-16383, where 8192 is none."""

    def __len__(self) -> int:
        return len(self.number)


def no_controls() -> Controls:
    """Controls without any change."""
    none = np.zeros(0, np.int64)
    return Controls(beats=np.zeros(0), number=none, value=none)


TextKind = Literal["text", "copyright", "title", "instrument", "lyric", "marker", "cue"]
"""Kinds of text: remarks, notices, the name of the piece, names of instruments, sung syllables,
rehearsal marks and sections, cues."""


@dataclass(frozen=True, kw_only=True)
class ScoreText:
    """Text at a beat: a copyright notice, a syllable, a rehearsal mark."""

    beat: float
    kind: TextKind
    text: str


@dataclass(frozen=True, kw_only=True)
class KeySignature:
    """A key signature that holds from a beat on."""

    beat: float
    sharps: int
    """Number of sharps, -7 to 7; negative: of flats."""
    is_minor: bool


@dataclass(frozen=True, kw_only=True)
class Track:
    """One part of a score."""

    notes: Notes
    program: int
    """General MIDI program 0-127 (for drums: the kit)."""
    is_drum: bool
    name: str = ""
    controls: Controls = field(default_factory=no_controls)
    """Volume, pan, pitch bend and all other controllers but what the notes hold already."""
    texts: tuple[ScoreText, ...] = ()
    """Lyrics and other text of this part, by beat."""


@dataclass(frozen=True, kw_only=True)
class TempoMap:
    """Piecewise constant tempo: `bpm[i]` (quarter notes per minute) holds from `beats[i]` on."""

    beats: np.ndarray
    """float64 [change], ascending, the first is 0."""
    bpm: np.ndarray
    """float64 [change], positive."""

    def __post_init__(self) -> None:
        if len(self.beats) == 0 or len(self.beats) != len(self.bpm) or self.beats[0] != 0:
            raise MelismaError("a tempo map needs one tempo at beat 0 or more")
        if not (np.asarray(self.bpm) > 0).all() or not (np.diff(self.beats) > 0).all():
            raise MelismaError("tempi are positive and their beats ascend")

    def _anchors_seconds(self) -> np.ndarray:
        steps = np.diff(self.beats) * 60.0 / self.bpm[:-1]
        return np.concatenate([[0.0], np.cumsum(steps)])

    def seconds(self, beats: np.ndarray) -> np.ndarray:
        """Converts positions in beats (any shape) to times in seconds."""
        beats = np.asarray(beats, dtype=np.float64)
        index = np.clip(np.searchsorted(self.beats, beats, side="right") - 1, 0, None)
        return self._anchors_seconds()[index] + (beats - self.beats[index]) * 60.0 / self.bpm[index]

    def position_beats(self, seconds: np.ndarray) -> np.ndarray:
        """Converts times in seconds (any shape) to positions in beats; the inverse of `seconds`."""
        seconds = np.asarray(seconds, dtype=np.float64)
        anchors = self._anchors_seconds()
        index = np.clip(np.searchsorted(anchors, seconds, side="right") - 1, 0, None)
        return self.beats[index] + (seconds - anchors[index]) * self.bpm[index] / 60.0


@dataclass(frozen=True, kw_only=True)
class Metre:
    """A time signature that holds from a beat on."""

    beat: float
    numerator: int
    denominator: int

    @property
    def bar_beats(self) -> float:
        """Length of a bar in quarter notes."""
        return self.numerator * 4.0 / self.denominator


@dataclass(frozen=True, kw_only=True)
class ChordMark:
    """A chord that holds from a beat on."""

    beat: float
    name: str
    """One of `values.events.CHORD_NAMES`, e.g. "Am"."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A piece in symbolic notation."""

    tracks: tuple[Track, ...]
    tempo: TempoMap
    metres: tuple[Metre, ...] = field(
        default_factory=lambda: (Metre(beat=0.0, numerator=4, denominator=4),)
    )
    title: str = ""
    chords: tuple[ChordMark, ...] = ()
    """Chord symbols, by beat; empty where the source has none."""
    tonality: str | None = None
    """Musical key of the key signature, one of `TONALITIES`; None where there is none."""
    keys: tuple[KeySignature, ...] = ()
    """Key signatures that were read, by beat; they take precedence over `tonality`."""
    texts: tuple[ScoreText, ...] = ()
    """Text that belongs to no part, by beat: title, copyright, markers."""
    remarks: tuple[str, ...] = ()
    """What was left out or guessed when the score was read, in sentences."""

    @property
    def end_beats(self) -> float:
        """End of the last note in beats; 0 for a score without notes."""
        ends = [
            float((t.notes.start_beats + t.notes.duration_beats).max())
            for t in self.tracks
            if len(t.notes)
        ]
        return max(ends, default=0.0)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return float(self.tempo.seconds(np.array(self.end_beats)))
