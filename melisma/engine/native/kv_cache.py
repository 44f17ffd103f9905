"""The inner loops of attention over a past, in vectors: products with keys, sums of values.

How the keys and values of one sequence and head lie in memory (`arranged` does it in numpy): heads
are filled up with zeros to a multiple of `BLOCK` numbers, and so are places; within them places
come in blocks of as many as a vector has lanes.

- Keys of a block: number by number, and of each the places side by side (of bytes, some numbers at
  a time). A vector of products with a block of places needs no sum across its lanes.
- Values as float32 or bfloat16: place after place. As bytes: some places at a time, and of each
  number their bytes side by side.

Bytes meet the query, and the weights of the places, as whole numbers of 16 bits. With VNNI these
come in two halves, four bytes lie together, and keys are stored with 128 added. Without, two bytes
lie together and are extended to 16 bits on the way, and a product of two such pairs has 32: so
sums over places are cut before they could overflow (`MAX_POSITIONS`), with VNNI too: every
instruction set sums alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from melisma.simd.instruction_set import InstructionSet
from melisma.simd.selection import selected
from melisma.simd.vectors import (
    FLOAT,
    I32,
    KernelBuilder,
    Variables,
    counted,
    intrinsic,
    kernel,
    number,
    offset,
)

# numba reads an intrinsic's arguments from its signature: they are named here and used in the code
# generator.
# ruff: noqa: ARG001

KINDS = ("float32", "bfloat16", "int8")
"""How a past may be kept; compiled code knows them by their numbers."""
BLOCK = 16
"""Places that are filled up to and attended to together, in every instruction set."""
MAX_POSITIONS = 512
"""Places whose weighted values are summed as integers: 32,767 * 127 * 512 < 2**31, and each half of
such a sum is a whole number that float32 holds exactly."""
MOST_NUMBERS = 512
"""Numbers of a head whose products with a query of 16 bits surely do: 32,639 * 127 * 512 < 2**31.
"""
_BYTES_EACH = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class KVLayout:
    """How bytes lie together."""

    together: int
    """Numbers of a key, or places of a value, side by side; a divisor of 16."""
    key_zero: int
    """What is added to keys, so that they have no sign."""


def kv_layout(isa: InstructionSet) -> KVLayout:
    """The layout of a past of bytes."""
    if isa.vnni:
        return KVLayout(together=4, key_zero=128)
    return KVLayout(together=2, key_zero=0)


def filled(count: int) -> int:
    """Places or numbers with those that fill up the last block."""
    return -(-count // BLOCK) * BLOCK


def arranged(vectors: np.ndarray, *, keys: bool) -> np.ndarray:
    """[..., place, number] -> the same numbers, filled up and in the order described above; for
    pasts of floats alone."""
    places, size = vectors.shape[-2:]
    room = [(0, 0)] * (vectors.ndim - 2) + [(0, filled(n) - n) for n in (places, size)]
    full = np.pad(vectors, room)
    if not keys:
        return full
    blocks = full.reshape(*full.shape[:-2], -1, selected().lanes, full.shape[-1])
    return np.ascontiguousarray(blocks.swapaxes(-1, -2)).reshape(full.shape)


def _floats(k: KernelBuilder, address: Any, kind: str) -> Any:
    """A vector of a past of floats."""
    if kind == "float32":
        return k.load(address, k.floats, 4)
    b = k.builder
    raw = b.zext(k.load(address, k.shorts, 2), k.ints)
    return b.bitcast(b.shl(raw, k.constant(k.ints, 16)), k.floats)


def _byte_pairs(k: KernelBuilder, address: Any) -> Any:
    """Two bytes with sign in each lane, as int16."""
    return k.builder.sext(k.load(address, k.byte_pairs, 2), k.short_pairs)


def _four_bytes(k: KernelBuilder, address: Any) -> Any:
    """The same four bytes in every lane, as int32."""
    return k.splat(k.load(address, I32, 1))


def _two_shorts(k: KernelBuilder, address: Any) -> Any:
    """The same two numbers of 16 bits in every lane, as int16."""
    return k.builder.bitcast(k.splat(k.load(address, I32, 1)), k.short_pairs)


def key_products(isa: InstructionSet, kind: str) -> Any:
    """numba function (query, keys, size, blocks, out): products of a query float32 [size] with the
    keys of `blocks` blocks into float32 [block, lane]. All arguments of the functions here are
    int64, of arrays their addresses."""
    together = 4  # sums that do not wait for each other

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        totals = Variables(b, together, k.floats)
        step = _BYTES_EACH[kind] * k.lanes
        with counted(b, args["blocks"]) as block:
            totals.fill(k.constant(k.floats, 0.0))
            keys = b.add(args["keys"], b.mul(block, b.mul(args["size"], number(step))))
            with counted(b, b.sdiv(args["size"], number(together))) as some:
                at = b.add(keys, b.mul(some, number(step * together)))
                asked = b.add(args["query"], b.mul(some, number(4 * together)))
                for i in range(together):
                    one = k.splat(k.load(offset(b, asked, 4 * i), FLOAT, 4))
                    key = _floats(k, offset(b, at, step * i), kind)
                    totals[i] = k.fma(key, one, totals[i])
            found = b.fadd(b.fadd(totals[0], totals[1]), b.fadd(totals[2], totals[3]))
            k.store(found, b.add(args["out"], b.mul(block, number(4 * k.lanes))), 4)

    told = kernel(isa, f"{kind}_keys", ("query", "keys", "size", "blocks", "out"), generate)

    @intrinsic
    def products(_typing: Any, query: Any, keys: Any, size: Any, blocks: Any, out: Any) -> Any:
        return told

    return products


def key_products_of_bytes(isa: InstructionSet) -> Any:
    """numba function (query, high_start, low_start, keys, scales, size, blocks, out): the same for
    a past of bytes with a scale float32 for each place. `query`: 16 bits a number, with VNNI int8
    [half, size] (the higher first), of which the starts are -128 times the sums."""

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        together = kv_layout(isa).together
        totals = Variables(b, 2, k.ints)
        starts = [k.splat(b.trunc(args[f"{one}_start"], I32)) for one in ("high", "low")]
        halves = (args["query"], b.add(args["query"], args["size"]))
        with counted(b, args["blocks"]) as block:
            keys = b.add(args["keys"], b.mul(block, b.mul(args["size"], number(k.lanes))))
            for i in range(2):
                totals[i] = starts[i] if isa.vnni else k.constant(k.ints, 0)
            with counted(b, b.sdiv(args["size"], number(4))) as four:
                at = b.add(keys, b.mul(four, number(4 * k.lanes)))
                for i in range(2):
                    if isa.vnni:
                        key = k.load(at, k.ints, 4)
                        asked = _four_bytes(k, b.add(halves[i], b.mul(four, number(4))))
                        totals[i] = k.dot_bytes(totals[i], key, asked)
                    else:
                        key = _byte_pairs(k, offset(b, at, together * k.lanes * i))
                        asked = offset(b, b.add(args["query"], b.mul(four, number(8))), 4 * i)
                        totals[i] = k.dot_shorts(totals[i], key, _two_shorts(k, asked))
            place = b.mul(block, number(4 * k.lanes))
            scale = k.load(b.add(args["scales"], place), k.floats, 4)
            if isa.vnni:
                found = _joined(k, totals[0], totals[1])
            else:
                found = b.sitofp(b.add(totals[0], totals[1]), k.floats)
            k.store(b.fmul(found, scale), b.add(args["out"], place), 4)

    names = ("query", "high_start", "low_start", "keys", "scales", "size", "blocks", "out")
    told = kernel(isa, "int8_keys", names, generate)

    @intrinsic
    def products(
        _typing: Any, query: Any, high_start: Any, low_start: Any, keys: Any, scales: Any,
        size: Any, blocks: Any, out: Any,
    ) -> Any:  # fmt: skip
        return told

    return products


def value_sums(isa: InstructionSet, kind: str, vectors: int) -> Any:
    """numba function (weights, values, stride, places, out): out float32 [vectors * lanes] += the
    sum of the values of `places` places, `stride` bytes apart, by their weights float32."""

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        ends = [offset(b, args["out"], 4 * k.lanes * v) for v in range(vectors)]
        totals = Variables(b, vectors, k.floats)
        for v, end in enumerate(ends):
            totals[v] = k.load(end, k.floats, 4)
        with counted(b, args["places"]) as place:
            many = k.splat(k.load(b.add(args["weights"], b.mul(place, number(4))), FLOAT, 4))
            at = b.add(args["values"], b.mul(place, args["stride"]))
            for v in range(vectors):
                value = _floats(k, offset(b, at, _BYTES_EACH[kind] * k.lanes * v), kind)
                totals[v] = k.fma(value, many, totals[v])
        for v, end in enumerate(ends):
            k.store(totals[v], end, 4)

    names = ("weights", "values", "stride", "places", "out")
    told = kernel(isa, f"{kind}_values_{vectors}", names, generate)

    @intrinsic
    def sums(_typing: Any, weights: Any, values: Any, stride: Any, places: Any, out: Any) -> Any:
        return told

    return sums


def value_sums_of_bytes(isa: InstructionSet, vectors: int) -> Any:
    """numba function (weights, behind, values, stride, steps, out): the same for a past of bytes,
    whose places come some at a time, `stride` bytes apart. `weights`: 16 bits a place, from 0 to
    32,767; with VNNI the upper halves, uint8 [place], and the lower ones `behind` bytes on. At most
    `MAX_POSITIONS`."""

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        halves = 2 if isa.vnni else 1
        totals = Variables(b, halves * vectors, k.ints)
        totals.fill(k.constant(k.ints, 0))
        with counted(b, args["steps"]) as step:
            weight = b.add(args["weights"], b.mul(step, number(4)))
            at = b.add(args["values"], b.mul(step, args["stride"]))
            if isa.vnni:
                parts = [_four_bytes(k, one) for one in (weight, b.add(weight, args["behind"]))]
            else:
                parts = [_two_shorts(k, weight)]
            for v in range(vectors):
                for i, part in enumerate(parts):
                    index = halves * v + i
                    if isa.vnni:
                        value = k.load(offset(b, at, 4 * k.lanes * v), k.ints, 4)
                        totals[index] = k.dot_bytes(totals[index], part, value)
                    else:
                        value = _byte_pairs(k, offset(b, at, 2 * k.lanes * v))
                        totals[index] = k.dot_shorts(totals[index], value, part)
        for v in range(vectors):
            end = offset(b, args["out"], 4 * k.lanes * v)
            if isa.vnni:
                found = _joined(k, totals[2 * v], totals[2 * v + 1])
            else:
                found = b.sitofp(totals[v], k.floats)
            k.store(b.fadd(k.load(end, k.floats, 4), found), end, 4)

    names = ("weights", "behind", "values", "stride", "steps", "out")
    told = kernel(isa, f"int8_values_{vectors}", names, generate)

    @intrinsic
    def sums(
        _typing: Any, weights: Any, behind: Any, values: Any, stride: Any, steps: Any, out: Any
    ) -> Any:
        return told

    return sums


def _joined(k: KernelBuilder, high: Any, low: Any) -> Any:
    """256 * high + low as floats."""
    b = k.builder
    return k.fma(b.sitofp(high, k.floats), k.constant(k.floats, 256.0), b.sitofp(low, k.floats))
