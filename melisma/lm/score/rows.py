"""Event rows as the score model reads them: which come first, what is known about each.

Enters: rows int [event, 5] of a stretch of whole bars, parts first. Leaves: `Line`, the rows in the
order in which they are told, with roles, programs, ticks and bar counts. Three orders:

- *plain*: as they are;
- *melody*: the given notes of a bar are told one bar ahead, before the bar that precedes them, so
  that an accompaniment knows where the tune goes (anticipation: Thickstun et al., 2306.08620);
- *infill*: the bars after the gap are told first, then those before it, then the gap.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from melisma.lm.score.model import MOST_BARS_DONE, MOST_BARS_LEFT, NO_PROGRAM, ROLES, EventBatch
from melisma.values.events import (
    CHORD,
    END,
    FIELD_SIZES,
    FIRST_CHORD,
    FIRST_DRUM,
    FIRST_PROGRAM,
    LONGEST_BAR_TICKS,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
    row_ticks,
)

PLAYED, GIVEN, LATER = range(len(ROLES))
START = np.array([END, *FIELD_SIZES[1:]])
"""What every line begins with: the end of whatever was before."""


@dataclass(frozen=True, kw_only=True)
class EventSequence:
    """Events in the order in which they are told; all arrays int64 [event, ...]."""

    rows: np.ndarray
    """[event, field]."""
    roles: np.ndarray
    programs: np.ndarray
    ticks: np.ndarray
    bars: np.ndarray
    """Number of the bar of each, counted from the stretch's beginning."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray) -> EventSequence:
        """Some of the events, in the order of `chosen`."""
        return EventSequence(**{one.name: getattr(self, one.name)[chosen] for one in fields(self)})

    def joined(self, *others: EventSequence) -> EventSequence:
        """This line and others after it."""
        lines = (self, *others)
        return EventSequence(
            **{
                one.name: np.concatenate([getattr(line, one.name) for line in lines])
                for one in fields(self)
            }
        )

    def with_role(self, role: int) -> EventSequence:
        """The same events in another role."""
        return EventSequence(
            rows=self.rows,
            roles=np.full(len(self), role),
            programs=self.programs,
            ticks=self.ticks,
            bars=self.bars,
        )


def is_note(rows: np.ndarray) -> np.ndarray:
    """Which events are notes, bool [event]."""
    return (rows[:, POSITION] < LONGEST_BAR_TICKS) & (rows[:, PART_FIELD] < CHORD)


def home_shift(tonality: int) -> int:
    """Semitones from a tonality (index into `TONALITIES`) to that of its mode on C, -6 to 5.

    The model knows two tonalities, C major and C minor: a twelfth of what there would be to learn,
    and whatever tonic is asked for is kept.
    """
    tonic = tonality % 12
    return -tonic if tonic <= 6 else 12 - tonic


def transposed(rows: np.ndarray, shift: int) -> np.ndarray:
    """Events in another tonality: notes and chords move, drums stay.

    A note that would leave the 128 pitches moves by an octave less.
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
    """The program of each part number, `NO_PROGRAM` where none is declared, int64 [part]."""
    programs = np.full(CHORD + 2, NO_PROGRAM)
    head = rows[rows[:, POSITION] == PART]
    programs[head[:, PART_FIELD]] = head[:, PITCH] - FIRST_PROGRAM
    return programs


def plain_line(rows: np.ndarray) -> EventSequence:
    """The events as they are."""
    rows = rows.astype(np.int64)
    ticks, bars = row_ticks(rows)
    return EventSequence(
        rows=rows,
        roles=np.full(len(rows), PLAYED),
        programs=part_programs(rows)[np.minimum(rows[:, PART_FIELD], CHORD + 1)],
        ticks=ticks,
        bars=bars,
    )


def melody_line(line: EventSequence, given: np.ndarray) -> EventSequence:
    """A plain line with those of its notes that `given` marks (bool [event]) told ahead."""
    count = np.arange(len(line))
    # Told before the bar line of the bar before their own; those of the first two at the beginning.
    bar = np.where(given, np.maximum(line.bars - 1, 0), line.bars)
    head = line.rows[:, POSITION] == PART
    first = np.where(head, -1, np.where(given, 0, 1))
    order = np.lexsort((count, first, np.where(head, -1, bar)))
    told = line.take(order)
    return EventSequence(
        rows=told.rows,
        roles=np.where(given[order], GIVEN, told.roles),
        programs=told.programs,
        ticks=told.ticks,
        bars=told.bars,
    )


def infill_line(line: EventSequence, first_bar: int, stop_bar: int) -> EventSequence:
    """A plain line with the bars [first, stop) last, and an end after them.

    Bars from `stop` on are told first, as later ones.
    """
    head = line.rows[:, POSITION] == PART
    before = ~head & (line.bars < first_bar)
    gap = ~head & (line.bars >= first_bar) & (line.bars < stop_bar)
    after = ~head & (line.bars >= stop_bar)
    gap &= line.rows[:, POSITION] != END
    end = end_line(line.take(np.flatnonzero(gap)), line)
    count = np.arange(len(line))
    parts = [line.take(count[chosen]) for chosen in (head, after, before, gap)]
    return parts[0].joined(parts[1].with_role(LATER), parts[2], parts[3], end)


def end_line(gap: EventSequence, line: EventSequence) -> EventSequence:
    """The end after a gap."""
    rows = np.array(FIELD_SIZES)[None].copy()
    rows[0, POSITION] = END
    last = gap if len(gap) else line
    return EventSequence(
        rows=rows,
        roles=np.array([PLAYED]),
        programs=np.array([NO_PROGRAM]),
        ticks=last.ticks[-1:],
        bars=last.bars[-1:],
    )


def batch_of(
    lines: list[EventSequence], bars_left: list[int | None], bars_done: list[int]
) -> EventBatch:
    """Lines side by side, each after a `START`, padded at the end by absent-tokens.

    `bars_left`: bars from each line's beginning to its end, None where that is not told;
    `bars_done`: bars of the piece before the line's first.
    """
    longest = max(len(line) for line in lines) + 1
    shape = (len(lines), longest)
    rows = np.tile(np.array(FIELD_SIZES), (*shape, 1))
    roles, ticks = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    programs = np.full(shape, NO_PROGRAM)
    left, done = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    rows[:, 0] = START
    for i, line in enumerate(lines):
        mine = slice(1, len(line) + 1)
        rows[i, mine], roles[i, mine], ticks[i, mine] = line.rows, line.roles, line.ticks
        programs[i, mine] = line.programs
        told = bars_left[i]
        if told is not None:
            left[i, 0] = min(max(told, 1), MOST_BARS_LEFT)
            left[i, mine] = np.clip(told - line.bars, 1, MOST_BARS_LEFT)
            left[i, mine][line.roles == LATER] = 0
        done[i, 0] = min(bars_done[i], MOST_BARS_DONE)
        done[i, mine] = np.minimum(line.bars + bars_done[i], MOST_BARS_DONE)
    return EventBatch(
        rows=torch.from_numpy(rows),
        roles=torch.from_numpy(roles),
        programs=torch.from_numpy(programs),
        ticks=torch.from_numpy(ticks),
        bars_left=torch.from_numpy(left),
        bars_done=torch.from_numpy(done),
    )
