"""GPU engine: a step of fixed shapes on fixed memory, captured once as a CUDA graph and replayed.

A step launches a few hundred small kernels, and launching them costs more than running them. A CUDA
graph launches all at once (MusicGen, transformers and vLLM lose most of their time there). To be
captured, a step reads its position from memory, writes every token by index, and attends to the
whole ring buffer of the KV cache under a mask. On a processor the same step runs without a graph,
which is how it is tested where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from melisma.engine.cpu import Requests
from melisma.engine.limits import NOISE_STEPS
from melisma.engine.sampling import sample_next_token
from melisma.lm.model import TokenModel
from melisma.nn.precision import compute_dtype
from melisma.nn.transformer import (
    Block,
    apply_rotary,
    modulate,
    rotary_angles,
    sinusoidal_embedding,
)
from melisma.values.errors import MelismaError

WARM_STEPS = 3
"""Steps that run before one is captured (PyTorch's rule for capture)."""


class CUDAGraphEngine:
    """A stage on any device of torch."""

    def __init__(self, model: TokenModel, *, device: str = "cuda", half: bool = True) -> None:
        """
        Args:
            model: The stage.
            device: As torch names it.
            half: Weights and KV cache in bfloat16, where the device has that.

        Raises:
            MelismaError: The stage is not causal.
        """
        if not model.settings.causal:
            raise MelismaError("a stage that is not causal cannot be sampled step by step")
        self.device = device
        self.kind = compute_dtype(device).dtype if half else torch.float32
        self.model = model.eval().to(device)
        self.model.trunk.to(self.kind)
        self.tables = torch.stack([table.weight for table in model.tables]).to(self.kind)  # type: ignore[arg-type]
        self.heads = torch.cat([head.weight for head in model.heads]).to(self.kind)  # type: ignore[arg-type]

    def open(self, requests: Requests) -> GraphDecoding:
        """Starts decoding; prefixes are read in step by step (prefill)."""
        return GraphDecoding(self, requests)


class GraphDecoding:
    """A batch of requests that is being decoded: every tensor keeps its address."""

    def __init__(self, engine: CUDAGraphEngine, requests: Requests) -> None:
        model, inputs, device = engine.model, requests.inputs, engine.device
        self._engine, self._requests = engine, requests
        count, branches = len(requests.frames), requests.branches
        self._rows, self._levels = count * branches, model.settings.levels
        pattern, shape = model.pattern, model.trunk.shape
        steps = pattern.steps(max(requests.frames))
        self._first = max(requests.before_lengths)
        self._window = min(model.window_steps + self._first, self._first + steps)
        if len(set(requests.before_lengths)) > 1:
            raise MelismaError(
                "texts before pieces have one length on this engine: generate one by one"
            )
        cache = (shape.layers, self._rows, shape.heads, self._window, shape.width // shape.heads)
        self._keys = torch.zeros(cache, dtype=engine.kind, device=device)
        self._values = torch.zeros_like(self._keys)
        positions = torch.arange(self._first + steps, device=device, dtype=torch.long)
        self._angles = rotary_angles(positions, cache[-1])
        self._sinusoids = sinusoidal_embedding(positions, shape.width).to(engine.kind)
        self._modulations = model.trunk.modulations(
            None if inputs.whole is None else inputs.whole.to(engine.kind)
        )
        self._texts = self._text_kv()
        self._position = torch.zeros((), dtype=torch.long, device=device)
        self._grid = torch.full(
            (count, self._levels, steps), model.blank, dtype=torch.long, device=device
        )
        self._noise = torch.ones(
            (count, NOISE_STEPS, self._levels, model.settings.vocabulary),
            device=device,
            dtype=torch.float32,
        )
        self._offsets = torch.tensor(pattern.offsets, device=device, dtype=torch.long)
        self._frames = torch.tensor(list(requests.frames), device=device, dtype=torch.long)
        if requests.prefix is not None:
            steps_of_prefix = pattern.apply(requests.prefix.to(device), model.blank)
            self._grid[:, :, : steps_of_prefix.shape[2]] = steps_of_prefix
        self._graph: torch.cuda.CUDAGraph | None = None
        self._read_in()

    def _text_kv(self) -> list[tuple[Tensor, Tensor]] | None:
        """Keys and values of the texts, for each layer."""
        text = self._requests.inputs.text
        if text is None:
            return None
        states = text.states.to(self._engine.kind)
        heads, found = self._engine.model.trunk.shape.heads, []
        for block in self._engine.model.trunk.blocks:
            projected = block.cross_attention.kv_proj(states).unflatten(-1, (2, heads, -1))
            key, value = projected.permute(2, 0, 3, 1, 4)
            found.append((key.contiguous(), value.contiguous()))
        return found

    def _read_in(self) -> None:
        before = self._requests.inputs.before
        for position in range(self._first):
            assert before is not None
            self._layers(before[:, position : position + 1].to(self._engine.kind))
            self._position += 1
        for _ in range(self._requests.known * self._engine.model.pattern.stride):
            self._layers(self._embedded())
            self._position += 1

    def _embedded(self) -> Tensor:
        """Input of this step, [row, 1, width]."""
        model, inputs = self._engine.model, self._requests.inputs
        step = self._position - self._first
        before = self._grid.index_select(2, (step - 1).clamp(min=0)[None])[..., 0]
        before = torch.where(step > 0, before, model.blank)
        before = before.repeat_interleave(self._requests.branches, dim=0)
        level = torch.arange(self._levels, device=before.device, dtype=torch.long)
        hidden = self._engine.tables[level, before].sum(dim=1, keepdim=True)
        if inputs.frames is not None:
            frame = (step // model.pattern.stride).clamp(max=inputs.frames.shape[1] - 1)
            last = self._frames.repeat_interleave(self._requests.branches) - 1
            index = torch.minimum(frame, last)
            rows = torch.arange(self._rows, device=before.device, dtype=torch.long)
            hidden = hidden + inputs.frames[rows, index][:, None].to(hidden.dtype)
        return hidden

    def _layers(self, hidden: Tensor) -> Tensor:
        """All layers at the present position: [row, 1, width] -> the same."""
        shape = self._engine.model.trunk.shape
        position = self._position[None]
        angles = None
        if shape.positions == "sinusoidal":
            hidden = hidden + self._sinusoids.index_select(0, position)
        else:
            cosine, sine = self._angles
            angles = cosine.index_select(0, position), sine.index_select(0, position)
        # A position counts if it lies within the window: all, once the ring buffer is full.
        indices = torch.arange(self._window, device=hidden.device, dtype=torch.long)
        seen = (self._position - indices) % self._window <= self._position
        for number, block in enumerate(self._engine.model.trunk.blocks):
            hidden = self._block(number, block, hidden, angles, seen)
        return self._engine.model.trunk.norm(hidden)

    def _block(
        self,
        number: int,
        block: Block,
        hidden: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        seen: Tensor,
    ) -> Tensor:
        modulation = self._modulations[number]
        normed = modulate(block.attention_norm(hidden), modulation, 0)
        parts = block.attention.qkv_proj(normed).unflatten(-1, (3, block.attention.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        if angles is not None:
            query, key = apply_rotary(query, *angles), apply_rotary(key, *angles)
        cache_index = (self._position % self._window)[None]
        self._keys[number].index_copy_(2, cache_index, key)
        self._values[number].index_copy_(2, cache_index, value)
        mixed = F.scaled_dot_product_attention(
            query, self._keys[number], self._values[number], attn_mask=seen[None, None, None]
        )
        hidden = hidden + block.attention.out_proj(mixed.transpose(1, 2).flatten(2))
        text = self._requests.inputs.text
        if self._texts is not None and text is not None:
            query = block.cross_attention.q_proj(block.cross_attention_norm(hidden))
            query = query.unflatten(-1, (block.attention.heads, -1)).transpose(1, 2)
            some = (text.lengths > 0)[:, None, None]
            mask = text.present | ~some[:, 0]
            mixed = F.scaled_dot_product_attention(
                query, *self._texts[number], attn_mask=mask[:, None, None]
            )
            mixed = mixed.transpose(1, 2).flatten(2) * some
            hidden = hidden + block.cross_attention.out_proj(mixed)
        return hidden + block.feed_forward(modulate(block.feed_forward_norm(hidden), modulation, 2))

    def _step(self) -> None:
        """One step, from the grid into the grid; nothing is copied from the device."""
        model, requests = self._engine.model, self._requests
        sampling, step = requests.sampling, self._position - self._first
        hidden = self._layers(self._embedded())
        logits = (hidden[:, 0] @ self._engine.heads.T).float()
        logits = logits.unflatten(0, (-1, requests.branches))
        guided = logits[:, 0]
        if requests.branches == 2:
            guided = logits[:, 1] + sampling.guidance * (logits[:, 0] - logits[:, 1])
        guided = guided.unflatten(-1, (self._levels, -1))
        noise = self._noise.index_select(1, (step % NOISE_STEPS)[None])[:, 0]
        sampled = sample_next_token(guided, noise, sampling)
        distance = step - self._offsets
        frame = torch.div(distance, model.pattern.stride, rounding_mode="floor")
        wanted = (distance >= 0) & (distance % model.pattern.stride == 0)
        wanted = wanted & (frame >= requests.known) & (frame < self._frames[:, None])
        old = self._grid.index_select(2, step[None])[..., 0]
        self._grid.index_copy_(2, step[None], torch.where(wanted, sampled, old)[..., None])
        self._position += 1

    def set_noise(self, noise: Tensor) -> None:
        """Noise of the steps that follow."""
        self._noise.copy_(noise)

    def keep(self, requests: Sequence[int]) -> None:
        """All continue to the end of the longest: what is sampled beyond a piece's end is
        ignored."""

    @torch.inference_mode()
    def advance(self, steps: int) -> None:
        """Samples this many steps; after the first few the captured graph is replayed."""
        if not self._engine.device.startswith("cuda"):
            for _ in range(steps):
                self._step()
            return
        while steps and self._graph is None:
            if int(self._position) - self._first < self._requests.known + WARM_STEPS:
                self._step()
                steps -= 1
            else:
                self._capture()
        for _ in range(steps):
            assert self._graph is not None
            self._graph.replay()

    def _capture(self) -> None:
        """Captures a step; capturing runs nothing, so the position stays where it was."""
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()

    def grid(self) -> Tensor:
        """What is sampled so far."""
        return self._grid.cpu()
