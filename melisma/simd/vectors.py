"""LLVM intrinsics for numba: vector registers, atomic operations, raw memory access.

The first half is `KernelBuilder`, with which code generators (`tiles.py`,
`engine/native/kv_cache.py`) emit LLVM IR: every call appends an instruction. The second half are
functions that compiled code calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _typed_intrinsic

from melisma.simd.instruction_set import InstructionSet, has_fma

# numba takes an intrinsic's argument names from its Python signature; the code generator uses them.
# The decorator drops the first argument, which no type checker can know.
# ruff: noqa: ARG001
intrinsic: Any = _typed_intrinsic

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOAT = ir.FloatType()


def i64(value: int) -> ir.Constant:
    """An int64 constant."""
    return ir.Constant(I64, value)


def offset(builder: Any, address: Any, distance: int) -> Any:
    """address + `distance` bytes."""
    return builder.add(address, i64(distance))


def reduce_vector(builder: Any, vector: Any, join: Callable[[Any, Any], Any]) -> Any:
    """Reduces a vector to one number by joining its halves again and again; the number of lanes is
    a power of two."""
    left = vector.type.count
    while left > 1:
        left //= 2
        halves = [
            ir.Constant(ir.VectorType(I32, left), list(range(first, first + left)))
            for first in (0, left)
        ]
        vector = join(*(builder.shuffle_vector(vector, vector, half) for half in halves))
    return builder.extract_element(vector, ir.Constant(I32, 0))


class KernelBuilder:
    """Emits instructions on vectors of `lanes` numbers of 32 bits."""

    def __init__(self, builder: Any, isa: InstructionSet, lanes: int | None = None) -> None:
        """Wraps an IR builder.

        Args:
            builder: llvmlite's IR builder, at the point where instructions are inserted.
            isa: The instruction set.
            lanes: Numbers in a vector; those of the instruction set by default.
        """
        self.builder, self.isa, self.lanes = builder, isa, lanes or isa.lanes
        self.floats = ir.VectorType(FLOAT, self.lanes)
        self.halves = ir.VectorType(ir.HalfType(), self.lanes)
        self.ints = ir.VectorType(I32, self.lanes)
        self.shorts = ir.VectorType(I16, self.lanes)
        self.short_pairs = ir.VectorType(I16, 2 * self.lanes)
        self.byte_pairs = ir.VectorType(I8, 2 * self.lanes)
        self.byte_fours = ir.VectorType(I8, 4 * self.lanes)

    def load(self, address: Any, kind: Any, align: int) -> Any:
        """Loads a value of an LLVM type, aligned to `align` bytes."""
        found = self.builder.load(self.builder.inttoptr(address, ir.PointerType(kind)))
        found.align = align
        return found

    def store(self, value: Any, address: Any, align: int) -> None:
        """Stores a value, aligned to `align` bytes."""
        pointer = self.builder.inttoptr(address, ir.PointerType(value.type))
        self.builder.store(value, pointer).align = align

    def prefetch(self, address: Any) -> None:
        """Prefetches the cache line at an address."""
        kind = ir.PointerType(I8)
        signature = ir.FunctionType(ir.VoidType(), [kind, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.builder.module, signature, "llvm.prefetch")
        pointer = self.builder.inttoptr(address, kind)
        self.builder.call(function, [pointer, *(ir.Constant(I32, value) for value in (0, 3, 1))])

    def splat(self, value: Any) -> Any:
        """A vector with one number in every lane."""
        empty = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(empty, value, ir.Constant(I32, 0))
        zeros = ir.Constant(self.ints, [0] * self.lanes)
        return self.builder.shuffle_vector(first, empty, zeros)

    def constant(self, kind: Any, value: float) -> ir.Constant:
        """A constant vector with one value in every lane."""
        return ir.Constant(kind, [value] * kind.count)

    def load_halves(self, address: Any) -> Any:
        """Loads float16 numbers that are not negative, as float32."""
        b = self.builder
        if self.isa.byte_products != "none":
            return b.fpext(self.load(address, self.halves, 2), self.floats)
        # Without the instruction LLVM would call a library function that is not linked. Exponent
        # and fraction, shifted to their place in float32, are 2**112 times too small.
        bits = b.shl(
            b.zext(self.load(address, self.shorts, 2), self.ints), self.constant(self.ints, 13)
        )
        return b.fmul(b.bitcast(bits, self.floats), self.constant(self.floats, 2.0**112))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once where the processor has FMA."""
        if not has_fma():
            return self.builder.fadd(self.builder.fmul(a, b), c)
        return self._call(f"llvm.fma.v{self.lanes}f32", self.floats, a, b, c)

    def floor(self, values: Any) -> Any:
        """Floor of every lane."""
        return self._call(f"llvm.floor.v{self.lanes}f32", self.floats, values)

    def magnitude(self, values: Any) -> Any:
        """Absolute value of every lane."""
        return self._call(f"llvm.fabs.v{self.lanes}f32", self.floats, values)

    def reduce(self, vector: Any, join: Callable[[Any, Any], Any]) -> Any:
        """Reduces all lanes to one number."""
        return reduce_vector(self.builder, vector, join)

    def _call(self, name: str, kind: Any, *values: Any) -> Any:
        signature = ir.FunctionType(kind, [value.type for value in values])
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, values)

    def dot_bytes(self, total: Any, unsigned: Any, signed: Any) -> Any:
        """total + the sum of four byte products in each lane; all arguments int32 [lane]."""
        if self.isa.vnni:
            name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
            return self._call(name, self.ints, total, unsigned, signed)
        # 16 bits hold each product, and every processor multiplies 16 bits.
        b = self.builder
        eight, sixteen = self.constant(self.short_pairs, 8), self.constant(self.ints, 16)
        one, other = (b.bitcast(part, self.short_pairs) for part in (unsigned, signed))
        low = self.constant(self.short_pairs, 255)
        for x, y in ((b.and_(one, low), b.shl(other, eight)), (b.lshr(one, eight), other)):
            products = b.bitcast(b.mul(x, b.ashr(y, eight)), self.ints)
            total = b.add(total, b.ashr(b.shl(products, sixteen), sixteen))
            total = b.add(total, b.ashr(products, sixteen))
        return total

    def dot_shorts(self, total: Any, one: Any, other: Any) -> Any:
        """total int32 [lane] + the sum of two products of int16 [2 * lane] in each lane."""
        b = self.builder
        if self.isa.byte_products != "none":
            name = "avx512.pmaddw.d.512" if self.lanes == 16 else "avx2.pmadd.wd"
            return b.add(total, self._call(f"llvm.x86.{name}", self.ints, one, other))
        wide = ir.VectorType(I32, 2 * self.lanes)
        products = b.mul(b.sext(one, wide), b.sext(other, wide))
        even, odd = (
            ir.Constant(self.ints, list(range(first, 2 * self.lanes, 2))) for first in (0, 1)
        )
        first, second = (b.shuffle_vector(products, products, lanes) for lanes in (even, odd))
        return b.add(total, b.add(first, second))

    def add_pairs(self, total: Any, unsigned: Any, signed: Any) -> Any:
        """total int16 [2 * lane] + the sums of two neighbouring byte products.

        The caller ensures that they fit into 16 bits. Only where `byte_products` is "vpmaddwd".
        """
        b = self.builder
        name = "avx512.pmaddubs.w.512" if self.lanes == 16 else "avx2.pmadd.ub.sw"
        parts = (b.bitcast(part, self.byte_fours) for part in (unsigned, signed))
        return b.add(total, self._call(f"llvm.x86.{name}", self.short_pairs, *parts))


