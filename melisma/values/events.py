"""Vocabulary of score events: symbolic music as rows of five token fields (compound tokens).

One row is one event: a *part* (an instrument), a *bar* (metre and tempo), a *chord*, a *note*, or
the *end*. Every row has five fields with separate vocabularies; a field that an event does not use
holds its absent-token, the field's size. Sampling one row at a time, field after field, takes a
fifth of the steps of one token at a time (compound words: Hsiao et al., 2101.02402; fields sampled
one after the other: Ryu et al., Nested Music Transformer, 2408.01180).

| event | position | part | pitch | length | velocity |
|---|---|---|---|---|---|
| part | PART | part number | program | - | - |
| bar | BAR | - | metre | tempo | - |
| chord | tick in the bar | CHORD | chord | - | - |
| note | tick in the bar | part number | pitch, or percussion key | duration | velocity |
| end | END | - | - | - | - |
"""

from __future__ import annotations

import math

import numpy as np

TICKS_PER_BEAT = 24
"""Onset grid: 24 ticks per quarter note represent thirty-second notes and sixteenth triplets."""
MAX_BAR_TICKS = 192
"""Eight quarter notes; longer bars are split."""
MAX_PARTS = 24
"""Maximum number of parts of one score."""

POSITION, PART_FIELD, PITCH, LENGTH, VELOCITY = range(5)
"""Indices of the fields, in the order in which they are sampled."""
FIELDS = 5

BAR = MAX_BAR_TICKS
PART = BAR + 1
END = BAR + 2
"""Values of the field `position` beside the ticks of a bar."""
CHORD = MAX_PARTS
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
"""Time signatures of bars, numerator and denominator."""
FIRST_PROGRAM = FIRST_METRE + len(BAR_METRES)
DRUM_PROGRAM = 128
"""The drum kit, after the 128 General MIDI programs."""

DURATION_TICKS: tuple[int, ...] = (
    *range(1, 49),  # up to two quarter notes: every tick
    *range(52, 97, 4),  # up to four: steps of a sixth of a quarter note
    *range(108, 193, 12),  # up to eight: half a quarter note
    *range(216, 385, 24),  # up to sixteen: one quarter note
    *range(432, 769, 48),  # up to thirty-two: two quarter notes
)
"""Duration classes, in ticks."""
FIRST_TEMPO = len(DURATION_TICKS)
TEMPI = 120
MIN_BPM, MAX_BPM = 20.0, 320.0
"""Range of the tempo classes in quarter notes per minute, in even steps of 2.3 % (chosen: below
the audible difference)."""
VELOCITIES = 32
"""Velocity classes, four MIDI velocities each."""

FIELD_SIZES: tuple[int, ...] = (
    MAX_BAR_TICKS + 3,
    MAX_PARTS + 1,
    FIRST_PROGRAM + DRUM_PROGRAM + 1,
    FIRST_TEMPO + TEMPI,
    VELOCITIES,
)
"""Vocabulary size of each field; the size itself is the absent-token."""


def bar_ticks(metre: int) -> int:
    """Length in ticks of a bar of `BAR_METRES[metre]`."""
    numerator, denominator = BAR_METRES[metre]
    return numerator * 4 * TICKS_PER_BEAT // denominator


METRE_TICKS: np.ndarray = np.array([bar_ticks(metre) for metre in range(len(BAR_METRES))])
"""Length in ticks of a bar of each metre, int64 [metre]."""


def tempo_class(bpm: float) -> int:
    """Class of a tempo in quarter notes per minute; clamped to the first and last class."""
    share = math.log(max(bpm, 1e-3) / MIN_BPM) / math.log(MAX_BPM / MIN_BPM)
    return min(max(round(share * (TEMPI - 1)), 0), TEMPI - 1)


def tempo_class_bpm(tempo: int) -> float:
    """Tempo of a class in quarter notes per minute; the inverse of `tempo_class`."""
    return MIN_BPM * (MAX_BPM / MIN_BPM) ** (tempo / (TEMPI - 1))


_TICKS = np.array(DURATION_TICKS)
_BORDERS = (_TICKS[:-1] + _TICKS[1:]) / 2


def duration_class(ticks: np.ndarray) -> np.ndarray:
    """Index into `DURATION_TICKS` of the class nearest to each duration in ticks."""
    return np.searchsorted(_BORDERS, ticks, side="right")


def event_ticks(rows: np.ndarray, first_tick: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Absolute time and bar of every event.

    Events before the first bar, and the first bar itself, are at its beginning, in bar 0.

    Args:
        rows: Events, int [event, field].
        first_tick: Tick at which the first bar begins.

    Returns:
        (tick, index of the bar), int64 [event] each.
    """
    position = rows[:, POSITION].astype(np.int64)
    is_bar = position == BAR
    lengths = np.zeros(len(rows), dtype=np.int64)
    lengths[is_bar] = METRE_TICKS[rows[is_bar, PITCH] - FIRST_METRE]
    bars_so_far = np.cumsum(is_bar)
    starts = np.concatenate([[0, 0], np.cumsum(lengths[is_bar])])[bars_so_far]
    offset = np.where(position < MAX_BAR_TICKS, position, 0)
    is_end = position == END
    offset[is_end] = np.where(bars_so_far[is_end] > 0, _last_length(lengths, is_bar), 0)
    return first_tick + starts + offset, np.maximum(bars_so_far - 1, 0)


def _last_length(lengths: np.ndarray, is_bar: np.ndarray) -> int:
    bar_lengths = lengths[is_bar]
    return int(bar_lengths[-1]) if len(bar_lengths) else 0
