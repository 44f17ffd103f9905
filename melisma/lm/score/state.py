"""State of a score during sampling: what the model reads next, and what has come out so far.

    plan has choices, or no programs                  plan has programs only
                   |                                            |
                   v                                            |
             +----------+  BAR (metre and tempo of bar 1)       v
      PART ->| CHOOSING |--------------------------------> +---------+
             |  PARTS   |                                  | IN BARS |<- BAR, chord, note
             +----------+                                  +---------+
                                                                |  END, after bar plan.bars
                                                                v
                                                           +---------+
                                                           |  DONE   |<- END (without effect)
                                                           +---------+

A queue of given events takes precedence over the state: while it is not empty, the next event is
its first one (of which only the `FREE` fields are sampled). `start_window` fills it with

    parts | later bars | most recent bars | [given notes, line of the first bar]

and a sampled BAR appends the notes given ahead of the bar, then the bar line itself. The grammar of
sampled events is in `grammar.py`. Nothing here depends on the model.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from melisma.lm.score.model import NO_PROGRAM
from melisma.lm.score.plan import ScorePlan
from melisma.lm.score.prefix import (
    bar_line,
    bar_starts,
    given_notes,
    later_events,
    part_declarations,
    prefix_of,
    recent_bars,
)
from melisma.lm.score.rows import ABSENT, FREE, GIVEN, EventInput, event_row
from melisma.values.events import (
    BAR,
    CHORD,
    END,
    FIELDS,
    FIRST_METRE,
    FIRST_PROGRAM,
    METRE_TICKS,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
)

MIN_RECENT_EVENTS = 16
"""Events of earlier bars that a window may always repeat."""


class ScoreState:
    """One piece during sampling."""

    def __init__(self, plan: ScorePlan) -> None:
        self.plan = plan
        self.programs = list(plan.programs)
        """Programs of the parts so far, sampled ones included."""
        self.bars_started = 0
        """Sampled bars whose line is there."""
        self.done = False
        self.choosing_parts = bool(plan.choices) or not plan.programs
        self.last_row = ABSENT
        """Last chord or note of the current bar, int64 [5]; `ABSENT` at its beginning."""
        self.events_in_bar, self.notes_in_bar = 0, 0
        """Chords and notes of the current bar; notes alone."""
        self.silent_bars = 0
        """Consecutive bars without a note before the current one."""
        self.simultaneous_notes = 0
        """Notes of one part that start together with the last one, itself included."""
        self._prefix = prefix_of(plan)
        self._bar_tick = self._prefix.last_bar_tick
        self.bar_ticks = self._prefix.last_bar_ticks
        """Length of the current bar."""
        self._bar_starts = bar_starts(plan, self._prefix)
        self._later = later_events(plan, self._prefix, self._bar_starts)
        self._history = list(self._prefix.events)
        self._queue: deque[EventInput] = deque()
        self._window_events, self._has_new = 0, False

    # --- windows

    def start_window(self, max_events: int) -> None:
        """Starts a window of the model with the parts, the later bars and the most recent bars,
        about `max_events` events in all; then comes what was queued before."""
        head = part_declarations(self.programs)
        max_recent = max(max_events - len(head) - len(self._later), MIN_RECENT_EVENTS)
        recent = recent_bars(self._history, max_recent)
        queued = list(self._queue)
        if self.bars_started == 0 and not self.choosing_parts and not self.done:
            queued = self._next_bar_line()
        self._queue = deque([*head, *self._later, *recent, *queued])
        self._window_events, self._has_new = 0, False

    @property
    def events_in_window(self) -> int:
        """Events that the model has read in this window; 0 until one of them is new."""
        return self._window_events if self._has_new else 0

    @property
    def total_bars(self) -> int:
        """Bars from the first of the prefix to the last sampled one."""
        return self._prefix.bars + self.plan.bars

    def at_bar_line(self, row: np.ndarray) -> bool:
        """Whether a sampled event (int64 [5]) would start another bar: here a window may end."""
        inside = not self._queue and not self.done and self.bars_started < self.plan.bars
        return inside and row[POSITION] == BAR

    # --- one event

    def fixed_fields(self) -> np.ndarray:
        """The next event, int64 [5]: fields that are fixed already, `FREE` for those to sample."""
        if self.done:
            return event_row(END)
        return self._queue[0].row if self._queue else np.full(FIELDS, FREE)

    def program_of(self, part: int) -> int:
        """The program of a part number, `NO_PROGRAM` for chords and undeclared parts."""
        return self.programs[part] if part < len(self.programs) else NO_PROGRAM

    def accept(self, row: np.ndarray) -> EventInput:
        """Takes the next event and moves to the next state.

        Args:
            row: int64 [5], the fixed fields unchanged, the others sampled.

        Returns:
            The event that the model reads next: usually this one, but a sampled bar line waits
            for the notes that are given ahead of it.
        """
        if self.done:
            return self._end()
        if self._queue:
            event = replace(self._queue.popleft(), row=row)
        elif row[POSITION] == PART:
            self.programs.append(int(row[PITCH]) - FIRST_PROGRAM)
            event = EventInput(row=row, new=False)
        elif row[POSITION] in (BAR, END):
            event = self._next_bar(row)
        else:
            event = EventInput(
                row=row,
                tick=self._bar_tick + int(row[POSITION]),
                bar=self._prefix.bars + self.bars_started - 1,
            )
        self._record(event)
        return event

    def _end(self) -> EventInput:
        return EventInput(row=event_row(END), bar=self.total_bars - 1)

    def _next_bar(self, row: np.ndarray) -> EventInput:
        self.choosing_parts = False
        if self.bars_started == self.plan.bars:
            self.done = True
            return self._end()
        first, *others = self._next_bar_line()
        if not others:
            return replace(first, row=np.where(first.row == FREE, row, first.row))
        self._queue.extend(others)
        return first

    def _next_bar_line(self) -> list[EventInput]:
        """The next bar line, after the notes that are given ahead of it."""
        bar, tick = self.bars_started, self._bar_tick + self.bar_ticks
        notes = given_notes(self.plan, self._prefix, self._bar_starts, bar)
        return [*notes, bar_line(self.plan, self._prefix, bar, tick)]

    def _record(self, event: EventInput) -> None:
        self._window_events += 1
        if not event.new or event.row[POSITION] == END:
            return
        self._has_new = True
        self._history.append(event)
        if event.role == GIVEN:
            return
        if event.row[POSITION] == BAR:
            self.bars_started += 1
            self._bar_tick = event.tick
            self.bar_ticks = int(METRE_TICKS[event.row[PITCH] - FIRST_METRE])
            silent = not self.notes_in_bar
            self.silent_bars = self.silent_bars + (self.bars_started > 1) if silent else 0
            self.last_row, self.events_in_bar, self.notes_in_bar = ABSENT, 0, 0
        else:
            together = (event.row[: PART_FIELD + 1] == self.last_row[: PART_FIELD + 1]).all()
            self.simultaneous_notes = self.simultaneous_notes + 1 if together else 1
            self.last_row = event.row
            self.events_in_bar += 1
            self.notes_in_bar += int(event.row[PART_FIELD] < CHORD)

    # --- result

    def events(self) -> np.ndarray:
        """The parts and all events so far, those of the prefix and given notes included.

        Returns:
            int64 [event, 5] in the order of `encode_score`; later bars come last.
        """
        head = np.array([one.row for one in part_declarations(self.programs)]).reshape(-1, FIELDS)
        events = [*self._history, *self._later]
        rows = np.array([one.row for one in events]).reshape(-1, FIELDS)
        ticks = np.array([one.tick for one in events], np.int64)
        bars = np.array([one.bar for one in events], np.int64)
        part = np.where(rows[:, PART_FIELD] == CHORD, -1, rows[:, PART_FIELD])
        first = np.where(rows[:, POSITION] == BAR, -1, ticks)
        ended = rows[:, POSITION] == END
        order = np.lexsort((rows[:, PITCH], part, first, bars, ended))
        return np.concatenate([head, rows[order]])
