"""Plan of an arrangement: melody, chords, bars and their intensity; and the writer of a part.

`arranger.py` makes the plan; the modules of `accompaniment` (`drums.py`, `bass.py`, `comping.py`,
`tune.py`) read it and fill a `PartWriter`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from melisma.data.arrange.instruments import to_range, velocity_factor
from melisma.data.arrange.sheet import Chord, notes_from_rows
from melisma.values import Notes, Track
from melisma.values.errors import MelismaError

Row = tuple[float, float, int, int]
"""Start in beats, duration in beats, pitch, velocity."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of the arrangement."""

    index: int
    start_beat: float
    kind: str
    """"intro", "song" or "ending"."""
    section: int
    """Number of the section (of about eight bars), from 0."""
    bar_in_phrase: int
    """Position in the phrase, from 0."""
    phrase_bars: int
    """Length of the phrase in bars."""
    section_begins: bool
    intensity: float
    """0.4 (quiet) to 1 (full)."""

    @property
    def ends_phrase(self) -> bool:
        """Whether this is the last bar of its phrase."""
        return self.bar_in_phrase == self.phrase_bars - 1


@dataclass(frozen=True, kw_only=True)
class Span:
    """A chord with its time range and the chord that follows."""

    start_beat: float
    end_beat: float
    chord: Chord
    following: Chord


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The arrangement before any part is written."""

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
        """All chords with their ends; the last one is followed by itself."""
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
        """The bar at a beat, limited to the first and last bar."""
        index = int((beat + 1e-6) // self.bar_beats)
        return self.bars[min(max(index, 0), len(self.bars) - 1)]

    def chord_index(self, beat: float) -> int:
        """Index of the chord that sounds at a beat."""
        return max(int(np.searchsorted(self._chord_starts, beat + 1e-6, side="right")) - 1, 0)

    def melody_between(self, start: float, end: float) -> list[tuple[int, float]]:
        """Melody pitches that sound in [start, end), each with its overlap in beats."""
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
        """Pitch classes of the key (natural and harmonic minor combined)."""
        tonic = self.tonality % 12
        steps = (0, 2, 3, 5, 7, 8, 10, 11) if self.tonality >= 12 else (0, 2, 4, 5, 7, 9, 11)
        return frozenset((tonic + step) % 12 for step in steps)


@dataclass
class PartWriter:
    """Collects the notes of a part; `track` finishes it."""

    program: int
    name: str
    is_drum: bool = False
    rows: list[Row] = field(default_factory=list)
    delay_seconds: float = 0.0
    """Delay behind the beat."""

    def add(self, start: float, duration: float, pitch: int, velocity: float) -> None:
        """Add a note.

        Args:
            start: Start in beats.
            duration: Duration in beats.
            pitch: MIDI pitch, or percussion key.
            velocity: Rounded and limited to 1-127.
        """
        self.rows.append((start, duration, pitch, min(max(round(velocity), 1), 127)))

    def track(self) -> Track:
        """Build the track: a note ends where the same pitch begins again; pitches are in range."""
        latest: dict[int, int] = {}
        rows: list[Row] = []
        for row in sorted(self.rows, key=lambda row: (row[0], row[2])):
            previous = latest.get(row[2])
            if previous is not None:
                start, duration, pitch, velocity = rows[previous]
                if row[0] - start < 0.03:
                    rows[previous] = (start, max(duration, row[1]), pitch, max(velocity, row[3]))
                    continue
                rows[previous] = (start, min(duration, row[0] - start), pitch, velocity)
            latest[row[2]] = len(rows)
            rows.append(row)
        if not self.is_drum:
            factor = velocity_factor(self.program)
            rows = [
                (start, length, to_range(self.program, pitch), round(velocity * factor))
                for start, length, pitch, velocity in rows
            ]
        return Track(
            notes=notes_from_rows(rows),
            program=self.program,
            is_drum=self.is_drum,
            name=self.name,
        )


_LEVELS = {"X": 1.0, "x": 0.82, "o": 0.64, "g": 0.4}


def parse_pattern(pattern: str, bar_beats: float) -> list[tuple[float, float, float]]:
    """Parse the rhythm of one bar.

    Args:
        pattern: The characters divide the bar evenly ("|" and spaces are ignored): X accent, x
            normal, o soft, g ghost, - prolongs the previous hit, . is a rest.
        bar_beats: Length of the bar in beats.

    Returns:
        Start in beats, length in beats and level (0.4 to 1) of each hit.

    Raises:
        MelismaError: If the pattern has another character.
    """
    cells = pattern.replace("|", "").replace(" ", "")
    step = bar_beats / len(cells)
    result: list[tuple[float, float, float]] = []
    for index, cell in enumerate(cells):
        if cell in _LEVELS:
            result.append((index * step, step, _LEVELS[cell]))
        elif cell == "-" and result:
            start, length, level = result[-1]
            result[-1] = (start, length + step, level)
        elif cell != ".":
            raise MelismaError(f'a pattern is written with X x o g - and ., not "{cell}"')
    return result
