"""Lead sheet: a melody with its chords, metre and phrases, without the accompaniment.

`lead_sheet.py` extracts it from a score, `arranger.py` arranges it for a band. All times are beats
(quarter notes) from the start of the first bar, which is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.values import Notes

QUALITIES: dict[str, tuple[int, ...]] = {
    "maj": (0, 4, 7),
    "min": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "m7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "sus4": (0, 5, 7),
}
"""Semitones above the root of the tones of each chord quality."""


@dataclass(frozen=True, kw_only=True)
class Chord:
    """A chord that lasts until the next one."""

    start_beat: float
    root: int
    """Pitch class 0-11."""
    quality: str
    """One of `QUALITIES`."""
    bass: int
    """Pitch class 0-11 of the lowest note in the source; a tone of the chord."""

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        """Pitch classes in order from the root."""
        return tuple((self.root + step) % 12 for step in QUALITIES[self.quality])


@dataclass(frozen=True, kw_only=True)
class LeadSheet:
    """A song to be arranged."""

    title: str
    melody: Notes
    """Monophonic."""
    chords: tuple[Chord, ...]
    """Ascending; the first starts at beat 0."""
    tonality: int
    """Index into `values.attributes.TONALITIES`."""
    metre: str
    """One of `values.attributes.METRES`."""
    bars: int
    phrase_bars: tuple[int, ...]
    """First bar of each phrase, ascending; the first is 0."""

    @property
    def bar_beats(self) -> float:
        """Length of a bar in quarter notes."""
        return {"2/4": 2.0, "3/4": 3.0, "4/4": 4.0, "6/8": 3.0}[self.metre]

    @property
    def is_minor(self) -> bool:
        """Whether the tonality is minor."""
        return self.tonality >= 12

    def chord_at(self, beat: float) -> Chord:
        """The chord that sounds at a beat."""
        starts = [chord.start_beat for chord in self.chords]
        index = int(np.searchsorted(starts, beat + 1e-6, side="right")) - 1
        return self.chords[max(index, 0)]


def transpose_chord(chord: Chord, semitones: int) -> Chord:
    """Transpose a chord."""
    return replace(chord, root=(chord.root + semitones) % 12, bass=(chord.bass + semitones) % 12)


def notes_from_rows(rows: list[tuple[float, float, int, int]]) -> Notes:
    """Build notes from (start in beats, duration in beats, pitch, velocity) rows; sorts them."""
    ordered = sorted(rows, key=lambda row: (row[0], row[2]))
    return Notes(
        start_beats=np.array([row[0] for row in ordered], dtype=np.float64),
        duration_beats=np.array([max(row[1], 0.02) for row in ordered], dtype=np.float64),
        pitch=np.array([row[2] for row in ordered], dtype=np.int64),
        velocity=np.array([min(max(row[3], 1), 127) for row in ordered], dtype=np.int64),
    )


def rows_from_notes(notes: Notes) -> list[tuple[float, float, int, int]]:
    """Rows (start in beats, duration in beats, pitch, velocity); inverse of `notes_from_rows`."""
    return [
        (float(start), float(duration), int(pitch), int(velocity))
        for start, duration, pitch, velocity in zip(
            notes.start_beats, notes.duration_beats, notes.pitch, notes.velocity, strict=True
        )
    ]
