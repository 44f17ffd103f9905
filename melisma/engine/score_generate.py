"""Drawing scores, event after event, for several pieces side by side.

Enters: what is told of each piece, and a `ScorePlan` of what is settled already. Leaves: the events
of each. What is settled is told to the model like everything else and never drawn; what no score
may hold is never drawn either (`lm/score/plan.py`). A piece longer than the model's window is drawn
in windows: each begins with the parts and the last bars of what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from melisma.engine.sampling import Noise, SamplingParams, sample_next_token
from melisma.engine.score_cpu import ScoreDecoding, ScoreEngine, small_operations
from melisma.lm.score.conditioning import ScoreConditions
from melisma.lm.score.model import (
    MOST_BARS_DONE,
    MOST_BARS_LEFT,
    NO_PROGRAM,
    EventBatch,
    ScoreModel,
)
from melisma.lm.score.plan import FREE, EventInput, ScoreInProgress, ScorePlan, uses
from melisma.lm.score.rows import LATER, START
from melisma.values.events import (
    BAR,
    END,
    FIELD_SIZES,
    FIELDS,
    FIRST_PROGRAM,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
)

FULL_SHARE = 0.75
"""A window is full when so much of the model's window is told: it learned from such windows."""
KEPT_SHARE = 0.35
"""Share of the model's window that the last bars of the window before may fill."""


@torch.inference_mode()
def sample_scores(
    engine: ScoreEngine,
    conditions: ScoreConditions,
    plans: Sequence[ScorePlan],
    drawing: SamplingParams,
    generators: Sequence[torch.Generator],
    progress: Callable[[float], None] | None = None,
) -> list[np.ndarray]:
    """Events int64 [event, 5] of every piece: parts first, then bar by bar.

    One plan, one row of `conditions` and one generator a piece: a piece comes out the same whatever
    its neighbours are asked for. `progress` hears the share of the bars that are begun.
    """
    pieces = [ScoreInProgress(plan) for plan in plans]
    guided = drawing.guidance != 1.0
    if guided:
        conditions = conditions.joined(ScoreConditions.absent(len(pieces)))
    session = engine.open(conditions)
    noise = Noise(generators, FIELDS, max(FIELD_SIZES))
    total = sum(plan.bars for plan in plans)
    while not all(piece.done for piece in pieces):
        with small_operations():
            _draw_window(engine.model, session, pieces, drawing, noise)
        if progress is not None:
            progress(sum(piece.begun for piece in pieces) / total)
    return [piece.events() for piece in pieces]


def _draw_window(
    model: ScoreModel,
    session: ScoreDecoding,
    pieces: Sequence[ScoreInProgress],
    drawing: SamplingParams,
    noise: Noise,
) -> None:
    """Draws until every piece is done, or at a bar line with a full window."""
    guided = drawing.guidance != 1.0
    window = model.settings.window_events
    for piece in pieces:
        piece.open_window(round(window * KEPT_SHARE))
    mine = [number for number, piece in enumerate(pieces) if not piece.done]
    events = [EventInput(row=START)] * len(mine)
    resting: set[int] = set()
    position = 0
    while mine:
        drawn = [pieces[number] for number in mine]
        batch = _event_batch(drawn, events, twice=guided)
        # With guidance every piece stands there twice: as told, and with nothing told.
        slots = mine + [number + len(pieces) for number in mine] if guided else mine
        hidden = session.step(batch, slots, position)
        rows = _next_rows(model, drawn, hidden, drawing, noise.next()[mine])
        for place, (piece, row) in enumerate(zip(drawn, rows, strict=True)):
            if piece.events_in_window >= window * FULL_SHARE and piece.at_bar_line(row):
                resting.add(mine[place])
                continue
            events[place] = piece.take(row)
            if piece.done:
                resting.add(mine[place])
        left = [place for place, number in enumerate(mine) if number not in resting]
        mine, events = [mine[place] for place in left], [events[place] for place in left]
        position += 1


def _event_batch(
    pieces: Sequence[ScoreInProgress], events: Sequence[EventInput], *, twice: bool
) -> EventBatch:
    """One event of each piece, [batch, 1, ...]; twice over for guidance."""
    repeats = 2 if twice else 1
    rows = torch.from_numpy(np.stack([told.row for told in events]))
    programs, left, done = [], [], []
    for piece, told in zip(pieces, events, strict=True):
        programs.append(_program(piece, told.row))
        bars = piece.bars_in_all - told.bar
        silent = told.role == LATER or not piece.plan.ends
        left.append(0 if silent else min(max(bars, 1), MOST_BARS_LEFT))
        done.append(min(told.bar + piece.plan.bars_done, MOST_BARS_DONE))

    def column(values: list[int]) -> Tensor:
        return torch.tensor(values)[:, None].repeat(repeats, 1)

    return EventBatch(
        rows=rows[:, None].repeat(repeats, 1, 1),
        roles=column([told.role for told in events]),
        programs=column(programs),
        ticks=column([told.tick for told in events]),
        bars_left=column(left),
        bars_done=column(done),
    )


def _program(piece: ScoreInProgress, row: np.ndarray) -> int:
    if row[POSITION] == PART:
        return int(row[PITCH]) - FIRST_PROGRAM
    if row[POSITION] in (BAR, END):
        return NO_PROGRAM
    return piece.program_of(int(row[PART_FIELD]))


def _next_rows(
    model: ScoreModel,
    pieces: Sequence[ScoreInProgress],
    hidden: Tensor,
    drawing: SamplingParams,
    noise: Tensor,
) -> np.ndarray:
    """The next event of every piece, field after field, int64 [piece, 5]."""
    rows = np.stack([piece.settled() for piece in pieces])
    guided = drawing.guidance != 1.0
    programs = np.full(len(pieces), NO_PROGRAM)
    for number, size in enumerate(FIELD_SIZES):
        open_fields = rows[:, number] == FREE
        used = [bool(o) and uses(row, number) for o, row in zip(open_fields, rows, strict=True)]
        rows[open_fields, number] = size
        if any(used):
            known = torch.from_numpy(np.maximum(rows, 0))
            told = torch.from_numpy(programs)
            if guided:
                known, told = known.repeat(2, 1), told.repeat(2)
            logits = model.field_logits(hidden, known, told, number)
            if guided:
                with_words, without = logits.chunk(2)
                logits = without + drawing.guidance * (with_words - without)
            masks = np.stack(
                [
                    piece.allowed(number, row) if use else np.ones(size, bool)
                    for piece, row, use in zip(pieces, rows, used, strict=True)
                ]
            )
            logits = logits.masked_fill(~torch.from_numpy(masks), -torch.inf)
            drawn = sample_next_token(logits, noise[:, number, :size], drawing).numpy()
            rows[used, number] = drawn[used]
        if number == PART_FIELD:
            programs = np.array(
                [
                    piece.program_of(int(row[PART_FIELD])) if row[POSITION] < BAR else NO_PROGRAM
                    for piece, row in zip(pieces, rows, strict=True)
                ]
            )
    return rows
