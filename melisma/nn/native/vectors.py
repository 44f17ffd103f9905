"""What numba's Python cannot say: vector registers, atomic counters, raw addresses.

The inner loop of a product with a matrix [output, input] works on tiles of `TILE` outputs and a
few rows of the batch at once: every weight is read once, in the order in which it lies in memory.
`packing.py` lays the weights out for it. On processors with the VNNI instructions (four products of
8 bits in one lane and step: Intel, "Deep Learning Boost") activations are rounded to 8 bits in
groups with a scale of their own; on others, integers become floats on the way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _typed_intrinsic

# numba reads an intrinsic's arguments from its signature: they are named here and used in the code
# generator. What the decorator returns takes one argument less, which no type checker can know.
# ruff: noqa: ARG001
intrinsic: Any = _typed_intrinsic

LANES = 16
"""Floats of one vector: 512 bits; narrower processors take two or four registers for one."""
VECTORS = 4
"""Vectors of outputs worked on at once."""
TILE = LANES * VECTORS
"""Outputs of one tile."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOAT = ir.FloatType()
_INTS = ir.VectorType(_I32, LANES)
_FLOATS = ir.VectorType(_FLOAT, LANES)
_HALVES = ir.VectorType(ir.HalfType(), LANES)
_BYTES = ir.VectorType(_I8, LANES)
_SHORTS = ir.VectorType(_I16, LANES)


def has_vnni() -> bool:
    """Whether this processor multiplies bytes four at a time in vectors of 512 bits."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and features.get("avx512f"))


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; without them torch's are
    slower than those of float32."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512bf16") or features.get("amx-bf16"))


def _number(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _load(builder: Any, address: Any, kind: Any, align: int) -> Any:
    found = builder.load(builder.inttoptr(address, ir.PointerType(kind)))
    found.align = align
    return found


def _store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type))).align = align


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    """One number in every lane."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(
        first, empty, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    )


def _same(kind: Any, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c."""
    name = "llvm.fma.v16f32"
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _dot4(builder: Any, total: Any, unsigned: Any, signed: Any) -> Any:
    """total + the sum of four byte products in each lane."""
    name = "llvm.x86.avx512.vpdpbusd.512"
    kind = ir.FunctionType(_INTS, [_INTS] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [total, unsigned, signed])


class _Grid:
    """Accumulators [row][vector] that LLVM keeps in registers."""

    def __init__(self, builder: Any, rows: int, kind: Any) -> None:
        self._builder = builder
        self.places = [
            [cgutils.alloca_once(builder, kind) for _ in range(VECTORS)] for _ in range(rows)
        ]

    def fill(self, value: Any) -> None:
        """Every accumulator becomes one value."""
        for row in self.places:
            for place in row:
                self._builder.store(value, place)


def _finish(builder: Any, grid: _Grid, args: dict[str, Any], row_scales: bool) -> None:
    """Writes or adds the tile: out[row] (+)= total * row scale."""
    for r, row in enumerate(grid.places):
        for v, place in enumerate(row):
            total = builder.load(place)
            if row_scales:
                scale = _load(
                    builder, _offset(builder, args["row_scales"], 4 * LANES * v), _FLOATS, 4
                )
                total = builder.fmul(total, scale)
            at = builder.add(args["out"], builder.mul(_number(r), args["out_stride"]))
            at = _offset(builder, at, 4 * LANES * v)
            # `add` is 0 or 1: a product costs less than a branch here.
            old = _load(builder, at, _FLOATS, 4)
            chosen = builder.select(
                builder.icmp_signed("!=", args["add"], _number(0)), old, _same(_FLOATS, 0.0)
            )
            _store(builder, builder.fadd(total, chosen), at, 4)


def _offset(builder: Any, address: Any, distance: int) -> Any:
    return builder.add(address, _number(distance))


FLOAT_NAMES = ("weights", "x", "x_stride", "out", "out_stride", "add", "inputs")
"""Arguments of the float tiles, all int64: addresses, strides in bytes, and how many inputs."""
WHOLE_NAMES = (
    "weights",
    "group_scales",
    "row_scales",
    "x",
    "x_stride",
    "x_scales",
    "x_sums",
    "x_group_stride",
    "out",
    "out_stride",
    "add",
    "groups",
    "group_size",
)
"""Arguments of the integer tiles, likewise."""


def _codegen(names: tuple[str, ...], generate: Callable[[Any, dict[str, Any]], None]) -> Any:
    """(signature, code generator) of a numba intrinsic of int64 arguments `names`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        generate(builder, dict(zip(names, args, strict=True)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * len(names)), codegen


def float_tile(rows: int, kind: str) -> Any:
    """The tile of `rows` rows with weights "float32" or "bfloat16" [input, TILE] and x float32."""
    bytes_each = 4 if kind == "float32" else 2

    def generate(b: Any, args: dict[str, Any]) -> None:
        totals = _Grid(b, rows, _FLOATS)
        totals.fill(_same(_FLOATS, 0.0))
        with cgutils.for_range(b, args["inputs"]) as loop:
            at = b.add(args["weights"], b.mul(loop.index, _number(bytes_each * TILE)))
            x_at = b.add(args["x"], b.mul(loop.index, _number(4)))
            x = [
                _spread(
                    b,
                    _load(b, b.add(x_at, b.mul(_number(r), args["x_stride"])), _FLOAT, 4),
                    _FLOATS,
                )
                for r in range(rows)
            ]
            for v in range(VECTORS):
                place = _offset(b, at, bytes_each * LANES * v)
                if kind == "float32":
                    weights = _load(b, place, _FLOATS, 64)
                else:
                    raw = b.zext(_load(b, place, _SHORTS, 32), _INTS)
                    weights = b.bitcast(b.shl(raw, _same(_INTS, 16)), _FLOATS)
                for r in range(rows):
                    total = totals.places[r][v]
                    b.store(_fused(b, weights, x[r], b.load(total)), total)
        _finish(b, totals, args, row_scales=False)

    told = _codegen(FLOAT_NAMES, generate)

    @intrinsic
    def tile(
        _typing: Any, weights: Any, x: Any, x_stride: Any, out: Any, out_stride: Any, add: Any,
        inputs: Any,
    ) -> Any:  # fmt: skip
        return told

    return tile


def whole_tile(rows: int, bits: int, vnni: bool) -> Any:
    """The tile of `rows` rows with weights of 8 or 4 bits in groups.

    `vnni`: x is int8 with a scale and a sum for each group, weights lie four inputs to a lane; else
    x is float32.
    """

    def generate(b: Any, args: dict[str, Any]) -> None:
        totals = _Grid(b, rows, _FLOATS)
        totals.fill(_same(_FLOATS, 0.0))
        sums = _Grid(b, rows, _INTS if vnni else _FLOATS)
        weights = cgutils.alloca_once_value(b, args["weights"])
        scales = cgutils.alloca_once_value(b, args["group_scales"])
        x = cgutils.alloca_once_value(b, args["x"])
        with cgutils.for_range(b, args["groups"]) as group:
            at = b.mul(group.index, _number(4))
            if vnni:
                _dot_group(b, args, rows, bits, sums, (weights, x), at)
            else:
                _float_group(b, args, rows, bits, sums, (weights, x))
            _add_group(b, args, totals, sums, scales, at if vnni else None)
        _finish(b, totals, args, row_scales=True)

    told = _codegen(WHOLE_NAMES, generate)

    @intrinsic
    def tile(
        _typing: Any, weights: Any, group_scales: Any, row_scales: Any, x: Any, x_stride: Any,
        x_scales: Any, x_sums: Any, x_group_stride: Any, out: Any, out_stride: Any, add: Any,
        groups: Any, group_size: Any,
    ) -> Any:  # fmt: skip
        return told

    return tile


def _dot_group(
    b: Any, args: dict[str, Any], rows: int, bits: int, sums: _Grid, ways: tuple[Any, Any], at: Any
) -> None:
    """One group of integer weights with x as integers; x moves on by a byte an input."""
    weights, x = ways
    for r in range(rows):
        row = b.add(b.add(args["x_sums"], b.mul(_number(r), args["x_group_stride"])), at)
        # Weights are stored without sign: what that adds is taken off before the group begins.
        start = _spread(b, _load(b, row, _I32, 4), _INTS)
        for place in sums.places[r]:
            b.store(start, place)
    inputs = 4 if bits == 8 else 8
    with cgutils.for_range(b, b.sdiv(args["group_size"], _number(inputs))):
        w_at, x_at = b.load(weights), b.load(x)
        parts = [
            [
                _spread(
                    b,
                    _load(
                        b,
                        _offset(b, b.add(x_at, b.mul(_number(r), args["x_stride"])), 4 * half),
                        _I32,
                        4,
                    ),
                    _INTS,
                )
                for half in range(inputs // 4)
            ]
            for r in range(rows)
        ]
        for v in range(VECTORS):
            raw = _load(b, _offset(b, w_at, 4 * LANES * v), _INTS, 64)
            halves = [raw]
            if bits == 4:
                low = _same(_INTS, 0x0F0F0F0F)
                halves = [b.and_(raw, low), b.and_(b.lshr(raw, _same(_INTS, 4)), low)]
            for r in range(rows):
                place = sums.places[r][v]
                for half, part in zip(halves, parts[r], strict=True):
                    b.store(_dot4(b, b.load(place), half, part), place)
        b.store(_offset(b, w_at, 4 * TILE), weights)
        b.store(_offset(b, x_at, inputs), x)


def _float_group(
    b: Any, args: dict[str, Any], rows: int, bits: int, sums: _Grid, ways: tuple[Any, Any]
) -> None:
    """One group of integer weights with x as floats; x moves on by four bytes an input."""
    weights, x = ways
    sums.fill(_same(_FLOATS, 0.0))
    inputs = 1 if bits == 8 else 2
    with cgutils.for_range(b, b.sdiv(args["group_size"], _number(inputs))):
        w_at, x_at = b.load(weights), b.load(x)
        for v in range(VECTORS):
            raw = _load(b, _offset(b, w_at, LANES * v), _BYTES, 16)
            halves = [raw]
            if bits == 4:
                low = _same(_BYTES, 15)
                halves = [b.and_(raw, low), b.lshr(raw, _same(_BYTES, 4))]
            for number, half in enumerate(halves):
                centred = b.sub(b.zext(half, _INTS), _same(_INTS, 128 if bits == 8 else 8))
                floats = b.sitofp(centred, _FLOATS)
                for r in range(rows):
                    at = _offset(b, b.add(x_at, b.mul(_number(r), args["x_stride"])), 4 * number)
                    value = _spread(b, _load(b, at, _FLOAT, 4), _FLOATS)
                    place = sums.places[r][v]
                    b.store(_fused(b, floats, value, b.load(place)), place)
        b.store(_offset(b, w_at, TILE), weights)
        b.store(_offset(b, x_at, 4 * inputs), x)


def _add_group(
    b: Any, args: dict[str, Any], totals: _Grid, sums: _Grid, scales: Any, at: Any
) -> None:
    """totals += sums * the group's scale (times that of x, where x is integers)."""
    scale_at = b.load(scales)
    found = [
        b.fpext(_load(b, _offset(b, scale_at, 2 * LANES * v), _HALVES, 2), _FLOATS)
        for v in range(VECTORS)
    ]
    for r, row in enumerate(totals.places):
        of_x = None
        if at is not None:
            place = b.add(b.add(args["x_scales"], b.mul(_number(r), args["x_group_stride"])), at)
            of_x = _spread(b, _load(b, place, _FLOAT, 4), _FLOATS)
        for v, total in enumerate(row):
            value = b.load(sums.places[r][v])
            if of_x is None:
                b.store(_fused(b, value, found[v], b.load(total)), total)
            else:
                product = b.fmul(found[v], of_x)
                b.store(_fused(b, b.sitofp(value, _FLOATS), product, b.load(total)), total)
    b.store(_offset(b, scale_at, 2 * TILE), scales)


HEAD = 64
"""Width of a head for which attention has loops of its own: that of MusicGen, and ours."""


def _past(b: Any, address: Any, short: bool) -> list[Any]:
    """The vectors of one place of a past, as floats."""
    found = []
    for v in range(HEAD // LANES):
        if short:
            raw = b.zext(_load(b, _offset(b, address, 2 * LANES * v), _SHORTS, 32), _INTS)
            found.append(b.bitcast(b.shl(raw, _same(_INTS, 16)), _FLOATS))
        else:
            found.append(_load(b, _offset(b, address, 4 * LANES * v), _FLOATS, 4))
    return found


def past_products(short: bool) -> Any:
    """Numba function (query, keys, count, out): products of a query float32 [HEAD] with `count`
    keys in a row, bfloat16 if `short`, into float32 [count]; all addresses."""

    def generate(b: Any, args: dict[str, Any]) -> None:
        query = [
            _load(b, _offset(b, args["query"], 4 * LANES * v), _FLOATS, 4)
            for v in range(HEAD // LANES)
        ]
        name = "llvm.vector.reduce.fadd.v16f32"
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _FLOATS])
        reduce = cgutils.get_or_insert_function(b.module, kind, name)
        step = (2 if short else 4) * HEAD
        with cgutils.for_range(b, args["count"]) as loop:
            keys = _past(b, b.add(args["past"], b.mul(loop.index, _number(step))), short)
            total = b.fmul(keys[0], query[0])
            for key, asked in zip(keys[1:], query[1:], strict=True):
                total = _fused(b, key, asked, total)
            found = b.call(reduce, [ir.Constant(_FLOAT, 0.0), total], fastmath=("reassoc",))
            _store(b, found, b.add(args["out"], b.mul(loop.index, _number(4))), 4)

    told = _codegen(("query", "past", "count", "out"), generate)

    @intrinsic
    def products(_typing: Any, query: Any, past: Any, count: Any, out: Any) -> Any:
        return told

    return products


def past_sums(short: bool) -> Any:
    """Numba function (scores, values, count, out): out float32 [HEAD] += the sum of `count` values
    in a row, weighted by `scores` float32 [count]; all addresses."""

    def generate(b: Any, args: dict[str, Any]) -> None:
        places = [_offset(b, args["out"], 4 * LANES * v) for v in range(HEAD // LANES)]
        totals = [cgutils.alloca_once_value(b, _load(b, at, _FLOATS, 4)) for at in places]
        step = (2 if short else 4) * HEAD
        with cgutils.for_range(b, args["count"]) as loop:
            at = b.add(args["scores"], b.mul(loop.index, _number(4)))
            weight = _spread(b, _load(b, at, _FLOAT, 4), _FLOATS)
            values = _past(b, b.add(args["past"], b.mul(loop.index, _number(step))), short)
            for value, total in zip(values, totals, strict=True):
                b.store(_fused(b, value, weight, b.load(total)), total)
        for total, place in zip(totals, places, strict=True):
            _store(b, b.load(total), place, 4)

    told = _codegen(("scores", "past", "count", "out"), generate)

    @intrinsic
    def sums(_typing: Any, scores: Any, past: Any, count: Any, out: Any) -> Any:
        return told

    return sums


def _pointer(kind: Any) -> Any:
    """A numba function: address -> pointer to numbers of a numba type, which can be indexed."""

    @intrinsic
    def pointer(_typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), codegen

    return pointer


floats_at = _pointer(types.float32)
shorts_at = _pointer(types.uint16)
bytes_at = _pointer(types.int8)
ints_at = _pointer(types.int32)
longs_at = _pointer(types.int64)


@intrinsic
def float_of_bits(_typing_context: Any, bits: Any) -> Any:
    """The float32 whose bits an int32 has."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _FLOAT)

    return types.float32(types.int32), codegen


@intrinsic
def bits_of_float(_typing_context: Any, number: Any) -> Any:
    """The bits of a float32 as an int32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _I32)

    return types.int32(types.float32), codegen


@intrinsic
def add_to(_typing_context: Any, address: Any, amount: Any) -> Any:
    """Adds to the int64 at an address, atomically, and returns what it was."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], ir.PointerType(_I64))
        return builder.atomic_rmw("add", place, args[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def look_at(_typing_context: Any, address: Any) -> Any:
    """The int64 at an address, as other threads last left it."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], ir.PointerType(_I64))
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def rest(_typing_context: Any) -> Any:
    """Tells the processor that a thread is waiting in a loop."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if binding.get_process_triple().startswith(("x86_64", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(_typing_context: Any) -> Any:
    """Lets the operating system run something else on this core."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        kind = ir.FunctionType(_I32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen
