"""The engine: a causal stage made ready, from which tokens are drawn without Python between them.

Enters: a `TokenModel` and a precision. An `Engine` holds the weights as they are multiplied; `open`
begins a `Session` for some requests, and `Session.advance` draws as many steps as are wanted. On a
processor a session is native code (`melisma.engine.native`), on a GPU a recorded graph
(`cuda_graph.py`). `generate.py` is how the rest of the program draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from melisma.engine.native.packing import PRECISIONS, aligned_zeros
from melisma.engine.native.program import Program
from melisma.engine.native.sampler import BatchState
from melisma.engine.native.trunk import (
    KVCache,
    PackedTrunk,
    Tensors,
    add_trunk,
    cache_text_kv,
    numbers,
    packed,
)
from melisma.engine.sampling import NOISE_STEPS, SamplingParams
from melisma.lm.conditioning import Conditioning, TrunkInputs
from melisma.lm.model import TokenModel
from melisma.nn.transformer import Text, rotary_angles, sinusoids

READ_ROWS = 64
"""Places of a given beginning that are read in side by side."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """What is to be drawn side by side. `ValueError` where lengths do not go together."""

    inputs: TrunkInputs
    """Of every slot: request after request, with guidance what is told and then nothing."""
    before_lengths: Sequence[int]
    """Places that stand before each request's piece."""
    branches: int
    """2 with guidance, else 1."""
    frames: Sequence[int]
    """Frames of each request."""
    prefix: Tensor | None
    """Tokens int64 [request, level, frame] that every piece begins with."""
    drawing: SamplingParams

    @property
    def known(self) -> int:
        """Frames that are given."""
        return 0 if self.prefix is None else self.prefix.shape[2]

    def __post_init__(self) -> None:
        if min(self.frames) < max(self.known, 1):
            raise ValueError(
                f"a piece of {min(self.frames)} frames cannot begin with {self.known} frames"
            )


def requests_of(
    engine: Engine,
    conditions: Conditioning,
    frames: Sequence[int],
    drawing: SamplingParams,
    prefix: Tensor | None,
) -> Requests:
    """Conditions of a batch, read where the engine is, with those of nothing told beside them where
    they are needed."""
    model = engine.model
    conditions = conditions.to(engine.device)
    batch = len(conditions)
    branches = 1 if drawing.guidance == 1.0 else 2
    asked = conditions if branches == 1 else conditions.joined(conditions.unconditional())
    order = torch.arange(batch * branches).view(branches, batch).T.flatten()
    told = _ordered(model.conditioner(asked), order)
    lengths = [0] * batch
    if told.before is not None:
        lengths = [told.before.shape[1]] * batch
        if model.settings.conditions.text_before:
            longest = 1 if conditions.text is None else conditions.text.shape[1]
            own = conditions.text_lengths
            texts = [0] * batch if own is None else own.tolist()
            # Nothing told has zeros in as many places as the text has.
            lengths = [told.before.shape[1] - longest + text for text in texts]
    return Requests(
        inputs=told,
        before_lengths=lengths,
        branches=branches,
        frames=frames,
        prefix=prefix,
        drawing=drawing,
    )