class Registers:
    """Variables of one LLVM type that are kept in registers, indexed by number."""

    def __init__(self, builder: Any, count: int, kind: Any) -> None:
        self._builder = builder
        self._slots = [cgutils.alloca_once(builder, kind) for _ in range(count)]

    def __getitem__(self, index: int) -> Any:
        return self._builder.load(self._slots[index])

    def __setitem__(self, index: int, value: Any) -> None:
        self._builder.store(value, self._slots[index])

    def fill(self, value: Any) -> None:
        """Sets all of them to one value."""
        for index in range(len(self._slots)):
            self[index] = value


@contextmanager
def loop(builder: Any, count: Any) -> Iterator[Any]:
    """A loop in the generated code around the instructions of the `with` block.

    Args:
        builder: llvmlite's IR builder.
        count: int64, number of iterations.

    Yields:
        The iteration, int64 from 0.
    """
    with cgutils.for_range(builder, count) as iteration:
        yield iteration.index


def kernel(
    isa: InstructionSet,
    name: str,
    arguments: tuple[str, ...],
    generate: Callable[[KernelBuilder, dict[str, Any]], None],
) -> Any:
    """Makes a numba intrinsic whose code is a separate LLVM function.

    The function is not inlined: next to other kernels the registers would not suffice, and the
    accumulators of the inner loop would be spilled to memory.

    Args:
        isa: The instruction set.
        name: Name of the kernel, unique within the instruction set.
        arguments: Names of the arguments, all int64: addresses, strides in bytes, and counts.
        generate: Emits the body, given the builder and the arguments by name.

    Returns:
        (signature, code generator), what a function decorated by `intrinsic` returns.
    """
    symbol = f"melisma.{isa.name}.{name}"

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(arguments))
        function = cgutils.get_or_insert_function(builder.module, kind, symbol)
        if function.is_declaration:
            function.linkage = "internal"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            generate(KernelBuilder(inside, isa), dict(zip(arguments, function.args, strict=True)))
            inside.ret_void()
        builder.call(function, args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * len(arguments)), codegen


