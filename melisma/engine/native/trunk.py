"""A transformer trunk for the CPU engine: packed weights, KV cache, and its operations.

Input: the tensors of a `Trunk` by name. Output: `PackedTrunk`, and `add_trunk`, which appends a
step through all its layers to a `Program`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from melisma.engine.native.kv_cache import MAX_HEAD_SIZE, LayerCache, padded, to_cache_layout
from melisma.engine.native.packing import ArenaAllocator, Packed, aligned, pack, to_bfloat16
from melisma.engine.native.program import NormWeights, Program
from melisma.engine.native.quantization import MIN_LANES
from melisma.nn.transformer import NORM_EPSILON, TrunkShape

Tensors = Callable[[str], Tensor]
"""Returns a tensor by its name in the trunk's state dict."""


def _norm(tensors: Tensors, name: str, shape: TrunkShape) -> NormWeights:
    centred = shape.norm == "layer"
    return NormWeights(
        weight=to_float32(tensors(f"{name}.weight")),
        bias=to_float32(tensors(f"{name}.bias")) if centred else None,
        epsilon=NORM_EPSILON,
        centred=centred,
    )


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """Packed weights of one block."""

    attention_norm: NormWeights
    qkv_proj: Packed
    out_proj: Packed
    cross_norm: NormWeights | None
    cross_q_proj: Packed | None
    cross_kv_proj: Packed | None
    cross_out_proj: Packed | None
    feed_forward_norm: NormWeights
    up_proj: Packed
    down_proj: Packed


def to_float32(tensor: Tensor) -> np.ndarray:
    """A tensor as an aligned float32 array."""
    return aligned(tensor.detach().to("cpu", torch.float32).numpy())


def pack_tensor(tensor: Tensor, precision: str, arena: ArenaAllocator | None = None) -> Packed:
    """Packs a matrix [output, input], see `packing.pack`."""
    matrix = tensor.detach().to("cpu", torch.float32).numpy()
    return pack(matrix, precision, arena=arena)


@dataclass(frozen=True, kw_only=True)
class PackedTrunk:
    """All layers of a trunk in one precision."""

    shape: TrunkShape
    precision: str
    layers: tuple[_Layer, ...]
    norm: NormWeights

    @classmethod
    def of(cls, shape: TrunkShape, tensors: Tensors, precision: str) -> PackedTrunk:
        """Packs a trunk layer by layer, so that a large model is never in memory twice.

        Args:
            shape: Its sizes.
            tensors: Its state.
            precision: One of `packing.PRECISIONS`.
        """
        layers, arena = [], ArenaAllocator()
        for index in range(shape.layers):
            at = f"layers.{index}."

            def matrix(name: str, at: str = at) -> Packed:
                return pack_tensor(tensors(f"{at}{name}.weight"), precision, arena)

            text = shape.text
            layers.append(
                _Layer(
                    attention_norm=_norm(tensors, at + "attention_norm", shape),
                    qkv_proj=matrix("attention.qkv_proj"),
                    out_proj=matrix("attention.out_proj"),
                    cross_norm=_norm(tensors, at + "cross_attention_norm", shape) if text else None,
                    cross_q_proj=matrix("cross_attention.q_proj") if text else None,
                    cross_kv_proj=matrix("cross_attention.kv_proj") if text else None,
                    cross_out_proj=matrix("cross_attention.out_proj") if text else None,
                    feed_forward_norm=_norm(tensors, at + "feed_forward_norm", shape),
                    up_proj=matrix("up_proj"),
                    down_proj=matrix("down_proj"),
                )
            )
        return cls(
            shape=shape,
            precision=precision,
            layers=tuple(layers),
            norm=_norm(tensors, "norm", shape),
        )

    @property
    def bytes_per_step(self) -> int:
        """Bytes of weights that a step reads, independent of the batch size."""
        names = ("qkv_proj", "out_proj", "cross_q_proj", "cross_out_proj", "up_proj", "down_proj")
        matrices = (getattr(layer, name) for layer in self.layers for name in names)
        return sum(matrix.bytes for matrix in matrices if matrix is not None)

    @property
    def cache_dtype(self) -> type:
        """Type of cached keys and values: as precise as the weights, but at least 8 bits; uint16
        stands for bfloat16."""
        return {"float32": np.float32, "bfloat16": np.uint16}.get(self.precision, np.int8)


class KVCache:
    """Keys and values of a batch of sequences in every layer, and of the texts they attend to."""

    def __init__(
        self, trunk: PackedTrunk, sequences: int, capacity: int, longest_text: int = 0
    ) -> None:
        """Allocates an empty cache.

        Args:
            trunk: The model, whose precision decides the type of keys and values.
            sequences: Number of sequences.
            capacity: Positions of each ring buffer; a longer sequence overwrites its oldest ones.
            longest_text: Tokens of the longest text; 0 for none.
        """
        shape, dtype = trunk.shape, trunk.cache_dtype
        size, arena = padded(shape.width // shape.heads), ArenaAllocator()

        def allocated(positions: int, dtype: type) -> LayerCache:
            dims = (sequences, shape.heads, padded(positions))
            keys, values = (arena.zeros((*dims, size), dtype) for _ in range(2))
            if dtype != np.int8:
                return LayerCache(keys=keys, values=values)
            key_scales, value_scales = (arena.zeros(dims, np.float32) for _ in range(2))
            return LayerCache(
                keys=keys, values=values, key_scales=key_scales, value_scales=value_scales
            )

        self.sequences, self.capacity = sequences, capacity
        # Quantization kernels need multiples of 8 numbers, and integer sums must not overflow.
        divisible = shape.width // shape.heads % MIN_LANES == 0
        if dtype == np.int8 and (size > MAX_HEAD_SIZE or not divisible):
            dtype = np.uint16
        self.layers = [allocated(capacity, dtype) for _ in range(shape.layers)]
        # Texts are short: they stay bfloat16.
        text_dtype = np.float32 if dtype == np.float32 else np.uint16
        count = shape.layers if shape.text and longest_text else 0
        self.texts = [allocated(longest_text, text_dtype) for _ in range(count)]
        self.text_lengths = np.zeros(sequences, np.int64)


def cache_text_kv(
    trunk: PackedTrunk, cache: KVCache, texts: Tensor, lengths: Tensor, threads: int
) -> None:
    """Computes the keys and values of texts once, for all steps that follow.

    Args:
        trunk: The model.
        cache: Written: `texts` and `text_lengths`.
        texts: Encoder states float32 [sequence, token, width].
        lengths: int64 [sequence], tokens of each text; 0 for none.
        threads: Threads to compute with.
    """
    sequences, longest, width = texts.shape
    cache.text_lengths[:] = lengths.numpy()
    if not cache.texts:
        return
    heads = trunk.shape.heads
    x = to_float32(texts.reshape(sequences * longest, width))
    for layer, text in zip(trunk.layers, cache.texts, strict=True):
        assert layer.cross_kv_proj is not None
        program = Program(len(x), threads)
        out = program.scratch((len(x), 2 * width))
        program.multiply(layer.cross_kv_proj, x, out, add=False)
        program.run(len(x))
        kv = torch.from_numpy(out).view(sequences, longest, 2, heads, -1).permute(2, 0, 3, 1, 4)
        for target, computed in zip((text.keys, text.values), kv, strict=True):
            vectors = computed.numpy()
            if target.dtype != np.float32:
                vectors = to_bfloat16(vectors)
            target[...] = to_cache_layout(vectors, keys=target is text.keys)


def add_trunk(
    program: Program,
    trunk: PackedTrunk,
    cache: KVCache,
    hidden: np.ndarray,
    *,
    window: int,
    angles: np.ndarray | None,
    modulations: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Appends a step through all layers to a program.

    Args:
        program: What to append to.
        trunk: The model.
        cache: KV cache of the sequences.
        hidden: Input float32 [row, width], overwritten.
        window: Most positions that attention looks back over.
        angles: Rotary angles float32 [position, 2 * head size], cosines, then sines; None for a
            trunk without.
        modulations: For each layer float32 [sequence, 4 * width]; None for none.

    Returns:
        The array to which the final norm is written, float32 [row, width].
    """
    shape = trunk.shape
    rows, width = hidden.shape
    gated = shape.feed_forward == "swiglu"
    normed, mixed = program.scratch((rows, width)), program.scratch((rows, width))
    qkv = program.scratch((rows, 3 * width))
    up = program.scratch((rows, shape.hidden_width * (2 if gated else 1)))
    activated = program.scratch((rows, shape.hidden_width))

    for index, layer in enumerate(trunk.layers):
        modulation = None if modulations is None else modulations[index]
        # Self-attention.
        norm = replace(layer.attention_norm, modulation=modulation)
        program.multiply(layer.qkv_proj, hidden, qkv, add=False, norm=norm)
        program.attend(qkv, cache.layers[index], window, angles, mixed)
        program.multiply(layer.out_proj, mixed, hidden, add=True)
        # Cross-attention to the text.
        if cache.texts and layer.cross_norm and layer.cross_q_proj and layer.cross_out_proj:
            program.multiply(layer.cross_q_proj, hidden, mixed, add=False, norm=layer.cross_norm)
            program.attend_text(mixed, cache.texts[index], cache.text_lengths, normed)
            program.multiply(layer.cross_out_proj, normed, hidden, add=True)
        # Feed-forward part.
        norm = replace(layer.feed_forward_norm, modulation=modulation, modulation_offset=2)
        program.multiply(layer.up_proj, hidden, up, add=False, norm=norm)
        program.activate(up, activated, gated=gated)
        program.multiply(layer.down_proj, activated, hidden, add=True)
    program.normalise(trunk.norm, hidden, normed)
    return normed
