"""The inner loops of attention over a past, in vectors: products with keys, sums of values.

Keys and values of one head lie in a row, place after place, as float32, bfloat16, or int8 with a
scale for each place. There is a loop for heads of `HEAD` numbers, MusicGen's and ours.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from melisma.nn.native.vectors import (
    BYTES,
    FLOAT,
    FLOATS,
    INTS,
    LANES,
    SHORTS,
    codegen_of,
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

HEAD = 64
"""Width of a head for which there are loops of vectors."""
KINDS = ("float32", "bfloat16", "int8")
"""How a past may be kept; compiled code knows them by their numbers."""
_BYTES_EACH = {"float32": 4, "bfloat16": 2, "int8": 1}


def _place(b: Any, address: Any, kind: str) -> list[Any]:
    """The vectors of one place, as floats without their scale."""
    found = []
    for v in range(HEAD // LANES):
        at = offset(b, address, _BYTES_EACH[kind] * LANES * v)
        if kind == "float32":
            found.append(load(b, at, FLOATS, 4))
        elif kind == "bfloat16":
            raw = b.zext(load(b, at, SHORTS, 2), INTS)
            found.append(b.bitcast(b.shl(raw, same(INTS, 16)), FLOATS))
        else:
            found.append(b.sitofp(b.sext(load(b, at, BYTES, 1), INTS), FLOATS))
    return found


def past_products(kind: str) -> Any:
    """numba function (query, past, scales, count, out): products of a query float32 [HEAD] with
    `count` keys in a row into float32 [count]; int64 addresses. `scales` only count for int8."""

    def generate(b: Any, args: dict[str, Any]) -> None:
        query = [
            load(b, offset(b, args["query"], 4 * LANES * v), FLOATS, 4)
            for v in range(HEAD // LANES)
        ]
        name = "llvm.vector.reduce.fadd.v16f32"
        signature = ir.FunctionType(FLOAT, [FLOAT, FLOATS])
        reduce = cgutils.get_or_insert_function(b.module, signature, name)
        step = _BYTES_EACH[kind] * HEAD
        with cgutils.for_range(b, args["count"]) as loop:
            keys = _place(b, b.add(args["past"], b.mul(loop.index, number(step))), kind)
            total = b.fmul(keys[0], query[0])
            for key, asked in zip(keys[1:], query[1:], strict=True):
                total = fused(b, key, asked, total)
            found = b.call(reduce, [ir.Constant(FLOAT, 0.0), total], fastmath=("reassoc",))
            at = b.mul(loop.index, number(4))
            if kind == "int8":
                found = b.fmul(found, load(b, b.add(args["scales"], at), FLOAT, 4))
            store(b, found, b.add(args["out"], at), 4)

    told = codegen_of(("query", "past", "scales", "count", "out"), generate)

    @intrinsic
    def products(_typing: Any, query: Any, past: Any, scales: Any, count: Any, out: Any) -> Any:
        return told

    return products


def past_sums(kind: str) -> Any:
    """numba function (weights, past, scales, count, out): out float32 [HEAD] += the sum of `count`
    values in a row, weighted by `weights` float32 [count]; all int64 addresses."""

    def generate(b: Any, args: dict[str, Any]) -> None:
        places = [offset(b, args["out"], 4 * LANES * v) for v in range(HEAD // LANES)]
        totals = [cgutils.alloca_once_value(b, load(b, at, FLOATS, 4)) for at in places]
        step = _BYTES_EACH[kind] * HEAD
        with cgutils.for_range(b, args["count"]) as loop:
            at = b.mul(loop.index, number(4))
            weight = load(b, b.add(args["weights"], at), FLOAT, 4)
            if kind == "int8":
                weight = b.fmul(weight, load(b, b.add(args["scales"], at), FLOAT, 4))
            many = spread(b, weight, FLOATS)
            values = _place(b, b.add(args["past"], b.mul(loop.index, number(step))), kind)
            for value, total in zip(values, totals, strict=True):
                b.store(fused(b, value, many, b.load(total)), total)
        for total, place in zip(totals, places, strict=True):
            store(b, b.load(total), place, 4)

    told = codegen_of(("weights", "past", "scales", "count", "out"), generate)

    @intrinsic
    def sums(_typing: Any, weights: Any, past: Any, scales: Any, count: Any, out: Any) -> Any:
        return told

    return sums
