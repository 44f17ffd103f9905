"""CPU engine: a causal stage from which tokens are sampled in native code, without Python between
them.

An `Engine` holds the packed weights of a `TokenModel`; `open` starts the `Decoding` of some
requests, and `Decoding.advance` samples as many steps as are wanted. On a processor decoding is
native code (`melisma.engine.native`), on a GPU a CUDA graph (`cuda_graph.py`). The rest of the
program samples by `generate.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from melisma.engine.limits import CONDITION_FRAMES, NOISE_STEPS, PREFILL_ROWS
from melisma.engine.native.packing import aligned_zeros
from melisma.engine.native.program import Program
from melisma.engine.native.sampler import NO_FRAMES, BatchState
from melisma.engine.native.trunk import (
    KVCache,
    PackedTrunk,
    Tensors,
    add_trunk,
    cache_text_kv,
    pack_tensor,
    to_float32,
)
from melisma.engine.sampling import StageSampling
from melisma.lm.conditioning import Conditioning, TrunkInputs
from melisma.lm.model import TokenModel
from melisma.nn.transformer import Text, rotary_angles, sinusoidal_embedding
from melisma.values.errors import MelismaError
from melisma.values.model_ref import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class Requests:
    """A batch of requests that are sampled side by side.

    Raises:
        MelismaError: A piece is shorter than its prefix.
    """

    inputs: TrunkInputs
    """Of every sequence: request after request, with guidance the conditional branch and then the
    unconditional one. Of a long piece `inputs.frames` holds the first frames alone."""
    frame_inputs: Callable[[int, int], Tensor]
    """`inputs.frames` of any stretch of frames."""
    before_lengths: Sequence[int]
    """Positions that stand before each request's piece."""
    branches: int
    """2 with guidance, else 1."""
    frames: Sequence[int]
    """Frames of each request."""
    prefix: Tensor | None
    """Tokens int64 [request, level, frame] that every piece begins with."""
    sampling: StageSampling

    @property
    def known(self) -> int:
        """Frames of the prefix."""
        return 0 if self.prefix is None else self.prefix.shape[2]

    def __post_init__(self) -> None:
        if min(self.frames) < max(self.known, 1):
            raise MelismaError(
                f"a piece of {min(self.frames)} frames cannot begin with {self.known} frames"
            )


def requests_of(
    engine: Engine,
    conditions: Conditioning,
    frames: Sequence[int],
    sampling: StageSampling,
    prefix: Tensor | None,
) -> Requests:
    """The requests of a batch.

    Args:
        engine: Where they will be sampled.
        conditions: Of every piece; with guidance the unconditional branch is added beside each.
        frames: Of every piece.
        sampling: How tokens are sampled.
        prefix: Tokens int64 [batch, level, frame] that every piece begins with.
    """
    model = engine.model
    conditions = conditions.to(engine.device)
    batch = len(conditions)
    branches = 1 if sampling.guidance == 1.0 else 2
    both = conditions if branches == 1 else conditions.joined(conditions.unconditional())
    order = (
        torch.arange(batch * branches, dtype=torch.long, device="cpu")
        .view(branches, batch)
        .T.flatten()
    )

    def inputs_of(start: int, stop: int) -> TrunkInputs:
        return _ordered(model.conditioner.stretch(both, start, stop), order)

    # A GPU's graph has all frames in one tensor, whose address it keeps.
    known = 0 if prefix is None else prefix.shape[2]
    first = max(frames) if engine.device != "cpu" else max(known + 1, CONDITION_FRAMES)
    inputs = inputs_of(0, min(first, both.length))
    lengths = [0] * batch
    if inputs.before is not None:
        lengths = [inputs.before.shape[1]] * batch
        if model.settings.conditions.text_before:
            text = conditions.text
            longest = 1 if text is None else text.values.shape[1]
            texts = [0] * batch if text is None else text.present.sum(dim=1).tolist()
            # The unconditional branch has zeros at as many positions as the text has.
            lengths = [inputs.before.shape[1] - longest + text for text in texts]

    def frame_inputs(start: int, stop: int) -> Tensor:
        found = inputs_of(start, stop).frames
        assert found is not None
        return found

    return Requests(
        inputs=inputs,
        frame_inputs=frame_inputs,
        before_lengths=lengths,
        branches=branches,
        frames=frames,
        prefix=prefix,
        sampling=sampling,
    )


