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
from melisma.engine.native.packing import Packed, Shelf, aligned, pack, to_bfloat16
from melisma.engine.native.program import Kept, Norm, Program
from melisma.engine.native.quantization import LEAST
from melisma.nn.transformer import NORM_EPSILON, TrunkShape

Tensors = Callable[[str], Tensor]
"""A tensor by its name in the trunk's state."""


def _norm(tensors: Tensors, name: str, shape: TrunkShape) -> Norm:
    centred = shape.norm == "layer"
    return Norm(
        weight=numbers(tensors(f"{name}.weight")),
        bias=numbers(tensors(f"{name}.bias")) if centred else None,
        epsilon=NORM_EPSILON,
        centred=centred,
    )


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One block, ready to be multiplied with."""

    attention_norm: Norm
    enter: Packed
    leave: Packed
    text_norm: Norm | None
    text_ask: Packed | None
    text_tell: Packed | None
    text_leave: Packed | None
    mix_norm: Norm
    mix_in: Packed
    mix_out: Packed


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor as an aligned float32 array."""
    return aligned(tensor.detach().to("cpu", torch.float32).numpy())


def packed(tensor: Tensor, precision: str, shelf: Shelf | None = None) -> Packed:
    """A matrix [output, input], packed."""
    matrix = tensor.detach().to("cpu", torch.float32).numpy()
    return pack(matrix, precision, shelf=shelf)


@dataclass(frozen=True, kw_only=True)
class PackedTrunk:
    """All layers of a trunk in one precision."""

    shape: TrunkShape
    precision: str
    layers: tuple[_Layer, ...]
    norm: Norm

    @classmethod
    def of(cls, shape: TrunkShape, tensors: Tensors, precision: str) -> PackedTrunk:
        """Packs layer by layer, so that a large model is never twice in memory."""
        layers, shelf = [], Shelf()
        for number in range(shape.layers):
            at = f"layers.{number}."

            def matrix(name: str, at: str = at) -> Packed:
                return packed(tensors(f"{at}{name}.weight"), precision, shelf)

            text = shape.text
            layers.append(
                _Layer(
                    attention_norm=_norm(tensors, at + "attention_norm", shape),
                    enter=matrix("attention.enter"),
                    leave=matrix("attention.leave"),
                    text_norm=_norm(tensors, at + "text_norm", shape) if text else None,
                    text_ask=matrix("text_attention.ask") if text else None,
                    text_tell=matrix("text_attention.tell") if text else None,
                    text_leave=matrix("text_attention.leave") if text else None,
                    mix_norm=_norm(tensors, at + "mix_norm", shape),
                    mix_in=matrix("mix_in"),
                    mix_out=matrix("mix_out"),
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
        names = ("enter", "leave", "text_ask", "text_leave", "mix_in", "mix_out")
        found = (getattr(layer, name) for layer in self.layers for name in names)
        return sum(one.bytes for one in found if one is not None)

    @property
    def past_kind(self) -> type:
        """What keys and values are kept as: as exactly as weights, but never in less than 8 bits;
        uint16 for bfloat16."""
        return {"float32": np.float32, "bfloat16": np.uint16}.get(self.precision, np.int8)


class Past:
    """Keys and values of a batch of sequences, every layer's, with the texts they attend to."""

    def __init__(self, trunk: PackedTrunk, slots: int, ring: int, longest_text: int = 0) -> None:
        """`slots` sequences of at most `ring` places (a longer one writes over its beginning)."""
        shape, kind = trunk.shape, trunk.past_kind
        size, shelf = filled(shape.width // shape.heads), Shelf()

        def kept(places: int, kind: type) -> Kept:
            dims = (slots, shape.heads, filled(places))
            keys, values = (shelf.zeros((*dims, size), kind) for _ in range(2))
            if kind != np.int8:
                return Kept(keys=keys, values=values)
            scales, others = (shelf.zeros(dims, np.float32) for _ in range(2))
            return Kept(keys=keys, values=values, key_scales=scales, value_scales=others)

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


def tell_texts(
    trunk: PackedTrunk, past: Past, texts: Tensor, lengths: Tensor, threads: int
) -> None:
    """Keys and values of texts float32 [slot, token, width] for all steps that follow."""
    slots, longest, width = texts.shape
    past.text_lengths[:] = lengths.numpy()
    if not past.texts:
        return
    heads = trunk.shape.heads
    x = numbers(texts.reshape(slots * longest, width))
    for layer, text in zip(trunk.layers, past.texts, strict=True):
        assert layer.text_tell is not None
        program = Program(len(x), threads)
        out = program.room((len(x), 2 * width))
        program.multiply(layer.text_tell, x, out, add=False)
        program.run(len(x))
        both = torch.from_numpy(out).view(slots, longest, 2, heads, -1).permute(2, 0, 3, 1, 4)
        for place, told in zip((text.keys, text.values), both, strict=True):
            numbers_told = told.numpy() if place.dtype == np.float32 else to_bfloat16(told.numpy())
            place[...] = arranged(numbers_told, keys=place is text.keys)


def add_trunk(
    program: Program,
    trunk: PackedTrunk,
    past: Past,
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
    normed, mixed = program.room((rows, width)), program.room((rows, width))
    joined = program.room((rows, 3 * width))
    wide = program.room((rows, shape.hidden_width * (2 if gated else 1)))
    acted = program.room((rows, shape.hidden_width))

    for number, layer in enumerate(trunk.layers):
        told = None if modulations is None else modulations[number]
        norm = replace(layer.attention_norm, told=told)
        program.multiply(layer.enter, hidden, joined, add=False, norm=norm)
        program.attend(joined, past.layers[number], window, angles, mixed)
        program.multiply(layer.leave, mixed, hidden, add=True)
        if past.texts and layer.text_norm and layer.text_ask and layer.text_leave:
            program.multiply(layer.text_ask, hidden, mixed, add=False, norm=layer.text_norm)
            program.attend_text(mixed, past.texts[number], past.text_lengths, normed)
            program.multiply(layer.text_leave, normed, hidden, add=True)
        norm = replace(layer.mix_norm, told=told, told_first=2)
        program.multiply(layer.mix_in, hidden, wide, add=False, norm=norm)
        program.activate(wide, acted, gated=gated)
        program.multiply(layer.mix_out, acted, hidden, add=True)
    program.normalise(trunk.norm, hidden, normed)
    return normed
