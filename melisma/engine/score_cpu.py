"""The score model's trunk made ready to draw: native code, with the batch that any step has.

Enters: a `ScoreModel`. `ScoreEngine` holds the weights as they are multiplied, `ScoreDecoding` the
past of some pieces; pieces leave the batch without a copy, because a row says whose past it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from melisma.engine.native.packing import aligned_zeros
from melisma.engine.native.program import Program
from melisma.engine.native.trunk import KVCache, PackedTrunk, add_trunk, numbers
from melisma.lm.score.conditioning import ScoreConditions
from melisma.lm.score.model import EventBatch, ScoreModel


@contextmanager
def small_operations() -> Iterator[None]:
    """Torch works on one thread within: between small operations its others wait in busy loops and
    keep the cores from native code (drawing was 1.8 times as slow on two cores)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class ScoreEngine:
    """A score model on the processor."""

    def __init__(
        self, model: ScoreModel, *, precision: str = "float32", threads: int | None = None
    ) -> None:
        """`precision`: one of `packing.PRECISIONS`; `threads`: torch's number by default."""
        self.model = model
        self.threads = threads or torch.get_num_threads()
        self.trunk = PackedTrunk.of(
            model.trunk.shape, model.trunk.state_dict().__getitem__, precision
        )

    def open(self, conditions: ScoreConditions) -> ScoreDecoding:
        """Begins a session with a past for each row of the conditions."""
        return ScoreDecoding(self, conditions)


class ScoreDecoding:
    """The past of a batch of pieces."""

    def __init__(self, engine: ScoreEngine, conditions: ScoreConditions) -> None:
        model, slots = engine.model, len(conditions)
        window = model.settings.window_events
        parts = model.trunk.modulations(model.conditioner(conditions))
        told = [numbers(torch.cat(part, dim=-1)[:, 0]) for part in parts if part is not None]
        shape = engine.trunk.shape
        self._model = model
        self._program = Program(slots, engine.threads, distinct=True)
        self._hidden = self._program.scratch((slots, shape.width))
        self._angles = aligned_zeros((slots, 2 * shape.width // shape.heads), np.float32)
        self._program.angle_index[:] = np.arange(slots)
        self._out = add_trunk(
            self._program,
            engine.trunk,
            KVCache(engine.trunk, slots, window),
            self._hidden,
            window=window,
            angles=self._angles,
            modulations=told,
        )

    def step(self, batch: EventBatch, slots: Sequence[int], position: int) -> Tensor:
        """One event of some pieces, [row, 1, ...], each of its own slot, at a place of the window
        -> hidden states [row, width] for the heads."""
        rows = len(slots)
        self._program.slots[:rows] = slots
        self._program.positions[:rows] = position
        self._hidden[:rows] = self._model.embed(batch)[:, 0].numpy()
        index = torch.full((rows, 1), position)
        turns = self._model.angles(index, batch.ticks)
        self._angles[:rows] = torch.cat(turns, dim=-1)[:, 0, 0].numpy()
        self._program.run(rows)
        return torch.from_numpy(self._out[:rows].copy())
