"""What a band agrees on before it plays: the tune, the chords, the bars and their loudness.

`arranger.py` makes the plan; every player (`data/arrange/accompaniment/drums.py`,
`data/arrange/accompaniment/bass.py`, `data/arrange/accompaniment/comping.py`,
`data/arrange/accompaniment/tune.py`) reads it and returns a `Line`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from melisma.data.arrange.instruments import velocity_factor, within
from melisma.data.arrange.sheet import Chord, notes_from_rows
from melisma.values import Notes, Track

Row = tuple[float, float, int, int]
"""Start beats, duration beats, pitch, velocity."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of the arrangement."""

    index: int
    start_beat: float
    kind: str
    """"intro", "song" or "ending"."""
    section: int
    """Counts sections of about eight bars, from 0."""
    place: int
    """Bars since the phrase began."""
    phrase_bars: int
    """Length of the phrase in bars."""
    section_begins: bool
    intensity: float
    """0.4 (quiet) to 1 (full)."""

    @property
    def ends_phrase(self) -> bool:
        """Whether the next bar begins a phrase."""
        return self.place == self.phrase_bars - 1


@dataclass(frozen=True, kw_only=True)
class Span:
    """A chord with its time."""

    start_beat: float
    end_beat: float
    chord: Chord
    following: Chord


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole arrangement before any part is written."""

    style: str
    melody: Notes
    chords: tuple[Chord, ...]
    bars: tuple[Bar, ...]
    bar_beats: float
    tonality: int
    tempo_bpm: float

    @property
    def end_beat(self) -> float:
        """End of the last bar."""
        return self.bars[-1].start_beat + self.bar_beats

    @cached_property
    def spans_ends(self) -> list[float]:
        """End beat of each chord."""
        return [*(chord.start_beat for chord in self.chords[1:]), self.end_beat]

    @cached_property
    def spans(self) -> list[Span]:
        """The chords with their ends; the last is followed by itself."""
        starts = [chord.start_beat for chord in self.chords]
        ends = [*starts[1:], self.end_beat]
        following = [*self.chords[1:], self.chords[-1]]
        return [
            Span(start_beat=s, end_beat=e, chord=c, following=f)
            for s, e, c, f in zip(starts, ends, self.chords, following, strict=True)
        ]

    @cached_property
    def _chord_starts(self) -> np.ndarray:
        return np.array([chord.start_beat for chord in self.chords])

    def bar_at(self, beat: float) -> Bar:
        """The bar at a beat; beats outside belong to the first or last bar."""
        index = int((beat + 1e-6) // self.bar_beats)
        return self.bars[min(max(index, 0), len(self.bars) - 1)]

    def chord_index(self, beat: float) -> int:
        """Index of the chord that sounds at a beat."""
        return max(int(np.searchsorted(self._chord_starts, beat + 1e-6, side="right")) - 1, 0)

    def melody_between(self, start: float, end: float) -> list[tuple[int, float]]:
        """Pitches of the melody that sound in [start, end) with their overlap in beats."""
        notes = self.melody
        ends = notes.start_beats + notes.duration_beats
        inside = np.flatnonzero((notes.start_beats < end - 0.02) & (ends > start + 0.02))
        return [
            (
                int(notes.pitch[i]),
                float(min(ends[i], end) - max(notes.start_beats[i], start)),
            )
            for i in inside
        ]

    @property
    def scale(self) -> frozenset[int]:
        """Pitch classes of the tonality (harmonic and natural minor together)."""
        tonic = self.tonality % 12
        steps = (0, 2, 3, 5, 7, 8, 10, 11) if self.tonality >= 12 else (0, 2, 4, 5, 7, 9, 11)
        return frozenset((tonic + step) % 12 for step in steps)


@dataclass
class PartWriter:
    """A part that is being written; `track` closes it."""

    program: int
    name: str
    is_drum: bool = False
    rows: list[Row] = field(default_factory=list)
    delay_seconds: float = 0.0
    """How far behind the beat the player sits."""

    def add(self, start: float, duration: float, pitch: int, velocity: float) -> None:
        """One note; the velocity is rounded and kept between 1 and 127."""
        self.rows.append((start, duration, pitch, min(max(round(velocity), 1), 127)))

    def track(self) -> Track:
        """The finished part; a note ends where the same pitch begins again."""
        latest: dict[int, int] = {}
        rows: list[Row] = []
        for row in sorted(self.rows, key=lambda row: (row[0], row[2])):
            before = latest.get(row[2])
            if before is not None:
                start, duration, pitch, velocity = rows[before]
                if row[0] - start < 0.03:
                    rows[before] = (start, max(duration, row[1]), pitch, max(velocity, row[3]))
                    continue
                rows[before] = (start, min(duration, row[0] - start), pitch, velocity)
            latest[row[2]] = len(rows)
            rows.append(row)
        if not self.is_drum:
            factor = velocity_factor(self.program)
            rows = [
                (start, length, within(self.program, pitch), round(velocity * factor))
                for start, length, pitch, velocity in rows
            ]
        return Track(
            notes=notes_from_rows(rows),
            program=self.program,
            is_drum=self.is_drum,
            name=self.name,
        )


_LEVELS = {"X": 1.0, "x": 0.82, "o": 0.64, "g": 0.4}


def hits(pattern: str, bar_beats: float) -> list[tuple[float, float, float]]:
    """Start and length in beats and level of each hit of a bar written as a string.

    The bar is divided evenly by the characters (bar marks "|" and spaces are not counted):
    X accent, x normal, o soft, g ghost, - holds the hit before, . is silent.
    """
    cells = pattern.replace("|", "").replace(" ", "")
    step = bar_beats / len(cells)
    found: list[tuple[float, float, float]] = []
    for index, cell in enumerate(cells):
        if cell in _LEVELS:
            found.append((index * step, step, _LEVELS[cell]))
        elif cell == "-" and found:
            start, length, level = found[-1]
            found[-1] = (start, length + step, level)
        elif cell != ".":
            raise ValueError(f'a pattern is written with X x o g - and ., not "{cell}"')
    return found