def _ordered(told: TrunkInputs, order: Tensor) -> TrunkInputs:
    def turned(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[order.to(values.device)]

    text = told.text
    if text is not None:
        index = order.to(text.states.device)
        text = Text(states=text.states[index], lengths=text.lengths[index])
    return replace(
        told,
        whole=turned(told.whole),
        frames=turned(told.frames),
        text=text,
        before=turned(told.before),
    )


class Decoding(Protocol):
    """Requests under way."""

    def set_noise(self, noise: Tensor) -> None:
        """Noise float32 [request, NOISE_STEPS, level, vocabulary] of the steps that follow."""
        ...

    def keep(self, requests: Sequence[int]) -> None:
        """Only these requests go on."""
        ...

    def advance(self, steps: int) -> None:
        """Draws so many steps of the requests that go on."""
        ...

    def grid(self) -> Tensor:
        """int64 [request, level, step] as drawn so far, on the processor; the vocabulary's size
        where nothing is."""
        ...


class Engine(Protocol):
    """A stage ready to draw."""

    model: TokenModel
    device: str
    """Where it draws, as torch names it."""

    def open(self, requests: Requests) -> Decoding:
        """Begins a session; what is given beforehand is read in at once."""
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
        """`precision`: one of `packing.PRECISIONS`. `threads`: torch's number by default.
        `tensors`: the model's state by name, where the model itself holds no weights (only its
        conditioner need have them). `ValueError` for another precision, or a stage that is not
        causal."""
        if precision not in PRECISIONS:
            raise ValueError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')
        if not model.settings.causal:
            raise ValueError("a stage that looks both ways is not drawn step by step")
        self.model, self.precision = model, precision
        self.threads = threads or torch.get_num_threads()
        get: Callable[[str], Tensor] = tensors or model.state_dict().__getitem__
        settings = model.settings
        self.trunk = PackedTrunk.of(model.trunk.shape, lambda name: get(f"trunk.{name}"), precision)
        self.tables = [numbers(get(f"tables.{level}.weight")) for level in range(settings.levels)]
        drawn = range(settings.levels - settings.first_sampled_level)
        heads = torch.cat([get(f"heads.{level}.weight") for level in drawn])
        self.heads = packed(heads, precision)

    @property
    def bytes_a_step(self) -> int:
        """Bytes of weights that every step reads."""
        return self.trunk.bytes_a_step + self.heads.bytes

    def open(self, requests: Requests) -> NativeDecoding:
        """Begins a session."""
        return NativeDecoding(self, requests)


class NativeDecoding:
    """Requests under way on the processor."""

    def __init__(self, engine: NativeEngine, requests: Requests) -> None:
        model, told = engine.model, requests.inputs
        pattern = model.pattern
        self._engine, self._requests = engine, requests
        count = len(requests.frames)
        slots = count * requests.branches
        steps = pattern.steps(max(requests.frames))
        before = max(requests.before_lengths)
        places = before + steps
        window = min(model.window_steps + before, places)
        longest = 0 if told.text is None else told.text.states.shape[1]
        self._past = KVCache(engine.trunk, slots, min(window + READ_ROWS, places), longest)
        if told.text is not None:
            cache_text_kv(
                engine.trunk, self._past, told.text.states, told.text.lengths, engine.threads
            )
        self._window = window
        shape = engine.trunk.shape
        if shape.positions == "rotary":
            turns = rotary_angles(torch.arange(places), shape.width // shape.heads)
            self._angles, self._places = numbers(torch.cat(turns, dim=-1)), None
        else:
            self._angles = None
            self._places = numbers(sinusoids(torch.arange(places), shape.width))
        self._modulations = None
        if told.whole is not None:
            parts = model.trunk.modulations(told.whole)
            self._modulations = [
                numbers(torch.cat(part, dim=-1)[:, 0]) for part in parts if part is not None
            ]
        self._frames = None if told.frames is None else numbers(told.frames)
        self._desk = self._set_desk(steps)
        self._rows = slots
        self._read_in()
        self._program = self._steps_program()

    def _set_desk(self, steps: int) -> BatchState:
        model, requests = self._engine.model, self._requests
        pattern, drawing = model.pattern, requests.drawing
        desk = BatchState(
            len(requests.frames),
            requests.branches,
            pattern.offsets,
            pattern.stride,
            model.settings.vocabulary,
            steps,
            1 if drawing.temperature == 0 else NOISE_STEPS,
            placed=self._places is not None,
        )
        desk.frames[:] = requests.frames
        desk.known[:], desk.step[:] = requests.known, requests.known * pattern.stride
        desk.before[:] = requests.before_lengths
        desk.temperature[:], desk.guidance[:] = drawing.temperature, drawing.guidance
        desk.top_k[:], desk.top_p[:] = drawing.top_k or 0, drawing.top_p or 1.0
        desk.frame_base[:] = -1
        if self._frames is not None:
            desk.frame_base[:] = np.arange(len(desk.frame_base)) * self._frames.shape[1]
        if requests.prefix is not None:
            spread = pattern.apply(requests.prefix.cpu(), model.blank)
            desk.grid[:, :, : spread.shape[2]] = spread.numpy()
        return desk

    def _extra(self, table: np.ndarray | None) -> np.ndarray:
        """Rows of an extra table of the embedding; an unused one needs a place, too."""
        if table is None:
            return aligned_zeros((1, self._engine.trunk.shape.width), np.float32)
        return table.reshape(-1, table.shape[-1])

    def _add_layers(self, program: Program, hidden: np.ndarray) -> np.ndarray:
        return add_trunk(
            program,
            self._engine.trunk,
            self._past,
            hidden,
            window=self._window,
            angles=self._angles,
            modulations=self._modulations,
        )

    def _steps_program(self) -> Program:
        """Tokens in, tokens out."""
        engine, desk = self._engine, self._desk
        program = Program(self._rows, engine.threads, distinct=True)
        hidden = program.scratch((self._rows, engine.trunk.shape.width))
        program.begin_step(desk)
        program.embed(
            engine.tables,
            desk.tokens,
            (self._extra(self._frames), self._extra(self._places)),
            (desk.frame_index, desk.place_index),
            hidden,
        )
        out = self._add_layers(program, hidden)
        program.multiply(engine.heads, out, desk.logits, add=False)
        program.sample(desk)
        return program

    def _read_in(self) -> None:
        """What stands before the pieces, and the tokens that are given, many places at a time."""
        requests, desk, model = self._requests, self._desk, self._engine.model
        branches, rows = requests.branches, []
        for request, first in enumerate(requests.before_lengths):
            given = requests.known * model.pattern.stride
            for slot in range(request * branches, (request + 1) * branches):
                rows += [(place, slot, -1) for place in range(first)]
                rows += [(first + step, slot, step) for step in range(given)]
        if not rows:
            return
        rows.sort()
        program = Program(READ_ROWS, self._engine.threads)
        width, levels = self._engine.trunk.shape.width, model.settings.levels
        tokens = aligned_zeros((READ_ROWS, levels), np.int64)
        extra, place_index = (aligned_zeros((READ_ROWS,), np.int64) for _ in range(2))
        before = requests.inputs.before
        tables = [self._extra(self._frames)]
        if before is not None:
            tables.append(numbers(before).reshape(-1, width))
        joined = np.ascontiguousarray(np.concatenate(tables))
        hidden = program.scratch((READ_ROWS, width))
        program.embed(
            self._engine.tables,
            tokens,
            (joined, self._extra(self._places)),
            (extra, place_index),
            hidden,
        )
        self._add_layers(program, hidden)
        for start in range(0, len(rows), READ_ROWS):
            part = rows[start : start + READ_ROWS]
            for number, (place, slot, step) in enumerate(part):
                program.slots[number], program.positions[number] = slot, place
                program.angle_index[number] = place
                place_index[number] = place if self._places is not None else -1
                if step < 0:
                    assert before is not None
                    tokens[number] = -1
                    extra[number] = len(tables[0]) + slot * before.shape[1] + place
                    continue
                request = slot // branches
                tokens[number] = desk.grid[request, :, step - 1] if step else model.blank
                base, frame = desk.frame_base[slot], model.pattern.newest_frame(step)
                last = requests.frames[request] - 1
                extra[number] = -1 if base < 0 else base + min(frame, last)
            program.run(len(part))

    def set_noise(self, noise: Tensor) -> None:
        """Noise of the steps that follow."""
        self._desk.noise[...] = noise.numpy()

    def keep(self, requests: Sequence[int]) -> None:
        """Only these requests go on."""
        self._rows = self._desk.keep(np.array(requests, np.int64))

    def advance(self, steps: int) -> None:
        """Draws so many steps."""
        self._program.run(self._rows, steps)

    def logits(self) -> Tensor:
        """Those of the last step, float32 [row, level * vocabulary]; shares memory likewise."""
        return torch.from_numpy(self._desk.logits)

    def grid(self) -> Tensor:
        """What is drawn so far; shares the session's memory."""
        return torch.from_numpy(self._desk.grid)
