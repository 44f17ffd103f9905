"""CPU engine of the score model: native decoding steps with a KV cache, for varying batches.

`ScoreEngine` holds the packed weights of a `ScoreModel`, `ScoreDecoding` the KV cache of a batch of
pieces. Finished pieces leave the batch without copying the cache, because every row of a step names
the cached sequence that it continues.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from melisma.engine.native.packing import aligned_zeros
from melisma.engine.native.program import Program
from melisma.engine.native.trunk import KVCache, PackedTrunk, add_trunk, to_float32
from melisma.lm.score.conditioning import ScoreConditions
from melisma.lm.score.model import EventBatch, ScoreModel

_lock = threading.Lock()
_threads_before: list[int] = []
"""Number of torch's threads before `small_operations`, once for each caller that is inside."""


@contextmanager
def small_operations() -> Iterator[None]:
    """Context in which torch uses one thread.

    Between small operations torch's other threads wait in busy loops and take the cores from native
    code (generation was 1.8 times as slow on two cores).
    """
    with _lock:
        if not _threads_before:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
        else:
            threads = _threads_before[0]
        _threads_before.append(threads)
    try:
        yield
    finally:
        # The last of several callers in threads of their own restores what the first found.
        with _lock:
            threads = _threads_before.pop()
            if not _threads_before:
                torch.set_num_threads(threads)


class ScoreEngine:
    """A score model prepared for decoding on the CPU."""

    def __init__(
        self, model: ScoreModel, *, precision: str = "float32", threads: int | None = None
    ) -> None:
        """
        Args:
            model: the model; its embeddings and heads are used as they are.
            precision: of the trunk's matrices, one of `packing.PRECISIONS`.
            threads: number of threads, by default torch's.
        """
        self.model = model
        self.threads = threads or torch.get_num_threads()
        self.trunk = PackedTrunk.of(
            model.trunk.shape, model.trunk.state_dict().__getitem__, precision
        )

    def open(self, conditions: ScoreConditions) -> ScoreDecoding:
        """Starts decoding, with an empty KV cache for each row of the conditions."""
        return ScoreDecoding(self, conditions)


class ScoreDecoding:
    """KV cache and buffers of a batch of pieces under decoding."""

    def __init__(self, engine: ScoreEngine, conditions: ScoreConditions) -> None:
        model, sequences = engine.model, len(conditions)
        window = model.settings.window_events
        parts = model.trunk.modulations(model.conditioner(conditions))
        modulations = [
            to_float32(torch.cat(part, dim=-1)[:, 0]) for part in parts if part is not None
        ]
        shape = engine.trunk.shape
        self._model = model
        self._program = Program(sequences, engine.threads, distinct=True)
        self._hidden = self._program.scratch((sequences, shape.width))
        self._angles = aligned_zeros((sequences, 2 * shape.width // shape.heads), np.float32)
        self._program.angle_index[:] = np.arange(sequences)
        self._out = add_trunk(
            self._program,
            engine.trunk,
            KVCache(engine.trunk, sequences, window),
            self._hidden,
            window=window,
            angles=self._angles,
            modulations=modulations,
        )

    def step(self, batch: EventBatch, sequences: Sequence[int], position: int) -> Tensor:
        """Appends one event to some of the cached sequences.

        Args:
            batch: the events, [row, 1, ...].
            sequences: for each row, the index of its sequence (a row of the conditions); distinct.
            position: position of the events in the window, the same for all rows.

        Returns:
            Hidden states for the heads, float32 [row, width].
        """
        rows = len(sequences)
        self._program.sequence_index[:rows] = sequences
        self._program.positions[:rows] = position
        self._hidden[:rows] = self._model.embed(batch)[:, 0].numpy()
        index = torch.full((rows, 1), position, dtype=torch.long, device="cpu")
        angles = self._model.angles(index, batch.ticks)
        self._angles[:rows] = torch.cat(angles, dim=-1)[:, 0, 0].numpy()
        self._program.run(rows)
        return torch.from_numpy(self._out[:rows].copy())