def _ordered(inputs: TrunkInputs, order: Tensor) -> TrunkInputs:
    def picked(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[order.to(values.device)]

    text = inputs.text
    if text is not None:
        index = order.to(text.states.device)
        text = Text(states=text.states[index], lengths=text.lengths[index])
    return replace(
        inputs,
        whole=picked(inputs.whole),
        frames=picked(inputs.frames),
        text=text,
        before=picked(inputs.before),
    )


class Decoding(Protocol):
    """A batch of requests that is being decoded."""

    def set_noise(self, noise: Tensor) -> None:
        """Noise float32 [request, NOISE_STEPS, level, vocabulary] of the steps that follow."""
        ...

    def keep(self, requests: Sequence[int]) -> None:
        """Continues with these requests alone."""
        ...

    def advance(self, steps: int) -> None:
        """Samples this many steps of the requests that continue."""
        ...

    def grid(self) -> Tensor:
        """int64 [request, level, step] as sampled so far, on the processor; the vocabulary's size
        where there is no token yet."""
        ...


class Engine(Protocol):
    """A stage that is ready to be sampled."""

    model: TokenModel
    device: str
    """Where it runs, as torch names it."""

    def open(self, requests: Requests) -> Decoding:
        """Starts decoding; prefixes are read in at once (prefill)."""
        ...


class NativeEngine:
    """A stage on the processor."""

    device = "cpu"

    def __init__(
        self,
        model: TokenModel,
        *,
        precision: str = "float32",
        threads: int | None = None,
        tensors: Tensors | None = None,
    ) -> None:
        """
        Args:
            model: The stage.
            precision: Of its weights, one of `packing.PRECISIONS`.
            threads: Processor threads; torch's number by default.
            tensors: The model's state by name, where the model itself holds no weights (only its
                conditioner need have them).

        Raises:
            MelismaError: Another precision, or a stage that is not causal.
        """
        if precision not in PRECISIONS:
            raise MelismaError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')
        if not model.settings.causal:
            raise MelismaError("a stage that is not causal cannot be sampled step by step")
        self.model, self.precision = model, precision
        self.threads = threads or torch.get_num_threads()
        get: Callable[[str], Tensor] = tensors or model.state_dict().__getitem__
        settings = model.settings
        self.trunk = PackedTrunk.of(model.trunk.shape, lambda name: get(f"trunk.{name}"), precision)
        self.tables = [
            to_float32(get(f"tables.{level}.weight")) for level in range(settings.levels)
        ]
        sampled = range(settings.levels - settings.first_sampled_level)
        heads = torch.cat([get(f"heads.{level}.weight") for level in sampled])
        self.heads = pack_tensor(heads, precision)

    @property
    def bytes_per_step(self) -> int:
        """Bytes of weights that every step reads."""
        return self.trunk.bytes_per_step + self.heads.bytes

    def open(self, requests: Requests) -> NativeDecoding:
        """Starts decoding."""
        return NativeDecoding(self, requests)


class NativeDecoding:
    """A batch of requests that is being decoded on the processor."""

    def __init__(self, engine: NativeEngine, requests: Requests) -> None:
        model, inputs = engine.model, requests.inputs
        pattern = model.pattern
        self._engine, self._requests = engine, requests
        count = len(requests.frames)
        sequences = count * requests.branches
        steps = pattern.steps(max(requests.frames))
        before = max(requests.before_lengths)
        positions = before + steps
        window = min(model.window_steps + before, positions)
        longest = 0 if inputs.text is None else inputs.text.states.shape[1]
        self._cache = KVCache(
            engine.trunk, sequences, min(window + PREFILL_ROWS, positions), longest
        )
        if inputs.text is not None:
            cache_text_kv(
                engine.trunk, self._cache, inputs.text.states, inputs.text.lengths, engine.threads
            )
        self._window = window
        shape = engine.trunk.shape
        if shape.positions == "rotary":
            angles = rotary_angles(
                torch.arange(positions, dtype=torch.long, device="cpu"), shape.width // shape.heads
            )
            self._angles, self._position_table = to_float32(torch.cat(angles, dim=-1)), None
        else:
            self._angles = None
            self._position_table = to_float32(
                sinusoidal_embedding(
                    torch.arange(positions, dtype=torch.long, device="cpu"), shape.width
                )
            )
        self._modulations = None
        if inputs.whole is not None:
            parts = model.trunk.modulations(inputs.whole)
            self._modulations = [
                to_float32(torch.cat(part, dim=-1)[:, 0]) for part in parts if part is not None
            ]
        self._frames = None if inputs.frames is None else to_float32(inputs.frames)
        self._first_frame = 0
        self._state = self._initial_state(steps)
        self._rows = sequences
        self._read_in()
        self._program = self._steps_program()

    def _initial_state(self, steps: int) -> BatchState:
        model, requests = self._engine.model, self._requests
        pattern, sampling = model.pattern, requests.sampling
        state = BatchState(
            len(requests.frames),
            requests.branches,
            pattern.offsets,
            pattern.stride,
            model.settings.vocabulary,
            steps,
            1 if sampling.temperature == 0 else NOISE_STEPS,
            absolute_positions=self._position_table is not None,
        )
        state.frames[:] = requests.frames
        state.known[:], state.step[:] = requests.known, requests.known * pattern.stride
        state.prefix_lengths[:] = requests.before_lengths
        state.temperature[:], state.guidance[:] = sampling.temperature, sampling.guidance
        state.top_k[:], state.top_p[:] = sampling.top_k or 0, sampling.top_p or 1.0
        state.frame_base[:] = NO_FRAMES
        if self._frames is not None:
            state.frame_base[:] = np.arange(len(state.frame_base)) * self._frames.shape[1]
        if requests.prefix is not None:
            steps_of_prefix = pattern.apply(requests.prefix.cpu(), model.blank)
            state.grid[:, :, : steps_of_prefix.shape[2]] = steps_of_prefix.numpy()
        return state

    def _extra(self, table: np.ndarray | None) -> np.ndarray:
        """Rows of an extra table of the embedding; an unused one needs memory, too."""
        if table is None:
            return aligned_zeros((1, self._engine.trunk.shape.width), np.float32)
        return table.reshape(-1, table.shape[-1])

    def _add_layers(self, program: Program, hidden: np.ndarray) -> np.ndarray:
        return add_trunk(
            program,
            self._engine.trunk,
            self._cache,
            hidden,
            window=self._window,
            angles=self._angles,
            modulations=self._modulations,
        )

    def _steps_program(self) -> Program:
        """Tokens in, tokens out."""
        engine, state = self._engine, self._state
        program = Program(self._rows, engine.threads, distinct=True)
        hidden = program.scratch((self._rows, engine.trunk.shape.width))
        program.begin_step(state)
        program.embed(
            engine.tables,
            state.tokens,
            (self._extra(self._frames), self._extra(self._position_table)),
            (state.frame_index, state.position_index),
            hidden,
        )
        out = self._add_layers(program, hidden)
        program.multiply(engine.heads, out, state.logits, add=False)
        program.sample(state)
        return program

    def _read_in(self) -> None:
        """Prefill: what stands before the pieces, and the tokens of the prefix, many positions at a
        time."""
        requests, state, model = self._requests, self._state, self._engine.model
        branches, rows = requests.branches, []
        for request, first in enumerate(requests.before_lengths):
            given = requests.known * model.pattern.stride
            for sequence in range(request * branches, (request + 1) * branches):
                rows += [(position, sequence, -1) for position in range(first)]
                rows += [(first + step, sequence, step) for step in range(given)]
        if not rows:
            return
        rows.sort()
        program = Program(PREFILL_ROWS, self._engine.threads)
        width, levels = self._engine.trunk.shape.width, model.settings.levels
        tokens = aligned_zeros((PREFILL_ROWS, levels), np.int64)
        extra, position_index = (aligned_zeros((PREFILL_ROWS,), np.int64) for _ in range(2))
        before = requests.inputs.before
        tables = [self._extra(self._frames)]
        if before is not None:
            tables.append(to_float32(before).reshape(-1, width))
        joined = np.ascontiguousarray(np.concatenate(tables))
        hidden = program.scratch((PREFILL_ROWS, width))
        program.embed(
            self._engine.tables,
            tokens,
            (joined, self._extra(self._position_table)),
            (extra, position_index),
            hidden,
        )
        self._add_layers(program, hidden)
        for start in range(0, len(rows), PREFILL_ROWS):
            part = rows[start : start + PREFILL_ROWS]
            for number, (position, sequence, step) in enumerate(part):
                program.sequence_index[number], program.positions[number] = sequence, position
                program.angle_index[number] = position
                position_index[number] = position if self._position_table is not None else -1
                if step < 0:
                    assert before is not None
                    tokens[number] = -1
                    extra[number] = len(tables[0]) + sequence * before.shape[1] + position
                    continue
                request = sequence // branches
                tokens[number] = state.grid[request, :, step - 1] if step else model.blank
                base, frame = state.frame_base[sequence], model.pattern.newest_frame(step)
                last = requests.frames[request] - 1
                extra[number] = -1 if base == NO_FRAMES else base + min(frame, last)
            program.run(len(part))

    def set_noise(self, noise: Tensor) -> None:
        """Noise of the steps that follow."""
        self._state.noise[...] = noise.numpy()

    def keep(self, requests: Sequence[int]) -> None:
        """Continues with these requests alone."""
        self._rows = self._state.keep(np.array(requests, np.int64))

    def advance(self, steps: int) -> None:
        """Samples this many steps."""
        while steps > 0:
            part = steps if self._frames is None else min(steps, self._covered_steps())
            self._program.run(self._rows, part)
            steps -= part

    def _covered_steps(self) -> int:
        """How many steps the table of frame inputs serves from here on; where it serves none, it is
        filled with the frames that follow."""
        assert self._frames is not None
        pattern = self._engine.model.pattern
        step = int(self._state.step[self._state.active[0]])
        last, size = max(self._requests.frames) - 1, self._frames.shape[1]
        if pattern.newest_frame(step) >= self._first_frame + size <= last:
            # All tables have one size and one address: the last one reaches back.
            start = min(pattern.newest_frame(step), last + 1 - size)
            self._frames[...] = self._requests.frame_inputs(start, start + size).numpy()
            self._first_frame = start
            self._state.frame_base[:] = np.arange(len(self._state.frame_base)) * size - start
        if self._first_frame + size > last:
            return self._state.grid.shape[2]
        return (self._first_frame + size) * pattern.stride - step

    def logits(self) -> Tensor:
        """Those of the last step, float32 [row, level * vocabulary]; shares memory likewise."""
        return torch.from_numpy(self._state.logits)

    def grid(self) -> Tensor:
        """What is sampled so far; shares memory with the decoding."""
        return torch.from_numpy(self._state.grid)
