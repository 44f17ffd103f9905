"""A score under way: what of it is settled, what may come next.

Enters: a `ScorePlan`. `ScoreInProgress` says at every step which fields of the next event are
settled and which values the others may take, takes what was drawn, and in the end holds the events
of the piece. It knows nothing of the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from melisma.lm.score.model import NO_PROGRAM
from melisma.lm.score.rows import GIVEN, LATER, PLAYED
from melisma.values.events import (
    BAR,
    CHORD,
    CHORD_NAMES,
    DRUM_PROGRAM,
    END,
    FIELD_SIZES,
    FIELDS,
    FIRST_CHORD,
    FIRST_DRUM,
    FIRST_METRE,
    FIRST_PROGRAM,
    FIRST_TEMPO,
    LENGTH,
    LONGEST_BAR_TICKS,
    METRE_TICKS,
    MOST_PARTS,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
    VELOCITY,
    row_ticks,
)

MOST_BAR_EVENTS = 160
"""Events of a bar after which it is ended (a full orchestra has about a hundred)."""
MOST_SILENT_BARS = 1
"""After so many bars in which nothing begins, something must (real pieces rarely rest longer)."""
FREE = -1
"""A field of a settled event that the model draws after all."""
_ABSENT = np.array(FIELD_SIZES)


def _no_events() -> np.ndarray:
    return np.zeros((0, FIELDS), np.int64)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Parts that the model chooses: so many with one of these programs."""

    programs: frozenset[int]
    """General MIDI programs, `DRUM_PROGRAM` for drums."""
    least: int = 1
    most: int = 1


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """What is settled of a piece before it is drawn; `ValueError` where it does not fit."""

    bars: int
    """Bars to be drawn."""
    programs: tuple[int, ...] = ()
    """Programs of its first parts in their order (`DRUM_PROGRAM` for drums)."""
    choices: tuple[Choice, ...] = ()
    """What the model chooses the other parts from; where there is neither, it chooses any."""
    metres: tuple[int, ...] = ()
    """Metre of each bar to be drawn, the last for all that follow; empty: the model's choice."""
    tempi: tuple[int, ...] = ()
    """Tempo class of each bar, likewise."""
    before: np.ndarray = field(default_factory=_no_events)
    """Events of whole bars that come before, without parts, int [event, 5]."""
    later: np.ndarray = field(default_factory=_no_events)
    """Events of whole bars that come after those that are drawn, without parts."""
    given: tuple[np.ndarray, ...] = ()
    """Notes that are given in each bar to be drawn, int [note, 5]."""
    reach: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Lowest and highest pitch that is drawn for a program; any pitch for those not named."""
    voices: Mapping[int, int] = field(default_factory=dict)
    """How many notes of one part may begin together, by program; any number for those not named."""
    resting: frozenset[int] = frozenset()
    """Numbers of parts that play nothing but what is given."""
    bars_done: int = 0
    """Bars of the piece before those of `before`."""
    ends: bool = True
    """Whether the piece comes to its end with the last bar."""

    def __post_init__(self) -> None:
        if self.bars < 1:
            raise ValueError(f"a piece has one bar or more, not {self.bars}")
        if len(self.programs) > MOST_PARTS:
            raise ValueError(f"a piece has at most {MOST_PARTS} parts, not {len(self.programs)}")
        if (len(self.later) or self.given) and not self.metres:
            raise ValueError("where notes are given, the metre of every bar is settled, too")
        if (len(self.before) or len(self.later) or self.given) and not self.programs:
            raise ValueError("where notes are given, the parts that play them are settled, too")

    def metre(self, bar: int) -> int:
        """The settled metre of a bar to be drawn."""
        return self.metres[min(bar, len(self.metres) - 1)]


@dataclass(frozen=True, kw_only=True)
class EventInput:
    """An event as the model is told it."""

    row: np.ndarray
    """int64 [5]; `FREE` where a settled event leaves the choice."""
    role: int = PLAYED
    tick: int = 0
    bar: int = 0
    fresh: bool = True
    """Whether it is told for the first time."""


class ScoreInProgress:
    """One piece: what it has, what comes next."""

    def __init__(self, plan: ScorePlan) -> None:
        self.plan = plan
        self.programs = list(plan.programs)
        self.begun = 0
        """Bars begun, of those to be drawn."""
        self.done = False
        self._choosing = bool(plan.choices) or not plan.programs
        before_ticks, before_bars = row_ticks(plan.before) if len(plan.before) else (None, None)
        self._first_bar = 0 if before_bars is None else int(before_bars[-1]) + 1
        self._bar_start, self._bar_length = 0, 0
        self._history: list[EventInput] = []
        if before_ticks is not None and before_bars is not None:
            self._history = [
                EventInput(row=row, tick=int(tick), bar=int(bar), fresh=False)
                for row, tick, bar in zip(plan.before, before_ticks, before_bars, strict=True)
            ]
            bars = plan.before[plan.before[:, POSITION] == BAR]
            lengths = METRE_TICKS[bars[:, PITCH] - FIRST_METRE]
            self._bar_start = int(lengths.sum() - lengths[-1])
            self._bar_length = int(lengths[-1])
        self._starts = self._settled_starts()
        self._later = self._later_events()
        self._pending: deque[EventInput] = deque()
        self._last = _ABSENT
        self._in_bar = 0
        self._bar_notes, self._silent_bars = 0, 0
        self._together = 0
        self._told, self._fresh = 0, False

    def _settled_starts(self) -> np.ndarray:
        """First tick of each bar to be drawn and of what follows; empty where metres are free."""
        if not self.plan.metres:
            return np.zeros(0, np.int64)
        lengths = [int(METRE_TICKS[self.plan.metre(bar)]) for bar in range(self.plan.bars)]
        return self._bar_start + self._bar_length + np.concatenate([[0], np.cumsum(lengths)])

    def _later_events(self) -> list[EventInput]:
        if not len(self.plan.later):
            return []
        ticks, bars = row_ticks(self.plan.later, int(self._starts[-1]))
        first = self._first_bar + self.plan.bars
        return [
            EventInput(row=row, role=LATER, tick=int(tick), bar=int(bar) + first, fresh=False)
            for row, tick, bar in zip(self.plan.later, ticks, bars, strict=True)
        ]

    # --- windows

    def open_window(self, room: int) -> None:
        """Begins anew with the parts, what comes later and the last bars of what there is, about
        `room` events; then what was pending."""
        head = [
            EventInput(row=_row(PART, part=number, pitch=FIRST_PROGRAM + program), fresh=False)
            for number, program in enumerate(self.programs)
        ]
        recent = self._recent(max(room - len(head) - len(self._later), 16))
        pending = list(self._pending)
        if self.begun == 0 and not self._choosing and not self.done:
            pending = self._bar_with_given()
        self._pending = deque([*head, *self._later, *recent, *pending])
        self._told, self._fresh = 0, False

    def _recent(self, room: int) -> list[EventInput]:
        """The last whole bars, at most `room` events, or the last one."""
        events = self._history
        if len(events) > room:
            bars = [i for i, one in enumerate(events) if one.row[POSITION] == BAR]
            first = next((i for i in bars if len(events) - i <= room), bars[-1])
            while first > 0 and events[first - 1].role == GIVEN:
                first -= 1  # notes given ahead of that bar line belong with it
            events = events[first:]
        return [replace(told, fresh=False) for told in events]

    @property
    def events_in_window(self) -> int:
        """Events told in this window; 0 until one of them is new."""
        return self._told if self._fresh else 0

    @property
    def bars_in_all(self) -> int:
        """Bars from the first of those before to the last that is drawn."""
        return self._first_bar + self.plan.bars

    def at_bar_line(self, row: np.ndarray) -> bool:
        """Whether a drawn event would begin another bar: here a window may end."""
        inside = not self._pending and not self.done and self.begun < self.plan.bars
        return inside and row[POSITION] == BAR

    # --- one event

    def settled(self) -> np.ndarray:
        """The next event as far as it is settled, int64 [5]; all `FREE` where it is not at all."""
        if self.done:
            return _row(END)
        return self._pending[0].row if self._pending else np.full(FIELDS, FREE)

    def allowed(self, number: int, row: np.ndarray) -> np.ndarray:
        """Which values field `number` may take, bool [value], given the fields of `row` before."""
        mask = _ALLOWED[number](self, row)
        assert mask.any(), "an event must be able to go on"
        return mask

    def program_of(self, part: int) -> int:
        """The program of a part, `NO_PROGRAM` for chords and where there is none."""
        return self.programs[part] if part < len(self.programs) else NO_PROGRAM

    def take(self, row: np.ndarray) -> EventInput:
        """Takes the drawn event -> what the model is told now (something settled may come first).

        `row` [5]: the settled fields as they are, the others as drawn.
        """
        if self.done:
            return EventInput(row=_row(END), bar=self._first_bar + self.plan.bars - 1)
        if self._pending:
            told = replace(self._pending.popleft(), row=row)
        elif row[POSITION] == PART:
            self.programs.append(int(row[PITCH]) - FIRST_PROGRAM)
            told = EventInput(row=row, fresh=False)
        elif row[POSITION] in (BAR, END):
            told = self._next_bar(row)
        else:
            told = EventInput(
                row=row,
                tick=self._bar_start + int(row[POSITION]),
                bar=self._first_bar + self.begun - 1,
            )
        self._keep(told)
        return told

    def _next_bar(self, row: np.ndarray) -> EventInput:
        self._choosing = False
        if self.begun == self.plan.bars:
            self.done = True
            return EventInput(row=_row(END), bar=self._first_bar + self.plan.bars - 1)
        ahead = self._bar_with_given()
        if len(ahead) == 1:
            fixed = ahead[0].row
            return replace(ahead[0], row=np.where(fixed == FREE, row, fixed))
        self._pending.extend(ahead[1:])
        return ahead[0]

    def _bar_with_given(self) -> list[EventInput]:
        """The next bar line, after the notes that are given ahead of it."""
        notes: list[EventInput] = []
        for bar in (0, 1) if self.begun == 0 else (self.begun + 1,):
            if bar < min(len(self.plan.given), self.plan.bars):
                notes += [
                    EventInput(
                        row=note,
                        role=GIVEN,
                        tick=int(self._starts[bar]) + int(note[POSITION]),
                        bar=self._first_bar + bar,
                    )
                    for note in self.plan.given[bar]
                ]
        row = _row(BAR, pitch=FREE, length=FREE)
        if self.plan.metres:
            row[PITCH] = FIRST_METRE + self.plan.metre(self.begun)
        if self.plan.tempi:
            tempi = self.plan.tempi
            row[LENGTH] = FIRST_TEMPO + tempi[min(self.begun, len(tempi) - 1)]
        start = self._bar_start + self._bar_length
        return [*notes, EventInput(row=row, tick=start, bar=self._first_bar + self.begun)]

    def _keep(self, told: EventInput) -> None:
        self._told += 1
        if not told.fresh or told.row[POSITION] == END:
            return
        self._fresh = True
        self._history.append(told)
        if told.role == GIVEN:
            return
        if told.row[POSITION] == BAR:
            self.begun += 1
            self._bar_start = told.tick
            self._bar_length = int(METRE_TICKS[told.row[PITCH] - FIRST_METRE])
            self._silent_bars = 0 if self._bar_notes else self._silent_bars + (self.begun > 1)
            self._last, self._in_bar, self._bar_notes = _ABSENT, 0, 0
        else:
            same = (told.row[: PART_FIELD + 1] == self._last[: PART_FIELD + 1]).all()
            self._together = self._together + 1 if same else 1
            self._last = told.row
            self._in_bar += 1
            self._bar_notes += int(told.row[PART_FIELD] < CHORD)

    # --- what may be drawn

    def _places(self, row: np.ndarray) -> np.ndarray:
        del row
        mask = np.zeros(FIELD_SIZES[POSITION], bool)
        if self._choosing:
            mask[PART] = len(self.programs) < MOST_PARTS and bool(self._eligible())
            mask[BAR] = bool(self.programs) and not self._missing()
            return mask
        mask[END if self.begun == self.plan.bars else BAR] = not self._must_sound()
        if self.begun and self._in_bar < MOST_BAR_EVENTS:
            first = self._last[POSITION] if self._last[POSITION] < LONGEST_BAR_TICKS else 0
            mask[first : self._bar_length] = True
            if first > 0 or self._in_bar:
                mask[first] = bool(self._parts(self._last).any())
        return mask

    def _must_sound(self) -> bool:
        """Whether this bar may not end without a note: those before it had none."""
        if not self.begun or self.plan.given or self._bar_notes or self._in_bar >= MOST_BAR_EVENTS:
            return False
        return self._silent_bars >= MOST_SILENT_BARS or self.plan.bars == 1

    def _parts(self, row: np.ndarray) -> np.ndarray:
        mask = np.zeros(FIELD_SIZES[PART_FIELD], bool)
        if row[POSITION] == PART:
            mask[len(self.programs)] = True
            return mask
        mask[: len(self.programs)] = True
        mask[list(self.plan.resting)] = False
        if row[POSITION] != self._last[POSITION]:
            mask[CHORD] = any(program != DRUM_PROGRAM for program in self.programs)
        elif self._last[PART_FIELD] < CHORD:
            last = int(self._last[PART_FIELD])
            mask[:last] = False
            if self._together >= self.plan.voices.get(self.program_of(last), LONGEST_BAR_TICKS):
                mask[last] = False
        return mask

    def _pitches(self, row: np.ndarray) -> np.ndarray:
        mask = np.zeros(FIELD_SIZES[PITCH], bool)
        if row[POSITION] == BAR:
            mask[FIRST_METRE:FIRST_PROGRAM] = True
        elif row[POSITION] == PART:
            mask[FIRST_PROGRAM + np.array(self._eligible())] = True
        elif row[PART_FIELD] == CHORD:
            mask[FIRST_CHORD : FIRST_CHORD + len(CHORD_NAMES)] = True
        else:
            program = self.program_of(int(row[PART_FIELD]))
            shift = FIRST_DRUM if program == DRUM_PROGRAM else 0
            low, high = self.plan.reach.get(program, (0, 127))
            again = (row[: PART_FIELD + 1] == self._last[: PART_FIELD + 1]).all()
            if again and self._last[PITCH] < shift + high:
                low = max(low, int(self._last[PITCH]) - shift + 1)
            mask[shift + low : shift + high + 1] = True
        return mask

    def _chosen(self, choice: Choice) -> int:
        """How many parts the model has chosen from one set."""
        return sum(p in choice.programs for p in self.programs[len(self.plan.programs) :])

    def _missing(self) -> list[Choice]:
        """Choices of which parts are still to come."""
        return [one for one in self.plan.choices if self._chosen(one) < one.least]

    def _eligible(self) -> list[int]:
        """Programs that the next part may have."""
        if not self.plan.choices:
            return list(range(DRUM_PROGRAM + 1))
        open_choices = [one for one in self.plan.choices if self._chosen(one) < one.most]
        missing = self._missing()
        # Once what is asked for takes all the parts that are left, nothing else is added.
        left = MOST_PARTS - len(self.programs)
        if missing and sum(one.least - self._chosen(one) for one in missing) >= left:
            open_choices = missing
        return sorted(frozenset().union(*(one.programs for one in open_choices)))

    def _lengths(self, row: np.ndarray) -> np.ndarray:
        mask = np.zeros(FIELD_SIZES[LENGTH], bool)
        if row[POSITION] == BAR:
            mask[FIRST_TEMPO:] = True
        else:
            mask[:FIRST_TEMPO] = True
        return mask

    def _velocities(self, row: np.ndarray) -> np.ndarray:
        del row
        return np.ones(FIELD_SIZES[VELOCITY], bool)

    # --- what came out

    def events(self) -> np.ndarray:
        """The parts and all events of the piece so far, given notes and bars before among them, in
        the order of `encode_score`, int64 [event, 5]; later bars come last."""
        head = np.array(
            [
                _row(PART, part=number, pitch=FIRST_PROGRAM + program)
                for number, program in enumerate(self.programs)
            ]
        ).reshape(-1, FIELDS)
        told = [*self._history, *self._later]
        rows = np.array([one.row for one in told]).reshape(-1, FIELDS)
        ticks = np.array([one.tick for one in told], np.int64)
        bars = np.array([one.bar for one in told], np.int64)
        part = np.where(rows[:, PART_FIELD] == CHORD, -1, rows[:, PART_FIELD])
        first = np.where(rows[:, POSITION] == BAR, -1, ticks)
        ended = rows[:, POSITION] == END
        order = np.lexsort((rows[:, PITCH], part, first, bars, ended))
        return np.concatenate([head, rows[order]])


_ALLOWED: tuple[Callable[[ScoreInProgress, np.ndarray], np.ndarray], ...] = (
    ScoreInProgress._places,
    ScoreInProgress._parts,
    ScoreInProgress._pitches,
    ScoreInProgress._lengths,
    ScoreInProgress._velocities,
)


def uses(row: np.ndarray, number: int) -> bool:
    """Whether an event has the field `number`, given the fields before it."""
    place = row[POSITION]
    if number == POSITION:
        return True
    if place == END:
        return False
    if place == BAR:
        return number in (PITCH, LENGTH)
    if place == PART:
        return number in (PART_FIELD, PITCH)
    return number <= PITCH or row[PART_FIELD] != CHORD


def _row(
    place: int, part: int | None = None, pitch: int | None = None, length: int | None = None
) -> np.ndarray:
    row = _ABSENT.copy()
    row[POSITION] = place
    for number, value in ((PART_FIELD, part), (PITCH, pitch), (LENGTH, length)):
        if value is not None:
            row[number] = value
    return row
