"""Grammar of sampled events: masks of the events and field values that may come next.

The fields of an event are sampled one after the other: position, part, pitch, length, velocity.
Each mask depends on the state of the piece (`state.py`) and on the fields sampled before it. The
masks keep events in order of time, part and pitch, within the plan's programs, pitch ranges and
polyphony, and every bar of finite length.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from melisma.lm.score.plan import Choice
from melisma.lm.score.state import ScoreState
from melisma.values.events import (
    BAR,
    CHORD,
    CHORD_NAMES,
    DRUM_PROGRAM,
    END,
    FIELD_SIZES,
    FIRST_CHORD,
    FIRST_DRUM,
    FIRST_METRE,
    FIRST_PROGRAM,
    FIRST_TEMPO,
    LENGTH,
    MAX_BAR_TICKS,
    MAX_PARTS,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
    VELOCITY,
)

MAX_BAR_EVENTS = 160
"""Events of a bar after which it must end (a full orchestra has about a hundred)."""
MAX_SILENT_BARS = 1
"""Consecutive bars without a note after which one must sound (real pieces rarely rest longer)."""


def uses_field(row: np.ndarray, field: int) -> bool:
    """Whether an event has a field, given the fields before it.

    Args:
        row: int64 [5]; fields from `field` on are ignored.
        field: index of the field, e.g. `PITCH`.
    """
    position = row[POSITION]
    if field == POSITION:
        return True
    if position == END:
        return False
    if position == BAR:
        return field in (PITCH, LENGTH)
    if position == PART:
        return field in (PART_FIELD, PITCH)
    return field <= PITCH or row[PART_FIELD] != CHORD


def allowed_values(state: ScoreState, field: int, row: np.ndarray) -> np.ndarray:
    """Which values a field of the next event may take.

    Args:
        state: the piece so far.
        field: index of the field, which the event must use (`uses_field`).
        row: int64 [5]; the fields before `field` are those of the next event.

    Returns:
        bool [value], with at least one value allowed.
    """
    mask = _MASKS[field](state, row)
    assert mask.any(), "an event must be able to go on"
    return mask


def _positions(state: ScoreState, row: np.ndarray) -> np.ndarray:
    del row
    mask = np.zeros(FIELD_SIZES[POSITION], bool)
    if state.choosing_parts:
        mask[PART] = len(state.programs) < MAX_PARTS and bool(_eligible_programs(state))
        mask[BAR] = bool(state.programs) and not _unmet_choices(state)
        return mask
    mask[END if state.bars_started == state.plan.bars else BAR] = not _needs_note(state)
    if state.bars_started and state.events_in_bar < MAX_BAR_EVENTS:
        last = state.last_row
        first = last[POSITION] if last[POSITION] < MAX_BAR_TICKS else 0
        mask[first : state.bar_ticks] = True
        if first > 0 or state.events_in_bar:
            mask[first] = bool(_parts(state, last).any())
    return mask


def _needs_note(state: ScoreState) -> bool:
    """Whether the current bar may not end without a note, because those before it had none."""
    if not state.bars_started or state.plan.given or state.notes_in_bar:
        return False
    if state.events_in_bar >= MAX_BAR_EVENTS:
        return False
    return state.silent_bars >= MAX_SILENT_BARS or state.plan.bars == 1


def _parts(state: ScoreState, row: np.ndarray) -> np.ndarray:
    mask = np.zeros(FIELD_SIZES[PART_FIELD], bool)
    if row[POSITION] == PART:
        mask[len(state.programs)] = True
        return mask
    mask[: len(state.programs)] = True
    mask[list(state.plan.silent_parts)] = False
    if row[POSITION] != state.last_row[POSITION]:
        mask[CHORD] = any(program != DRUM_PROGRAM for program in state.programs)
    elif state.last_row[PART_FIELD] < CHORD:
        last = int(state.last_row[PART_FIELD])
        mask[:last] = False
        most = state.plan.polyphony.get(state.program_of(last), MAX_BAR_TICKS)
        if state.simultaneous_notes >= most:
            mask[last] = False
    return mask


def _pitches(state: ScoreState, row: np.ndarray) -> np.ndarray:
    mask = np.zeros(FIELD_SIZES[PITCH], bool)
    if row[POSITION] == BAR:
        mask[FIRST_METRE:FIRST_PROGRAM] = True
    elif row[POSITION] == PART:
        mask[FIRST_PROGRAM + np.array(_eligible_programs(state))] = True
    elif row[PART_FIELD] == CHORD:
        mask[FIRST_CHORD : FIRST_CHORD + len(CHORD_NAMES)] = True
    else:
        program = state.program_of(int(row[PART_FIELD]))
        shift = FIRST_DRUM if program == DRUM_PROGRAM else 0
        low, high = state.plan.pitch_ranges.get(program, (0, 127))
        last = state.last_row
        together = (row[: PART_FIELD + 1] == last[: PART_FIELD + 1]).all()
        if together and last[PITCH] < shift + high:
            low = max(low, int(last[PITCH]) - shift + 1)
        mask[shift + low : shift + high + 1] = True
    return mask


def _lengths(state: ScoreState, row: np.ndarray) -> np.ndarray:
    del state
    mask = np.zeros(FIELD_SIZES[LENGTH], bool)
    if row[POSITION] == BAR:
        mask[FIRST_TEMPO:] = True
    else:
        mask[:FIRST_TEMPO] = True
    return mask


def _velocities(state: ScoreState, row: np.ndarray) -> np.ndarray:
    del state, row
    return np.ones(FIELD_SIZES[VELOCITY], bool)


_MASKS: tuple[Callable[[ScoreState, np.ndarray], np.ndarray], ...] = (
    _positions,
    _parts,
    _pitches,
    _lengths,
    _velocities,
)
"""By field index."""


def _chosen_parts(state: ScoreState, choice: Choice) -> int:
    """How many parts the model has chosen from one set."""
    return sum(p in choice.programs for p in state.programs[len(state.plan.programs) :])


def _unmet_choices(state: ScoreState) -> list[Choice]:
    """Choices that still lack parts."""
    return [one for one in state.plan.choices if _chosen_parts(state, one) < one.least]


def _eligible_programs(state: ScoreState) -> list[int]:
    """Programs that the next part may have."""
    choices = state.plan.choices
    if not choices:
        return [p for p in range(DRUM_PROGRAM + 1) if p not in state.plan.excluded]
    open_choices = [one for one in choices if _chosen_parts(state, one) < one.most]
    unmet = _unmet_choices(state)
    # Once the required parts take all the numbers that are left, no others are added.
    left = MAX_PARTS - len(state.programs)
    if unmet and sum(one.least - _chosen_parts(state, one) for one in unmet) >= left:
        open_choices = unmet
    eligible = frozenset().union(*(one.programs for one in open_choices))
    return sorted(eligible - state.plan.excluded)