def _pointer(kind: Any) -> Any:
    """numba function: address (int64) -> pointer to numbers of a numba type, to be indexed."""

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


_SUMS = 16
"""Partial sums of a float reduction: the same in every instruction set, so that all round alike."""


def _sum_codegen(term: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """Code generator of a sum of `term(values, mean)` over float32 numbers: (address, mean, count)
    -> float32.

    Number i is added to partial sum i % `_SUMS`; the partial sums are joined in halves; the
    remainder of the division by `_SUMS` is added last, one number at a time.
    """

    def codegen(_context: Any, b: Any, _signature: Any, args: Any) -> Any:
        address, mean, count = args
        kind = ir.VectorType(FLOAT, _SUMS)
        total = cgutils.alloca_once_value(b, ir.Constant(kind, [0.0] * _SUMS))
        with cgutils.for_range(b, b.sdiv(count, i64(_SUMS))) as block:
            at = b.add(address, b.mul(block.index, i64(4 * _SUMS)))
            values = b.load(b.inttoptr(at, ir.PointerType(kind)))
            values.align = 4
            b.store(b.fadd(b.load(total), term(b, values, mean)), total)
        result = cgutils.alloca_once_value(b, reduce_vector(b, b.load(total), b.fadd))
        whole = b.mul(b.sdiv(count, i64(_SUMS)), i64(_SUMS))
        with cgutils.for_range(b, b.sub(count, whole)) as rest:
            at = b.add(address, b.mul(b.add(whole, rest.index), i64(4)))
            value = b.load(b.inttoptr(at, ir.PointerType(FLOAT)))
            value.align = 4
            b.store(b.fadd(b.load(result), term(b, value, mean)), result)
        return b.load(result)

    return codegen


def _squared_deviation(b: Any, values: Any, mean: Any) -> Any:
    if isinstance(values.type, ir.VectorType):
        empty = ir.Constant(values.type, ir.Undefined)
        first = b.insert_element(empty, mean, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, _SUMS), [0] * _SUMS)
        mean = b.shuffle_vector(first, empty, zeros)
    deviation = b.fsub(values, mean)
    return b.fmul(deviation, deviation)


@intrinsic
def sum_floats(_typing_context: Any, address: Any, count: Any) -> Any:
    """Sum of `count` float32 numbers at an address."""
    code = _sum_codegen(lambda _b, values, _mean: values)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return code(context, builder, signature, (args[0], ir.Constant(FLOAT, 0.0), args[1]))

    return types.float32(types.int64, types.int64), codegen


@intrinsic
def sum_squares(_typing_context: Any, address: Any, mean: Any, count: Any) -> Any:
    """Sum of the squared deviations of `count` float32 numbers at an address from `mean`."""
    signature = types.float32(types.int64, types.float32, types.int64)
    return signature, _sum_codegen(_squared_deviation)


@intrinsic
def fma(_typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32 numbers, rounded once where the processor has FMA."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if not has_fma():
            return builder.fadd(builder.fmul(args[0], args[1]), args[2])
        kind = ir.FunctionType(FLOAT, [FLOAT] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32")
        return builder.call(function, args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def float_of_bits(_typing_context: Any, bits: Any) -> Any:
    """Reinterprets an int32 as float32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], FLOAT)

    return types.float32(types.int32), codegen


@intrinsic
def bits_of_float(_typing_context: Any, number: Any) -> Any:
    """Reinterprets a float32 as int32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], I32)

    return types.int32(types.float32), codegen


@intrinsic
def atomic_add(_typing_context: Any, address: Any, amount: Any) -> Any:
    """Atomically adds to the int64 at an address; returns the previous value."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.PointerType(I64))
        return builder.atomic_rmw("add", pointer, args[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_load(_typing_context: Any, address: Any) -> Any:
    """Loads the int64 at an address with acquire order."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.PointerType(I64))
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_store(_typing_context: Any, address: Any, value: Any) -> Any:
    """Stores an int64 with release order: after all earlier writes of this thread."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.PointerType(I64))
        builder.store_atomic(args[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def compare_and_swap(_typing_context: Any, address: Any, expected: Any, value: Any) -> Any:
    """Atomically replaces the int64 at an address if it is `expected`; returns whether it was."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.PointerType(I64))
        result = builder.cmpxchg(pointer, args[1], args[2], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(_typing_context: Any) -> Any:
    """Hints to the processor that the thread spins (PAUSE)."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if binding.get_process_triple().startswith(("x86_64", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(_typing_context: Any) -> Any:
    """Yields the core to the operating system's scheduler."""

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        kind = ir.FunctionType(I32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen
