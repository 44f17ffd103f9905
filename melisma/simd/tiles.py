"""Matrix-product kernels (GEMM micro-kernels) of one tile, for every weight precision.

A product with a matrix [output, input] works on a tile of `tile_outputs` outputs and a few rows of
the batch at once; every weight is read once, in memory order:

                      outputs of the tile
                 vector 0  vector 1  vector 2  vector 3
    x row 0  ->  [ sums ]  [ sums ]  [ sums ]  [ sums ]     accumulators in registers,
    x row 1  ->  [ sums ]  [ sums ]  [ sums ]  [ sums ]     over all inputs

`engine/native/packing.py` lays the weights out for it. With integer weights the activations are
integers, too: quantized to 8 bits in groups with a scale each, so that the sum of a group is exact.
How bytes are multiplied depends on the instruction set:

- *VNNI*: four products of an unsigned and a signed byte are accumulated in 32 bits. Weights are
  stored unsigned, with a zero point.
- *AVX2*: `vpmaddubsw` would accumulate two byte products in 16 bits and saturate. int8 weights are
  therefore extended to 16 bits and multiplied by `vpmaddwd`, two products into 32 bits. int4
  weights are small enough for `vpmaddubsw`: eight sums fit into 16 bits (8 * 2 * 15 * 127 is
  30,480) before they are accumulated in 32.
- *portable*: the same integers by multiplications that LLVM finds instructions for.

All give the same integers, and the floats computed from them are rounded in the same order.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from melisma.simd.instruction_set import InstructionSet
from melisma.simd.vectors import (
    FLOAT,
    I32,
    KernelBuilder,
    Registers,
    i64,
    intrinsic,
    kernel,
    loop,
    offset,
)

# numba takes an intrinsic's argument names from its Python signature; the code generator uses them.
# ruff: noqa: ARG001

VECTORS = 4
"""Vectors of outputs in a tile."""
_SUMS_OF_16_BITS = 4
"""Steps of eight inputs whose int4 by int8 products are accumulated in 16 bits, two sums each."""
_AHEAD_BYTES, _LINE_BYTES = 8192, 64
"""Prefetch distance of the weights, and size of a cache line (measured from 512 to 16,384 on two
cores with AVX-512: streaming from memory gains 15 to 25 % with AVX2's integer products, 13 % in
float32, nothing with VNNI)."""


def tile_outputs(isa: InstructionSet) -> int:
    """Outputs of one tile."""
    return VECTORS * isa.lanes


def rows_in_registers(isa: InstructionSet) -> tuple[int, int]:
    """Most rows of a tile whose accumulators fit into the registers: (float, integer) kernels."""
    return (4, 4) if isa.registers >= 32 else (3, 2)


Grid = list[Registers]
"""Accumulators [row][vector]."""


def _grid(k: KernelBuilder, rows: int, kind: Any) -> Grid:
    return [Registers(k.builder, VECTORS, kind) for _ in range(rows)]


def _fill(grid: Grid, value: Any) -> None:
    for row in grid:
        row.fill(value)


def _row(k: KernelBuilder, address: Any, row: int, stride: Any) -> Any:
    """Address of a row."""
    return k.builder.add(address, k.builder.mul(i64(row), stride))


def _prefetch_weights(k: KernelBuilder, weights: Any, count: int) -> None:
    """Prefetches `count` bytes, `_AHEAD_BYTES` after the current weights."""
    for line in range(0, count, _LINE_BYTES):
        k.prefetch(offset(k.builder, weights, _AHEAD_BYTES + line))


def _finish(k: KernelBuilder, grid: Grid, args: dict[str, Any], row_scales: bool) -> None:
    """Writes or accumulates the tile: out[row] (+)= total * row scale."""
    b = k.builder
    for r, row in enumerate(grid):
        for v in range(VECTORS):
            total = row[v]
            if row_scales:
                scale = k.load(offset(b, args["row_scales"], 4 * k.lanes * v), k.floats, 4)
                total = b.fmul(total, scale)
            at = offset(b, _row(k, args["out"], r, args["out_stride"]), 4 * k.lanes * v)
            # `add` is 0 or 1; a select is cheaper than a branch here.
            old = k.load(at, k.floats, 4)
            zero = k.constant(k.floats, 0.0)
            addend = b.select(b.icmp_signed("!=", args["add"], i64(0)), old, zero)
            k.store(b.fadd(total, addend), at, 4)


FLOAT_NAMES = ("weights", "x", "x_stride", "out", "out_stride", "add", "inputs")
"""Arguments of the float tiles, all int64: addresses, strides in bytes, flag, number of inputs."""
QUANTIZED_NAMES = (
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
"""Arguments of the quantized tiles, all int64."""


def float_tile(isa: InstructionSet, rows: int, kind: str) -> Any:
    """Tile kernel with float weights.

    Args:
        isa: The instruction set.
        rows: Rows of the batch.
        kind: "float32" or "bfloat16": type of the weights [input, output]; x is float32.

    Returns:
        numba function of the arguments `FLOAT_NAMES`.
    """
    bytes_each = 4 if kind == "float32" else 2

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        totals = _grid(k, rows, k.floats)
        _fill(totals, k.constant(k.floats, 0.0))
        with loop(b, args["inputs"]) as index:
            at = b.add(args["weights"], b.mul(index, i64(bytes_each * tile_outputs(isa))))
            _prefetch_weights(k, at, bytes_each * tile_outputs(isa))
            x_at = b.add(args["x"], b.mul(index, i64(4)))
            x = [k.splat(k.load(_row(k, x_at, r, args["x_stride"]), FLOAT, 4)) for r in range(rows)]
            for v in range(VECTORS):
                vector_at = offset(b, at, bytes_each * k.lanes * v)
                if kind == "float32":
                    weights = k.load(vector_at, k.floats, 4 * k.lanes)
                else:
                    raw = b.zext(k.load(vector_at, k.shorts, 2 * k.lanes), k.ints)
                    weights = b.bitcast(b.shl(raw, k.constant(k.ints, 16)), k.floats)
                for r in range(rows):
                    totals[r][v] = k.fma(weights, x[r], totals[r][v])
        _finish(k, totals, args, row_scales=False)

    typed = kernel(isa, f"{kind}_tile_{rows}", FLOAT_NAMES, generate)

    @intrinsic
    def tile(
        _typing: Any, weights: Any, x: Any, x_stride: Any, out: Any, out_stride: Any, add: Any,
        inputs: Any,
    ) -> Any:  # fmt: skip
        return typed

    return tile


class _Group:
    """Emits the products of one group of integer weights, accumulated in 32 bits."""

    def __init__(self, k: KernelBuilder, args: dict[str, Any], rows: int) -> None:
        self.k, self.args, self.rows = k, args, rows
        self.sums = _grid(k, rows, k.ints)
        self.weights = cgutils.alloca_once_value(k.builder, args["weights"])
        self.x = cgutils.alloca_once_value(k.builder, args["x"])

    def initialize(self, at: Any) -> None:
        """Starts the sums at the correction for the zero point of unsigned weights (`x_sums`)."""
        b, args = self.k.builder, self.args
        for r in range(self.rows):
            row = b.add(_row(self.k, args["x_sums"], r, args["x_group_stride"]), at)
            self.sums[r].fill(self.k.splat(self.k.load(row, I32, 4)))

    def weight(self, vector: int, kind: Any, bytes_each: int) -> Any:
        """Loads the weights of one vector of outputs."""
        size = bytes_each * self.k.lanes
        at = offset(self.k.builder, self.k.builder.load(self.weights), size * vector)
        return self.k.load(at, kind, size)

    def activations(self, quads: int) -> list[list[Any]]:
        """Broadcasts four bytes of x to every lane, as int32: [row][quad of bytes]."""
        b, x = self.k.builder, self.k.builder.load(self.x)

        def four(r: int, quad: int) -> Any:
            at = offset(b, _row(self.k, x, r, self.args["x_stride"]), 4 * quad)
            return self.k.splat(self.k.load(at, I32, 4))

        return [[four(r, quad) for quad in range(quads)] for r in range(self.rows)]

    def advance(self, weight_bytes: int, x_bytes: int) -> None:
        """Advances the addresses to the next inputs."""
        b = self.k.builder
        _prefetch_weights(self.k, b.load(self.weights), weight_bytes)
        b.store(offset(b, b.load(self.weights), weight_bytes), self.weights)
        b.store(offset(b, b.load(self.x), x_bytes), self.x)

    def nibbles(self, vector: int) -> list[Any]:
        """int4 weights as bytes: those of four inputs, and of the next four."""
        k, b = self.k, self.k.builder
        raw, low = self.weight(vector, k.ints, 4), k.constant(k.ints, 0x0F0F0F0F)
        return [b.and_(raw, low), b.and_(b.lshr(raw, k.constant(k.ints, 4)), low)]

    def dot_bytes(self, bits: int) -> None:
        """Byte products: four inputs a step, or eight with int4 weights."""
        k = self.k
        inputs = 4 if bits == 8 else 8
        with loop(k.builder, k.builder.sdiv(self.args["group_size"], i64(inputs))):
            x = self.activations(inputs // 4)
            for v in range(VECTORS):
                parts = [self.weight(v, k.ints, 4)] if bits == 8 else self.nibbles(v)
                for r in range(self.rows):
                    for part, four in zip(parts, x[r], strict=True):
                        self.sums[r][v] = k.dot_bytes(self.sums[r][v], part, four)
            self.advance(4 * tile_outputs(k.isa), inputs)

    def dot_shorts(self) -> None:
        """int8 weights with int16 activations: four inputs a step, in two pairs."""
        k, b = self.k, self.k.builder
        with loop(b, b.sdiv(self.args["group_size"], i64(4))):
            x = self.activations(2)
            for pair in range(2):
                for v in range(VECTORS):
                    raw = self.weight(v + VECTORS * pair, k.byte_pairs, 2)
                    weights = b.sext(raw, k.short_pairs)
                    for r in range(self.rows):
                        two = b.bitcast(x[r][pair], k.short_pairs)
                        self.sums[r][v] = k.dot_shorts(self.sums[r][v], weights, two)
            self.advance(4 * tile_outputs(k.isa), 8)

    def dot_nibbles(self) -> None:
        """int4 weights: steps of eight inputs accumulated in 16 bits, then in 32."""
        k, b = self.k, self.k.builder
        ones, limit = k.constant(k.short_pairs, 1), i64(_SUMS_OF_16_BITS)
        sums = _grid(k, self.rows, k.short_pairs)
        steps = b.sdiv(self.args["group_size"], i64(8))
        rounds = b.sdiv(b.add(steps, i64(_SUMS_OF_16_BITS - 1)), limit)
        with loop(b, rounds) as done:
            left = b.sub(steps, b.mul(done, limit))
            count = b.select(b.icmp_signed("<", left, limit), left, limit)
            _fill(sums, k.constant(k.short_pairs, 0))
            with loop(b, count):
                x = self.activations(2)
                for v in range(VECTORS):
                    parts = self.nibbles(v)
                    for r in range(self.rows):
                        for part, four in zip(parts, x[r], strict=True):
                            sums[r][v] = k.add_pairs(sums[r][v], part, four)
                self.advance(4 * tile_outputs(k.isa), 8)
            for r in range(self.rows):
                for v in range(VECTORS):
                    self.sums[r][v] = k.dot_shorts(self.sums[r][v], sums[r][v], ones)


def quantized_tile(isa: InstructionSet, rows: int, bits: int) -> Any:
    """Tile kernel with integer weights in groups.

    Args:
        isa: The instruction set.
        rows: Rows of the batch.
        bits: Of a weight, 8 or 4; x is as `matmul.quantize_rows` writes it.

    Returns:
        numba function of the arguments `QUANTIZED_NAMES`.
    """

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        totals = _grid(k, rows, k.floats)
        _fill(totals, k.constant(k.floats, 0.0))
        group = _Group(k, args, rows)
        scales = cgutils.alloca_once_value(b, args["group_scales"])
        with loop(b, args["groups"]) as index:
            at = b.mul(index, i64(4))
            group.initialize(at)
            if isa.vnni or (bits == 4 and isa.byte_products == "none"):
                group.dot_bytes(bits)
            elif bits == 8:
                group.dot_shorts()
            else:
                group.dot_nibbles()
            _add_group(k, args, totals, group.sums, scales, at)
        _finish(k, totals, args, row_scales=True)

    typed = kernel(isa, f"int{bits}_tile_{rows}", QUANTIZED_NAMES, generate)

    @intrinsic
    def tile(
        _typing: Any, weights: Any, group_scales: Any, row_scales: Any, x: Any, x_stride: Any,
        x_scales: Any, x_sums: Any, x_group_stride: Any, out: Any, out_stride: Any, add: Any,
        groups: Any, group_size: Any,
    ) -> Any:  # fmt: skip
        return typed

    return tile


def _add_group(
    k: KernelBuilder, args: dict[str, Any], totals: Grid, sums: Grid, scales: Any, at: Any
) -> None:
    """totals += sums * scale of the group * scale of x."""
    b = k.builder
    scale_at = b.load(scales)
    weight_scales = [k.load_halves(offset(b, scale_at, 2 * k.lanes * v)) for v in range(VECTORS)]
    for r, row in enumerate(totals):
        x_scale_at = b.add(_row(k, args["x_scales"], r, args["x_group_stride"]), at)
        x_scale = k.splat(k.load(x_scale_at, FLOAT, 4))
        for v in range(VECTORS):
            scale = b.fmul(weight_scales[v], x_scale)
            row[v] = k.fma(b.sitofp(sums[r][v], k.floats), scale, row[v])
    b.store(offset(b, scale_at, 2 * tile_outputs(k.isa)), scales)
