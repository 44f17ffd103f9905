"""Input sequences of the score model: event rows in reading order, with what is known about each.

Input: rows int [event, 5] of an excerpt of whole bars, parts first. Output: `EventSequence`, the
rows in the order in which the model reads them, with roles, programs, ticks and bar numbers. There
are three orders:

- *plain*: unchanged;
- *melody*: the given notes of a bar come one bar ahead, before the bar that precedes them, so that
  an accompaniment knows where the melody goes (anticipation: Thickstun et al., 2306.08620);
- *infill*: the bars after the gap come first, then those before it, then the gap.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from melisma.lm.score.model import MAX_BARS_DONE, MAX_BARS_LEFT, NO_PROGRAM, ROLES, EventBatch
from melisma.values.events import (
    CHORD,
    END,
    FIELD_SIZES,
    FIRST_CHORD,
    FIRST_DRUM,
    FIRST_PROGRAM,
    LENGTH,
    MAX_BAR_TICKS,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
    event_ticks,
)

PLAYED, GIVEN, LATER = range(len(ROLES))
START = np.array([END, *FIELD_SIZES[1:]])
"""First event of every sequence: the end of whatever came before."""
ABSENT = np.array(FIELD_SIZES)
"""An event whose fields are all absent."""
FREE = -1
"""Value of a field of a given event that the model is to sample."""


def event_row(
    position: int, part: int | None = None, pitch: int | None = None, length: int | None = None
) -> np.ndarray:
    """An event with the given fields, all others absent, int64 [5]."""
    row = ABSENT.copy()
    row[POSITION] = position
    for field, value in ((PART_FIELD, part), (PITCH, pitch), (LENGTH, length)):
        if value is not None:
            row[field] = value
    return row


@dataclass(frozen=True, kw_only=True)
class EventInput:
    """One event as the model reads it during sampling."""

    row: np.ndarray
    """int64 [5]; `FREE` for the fields that are to be sampled."""
    role: int = PLAYED
    tick: int = 0
    bar: int = 0
    """Number of its bar, counted from the first bar of the prefix."""
    new: bool = True
    """False for parts, and for events that are given or repeated from an earlier window."""


@dataclass(frozen=True, kw_only=True)
class EventSequence:
    """Events in the order in which the model reads them; all arrays int64 [event, ...]."""

    rows: np.ndarray
    """[event, field]."""
    roles: np.ndarray
    """[event], index into `ROLES`."""
    programs: np.ndarray
    """[event]: program of the event's part, `NO_PROGRAM` where it has none."""
    ticks: np.ndarray
    """[event]: onset from the beginning of the excerpt."""
    bars: np.ndarray
    """[event]: bar number from the beginning of the excerpt."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray) -> EventSequence:
        """The events with the indices `chosen` (int64 [event]), in that order."""
        return EventSequence(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})

    def joined(self, *others: EventSequence) -> EventSequence:
        """This sequence with others appended."""
        sequences = (self, *others)
        return EventSequence(
            **{
                one.name: np.concatenate([getattr(each, one.name) for each in sequences])
                for one in fields(self)
            }
        )

    def with_role(self, role: int) -> EventSequence:
        """The same events with one role for all."""
        return EventSequence(
            rows=self.rows,
            roles=np.full(len(self), role),
            programs=self.programs,
            ticks=self.ticks,
            bars=self.bars,
        )


def is_note(rows: np.ndarray) -> np.ndarray:
    """Which of the rows [event, 5] are notes, bool [event]."""
    return (rows[:, POSITION] < MAX_BAR_TICKS) & (rows[:, PART_FIELD] < CHORD)


def home_shift(tonality: int) -> int:
    """Semitones from a key (index into `TONALITIES`) to C in the same mode, -6 to 5.

    The model knows only C major and C minor, which leaves a twelfth of the keys to learn; its
    output is transposed back, so any requested tonic is met exactly.
    """
    tonic = tonality % 12
    return -tonic if tonic <= 6 else 12 - tonic


def transposed(rows: np.ndarray, shift: int) -> np.ndarray:
    """Transposes events by `shift` semitones: notes and chords, not drums.

    A note that would leave the 128 MIDI pitches is moved back by an octave.

    Args:
        rows: int [event, 5], which stays as it is.
        shift: semitones upwards.

    Returns:
        The transposed rows, a copy.
    """
    rows = rows.copy()
    pitched = is_note(rows) & (rows[:, PITCH] < FIRST_DRUM)
    pitch = rows[pitched, PITCH] + shift
    rows[pitched, PITCH] = pitch + 12 * (pitch < 0) - 12 * (pitch > 127)
    chords = (rows[:, PART_FIELD] == CHORD) & (rows[:, PITCH] > FIRST_CHORD)
    named = rows[chords, PITCH] - FIRST_CHORD - 1
    rows[chords, PITCH] = FIRST_CHORD + 1 + named // 12 * 12 + (named + shift) % 12
    return rows


def part_programs(rows: np.ndarray) -> np.ndarray:
    """The program of each part number, int64 [part], `NO_PROGRAM` for undeclared ones."""
    programs = np.full(CHORD + 2, NO_PROGRAM)
    head = rows[rows[:, POSITION] == PART]
    programs[head[:, PART_FIELD]] = head[:, PITCH] - FIRST_PROGRAM
    return programs


def plain_sequence(rows: np.ndarray) -> EventSequence:
    """The events in plain order; `rows` int [event, 5]."""
    rows = rows.astype(np.int64)
    ticks, bars = event_ticks(rows)
    return EventSequence(
        rows=rows,
        roles=np.full(len(rows), PLAYED),
        programs=part_programs(rows)[np.minimum(rows[:, PART_FIELD], CHORD + 1)],
        ticks=ticks,
        bars=bars,
    )


def melody_sequence(plain: EventSequence, given: np.ndarray) -> EventSequence:
    """The events in melody order.

    Args:
        plain: the events in plain order.
        given: bool [event], the notes that are given and therefore read ahead.
    """
    count = np.arange(len(plain))
    # Before the line of the bar that precedes their own; those of the first two bars at the start.
    bar = np.where(given, np.maximum(plain.bars - 1, 0), plain.bars)
    head = plain.rows[:, POSITION] == PART
    first = np.where(head, -1, np.where(given, 0, 1))
    order = np.lexsort((count, first, np.where(head, -1, bar)))
    ordered = plain.take(order)
    return EventSequence(
        rows=ordered.rows,
        roles=np.where(given[order], GIVEN, ordered.roles),
        programs=ordered.programs,
        ticks=ordered.ticks,
        bars=ordered.bars,
    )


def infill_sequence(plain: EventSequence, first_bar: int, stop_bar: int) -> EventSequence:
    """The events in infill order: the bars [first_bar, stop_bar) come last, then an END.

    Bars from `stop_bar` on come first and get the role LATER; `plain` is in plain order.
    """
    head = plain.rows[:, POSITION] == PART
    before = ~head & (plain.bars < first_bar)
    gap = ~head & (plain.bars >= first_bar) & (plain.bars < stop_bar)
    after = ~head & (plain.bars >= stop_bar)
    gap &= plain.rows[:, POSITION] != END
    end = _end_of_gap(plain.take(np.flatnonzero(gap)), plain)
    count = np.arange(len(plain))
    parts = [plain.take(count[chosen]) for chosen in (head, after, before, gap)]
    return parts[0].joined(parts[1].with_role(LATER), parts[2], parts[3], end)


def _end_of_gap(gap: EventSequence, plain: EventSequence) -> EventSequence:
    rows = np.array(FIELD_SIZES)[None].copy()
    rows[0, POSITION] = END
    last = gap if len(gap) else plain
    return EventSequence(
        rows=rows,
        roles=np.array([PLAYED]),
        programs=np.array([NO_PROGRAM]),
        ticks=last.ticks[-1:],
        bars=last.bars[-1:],
    )


def batch_of(
    sequences: list[EventSequence], bars_left: list[int | None], bars_done: list[int]
) -> EventBatch:
    """Collates sequences into a batch, each after a `START`, padded at the end by absent fields.

    Args:
        sequences: one for each row of the batch.
        bars_left: bars from the beginning of each sequence to the end of its piece, None where
            the model is not to know.
        bars_done: bars of each piece before the sequence.
    """
    longest = max(len(one) for one in sequences) + 1
    shape = (len(sequences), longest)
    rows = np.tile(np.array(FIELD_SIZES), (*shape, 1))
    roles, ticks = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    programs = np.full(shape, NO_PROGRAM)
    left, done = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    rows[:, 0] = START
    for i, one in enumerate(sequences):
        mine = slice(1, len(one) + 1)
        rows[i, mine], roles[i, mine], ticks[i, mine] = one.rows, one.roles, one.ticks
        programs[i, mine] = one.programs
        total = bars_left[i]
        if total is not None:
            left[i, 0] = min(max(total, 1), MAX_BARS_LEFT)
            left[i, mine] = np.clip(total - one.bars, 1, MAX_BARS_LEFT)
            left[i, mine][one.roles == LATER] = 0
        done[i, 0] = min(bars_done[i], MAX_BARS_DONE)
        done[i, mine] = np.minimum(one.bars + bars_done[i], MAX_BARS_DONE)
    return EventBatch(
        rows=torch.from_numpy(rows),
        roles=torch.from_numpy(roles),
        programs=torch.from_numpy(programs),
        ticks=torch.from_numpy(ticks),
        bars_left=torch.from_numpy(left),
        bars_done=torch.from_numpy(done),
    )
