"""Generation of scores: a batch of pieces sampled event by event.

Input: the conditioning and a `ScorePlan` for each piece. Output: the events of each piece. What a
plan gives is read by the model but never sampled (`lm/score/prefix.py`), and only events that the
grammar allows are sampled (`lm/score/grammar.py`). A piece longer than the model's context is
sampled in windows, each of which starts with the parts and the most recent bars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from melisma.engine.sampling import Noise, StageSampling, sample_next_token
from melisma.engine.score_cpu import ScoreDecoding, ScoreEngine, small_operations
from melisma.lm.score.conditioning import ScoreConditions
from melisma.lm.score.grammar import allowed_values, uses_field
from melisma.lm.score.model import (
    MAX_BARS_DONE,
    MAX_BARS_LEFT,
    NO_PROGRAM,
    EventBatch,
    ScoreModel,
)
from melisma.lm.score.plan import ScorePlan
from melisma.lm.score.rows import FREE, LATER, START, EventInput
from melisma.lm.score.state import ScoreState
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
"""A window is full after this share of the model's context: it was trained on such windows."""
KEPT_SHARE = 0.35
"""Share of the model's context that the most recent bars may fill at the start of a window."""


@torch.inference_mode()
def sample_scores(
    engine: ScoreEngine,
    conditions: ScoreConditions,
    plans: Sequence[ScorePlan],
    sampling: StageSampling,
    generators: Sequence[torch.Generator],
    progress: Callable[[float], None] | None = None,
) -> list[np.ndarray]:
    """Samples a batch of pieces.

    A piece depends only on its own plan, conditions and generator, not on the rest of the batch.

    Args:
        engine: the model.
        conditions: one row for each piece.
        plans: one for each piece.
        sampling: temperature, top-k, top-p and guidance scale.
        generators: one for each piece.
        progress: called with the share of the bars that are started, after each window.

    Returns:
        Events of each piece, int64 [event, 5]: parts first, then bar by bar.
    """
    pieces = [ScoreState(plan) for plan in plans]
    guided = sampling.guidance != 1.0
    if guided:
        conditions = conditions.joined(ScoreConditions.absent(len(pieces)))
    decoding = engine.open(conditions)
    noise = Noise(generators, FIELDS, max(FIELD_SIZES))
    total = sum(plan.bars for plan in plans)
    while not all(piece.done for piece in pieces):
        with small_operations():
            _sample_window(engine.model, decoding, pieces, sampling, noise)
        if progress is not None:
            progress(sum(piece.bars_started for piece in pieces) / total)
    return [piece.events() for piece in pieces]


def _sample_window(
    model: ScoreModel,
    decoding: ScoreDecoding,
    pieces: Sequence[ScoreState],
    sampling: StageSampling,
    noise: Noise,
) -> None:
    """Samples until every piece is done, or at a bar line with a full window."""
    guided = sampling.guidance != 1.0
    window = model.settings.window_events
    for piece in pieces:
        piece.start_window(round(window * KEPT_SHARE))
    active = [number for number, piece in enumerate(pieces) if not piece.done]
    events = [EventInput(row=START)] * len(active)
    stopped: set[int] = set()
    position = 0
    while active:
        states = [pieces[number] for number in active]
        batch = _event_batch(states, events, twice=guided)
        # With guidance every piece has two sequences: conditional and unconditional.
        sequences = active + [number + len(pieces) for number in active] if guided else active
        hidden = decoding.step(batch, sequences, position)
        rows = _next_rows(model, states, hidden, sampling, noise.next()[active])
        for index, (piece, row) in enumerate(zip(states, rows, strict=True)):
            if piece.events_in_window >= window * FULL_SHARE and piece.at_bar_line(row):
                stopped.add(active[index])
                continue
            events[index] = piece.accept(row)
            if piece.done:
                stopped.add(active[index])
        left = [index for index, number in enumerate(active) if number not in stopped]
        active, events = [active[index] for index in left], [events[index] for index in left]
        position += 1


def _event_batch(
    pieces: Sequence[ScoreState], events: Sequence[EventInput], *, twice: bool
) -> EventBatch:
    """One event of each piece, [batch, 1, ...]; the batch twice over for guidance."""
    repeats = 2 if twice else 1
    rows = torch.from_numpy(np.stack([event.row for event in events]))
    programs, left, done = [], [], []
    for piece, event in zip(pieces, events, strict=True):
        programs.append(_program(piece, event.row))
        bars = piece.total_bars - event.bar
        unknown = event.role == LATER or not piece.plan.ends
        left.append(0 if unknown else min(max(bars, 1), MAX_BARS_LEFT))
        done.append(min(event.bar + piece.plan.bars_done, MAX_BARS_DONE))

    def column(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device="cpu")[:, None].repeat(repeats, 1)

    return EventBatch(
        rows=rows[:, None].repeat(repeats, 1, 1),
        roles=column([event.role for event in events]),
        programs=column(programs),
        ticks=column([event.tick for event in events]),
        bars_left=column(left),
        bars_done=column(done),
    )


def _program(piece: ScoreState, row: np.ndarray) -> int:
    if row[POSITION] == PART:
        return int(row[PITCH]) - FIRST_PROGRAM
    if row[POSITION] in (BAR, END):
        return NO_PROGRAM
    return piece.program_of(int(row[PART_FIELD]))


def _next_rows(
    model: ScoreModel,
    pieces: Sequence[ScoreState],
    hidden: Tensor,
    sampling: StageSampling,
    noise: Tensor,
) -> np.ndarray:
    """The next event of every piece, sampled field by field, int64 [piece, 5]."""
    rows = np.stack([piece.fixed_fields() for piece in pieces])
    guided = sampling.guidance != 1.0
    programs = np.full(len(pieces), NO_PROGRAM)
    for field, size in enumerate(FIELD_SIZES):
        free = rows[:, field] == FREE
        used = [bool(f) and uses_field(row, field) for f, row in zip(free, rows, strict=True)]
        rows[free, field] = size
        if any(used):
            known = torch.from_numpy(np.maximum(rows, 0))
            program = torch.from_numpy(programs)
            if guided:
                known, program = known.repeat(2, 1), program.repeat(2)
            logits = model.field_logits(hidden, known, program, field)
            if guided:
                conditional, unconditional = logits.chunk(2)
                logits = unconditional + sampling.guidance * (conditional - unconditional)
            masks = np.stack(
                [
                    allowed_values(piece, field, row) if use else np.ones(size, bool)
                    for piece, row, use in zip(pieces, rows, used, strict=True)
                ]
            )
            logits = logits.masked_fill(~torch.from_numpy(masks), -torch.inf)
            sampled = sample_next_token(logits, noise[:, field, :size], sampling).numpy()
            rows[used, field] = sampled[used]
        if field == PART_FIELD:
            programs = np.array(
                [
                    piece.program_of(int(row[PART_FIELD])) if row[POSITION] < BAR else NO_PROGRAM
                    for piece, row in zip(pieces, rows, strict=True)
                ]
            )
    return rows
