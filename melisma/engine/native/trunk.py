"""A `Trunk` as a program: packed weights that are made once, and a desk of work for each drawing.

Enters: a trunk's tensors by name. Leaves: `PackedTrunk`, and `add_trunk`, which appends a step of
all its layers to a program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from melisma.engine.native.kv_cache import MOST_NUMBERS, arranged, filled
from melisma.engine.native.packing import ArenaAllocator, Packed, aligned, pack, to_bfloat16
from melisma.engine.native.program import LayerCache, NormWeights, Program
from melisma.engine.native.quantization import LEAST
from melisma.nn.transformer import NORM_EPSILON, TrunkShape

Tensors = Callable[[str], Tensor]
"""A tensor by its name in the trunk's state."""


def _norm(tensors: Tensors, name: str, shape: TrunkShape) -> NormWeights:
    centred = shape.norm == "layer"
    return NormWeights(
        weight=numbers(tensors(f"{name}.weight")),
        bias=numbers(tensors(f"{name}.bias")) if centred else None,
        epsilon=NORM_EPSILON,
        centred=centred,
    )


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One block, ready to be multiplied with."""

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


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor as an aligned float32 array."""
    return aligned(tensor.detach().to("cpu", torch.float32).numpy())


def packed(tensor: Tensor, precision: str, shelf: ArenaAllocator | None = None) -> Packed:
    """A matrix [output, input], packed."""
    matrix = tensor.detach().to("cpu", torch.float32).numpy()
    return pack(matrix, precision, shelf=shelf)


@dataclass(frozen=True, kw_only=True)
class PackedTrunk:
    """All layers of a trunk in one precision."""

    shape: TrunkShape
    precision: str
    layers: tuple[_Layer, ...]
    norm: NormWeights

    @classmethod
    def of(cls, shape: TrunkShape, tensors: Tensors, precision: str) -> PackedTrunk:
        """Packs layer by layer, so that a large model is never twice in memory."""
        layers, shelf = [], ArenaAllocator()
        for number in range(shape.layers):
            at = f"layers.{number}."

            def matrix(name: str, at: str = at) -> Packed:
                return packed(tensors(f"{at}{name}.weight"), precision, shelf)

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
    def bytes_a_step(self) -> int:
        """Bytes of weights that a step reads, whatever the batch."""
        names = ("qkv_proj", "out_proj", "cross_q_proj", "cross_out_proj", "up_proj", "down_proj")
        found = (getattr(layer, name) for layer in self.layers for name in names)
        return sum(one.bytes for one in found if one is not None)

    @property
    def cache_dtype(self) -> type:
        """What keys and values are kept as: as exactly as weights, but never in less than 8 bits;
        uint16 for bfloat16."""
        return {"float32": np.float32, "bfloat16": np.uint16}.get(self.precision, np.int8)


class KVCache:
    """Keys and values of a batch of sequences, every layer's, with the texts they attend to."""

    def __init__(self, trunk: PackedTrunk, slots: int, ring: int, longest_text: int = 0) -> None:
        """`slots` sequences of at most `ring` places (a longer one writes over its beginning)."""
        shape, kind = trunk.shape, trunk.cache_dtype
        size, shelf = filled(shape.width // shape.heads), ArenaAllocator()

        def kept(places: int, kind: type) -> LayerCache:
            dims = (slots, shape.heads, filled(places))
            keys, values = (shelf.zeros((*dims, size), kind) for _ in range(2))
            if kind != np.int8:
                return LayerCache(keys=keys, values=values)
            scales, others = (shelf.zeros(dims, np.float32) for _ in range(2))
            return LayerCache(keys=keys, values=values, key_scales=scales, value_scales=others)

        self.slots, self.ring = slots, ring
        whole = shape.width // shape.heads % LEAST == 0
        if kind == np.int8 and (size > MOST_NUMBERS or not whole):
            kind = np.uint16
        self.layers = [kept(ring, kind) for _ in range(shape.layers)]
        # Texts are short: they stay bfloat16.
        told = np.float32 if kind == np.float32 else np.uint16
        some = shape.text and longest_text
        self.texts = [kept(longest_text, told) for _ in range(shape.layers)] if some else []
        self.text_lengths = np.zeros(slots, np.int64)


def cache_text_kv(
    trunk: PackedTrunk, past: KVCache, texts: Tensor, lengths: Tensor, threads: int
) -> None:
    """Keys and values of texts float32 [slot, token, width] for all steps that follow."""
    slots, longest, width = texts.shape
    past.text_lengths[:] = lengths.numpy()
    if not past.texts:
        return
    heads = trunk.shape.heads
    x = numbers(texts.reshape(slots * longest, width))
    for layer, text in zip(trunk.layers, past.texts, strict=True):
        assert layer.cross_kv_proj is not None
        program = Program(len(x), threads)
        out = program.scratch((len(x), 2 * width))
        program.multiply(layer.cross_kv_proj, x, out, add=False)
        program.run(len(x))
        both = torch.from_numpy(out).view(slots, longest, 2, heads, -1).permute(2, 0, 3, 1, 4)
        for place, told in zip((text.keys, text.values), both, strict=True):
            numbers_told = told.numpy() if place.dtype == np.float32 else to_bfloat16(told.numpy())
            place[...] = arranged(numbers_told, keys=place is text.keys)


def add_trunk(
    program: Program,
    trunk: PackedTrunk,
    past: KVCache,
    hidden: np.ndarray,
    *,
    window: int,
    angles: np.ndarray | None,
    modulations: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Appends a step of every layer on `hidden` float32 [row, width], which it writes over.

    `angles`: float32 [place, 2 * head width], cosines and sines; `modulations`: for each layer
    float32 [slot, 4 * width]. Returns the array of the last norm's output.
    """
    shape = trunk.shape
    rows, width = hidden.shape
    gated = shape.feed_forward == "swiglu"
    normed, mixed = program.scratch((rows, width)), program.scratch((rows, width))
    joined = program.scratch((rows, 3 * width))
    wide = program.scratch((rows, shape.hidden_width * (2 if gated else 1)))
    acted = program.scratch((rows, shape.hidden_width))

    for number, layer in enumerate(trunk.layers):
        told = None if modulations is None else modulations[number]
        norm = replace(layer.attention_norm, told=told)
        program.multiply(layer.qkv_proj, hidden, joined, add=False, norm=norm)
        program.attend(joined, past.layers[number], window, angles, mixed)
        program.multiply(layer.out_proj, mixed, hidden, add=True)
        if past.texts and layer.cross_norm and layer.cross_q_proj and layer.cross_out_proj:
            program.multiply(layer.cross_q_proj, hidden, mixed, add=False, norm=layer.cross_norm)
            program.attend_text(mixed, past.texts[number], past.text_lengths, normed)
            program.multiply(layer.cross_out_proj, normed, hidden, add=True)
        norm = replace(layer.feed_forward_norm, told=told, told_first=2)
        program.multiply(layer.up_proj, hidden, wide, add=False, norm=norm)
        program.activate(wide, acted, gated=gated)
        program.multiply(layer.down_proj, acted, hidden, add=True)
    program.normalise(trunk.norm, hidden, normed)
    return normed
