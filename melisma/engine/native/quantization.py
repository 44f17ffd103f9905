"""Quantization kernels: activations, queries and attention weights from float32 to integers.

Input: float32 numbers at an address. Output: int8 or int16 numbers at another. Numbers are rounded
to nearest, halves up; counts are multiples of `MIN_LANES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from melisma.simd.instruction_set import InstructionSet
from melisma.simd.vectors import FLOAT, I8, I16, I32, KernelBuilder, i64, intrinsic

# numba takes an intrinsic's argument names from its Python signature; the code generator uses them.
# ruff: noqa: ARG001

MIN_LANES = 8
"""Divides every count and the number of lanes of every instruction set."""
_GOLDEN = 40_503
"""2**16 divided by the golden ratio: its multiples modulo 2**16 are spread evenly."""


class _Loop:
    """A loop over numbers, a full vector at a time, the remainder by `MIN_LANES`."""

    def __init__(self, builder: Any, isa: InstructionSet) -> None:
        self.b, self.isa = builder, isa

    def over(self, count: Any, body: Callable[[KernelBuilder, Any], None]) -> None:
        """Emits `body(builder, index of the first number)` for all `count` numbers."""
        b, lanes = self.b, i64(self.isa.lanes)
        whole = b.mul(b.sdiv(count, lanes), lanes)
        with cgutils.for_range(b, b.sdiv(count, lanes)) as loop:
            body(KernelBuilder(b, self.isa), b.mul(loop.index, lanes))
        if self.isa.lanes > MIN_LANES:
            with cgutils.if_unlikely(b, b.icmp_signed("<", whole, count)):
                body(KernelBuilder(b, self.isa, lanes=MIN_LANES), whole)


def _load_floats(k: KernelBuilder, address: Any, index: Any) -> Any:
    return k.load(k.builder.add(address, k.builder.mul(index, i64(4))), k.floats, 4)


def _store_ints(k: KernelBuilder, ints: Any, address: Any, index: Any, kind: Any) -> None:
    """Stores int32 numbers, truncated to a smaller type."""
    b = k.builder
    at = b.add(address, b.mul(index, i64(kind.width // 8)))
    k.store(b.trunc(ints, ir.VectorType(kind, k.lanes)), at, 1)


def _nearest(k: KernelBuilder, values: Any, scale: Any) -> Any:
    """values * scale, rounded to int32."""
    b = k.builder
    scaled = b.fadd(b.fmul(values, k.splat(scale)), k.constant(k.floats, 0.5))
    return b.fptosi(k.floor(scaled), k.ints)


def _accumulate(k: KernelBuilder, total: Any, ints: Any) -> None:
    """Adds the sum of all lanes to an int32 variable."""
    b = k.builder
    b.store(b.add(b.load(total), k.reduce(ints, b.add)), total)


def _maximum(b: Any, one: Any, other: Any) -> Any:
    return b.select(b.fcmp_ordered(">", one, other), one, other)


def abs_max_kernel(isa: InstructionSet) -> Any:
    """numba function (x, count) -> float32: the largest absolute value."""

    def codegen(_context: Any, b: Any, _signature: Any, args: Any) -> Any:
        largest = cgutils.alloca_once_value(b, ir.Constant(FLOAT, 0.0))

        def body(k: KernelBuilder, index: Any) -> None:
            in_vector = k.reduce(
                k.magnitude(_load_floats(k, args[0], index)), lambda *both: _maximum(b, *both)
            )
            b.store(_maximum(b, b.load(largest), in_vector), largest)

        _Loop(b, isa).over(args[1], body)
        return b.load(largest)

    @intrinsic
    def abs_max(_typing: Any, x: Any, count: Any) -> Any:
        return types.float32(types.int64, types.int64), codegen

    return abs_max


def quantize_kernel(isa: InstructionSet, dtype: str) -> Any:
    """Kernel that quantizes a vector.

    Args:
        isa: The instruction set.
        dtype: "int8" or "int16".

    Returns:
        numba function (x, scale, count, out) -> int32: writes x * scale, returns the sum.
    """
    stored = I8 if dtype == "int8" else I16

    def codegen(_context: Any, b: Any, _signature: Any, args: Any) -> Any:
        x, scale, count, out = args
        total = cgutils.alloca_once_value(b, ir.Constant(I32, 0))

        def body(k: KernelBuilder, index: Any) -> None:
            rounded = _nearest(k, _load_floats(k, x, index), scale)
            _store_ints(k, rounded, out, index, stored)
            _accumulate(k, total, rounded)

        _Loop(b, isa).over(count, body)
        return b.load(total)

    @intrinsic
    def quantize(_typing: Any, x: Any, scale: Any, count: Any, out: Any) -> Any:
        signature = types.int32(types.int64, types.float32, types.int64, types.int64)
        return signature, codegen

    return quantize


def quantize_halves_kernel(isa: InstructionSet) -> Any:
    """Kernel that quantizes a vector to 16 bits, split into two signed bytes.

    Returns:
        numba function (x, scale, count, out, sums): writes x * scale = 256 * high + low as int8
        [half, number], the high bytes first, and the sum of each half, int32 [half].
    """

    def codegen(context: Any, b: Any, _signature: Any, args: Any) -> Any:
        x, scale, count, out, sums = args
        totals = [cgutils.alloca_once_value(b, ir.Constant(I32, 0)) for _ in range(2)]

        def body(k: KernelBuilder, index: Any) -> None:
            rounded, eight = _nearest(k, _load_floats(k, x, index), scale), k.constant(k.ints, 8)
            high = b.ashr(b.add(rounded, k.constant(k.ints, 128)), eight)
            low = b.sub(rounded, b.shl(high, eight))
            for half, total, to in zip((high, low), totals, (out, b.add(out, count)), strict=True):
                _store_ints(k, half, to, index, I8)
                _accumulate(k, total, half)

        _Loop(b, isa).over(count, body)
        for half, total in enumerate(totals):
            at = b.inttoptr(b.add(sums, i64(4 * half)), ir.PointerType(I32))
            b.store(b.load(total), at)
        return context.get_dummy_value()

    @intrinsic
    def quantize(_typing: Any, x: Any, scale: Any, count: Any, out: Any, sums: Any) -> Any:
        signature = types.void(types.int64, types.float32, *[types.int64] * 3)
        return signature, codegen

    return quantize


def quantize_attention_kernel(isa: InstructionSet) -> Any:
    """Kernel that quantizes attention weights with dithering.

    A different fraction (a low-discrepancy sequence) is added to every weight before truncation, so
    that the sum of hundreds of weights below one unit is kept.

    Returns:
        numba function (weights, scale, count, out): writes weights * scale, from 0 to 32,767, as
        int16 [position], or with VNNI as uint8 [half, position], the high bytes first.
    """

    def codegen(context: Any, b: Any, _signature: Any, args: Any) -> Any:
        weights, scale, count, out = args

        def body(k: KernelBuilder, index: Any) -> None:
            positions = ir.Constant(k.ints, list(range(k.lanes)))
            positions = b.add(positions, k.splat(b.trunc(index, I32)))
            multiples = b.mul(positions, k.constant(k.ints, _GOLDEN))
            fraction = b.uitofp(b.and_(multiples, k.constant(k.ints, 0xFFFF)), k.floats)
            fraction = b.fmul(fraction, k.constant(k.floats, 2.0**-16))
            scaled = b.fmul(_load_floats(k, weights, index), k.splat(scale))
            weight = b.fptosi(b.fadd(scaled, fraction), k.ints)
            limit = k.constant(k.ints, 0x7FFF)
            weight = b.select(b.icmp_signed("<", weight, limit), weight, limit)
            if isa.vnni:
                _store_ints(k, b.ashr(weight, k.constant(k.ints, 8)), out, index, I8)
                _store_ints(k, weight, b.add(out, count), index, I8)
            else:
                _store_ints(k, weight, out, index, I16)

        _Loop(b, isa).over(count, body)
        return context.get_dummy_value()

    @intrinsic
    def quantize(_typing: Any, weights: Any, scale: Any, count: Any, out: Any) -> Any:
        return types.void(types.int64, types.float32, types.int64, types.int64), codegen

    return quantize
