"""The inner loops of matrix products, in vectors.

Products with a matrix [output, input] work on tiles of `TILE` outputs and a few rows of the batch
at once: every weight is read once, in the order in which it lies in memory. `packing.py` lays the
weights out for it. On processors that multiply bytes four at a time (VNNI; Intel, "Deep Learning
Boost") activations are rounded to 8 bits in groups with a scale of their own; on others, integers
become floats on the way.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from melisma.nn.native.vectors import (
    BYTES,
    FLOAT,
    FLOATS,
    HALVES,
    I32,
    INTS,
    LANES,
    SHORTS,
    TILE,
    VECTORS,
    Places,
    codegen_of,
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


def _grid(builder: Any, rows: int, kind: Any) -> list[Places]:
    """Accumulators [row][vector]."""
    return [Places(builder, VECTORS, kind) for _ in range(rows)]


def _fill(grid: list[Places], value: Any) -> None:
    for row in grid:
        row.fill(value)


def _finish(builder: Any, grid: list[Places], args: dict[str, Any], row_scales: bool) -> None:
    """Writes or adds the tile: out[row] (+)= total * row scale."""
    for r, row in enumerate(grid):
        for v in range(VECTORS):
            total = row[v]
            if row_scales:
                scale = load(builder, offset(builder, args["row_scales"], 4 * LANES * v), FLOATS, 4)
                total = builder.fmul(total, scale)
            at = builder.add(args["out"], builder.mul(number(r), args["out_stride"]))
            at = offset(builder, at, 4 * LANES * v)
            # `add` is 0 or 1: a product costs less than a branch here.
            old = load(builder, at, FLOATS, 4)
            chosen = builder.select(
                builder.icmp_signed("!=", args["add"], number(0)), old, same(FLOATS, 0.0)
            )
            store(builder, builder.fadd(total, chosen), at, 4)


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


def float_tile(rows: int, kind: str) -> Any:
    """The tile of `rows` rows with weights "float32" or "bfloat16" [input, TILE] and x float32."""
    bytes_each = 4 if kind == "float32" else 2

    def generate(b: Any, args: dict[str, Any]) -> None:
        totals = _grid(b, rows, FLOATS)
        _fill(totals, same(FLOATS, 0.0))
        with cgutils.for_range(b, args["inputs"]) as loop:
            at = b.add(args["weights"], b.mul(loop.index, number(bytes_each * TILE)))
            x_at = b.add(args["x"], b.mul(loop.index, number(4)))
            x = [
                spread(
                    b,
                    load(b, b.add(x_at, b.mul(number(r), args["x_stride"])), FLOAT, 4),
                    FLOATS,
                )
                for r in range(rows)
            ]
            for v in range(VECTORS):
                place = offset(b, at, bytes_each * LANES * v)
                if kind == "float32":
                    weights = load(b, place, FLOATS, 64)
                else:
                    raw = b.zext(load(b, place, SHORTS, 32), INTS)
                    weights = b.bitcast(b.shl(raw, same(INTS, 16)), FLOATS)
                for r in range(rows):
                    totals[r][v] = fused(b, weights, x[r], totals[r][v])
        _finish(b, totals, args, row_scales=False)

    told = codegen_of(FLOAT_NAMES, generate)

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
        totals = _grid(b, rows, FLOATS)
        _fill(totals, same(FLOATS, 0.0))
        sums = _grid(b, rows, INTS if vnni else FLOATS)
        weights = cgutils.alloca_once_value(b, args["weights"])
        scales = cgutils.alloca_once_value(b, args["group_scales"])
        x = cgutils.alloca_once_value(b, args["x"])
        with cgutils.for_range(b, args["groups"]) as group:
            at = b.mul(group.index, number(4))
            if vnni:
                _dot_group(b, args, rows, bits, sums, (weights, x), at)
            else:
                _float_group(b, args, rows, bits, sums, (weights, x))
            _add_group(b, args, totals, sums, scales, at if vnni else None)
        _finish(b, totals, args, row_scales=True)

    told = codegen_of(WHOLE_NAMES, generate)

    @intrinsic
    def tile(
        _typing: Any, weights: Any, group_scales: Any, row_scales: Any, x: Any, x_stride: Any,
        x_scales: Any, x_sums: Any, x_group_stride: Any, out: Any, out_stride: Any, add: Any,
        groups: Any, group_size: Any,
    ) -> Any:  # fmt: skip
        return told

    return tile


def _dot_group(
    b: Any,
    args: dict[str, Any],
    rows: int,
    bits: int,
    sums: list[Places],
    ways: tuple[Any, Any],
    at: Any,
) -> None:
    """One group of integer weights with x as integers; x moves on by a byte an input."""
    weights, x = ways
    for r in range(rows):
        row = b.add(b.add(args["x_sums"], b.mul(number(r), args["x_group_stride"])), at)
        # Weights are stored without sign: what that adds is taken off before the group begins.
        start = spread(b, load(b, row, I32, 4), INTS)
        sums[r].fill(start)
    inputs = 4 if bits == 8 else 8
    with cgutils.for_range(b, b.sdiv(args["group_size"], number(inputs))):
        w_at, x_at = b.load(weights), b.load(x)
        parts = [
            [
                spread(
                    b,
                    load(
                        b,
                        offset(b, b.add(x_at, b.mul(number(r), args["x_stride"])), 4 * half),
                        I32,
                        4,
                    ),
                    INTS,
                )
                for half in range(inputs // 4)
            ]
            for r in range(rows)
        ]
        for v in range(VECTORS):
            raw = load(b, offset(b, w_at, 4 * LANES * v), INTS, 64)
            halves = [raw]
            if bits == 4:
                low = same(INTS, 0x0F0F0F0F)
                halves = [b.and_(raw, low), b.and_(b.lshr(raw, same(INTS, 4)), low)]
            for r in range(rows):
                for half, part in zip(halves, parts[r], strict=True):
                    sums[r][v] = dot4(b, sums[r][v], half, part)
        b.store(offset(b, w_at, 4 * TILE), weights)
        b.store(offset(b, x_at, inputs), x)


def _float_group(
    b: Any, args: dict[str, Any], rows: int, bits: int, sums: list[Places], ways: tuple[Any, Any]
) -> None:
    """One group of integer weights with x as floats; x moves on by four bytes an input."""
    weights, x = ways
    _fill(sums, same(FLOATS, 0.0))
    inputs = 1 if bits == 8 else 2
    with cgutils.for_range(b, b.sdiv(args["group_size"], number(inputs))):
        w_at, x_at = b.load(weights), b.load(x)
        for v in range(VECTORS):
            raw = load(b, offset(b, w_at, LANES * v), BYTES, 16)
            halves = [raw]
            if bits == 4:
                low = same(BYTES, 15)
                halves = [b.and_(raw, low), b.lshr(raw, same(BYTES, 4))]
            for turn, half in enumerate(halves):
                centred = b.sub(b.zext(half, INTS), same(INTS, 128 if bits == 8 else 8))
                floats = b.sitofp(centred, FLOATS)
                for r in range(rows):
                    at = offset(b, b.add(x_at, b.mul(number(r), args["x_stride"])), 4 * turn)
                    value = spread(b, load(b, at, FLOAT, 4), FLOATS)
                    sums[r][v] = fused(b, floats, value, sums[r][v])
        b.store(offset(b, w_at, TILE), weights)
        b.store(offset(b, x_at, 4 * inputs), x)


def _add_group(
    b: Any, args: dict[str, Any], totals: list[Places], sums: list[Places], scales: Any, at: Any
) -> None:
    """totals += sums * the group's scale (times that of x, where x is integers)."""
    scale_at = b.load(scales)
    found = [
        b.fpext(load(b, offset(b, scale_at, 2 * LANES * v), HALVES, 2), FLOATS)
        for v in range(VECTORS)
    ]
    for r, row in enumerate(totals):
        of_x = None
        if at is not None:
            place = b.add(b.add(args["x_scales"], b.mul(number(r), args["x_group_stride"])), at)
            of_x = spread(b, load(b, place, FLOAT, 4), FLOATS)
        for v in range(VECTORS):
            value = sums[r][v]
            if of_x is None:
                row[v] = fused(b, value, found[v], row[v])
            else:
                product = b.fmul(found[v], of_x)
                row[v] = fused(b, b.sitofp(value, FLOATS), product, row[v])
    b.store(offset(b, scale_at, 2 * TILE), scales)
