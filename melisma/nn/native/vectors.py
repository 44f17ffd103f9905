"""What numba's Python cannot say: vector registers, atomic counters, raw addresses.

The first half are words for code generators (`tiles.py`, `past.py`), which write LLVM's language: a
`builder` stands at a place of a function and every call appends an instruction. The second half are
functions that compiled code calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOAT = ir.FloatType()
INTS = ir.VectorType(I32, LANES)
FLOATS = ir.VectorType(FLOAT, LANES)
HALVES = ir.VectorType(ir.HalfType(), LANES)
BYTES = ir.VectorType(I8, LANES)
SHORTS = ir.VectorType(I16, LANES)


def instructions() -> Mapping[str, bool]:
    """What this processor has beyond its family's first, by LLVM's names; empty where LLVM cannot
    tell."""
    try:
        return binding.get_host_cpu_features()
    except RuntimeError:
        return {}


def byte_products() -> int:
    """Bits of the vectors in which this processor multiplies bytes four at a time and adds (VNNI):
    512, 256 (AVX-VNNI, most processors of portable computers), or 0 where it cannot."""
    features = instructions()
    if features.get("avx512vnni") and features.get("avx512f"):
        return 512
    return 256 if features.get("avxvnni") else 0


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; without them torch's are
    slower than those of float32."""
    features = instructions()
    return bool(features.get("avx512bf16") or features.get("amx-bf16"))


def number(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def load(builder: Any, address: Any, kind: Any, align: int) -> Any:
    found = builder.load(builder.inttoptr(address, ir.PointerType(kind)))
    found.align = align
    return found


def store(builder: Any, value: Any, address: Any, align: int) -> None:
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type))).align = align


def spread(builder: Any, value: Any, kind: Any) -> Any:
    """One number in every lane."""
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def same(kind: Any, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c."""
    name = "llvm.fma.v16f32"
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def offset(builder: Any, address: Any, distance: int) -> Any:
    return builder.add(address, number(distance))


def dot4(builder: Any, total: Any, unsigned: Any, signed: Any, bits: int | None = None) -> Any:
    """total + the sum of four products of bytes in each lane.

    `bits`: as `byte_products`, which is asked for None; with 0 by products of 16 bits, which hold
    each of them and which every processor has."""
    bits = byte_products() if bits is None else bits
    if not bits:
        shorts = ir.VectorType(I16, 2 * LANES)
        eight, sixteen = ir.Constant(shorts, [8] * 2 * LANES), same(INTS, 16)
        one, other = (builder.bitcast(bytes_, shorts) for bytes_ in (unsigned, signed))
        low = ir.Constant(shorts, [255] * 2 * LANES)
        for a, b in (
            (builder.and_(one, low), builder.shl(other, eight)),
            (builder.lshr(one, eight), other),
        ):
            products = builder.bitcast(builder.mul(a, builder.ashr(b, eight)), INTS)
            total = builder.add(total, builder.ashr(builder.shl(products, sixteen), sixteen))
            total = builder.add(total, builder.ashr(products, sixteen))
        return total
    lanes = bits // 32
    part = ir.VectorType(I32, lanes)
    name, kind = f"llvm.x86.avx512.vpdpbusd.{bits}", ir.FunctionType(part, [part] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    if lanes == LANES:
        return builder.call(function, [total, unsigned, signed])
    halves = []
    for first in (0, lanes):
        taken = ir.Constant(part, list(range(first, first + lanes)))
        told = [builder.shuffle_vector(one, one, taken) for one in (total, unsigned, signed)]
        halves.append(builder.call(function, told))
    return builder.shuffle_vector(*halves, ir.Constant(INTS, list(range(LANES))))


class Places:
    """Variables of one type that LLVM keeps in registers: read and set by their numbers."""

    def __init__(self, builder: Any, count: int, kind: Any) -> None:
        self._builder = builder
        self._places = [cgutils.alloca_once(builder, kind) for _ in range(count)]

    def __getitem__(self, index: int) -> Any:
        return self._builder.load(self._places[index])

    def __setitem__(self, index: int, value: Any) -> None:
        self._builder.store(value, self._places[index])

    def fill(self, value: Any) -> None:
        """All become one value."""
        for index in range(len(self._places)):
            self[index] = value


@contextmanager
def counted(builder: Any, count: Any) -> Iterator[Any]:
    """What is written within happens `count` times; gives the number of each, from 0."""
    with cgutils.for_range(builder, count) as loop:
        yield loop.index


def codegen_of(names: tuple[str, ...], generate: Callable[[Any, dict[str, Any]], None]) -> Any:
    """(signature, code generator) of a numba intrinsic of int64 arguments `names`."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        generate(builder, dict(zip(names, args, strict=True)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * len(names)), codegen


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
        return builder.bitcast(args[0], FLOAT)

    return types.float32(types.int32), codegen


@intrinsic
def bits_of_float(_typing_context: Any, number: Any) -> Any:
    """The bits of a float32 as an int32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], I32)

    return types.int32(types.float32), codegen


@intrinsic
def add_to(_typing_context: Any, address: Any, amount: Any) -> Any:
    """Adds to the int64 at an address, atomically, and returns what it was."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], ir.PointerType(I64))
        return builder.atomic_rmw("add", place, args[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def look_at(_typing_context: Any, address: Any) -> Any:
    """The int64 at an address, as other threads last left it."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], ir.PointerType(I64))
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
        kind = ir.FunctionType(I32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen
