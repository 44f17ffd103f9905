"""The inner loops of matrix products, in vectors.

Products with a matrix [output, input] work on tiles of some outputs (`tile_outputs`) and a few rows
of the batch at once: every weight is read once, in the order in which it lies in memory.
`engine/native/packing.py` lays the weights out for it. Where weights are integers, activations are,
too: rounded to 8 bits in groups with a scale of their own, so that a group's sum is exact. How
bytes are multiplied depends on the instruction set:

- *VNNI*: four products of an unsigned and a signed byte are added into 32 bits. Weights are stored
  without sign.
- *AVX2*: `vpmaddubsw` would add two products of bytes into 16 bits and saturate. Weights of 8 bits
  are therefore extended to 16 on the way and multiplied by `vpmaddwd`, two products into 32 bits.
  Weights of 4 bits are small enough for `vpmaddubsw`: eight sums fit into 16 bits (8 * 2 * 15 * 127
  is 30,480), then they are added into 32.
- *portable*: the same integers by multiplications that LLVM finds instructions for.

All give the same integers, and the floats after them are rounded in the same order.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils

from melisma.simd.instruction_set import InstructionSet
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

VECTORS = 4
"""Vectors of outputs worked on at once."""
_SUMS_OF_16_BITS = 4
"""Steps of eight inputs whose products of 4 bits by 8 are added in 16 bits: two sums a step."""
_AHEAD_BYTES, _LINE_BYTES = 8192, 64
"""How far ahead weights are asked for, a line of the cache at a time (measured from 512 to 16,384
on two cores with AVX-512: streams from memory gain 15 to 25 % with AVX2's products of integers,
13 % in float32, nothing with VNNI)."""


def tile_outputs(isa: InstructionSet) -> int:
    """Outputs of one tile."""
    return VECTORS * isa.lanes


def rows_in_registers(isa: InstructionSet) -> tuple[int, int]:
    """Rows of a tile whose sums find room in the registers: of floats, and of integers."""
    return (4, 4) if isa.registers >= 32 else (3, 2)


Grid = list[Variables]
"""Accumulators [row][vector]."""


def _grid(k: KernelBuilder, rows: int, kind: Any) -> Grid:
    return [Variables(k.builder, VECTORS, kind) for _ in range(rows)]


def _fill(grid: Grid, value: Any) -> None:
    for row in grid:
        row.fill(value)


def _row(k: KernelBuilder, address: Any, row: int, stride: Any) -> Any:
    """Address of a row."""
    return k.builder.add(address, k.builder.mul(number(row), stride))


def _ask_ahead(k: KernelBuilder, weights: Any, count: int) -> None:
    """Asks for the weights that come some steps after these."""
    for line in range(0, count, _LINE_BYTES):
        k.prefetch(offset(k.builder, weights, _AHEAD_BYTES + line))


def _finish(k: KernelBuilder, grid: Grid, args: dict[str, Any], row_scales: bool) -> None:
    """Writes or adds the tile: out[row] (+)= total * row scale."""
    b = k.builder
    for r, row in enumerate(grid):
        for v in range(VECTORS):
            total = row[v]
            if row_scales:
                scale = k.load(offset(b, args["row_scales"], 4 * k.lanes * v), k.floats, 4)
                total = b.fmul(total, scale)
            at = offset(b, _row(k, args["out"], r, args["out_stride"]), 4 * k.lanes * v)
            # `add` is 0 or 1: a selection costs less than a branch here.
            old = k.load(at, k.floats, 4)
            nothing = k.constant(k.floats, 0.0)
            chosen = b.select(b.icmp_signed("!=", args["add"], number(0)), old, nothing)
            k.store(b.fadd(total, chosen), at, 4)


FLOAT_NAMES = ("weights", "x", "x_stride", "out", "out_stride", "add", "inputs")
"""Arguments of the float tiles, all int64: addresses, strides in bytes, and how many inputs."""
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
"""Arguments of the quantized tiles, likewise."""


def float_tile(isa: InstructionSet, rows: int, kind: str) -> Any:
    """The tile of `rows` rows with weights "float32" or "bfloat16" [input, output], x float32."""
    bytes_each = 4 if kind == "float32" else 2

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        totals = _grid(k, rows, k.floats)
        _fill(totals, k.constant(k.floats, 0.0))
        with counted(b, args["inputs"]) as index:
            at = b.add(args["weights"], b.mul(index, number(bytes_each * tile_outputs(isa))))
            _ask_ahead(k, at, bytes_each * tile_outputs(isa))
            x_at = b.add(args["x"], b.mul(index, number(4)))
            x = [k.splat(k.load(_row(k, x_at, r, args["x_stride"]), FLOAT, 4)) for r in range(rows)]
            for v in range(VECTORS):
                place = offset(b, at, bytes_each * k.lanes * v)
                if kind == "float32":
                    weights = k.load(place, k.floats, 4 * k.lanes)
                else:
                    raw = b.zext(k.load(place, k.shorts, 2 * k.lanes), k.ints)
                    weights = b.bitcast(b.shl(raw, k.constant(k.ints, 16)), k.floats)
                for r in range(rows):
                    totals[r][v] = k.fma(weights, x[r], totals[r][v])
        _finish(k, totals, args, row_scales=False)

    told = kernel(isa, f"{kind}_tile_{rows}", FLOAT_NAMES, generate)

    @intrinsic
    def tile(
        _typing: Any, weights: Any, x: Any, x_stride: Any, out: Any, out_stride: Any, add: Any,
        inputs: Any,
    ) -> Any:  # fmt: skip
        return told

    return tile


class _Group:
    """One group of integer weights: adds its products to sums of 32 bits, and moves on."""

    def __init__(self, k: KernelBuilder, args: dict[str, Any], rows: int) -> None:
        self.k, self.args, self.rows = k, args, rows
        self.sums = _grid(k, rows, k.ints)
        self.weights = cgutils.alloca_once_value(k.builder, args["weights"])
        self.x = cgutils.alloca_once_value(k.builder, args["x"])

    def begin(self, at: Any) -> None:
        """Sums begin with what storing weights without sign adds, taken off."""
        b, args = self.k.builder, self.args
        for r in range(self.rows):
            row = b.add(_row(self.k, args["x_sums"], r, args["x_group_stride"]), at)
            self.sums[r].fill(self.k.splat(self.k.load(row, I32, 4)))

    def weight(self, vector: int, kind: Any, bytes_each: int) -> Any:
        """Weights of one vector of outputs."""
        size = bytes_each * self.k.lanes
        at = offset(self.k.builder, self.k.builder.load(self.weights), size * vector)
        return self.k.load(at, kind, size)

    def activations(self, places: int) -> list[list[Any]]:
        """Four bytes of x in every lane, as int32: [row][place of four bytes]."""
        b, x = self.k.builder, self.k.builder.load(self.x)

        def four(r: int, place: int) -> Any:
            at = offset(b, _row(self.k, x, r, self.args["x_stride"]), 4 * place)
            return self.k.splat(self.k.load(at, I32, 4))

        return [[four(r, place) for place in range(places)] for r in range(self.rows)]

    def advance(self, weight_bytes: int, x_bytes: int) -> None:
        """Moves on to the next inputs."""
        b = self.k.builder
        _ask_ahead(self.k, b.load(self.weights), weight_bytes)
        b.store(offset(b, b.load(self.weights), weight_bytes), self.weights)
        b.store(offset(b, b.load(self.x), x_bytes), self.x)

    def nibbles(self, vector: int) -> list[Any]:
        """Weights of 4 bits as bytes: those of four inputs, and of the next four."""
        k, b = self.k, self.k.builder
        raw, low = self.weight(vector, k.ints, 4), k.constant(k.ints, 0x0F0F0F0F)
        return [b.and_(raw, low), b.and_(b.lshr(raw, k.constant(k.ints, 4)), low)]

    def dot_bytes(self, bits: int) -> None:
        """Four inputs a step, or eight where weights have 4 bits."""
        k = self.k
        inputs = 4 if bits == 8 else 8
        with counted(k.builder, k.builder.sdiv(self.args["group_size"], number(inputs))):
            x = self.activations(inputs // 4)
            for v in range(VECTORS):
                parts = [self.weight(v, k.ints, 4)] if bits == 8 else self.nibbles(v)
                for r in range(self.rows):
                    for part, four in zip(parts, x[r], strict=True):
                        self.sums[r][v] = k.dot_bytes(self.sums[r][v], part, four)
            self.advance(4 * tile_outputs(k.isa), inputs)

    def dot_shorts(self) -> None:
        """Weights of 8 bits against activations in 16: four inputs a step, in two pairs."""
        k, b = self.k, self.k.builder
        with counted(b, b.sdiv(self.args["group_size"], number(4))):
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
        """Weights of 4 bits: some steps of eight inputs in 16 bits, then into 32."""
        k, b = self.k, self.k.builder
        ones, most = k.constant(k.short_pairs, 1), number(_SUMS_OF_16_BITS)
        sums = _grid(k, self.rows, k.short_pairs)
        steps = b.sdiv(self.args["group_size"], number(8))
        rounds = b.sdiv(b.add(steps, number(_SUMS_OF_16_BITS - 1)), most)
        with counted(b, rounds) as done:
            left = b.sub(steps, b.mul(done, most))
            some = b.select(b.icmp_signed("<", left, most), left, most)
            _fill(sums, k.constant(k.short_pairs, 0))
            with counted(b, some):
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
    """The tile of `rows` rows with weights of 8 or 4 bits in groups, and x as
    `products.quantize_rows` writes it."""

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        totals = _grid(k, rows, k.floats)
        _fill(totals, k.constant(k.floats, 0.0))
        group = _Group(k, args, rows)
        scales = cgutils.alloca_once_value(b, args["group_scales"])
        with counted(b, args["groups"]) as index:
            at = b.mul(index, number(4))
            group.begin(at)
            if isa.vnni or (bits == 4 and isa.byte_products == "none"):
                group.dot_bytes(bits)
            elif bits == 8:
                group.dot_shorts()
            else:
                group.dot_nibbles()
            _add_group(k, args, totals, group.sums, scales, at)
        _finish(k, totals, args, row_scales=True)

    told = kernel(isa, f"int{bits}_tile_{rows}", QUANTIZED_NAMES, generate)

    @intrinsic
    def tile(
        _typing: Any, weights: Any, group_scales: Any, row_scales: Any, x: Any, x_stride: Any,
        x_scales: Any, x_sums: Any, x_group_stride: Any, out: Any, out_stride: Any, add: Any,
        groups: Any, group_size: Any,
    ) -> Any:  # fmt: skip
        return told

    return tile


def _add_group(
    k: KernelBuilder, args: dict[str, Any], totals: Grid, sums: Grid, scales: Any, at: Any
) -> None:
    """totals += sums * the group's scale * that of x."""
    b = k.builder
    scale_at = b.load(scales)
    found = [k.load_halves(offset(b, scale_at, 2 * k.lanes * v)) for v in range(VECTORS)]
    for r, row in enumerate(totals):
        place = b.add(_row(k, args["x_scales"], r, args["x_group_stride"]), at)
        of_x = k.splat(k.load(place, FLOAT, 4))
        for v in range(VECTORS):
            product = b.fmul(found[v], of_x)
            row[v] = k.fma(b.sitofp(sums[r][v], k.floats), product, row[v])
    b.store(offset(b, scale_at, 2 * tile_outputs(k.isa)), scales)
