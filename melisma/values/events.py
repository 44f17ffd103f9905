"""The vocabulary of score events: notation as rows of five small whole numbers.

One row is one event: a *part* that plays (an instrument), a *bar* (metre and tempo), a *chord*, a
*note*, or the *end*. Every row has five fields, each with a vocabulary of its own; a field that an
event does not use holds its absent-token, the field's size. Drawing one row at a time, field after
field, takes a fifth of the steps that one token at a time takes (compound words: Hsiao et al.,
2101.02402; fields drawn one after the other: Ryu et al., Nested Music Transformer, 2408.01180).

| event | place | part | pitch | length | velocity |
|---|---|---|---|---|---|
| part | PART | its number | program | - | - |
| bar | BAR | - | metre | tempo | - |
| chord | tick in the bar | CHORD | chord | - | - |
| note | tick in the bar | its number | pitch, or percussion key | duration | loudness |
| end | END | - | - | - | - |
"""

from __future__ import annotations

import math

import numpy as np

TICKS_PER_BEAT = 24
"""Grid of onsets: 24 to a quarter note holds thirty-second notes and triplets of sixteenths."""
LONGEST_BAR_TICKS = 192
"""Eight quarter notes; longer bars are told as several."""
MOST_PARTS = 24
"""Parts of one score."""

POSITION, PART_FIELD, PITCH, LENGTH, VELOCITY = range(5)
"""The fields, in the order in which they are drawn."""
FIELDS = 5

BAR = LONGEST_BAR_TICKS
PART = BAR + 1
END = BAR + 2
"""Values of the field `place` beside the ticks of a bar."""
CHORD = MOST_PARTS
"""Value of the field `part` for chords."""

FIRST_DRUM = 128
"""Percussion key k is pitch 128 + k."""
FIRST_CHORD = 256
CHORD_NAMES: tuple[str, ...] = (
    "N.C.",
    *("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    *("Cm", "C#m", "Dm", "Ebm", "Em", "Fm", "F#m", "Gm", "Abm", "Am", "Bbm", "Bm"),
)
"""No chord, 12 major and 12 minor triads (sevenths count as their triads)."""
FIRST_METRE = FIRST_CHORD + len(CHORD_NAMES)
BAR_METRES: tuple[tuple[int, int], ...] = (
    *((n, 4) for n in range(1, 9)),
    *((n, 8) for n in range(1, 17)),
    *((n, 16) for n in range(1, 17)),
    *((n, 2) for n in range(1, 5)),
)
"""Metres of bars, numerator and denominator."""
FIRST_PROGRAM = FIRST_METRE + len(BAR_METRES)
DRUM_PROGRAM = 128
"""The drum kit, after the 128 General MIDI programs."""

DURATION_TICKS: tuple[int, ...] = (
    *range(1, 49),  # to two quarter notes, every tick
    *range(52, 97, 4),  # to four, every sixth of a quarter note
    *range(108, 193, 12),  # to eight, every half
    *range(216, 385, 24),  # to sixteen, every one
    *range(432, 769, 48),  # to thirty-two, every two
)
"""Durations that are told apart, in ticks."""
FIRST_TEMPO = len(DURATION_TICKS)
TEMPI = 120
SLOWEST_BPM, FASTEST_BPM = 20.0, 320.0
"""Tempi of bars, quarter notes a minute, in even steps of 2.3 % (chosen: less than one hears)."""
VELOCITIES = 32
"""Classes of loudness, four MIDI velocities each."""

FIELD_SIZES: tuple[int, ...] = (
    LONGEST_BAR_TICKS + 3,
    MOST_PARTS + 1,
    FIRST_PROGRAM + DRUM_PROGRAM + 1,
    FIRST_TEMPO + TEMPI,
    VELOCITIES,
)
"""Entries of each field; the size itself stands for "absent"."""


def bar_ticks(metre: int) -> int:
    """Length of a bar of `BAR_METRES[metre]`."""
    numerator, denominator = BAR_METRES[metre]
    return numerator * 4 * TICKS_PER_BEAT // denominator


METRE_TICKS: np.ndarray = np.array([bar_ticks(metre) for metre in range(len(BAR_METRES))])
"""Length of a bar of each metre, int64 [metre]."""


def tempo_class(bpm: float) -> int:
    """The class of a tempo, quarter notes a minute; tempi beyond the range fall into the last."""
    share = math.log(max(bpm, 1e-3) / SLOWEST_BPM) / math.log(FASTEST_BPM / SLOWEST_BPM)
    return min(max(round(share * (TEMPI - 1)), 0), TEMPI - 1)


def class_bpm(tempo: int) -> float:
    """The tempo of a class, quarter notes a minute."""
    return SLOWEST_BPM * (FASTEST_BPM / SLOWEST_BPM) ** (tempo / (TEMPI - 1))


_TICKS = np.array(DURATION_TICKS)
_BORDERS = (_TICKS[:-1] + _TICKS[1:]) / 2


def duration_class(ticks: np.ndarray) -> np.ndarray:
    """The nearest class of each duration in ticks."""
    return np.searchsorted(_BORDERS, ticks, side="right")


def row_ticks(rows: np.ndarray, first_tick: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """When every event falls: rows int [event, field] -> (tick, number of its bar), int64 [event].

    `first_tick` is where the first bar begins. Events before the first bar stand at its beginning,
    in bar 0; so does the bar itself.
    """
    place = rows[:, POSITION].astype(np.int64)
    is_bar = place == BAR
    lengths = np.zeros(len(rows), dtype=np.int64)
    lengths[is_bar] = METRE_TICKS[rows[is_bar, PITCH] - FIRST_METRE]
    begun = np.cumsum(is_bar)
    starts = np.concatenate([[0, 0], np.cumsum(lengths[is_bar])])[begun]
    inside = np.where(place < LONGEST_BAR_TICKS, place, 0)
    ended = place == END
    inside[ended] = np.where(begun[ended] > 0, _last_length(lengths, is_bar), 0)
    return first_tick + starts + inside, np.maximum(begun - 1, 0)


def _last_length(lengths: np.ndarray, is_bar: np.ndarray) -> int:
    held = lengths[is_bar]
    return int(held[-1]) if len(held) else 0
