"""Floats to whole numbers, in vectors: activations, queries, and weights of places.

Enters: float32 numbers at an address. Leaves: int8 or int16 numbers at another. Numbers are
rounded to the nearest, halves upwards; counts are multiples of `LEAST`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from melisma.simd.instruction_set import InstructionSet
from melisma.simd.vectors import FLOAT, I8, I16, I32, KernelBuilder, intrinsic, number

# numba reads an intrinsic's arguments from its signature: they are named here and used in the code
# generator.
# ruff: noqa: ARG001

LEAST = 8
"""Numbers that every count is a multiple of, and lanes of every instruction set."""
_GOLDEN = 40_503
"""The golden section of 2**16: its multiples lie evenly, however many there are."""


class _Loop:
    """Goes through numbers, as many at once as a register holds, the rest by `LEAST`."""

    def __init__(self, builder: Any, isa: InstructionSet) -> None:
        self.b, self.isa = builder, isa

    def over(self, count: Any, body: Callable[[KernelBuilder, Any], None]) -> None:
        """`body(instructions, index of the first number)` for all numbers."""
        b, wide = self.b, number(self.isa.lanes)
        whole = b.mul(b.sdiv(count, wide), wide)
        with cgutils.for_range(b, b.sdiv(count, wide)) as loop:
            body(KernelBuilder(b, self.isa), b.mul(loop.index, wide))
        if self.isa.lanes > LEAST:
            with cgutils.if_unlikely(b, b.icmp_signed("<", whole, count)):
                body(KernelBuilder(b, self.isa, lanes=LEAST), whole)


def _floats(k: KernelBuilder, address: Any, index: Any) -> Any:
    return k.load(k.builder.add(address, k.builder.mul(index, number(4))), k.floats, 4)


def _put(k: KernelBuilder, ints: Any, address: Any, index: Any, kind: Any) -> None:
    """Writes the lower bits of int32 numbers."""
    b = k.builder
    at = b.add(address, b.mul(index, number(kind.width // 8)))
    k.store(b.trunc(ints, ir.VectorType(kind, k.lanes)), at, 1)


def _nearest(k: KernelBuilder, values: Any, scale: Any) -> Any:
    """int32 numbers nearest to values * scale."""
    b = k.builder
    scaled = b.fadd(b.fmul(values, k.splat(scale)), k.constant(k.floats, 0.5))
    return b.fptosi(k.floor(scaled), k.ints)


def _total(k: KernelBuilder, total: Any, ints: Any) -> None:
    """Adds the sum of all lanes to an int32 variable."""
    b = k.builder
    b.store(b.add(b.load(total), k.reduce(ints, b.add)), total)


def _greater(b: Any, one: Any, other: Any) -> Any:
    return b.select(b.fcmp_ordered(">", one, other), one, other)


def abs_max_of(isa: InstructionSet) -> Any:
    """numba function (x, count) -> float32: the largest magnitude."""

    def codegen(_context: Any, b: Any, _signature: Any, args: Any) -> Any:
        most = cgutils.alloca_once_value(b, ir.Constant(FLOAT, 0.0))

        def body(k: KernelBuilder, index: Any) -> None:
            inside = k.reduce(
                k.magnitude(_floats(k, args[0], index)), lambda *both: _greater(b, *both)
            )
            b.store(_greater(b, b.load(most), inside), most)

        _Loop(b, isa).over(args[1], body)
        return b.load(most)

    @intrinsic
    def abs_max(_typing: Any, x: Any, count: Any) -> Any:
        return types.float32(types.int64, types.int64), codegen

    return abs_max


def quantize_to(isa: InstructionSet, kind: str) -> Any:
    """numba function (x, scale, count, out) -> int32: writes x * scale as "int8" or "int16", and
    returns the sum."""
    stored = I8 if kind == "int8" else I16

    def codegen(_context: Any, b: Any, _signature: Any, args: Any) -> Any:
        x, scale, count, out = args
        total = cgutils.alloca_once_value(b, ir.Constant(I32, 0))

        def body(k: KernelBuilder, index: Any) -> None:
            found = _nearest(k, _floats(k, x, index), scale)
            _put(k, found, out, index, stored)
            _total(k, total, found)

        _Loop(b, isa).over(count, body)
        return b.load(total)

    @intrinsic
    def quantize(_typing: Any, x: Any, scale: Any, count: Any, out: Any) -> Any:
        told = types.int32(types.int64, types.float32, types.int64, types.int64)
        return told, codegen

    return quantize


def quantize_to_halves(isa: InstructionSet) -> Any:
    """numba function (x, scale, count, out, sums): writes x * scale as numbers of 16 bits in two
    halves with signs, int8 [half, number], 256 * high + low; and their sums, int32 [half]."""

    def codegen(context: Any, b: Any, _signature: Any, args: Any) -> Any:
        x, scale, count, out, sums = args
        totals = [cgutils.alloca_once_value(b, ir.Constant(I32, 0)) for _ in range(2)]

        def body(k: KernelBuilder, index: Any) -> None:
            found, eight = _nearest(k, _floats(k, x, index), scale), k.constant(k.ints, 8)
            high = b.ashr(b.add(found, k.constant(k.ints, 128)), eight)
            low = b.sub(found, b.shl(high, eight))
            for half, total, to in zip((high, low), totals, (out, b.add(out, count)), strict=True):
                _put(k, half, to, index, I8)
                _total(k, total, half)

        _Loop(b, isa).over(count, body)
        for place, total in enumerate(totals):
            at = b.inttoptr(b.add(sums, number(4 * place)), ir.PointerType(I32))
            b.store(b.load(total), at)
        return context.get_dummy_value()

    @intrinsic
    def quantize(_typing: Any, x: Any, scale: Any, count: Any, out: Any, sums: Any) -> Any:
        told = types.void(types.int64, types.float32, *[types.int64] * 3)
        return told, codegen

    return quantize


def quantize_weights(isa: InstructionSet) -> Any:
    """numba function (weights, scale, count, out): weights * scale as whole numbers from 0 to
    32,767; with VNNI in two halves, uint8 [half, place], else int16 [place].

    What is added before the rest is cut off goes through all fractions: hundreds of weights below 1
    keep their sum.
    """

    def codegen(context: Any, b: Any, _signature: Any, args: Any) -> Any:
        weights, scale, count, out = args

        def body(k: KernelBuilder, index: Any) -> None:
            places = ir.Constant(k.ints, list(range(k.lanes)))
            places = b.add(places, k.splat(b.trunc(index, I32)))
            steps = b.mul(places, k.constant(k.ints, _GOLDEN))
            fraction = b.uitofp(b.and_(steps, k.constant(k.ints, 0xFFFF)), k.floats)
            fraction = b.fmul(fraction, k.constant(k.floats, 2.0**-16))
            scaled = b.fmul(_floats(k, weights, index), k.splat(scale))
            found = b.fptosi(b.fadd(scaled, fraction), k.ints)
            most = k.constant(k.ints, 0x7FFF)
            found = b.select(b.icmp_signed("<", found, most), found, most)
            if isa.vnni:
                _put(k, b.ashr(found, k.constant(k.ints, 8)), out, index, I8)
                _put(k, found, b.add(out, count), index, I8)
            else:
                _put(k, found, out, index, I16)

        _Loop(b, isa).over(count, body)
        return context.get_dummy_value()

    @intrinsic
    def quantize(_typing: Any, weights: Any, scale: Any, count: Any, out: Any) -> Any:
        return types.void(types.int64, types.float32, types.int64, types.int64), codegen

    return quantize
