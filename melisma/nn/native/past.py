"""The inner loops of attention over a past, in vectors: products with keys, sums of values.

How the keys and values of one sequence and head lie in memory (`arranged` does it in numpy): heads
are filled up with zeros to a multiple of `LANES` numbers, and places come in blocks of `LANES`.

- Keys of a block: number by number, and of each the places side by side (of bytes, four numbers at
  a time). A vector of products with `LANES` places needs no sum across its lanes.
- Values as float32 or bfloat16: place after place. As bytes: four places at a time, and of each
  number their four bytes side by side.

Bytes meet the query, and the weights of the places, as numbers of 16 bits in two halves. Keys are
stored with 128 added, values with their sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from melisma.nn.native.vectors import (
    FLOAT,
    FLOATS,
    I32,
    INTS,
    LANES,
    SHORTS,
    Places,
    codegen_of,
    counted,
    dot4,
    fused,
    intrinsic,
    load,
    number,
    offset,
    same,
    spread,
    store,
)  # fmt: skip

# numba reads an intrinsic's arguments from its signature: they are named here and used in the code
# generator.
# ruff: noqa: ARG001

KINDS = ("float32", "bfloat16", "int8")
"""How a past may be kept; compiled code knows them by their numbers."""
MOST_PLACES = 60_000
"""Places whose weighted bytes surely fit into sums of 32 bits: 255 * 127 * places < 2**31."""
_BYTES_EACH = {"float32": 4, "bfloat16": 2}


def filled(count: int) -> int:
    """Places or numbers with those that fill up the last vector."""
    return -(-count // LANES) * LANES


def arranged(vectors: np.ndarray, *, keys: bool) -> np.ndarray:
    """[..., place, number] -> the same numbers, filled up and in the order described above; for
    pasts of floats alone."""
    places, size = vectors.shape[-2:]
    room = [(0, 0)] * (vectors.ndim - 2) + [(0, filled(n) - n) for n in (places, size)]
    full = np.pad(vectors, room)
    if not keys:
        return full
    blocks = full.reshape(*full.shape[:-2], -1, LANES, full.shape[-1])
    return np.ascontiguousarray(blocks.swapaxes(-1, -2)).reshape(full.shape)


def _floats(b: Any, address: Any, kind: str) -> Any:
    """A vector of a past of floats."""
    if kind == "float32":
        return load(b, address, FLOATS, 4)
    raw = b.zext(load(b, address, SHORTS, 2), INTS)
    return b.bitcast(b.shl(raw, same(INTS, 16)), FLOATS)


def key_products(kind: str) -> Any:
    """numba function (query, keys, size, blocks, out): products of a query float32 [size] with the
    keys of `blocks` blocks into float32 [block, LANES]. All arguments of the functions here are
    int64, of arrays their addresses."""
    together = 4  # sums that do not wait for each other

    def generate(b: Any, args: dict[str, Any]) -> None:
        totals = Places(b, together, FLOATS)
        step = _BYTES_EACH[kind] * LANES
        with counted(b, args["blocks"]) as block:
            totals.fill(same(FLOATS, 0.0))
            keys = b.add(args["keys"], b.mul(block, b.mul(args["size"], number(step))))
            with counted(b, b.sdiv(args["size"], number(together))) as some:
                at = b.add(keys, b.mul(some, number(step * together)))
                asked = b.add(args["query"], b.mul(some, number(4 * together)))
                for i in range(together):
                    one = spread(b, load(b, offset(b, asked, 4 * i), FLOAT, 4), FLOATS)
                    key = _floats(b, offset(b, at, step * i), kind)
                    totals[i] = fused(b, key, one, totals[i])
            found = b.fadd(b.fadd(totals[0], totals[1]), b.fadd(totals[2], totals[3]))
            store(b, found, b.add(args["out"], b.mul(block, number(4 * LANES))), 4)

    told = codegen_of(("query", "keys", "size", "blocks", "out"), generate)

    @intrinsic
    def products(_typing: Any, query: Any, keys: Any, size: Any, blocks: Any, out: Any) -> Any:
        return told

    return products


def key_products_of_bytes() -> Any:
    """numba function (high, low, high_start, low_start, keys, scales, size, blocks, out): the same
    for a past of bytes with a scale float32 for each place. `high` and `low`: int8 [size], the
    query in halves; the starts: -128 times their sums."""

    def generate(b: Any, args: dict[str, Any]) -> None:
        totals = Places(b, 2, INTS)
        starts = [spread(b, b.trunc(args[f"{one}_start"], I32), INTS) for one in ("high", "low")]
        with counted(b, args["blocks"]) as block:
            for i, start in enumerate(starts):
                totals[i] = start
            keys = b.add(args["keys"], b.mul(block, b.mul(args["size"], number(LANES))))
            with counted(b, b.sdiv(args["size"], number(4))) as four:
                key = load(b, b.add(keys, b.mul(four, number(4 * LANES))), INTS, 4)
                for i, half in enumerate(("high", "low")):
                    asked = load(b, b.add(args[half], b.mul(four, number(4))), I32, 1)
                    totals[i] = dot4(b, totals[i], key, spread(b, asked, INTS))
            at = b.mul(block, number(4 * LANES))
            scale = load(b, b.add(args["scales"], at), FLOATS, 4)
            store(b, b.fmul(_joined(b, totals[0], totals[1]), scale), b.add(args["out"], at), 4)

    names = ("high", "low", "high_start", "low_start", "keys", "scales", "size", "blocks", "out")
    told = codegen_of(names, generate)

    @intrinsic
    def products(
        _typing: Any, high: Any, low: Any, high_start: Any, low_start: Any, keys: Any, scales: Any,
        size: Any, blocks: Any, out: Any,
    ) -> Any:  # fmt: skip
        return told

    return products


def value_sums(kind: str, vectors: int) -> Any:
    """numba function (weights, values, stride, places, out): out float32 [vectors * LANES] += the
    sum of the values of `places` places, `stride` bytes apart, by their weights float32."""

    def generate(b: Any, args: dict[str, Any]) -> None:
        ends = [offset(b, args["out"], 4 * LANES * v) for v in range(vectors)]
        totals = Places(b, vectors, FLOATS)
        for v, end in enumerate(ends):
            totals[v] = load(b, end, FLOATS, 4)
        with counted(b, args["places"]) as place:
            weight = load(b, b.add(args["weights"], b.mul(place, number(4))), FLOAT, 4)
            many = spread(b, weight, FLOATS)
            at = b.add(args["values"], b.mul(place, args["stride"]))
            for v in range(vectors):
                value = _floats(b, offset(b, at, _BYTES_EACH[kind] * LANES * v), kind)
                totals[v] = fused(b, value, many, totals[v])
        for v, end in enumerate(ends):
            store(b, totals[v], end, 4)

    told = codegen_of(("weights", "values", "stride", "places", "out"), generate)

    @intrinsic
    def sums(_typing: Any, weights: Any, values: Any, stride: Any, places: Any, out: Any) -> Any:
        return told

    return sums


def value_sums_of_bytes(vectors: int) -> Any:
    """numba function (high, low, values, stride, fours, out): the same for a past of bytes, whose
    places come four at a time, `stride` bytes apart. `high` and `low`: uint8 [place], the weights
    in halves. At most `MOST_PLACES`."""

    def generate(b: Any, args: dict[str, Any]) -> None:
        totals = Places(b, 2 * vectors, INTS)
        totals.fill(same(INTS, 0))
        with counted(b, args["fours"]) as four:
            halves = [
                spread(b, load(b, b.add(args[half], b.mul(four, number(4))), I32, 1), INTS)
                for half in ("high", "low")
            ]
            at = b.add(args["values"], b.mul(four, args["stride"]))
            for v in range(vectors):
                value = load(b, offset(b, at, 4 * LANES * v), INTS, 4)
                for i, half in enumerate(halves):
                    totals[2 * v + i] = dot4(b, totals[2 * v + i], half, value)
        for v in range(vectors):
            end = offset(b, args["out"], 4 * LANES * v)
            found = _joined(b, totals[2 * v], totals[2 * v + 1])
            store(b, b.fadd(load(b, end, FLOATS, 4), found), end, 4)

    told = codegen_of(("high", "low", "values", "stride", "fours", "out"), generate)

    @intrinsic
    def sums(
        _typing: Any, high: Any, low: Any, values: Any, stride: Any, fours: Any, out: Any
    ) -> Any:
        return told

    return sums


def _joined(b: Any, high: Any, low: Any) -> Any:
    """256 * high + low as floats."""
    return fused(b, b.sitofp(high, FLOATS), same(FLOATS, 256.0), b.sitofp(low, FLOATS))
