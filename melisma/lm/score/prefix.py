"""Given events of a score, replayed into the model: the prefix, the bars after a gap, a melody.

The model reads given events like sampled ones, but they are never sampled:

- *prefix*: the whole bars before the sampled ones (role PLAYED), of which the most recent ones are
  repeated at the start of every window;
- *gap*: the bars after the sampled ones (role LATER), which come first in every window;
- *accompaniment*: the notes of a given melody (role GIVEN), each bar of which is read one bar
  ahead, before the bar line of the bar that precedes it (see `rows.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from melisma.lm.score.plan import ScorePlan
from melisma.lm.score.rows import FREE, GIVEN, LATER, EventInput, event_row
from melisma.values.events import (
    BAR,
    FIRST_METRE,
    FIRST_PROGRAM,
    FIRST_TEMPO,
    LENGTH,
    METRE_TICKS,
    PART,
    PITCH,
    POSITION,
    event_ticks,
)


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The bars before the sampled ones."""

    events: tuple[EventInput, ...] = ()
    bars: int = 0
    """Number of bars."""
    last_bar_tick: int = 0
    """First tick of the last bar."""
    last_bar_ticks: int = 0
    """Length of the last bar; 0 without a prefix."""


def prefix_of(plan: ScorePlan) -> Prefix:
    """The prefix that a plan gives."""
    if not len(plan.before):
        return Prefix()
    ticks, bars = event_ticks(plan.before)
    bar_lines = plan.before[plan.before[:, POSITION] == BAR]
    lengths = METRE_TICKS[bar_lines[:, PITCH] - FIRST_METRE]
    return Prefix(
        events=tuple(
            EventInput(row=row, tick=int(tick), bar=int(bar), new=False)
            for row, tick, bar in zip(plan.before, ticks, bars, strict=True)
        ),
        bars=int(bars[-1]) + 1,
        last_bar_tick=int(lengths.sum() - lengths[-1]),
        last_bar_ticks=int(lengths[-1]),
    )


def bar_starts(plan: ScorePlan, prefix: Prefix) -> np.ndarray:
    """First tick of each sampled bar and of what follows the last one.

    Returns:
        int64 [bar + 1]; empty where the model chooses the metres.
    """
    if not plan.metres:
        return np.zeros(0, np.int64)
    lengths = [int(METRE_TICKS[plan.metre(bar)]) for bar in range(plan.bars)]
    start = prefix.last_bar_tick + prefix.last_bar_ticks
    return start + np.concatenate([[0], np.cumsum(lengths)])


def later_events(plan: ScorePlan, prefix: Prefix, starts: np.ndarray) -> tuple[EventInput, ...]:
    """The given bars after the sampled ones; `starts` as `bar_starts` returns them."""
    if not len(plan.later):
        return ()
    ticks, bars = event_ticks(plan.later, int(starts[-1]))
    first = prefix.bars + plan.bars
    return tuple(
        EventInput(row=row, role=LATER, tick=int(tick), bar=int(bar) + first, new=False)
        for row, tick, bar in zip(plan.later, ticks, bars, strict=True)
    )


def given_notes(
    plan: ScorePlan, prefix: Prefix, starts: np.ndarray, bar: int
) -> tuple[EventInput, ...]:
    """The given notes that are read just before the line of sampled bar number `bar`.

    They belong to the bar after it; before the first line, also those of the first bar itself.
    """
    bars = (0, 1) if bar == 0 else (bar + 1,)
    return tuple(
        EventInput(
            row=note,
            role=GIVEN,
            tick=int(starts[number]) + int(note[POSITION]),
            bar=prefix.bars + number,
        )
        for number in bars
        if number < min(len(plan.given), plan.bars)
        for note in plan.given[number]
    )


def bar_line(plan: ScorePlan, prefix: Prefix, bar: int, tick: int) -> EventInput:
    """The line of sampled bar number `bar` at a tick; metre and tempo are `FREE` unless given."""
    row = event_row(BAR, pitch=FREE, length=FREE)
    if plan.metres:
        row[PITCH] = FIRST_METRE + plan.metre(bar)
    if plan.tempi:
        row[LENGTH] = FIRST_TEMPO + plan.tempo(bar)
    return EventInput(row=row, tick=tick, bar=prefix.bars + bar)


def part_declarations(programs: Sequence[int]) -> list[EventInput]:
    """One event for each part, in order; `programs`: General MIDI, `DRUM_PROGRAM` for drums."""
    return [
        EventInput(row=event_row(PART, part=number, pitch=FIRST_PROGRAM + program), new=False)
        for number, program in enumerate(programs)
    ]


def recent_bars(events: Sequence[EventInput], max_events: int) -> list[EventInput]:
    """The last whole bars, at most `max_events` events, but at least one bar."""
    if len(events) > max_events:
        bars = [i for i, one in enumerate(events) if one.row[POSITION] == BAR]
        first = next((i for i in bars if len(events) - i <= max_events), bars[-1])
        while first > 0 and events[first - 1].role == GIVEN:
            first -= 1  # notes given ahead of that bar line belong with it
        events = events[first:]
    return [replace(event, new=False) for event in events]
