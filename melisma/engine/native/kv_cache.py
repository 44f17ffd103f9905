"""KV cache kernels: memory layout, products of a query with keys, weighted sums of values.

Keys and values of one sequence and head. Head sizes and numbers of positions are padded with zeros
to multiples of `BLOCK`; L is the number of vector lanes of the instruction set, D the padded head
size. `to_cache_layout` arranges numpy arrays in this way.

    keys, float32 or bfloat16: [position / L, number, lane]

                  lane 0      lane 1      ...  lane L-1
        number 0  k[p, 0]     k[p+1, 0]   ...  k[p+L-1, 0]      A block of L positions. Its scores
        number 1  k[p, 1]     k[p+1, 1]   ...  k[p+L-1, 1]      are one vector: no sum across
          ...                                                   lanes is needed.
        number D-1

    values, float32 or bfloat16: [position, number]

        position p    v[p, 0]    v[p, 1]    ...  v[p, D-1]
        position p+1  v[p+1, 0]  v[p+1, 1]  ...  v[p+1, D-1]

    int8, with I bytes interleaved (I = 4 with VNNI, else 2), and a float32 scale per position:

        keys: [position / L, number / I, lane, number % I]
            k[p,0] k[p,1] k[p,2] k[p,3] | k[p+1,0] k[p+1,1] k[p+1,2] k[p+1,3] | ...

        values: [position / I, number, position % I]
            v[p,0] v[p+1,0] v[p+2,0] v[p+3,0] | v[p,1] v[p+1,1] v[p+2,1] v[p+3,1] | ...

int8 keys and values are multiplied by queries and attention weights quantized to 16 bits. With VNNI
these are split into two bytes, and keys are stored with 128 added, so that they are unsigned.
Without, pairs of bytes are extended to 16 bits on the way, and the product of two pairs has 32
bits. Sums over positions are cut before they could overflow (`MAX_POSITIONS`), with VNNI too, so
that every instruction set accumulates alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from melisma.simd.instruction_set import InstructionSet
from melisma.simd.selection import selected
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

DTYPES = ("float32", "bfloat16", "int8")
"""Types of cached keys and values; compiled code knows them by their index."""
BLOCK = 16
"""Positions and head sizes are padded to multiples of this, in every instruction set."""
MAX_POSITIONS = 512
"""Positions whose weighted values are accumulated as integers: 32,767 * 127 * 512 < 2**31, and each
half of such a sum is an integer that float32 represents exactly."""
MAX_HEAD_SIZE = 512
"""Largest padded head size whose product with a 16-bit query cannot overflow: 32,639 * 127 * 512 <
2**31."""
_BYTES_EACH = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class KVLayout:
    """Layout of an int8 cache."""

    interleave: int
    """Numbers of a key, or positions of a value, that lie side by side; a divisor of 16."""
    key_zero_point: int
    """Added to keys, so that they are unsigned."""


def kv_layout(isa: InstructionSet) -> KVLayout:
    """The layout of an int8 cache for an instruction set."""
    if isa.vnni:
        return KVLayout(interleave=4, key_zero_point=128)
    return KVLayout(interleave=2, key_zero_point=0)


def padded(count: int) -> int:
    """Rounds a number of positions or a head size up to a multiple of `BLOCK`."""
    return -(-count // BLOCK) * BLOCK


def to_cache_layout(vectors: np.ndarray, *, keys: bool) -> np.ndarray:
    """Arranges float keys or values as the kernels read them.

    Args:
        vectors: [..., position, number].
        keys: Whether they are keys; else values.

    Returns:
        The same numbers in the order described above, padded with zeros.
    """
    positions, size = vectors.shape[-2:]
    padding = [(0, 0)] * (vectors.ndim - 2) + [(0, padded(n) - n) for n in (positions, size)]
    full = np.pad(vectors, padding)
    if not keys:
        return full
    blocks = full.reshape(*full.shape[:-2], -1, selected().lanes, full.shape[-1])
    return np.ascontiguousarray(blocks.swapaxes(-1, -2)).reshape(full.shape)


@dataclass(frozen=True, kw_only=True)
class LayerCache:
    """KV cache of one layer, in the layout described above."""

    keys: np.ndarray
    """[sequence, head, position, number]: float32, bfloat16 as uint16, or int8."""
    values: np.ndarray
    """The same shape and type."""
    key_scales: np.ndarray | None = None
    """float32 [sequence, head, position], for int8 only."""
    value_scales: np.ndarray | None = None

    def arrays(self) -> list[np.ndarray]:
        """All arrays."""
        found = (self.keys, self.values, self.key_scales, self.value_scales)
        return [array for array in found if array is not None]

    def fields(self) -> tuple[Any, ...]:
        """The fields of `pointers.CachePointers`."""
        dtype = {np.float32: 0, np.uint16: 1, np.int8: 2}[self.keys.dtype.type]
        capacity = self.keys.shape[2]
        return self.keys, self.key_scales, self.values, self.value_scales, dtype, capacity


def _load_floats(k: KernelBuilder, address: Any, dtype: str) -> Any:
    """A vector of float32 or bfloat16 numbers, as float32."""
    if dtype == "float32":
        return k.load(address, k.floats, 4)
    b = k.builder
    raw = b.zext(k.load(address, k.shorts, 2), k.ints)
    return b.bitcast(b.shl(raw, k.constant(k.ints, 16)), k.floats)


def _load_byte_pairs(k: KernelBuilder, address: Any) -> Any:
    """Two signed bytes in each lane, as int16."""
    return k.builder.sext(k.load(address, k.byte_pairs, 2), k.short_pairs)


def _broadcast_bytes(k: KernelBuilder, address: Any) -> Any:
    """The same four bytes in every lane, as int32."""
    return k.splat(k.load(address, I32, 1))


def _broadcast_shorts(k: KernelBuilder, address: Any) -> Any:
    """The same two 16-bit numbers in every lane, as int16."""
    return k.builder.bitcast(k.splat(k.load(address, I32, 1)), k.short_pairs)


def _join_halves(k: KernelBuilder, high: Any, low: Any) -> Any:
    """256 * high + low, as floats."""
    b = k.builder
    return k.fma(b.sitofp(high, k.floats), k.constant(k.floats, 256.0), b.sitofp(low, k.floats))


def qk_kernel(isa: InstructionSet, dtype: str) -> Any:
    """Kernel of the dot products of a query with float keys.

    Args:
        isa: The instruction set.
        dtype: "float32" or "bfloat16".

    Returns:
        numba function (query, keys, size, blocks, out) of int64 addresses and counts: query
        float32 [size], keys of `blocks` blocks of positions, out float32 [block, lane].
    """
    unroll = 4  # independent accumulators hide the latency of FMA

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        totals = Registers(b, unroll, k.floats)
        step = _BYTES_EACH[dtype] * k.lanes
        with loop(b, args["blocks"]) as block:
            totals.fill(k.constant(k.floats, 0.0))
            keys = b.add(args["keys"], b.mul(block, b.mul(args["size"], i64(step))))
            with loop(b, b.sdiv(args["size"], i64(unroll))) as four:
                key_at = b.add(keys, b.mul(four, i64(step * unroll)))
                query_at = b.add(args["query"], b.mul(four, i64(4 * unroll)))
                for i in range(unroll):
                    query = k.splat(k.load(offset(b, query_at, 4 * i), FLOAT, 4))
                    key = _load_floats(k, offset(b, key_at, step * i), dtype)
                    totals[i] = k.fma(key, query, totals[i])
            scores = b.fadd(b.fadd(totals[0], totals[1]), b.fadd(totals[2], totals[3]))
            k.store(scores, b.add(args["out"], b.mul(block, i64(4 * k.lanes))), 4)

    typed = kernel(isa, f"{dtype}_keys", ("query", "keys", "size", "blocks", "out"), generate)

    @intrinsic
    def scores(_typing: Any, query: Any, keys: Any, size: Any, blocks: Any, out: Any) -> Any:
        return typed

    return scores


def int8_qk_kernel(isa: InstructionSet) -> Any:
    """Kernel of the dot products of a quantized query with int8 keys.

    Args:
        isa: The instruction set.

    Returns:
        numba function (query, high_start, low_start, keys, scales, size, blocks, out) of int64:
        query int16 [size], or with VNNI int8 [half, size], the high bytes first, with start values
        of -128 times the sum of each half, which correct for the keys' zero point; scales float32
        [position]; out float32 [block, lane].
    """

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        interleave = kv_layout(isa).interleave
        totals = Registers(b, 2, k.ints)
        starts = [k.splat(b.trunc(args[f"{half}_start"], I32)) for half in ("high", "low")]
        halves = (args["query"], b.add(args["query"], args["size"]))
        with loop(b, args["blocks"]) as block:
            keys = b.add(args["keys"], b.mul(block, b.mul(args["size"], i64(k.lanes))))
            for i in range(2):
                totals[i] = starts[i] if isa.vnni else k.constant(k.ints, 0)
            # Four numbers of the head at a time.
            with loop(b, b.sdiv(args["size"], i64(4))) as four:
                at = b.add(keys, b.mul(four, i64(4 * k.lanes)))
                for i in range(2):
                    if isa.vnni:
                        key = k.load(at, k.ints, 4)
                        query = _broadcast_bytes(k, b.add(halves[i], b.mul(four, i64(4))))
                        totals[i] = k.dot_bytes(totals[i], key, query)
                    else:
                        key = _load_byte_pairs(k, offset(b, at, interleave * k.lanes * i))
                        query_at = offset(b, b.add(args["query"], b.mul(four, i64(8))), 4 * i)
                        totals[i] = k.dot_shorts(totals[i], key, _broadcast_shorts(k, query_at))
            first = b.mul(block, i64(4 * k.lanes))
            scale = k.load(b.add(args["scales"], first), k.floats, 4)
            if isa.vnni:
                products = _join_halves(k, totals[0], totals[1])
            else:
                products = b.sitofp(b.add(totals[0], totals[1]), k.floats)
            k.store(b.fmul(products, scale), b.add(args["out"], first), 4)

    names = ("query", "high_start", "low_start", "keys", "scales", "size", "blocks", "out")
    typed = kernel(isa, "int8_keys", names, generate)

    @intrinsic
    def scores(
        _typing: Any, query: Any, high_start: Any, low_start: Any, keys: Any, scales: Any,
        size: Any, blocks: Any, out: Any,
    ) -> Any:  # fmt: skip
        return typed

    return scores


def weighted_values_kernel(isa: InstructionSet, dtype: str, vectors: int) -> Any:
    """Kernel of the weighted sum of float values.

    Args:
        isa: The instruction set.
        dtype: "float32" or "bfloat16".
        vectors: Vectors of the head that are accumulated at once.

    Returns:
        numba function (weights, values, stride, positions, out) of int64: weights float32
        [position]; values of `positions` positions, `stride` bytes apart; out float32
        [vectors * lanes], to which the sum is added.
    """

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        ends = [offset(b, args["out"], 4 * k.lanes * v) for v in range(vectors)]
        totals = Registers(b, vectors, k.floats)
        for v, end in enumerate(ends):
            totals[v] = k.load(end, k.floats, 4)
        with loop(b, args["positions"]) as position:
            weight_at = b.add(args["weights"], b.mul(position, i64(4)))
            weight = k.splat(k.load(weight_at, FLOAT, 4))
            at = b.add(args["values"], b.mul(position, args["stride"]))
            for v in range(vectors):
                value = _load_floats(k, offset(b, at, _BYTES_EACH[dtype] * k.lanes * v), dtype)
                totals[v] = k.fma(value, weight, totals[v])
        for v, end in enumerate(ends):
            k.store(totals[v], end, 4)

    names = ("weights", "values", "stride", "positions", "out")
    typed = kernel(isa, f"{dtype}_values_{vectors}", names, generate)

    @intrinsic
    def sums(_typing: Any, weights: Any, values: Any, stride: Any, positions: Any, out: Any) -> Any:
        return typed

    return sums


def int8_weighted_values_kernel(isa: InstructionSet, vectors: int) -> Any:
    """Kernel of the weighted sum of int8 values.

    Args:
        isa: The instruction set.
        vectors: Vectors of the head that are accumulated at once.

    Returns:
        numba function (weights, low_offset, values, stride, steps, out) of int64: weights uint16
        [position] from 0 to 32,767, or with VNNI the high bytes uint8 [position] and the low ones
        `low_offset` bytes after them; values of `steps` times `KVLayout.interleave` positions (at
        most `MAX_POSITIONS`), `stride` bytes from step to step; out float32 [vectors * lanes], to
        which the sum is added.
    """

    def generate(k: KernelBuilder, args: dict[str, Any]) -> None:
        b = k.builder
        halves = 2 if isa.vnni else 1
        totals = Registers(b, halves * vectors, k.ints)
        totals.fill(k.constant(k.ints, 0))
        with loop(b, args["steps"]) as step:
            weight = b.add(args["weights"], b.mul(step, i64(4)))
            at = b.add(args["values"], b.mul(step, args["stride"]))
            if isa.vnni:
                low = b.add(weight, args["low_offset"])
                parts = [_broadcast_bytes(k, half) for half in (weight, low)]
            else:
                parts = [_broadcast_shorts(k, weight)]
            for v in range(vectors):
                for i, part in enumerate(parts):
                    index = halves * v + i
                    if isa.vnni:
                        value = k.load(offset(b, at, 4 * k.lanes * v), k.ints, 4)
                        totals[index] = k.dot_bytes(totals[index], part, value)
                    else:
                        value = _load_byte_pairs(k, offset(b, at, 2 * k.lanes * v))
                        totals[index] = k.dot_shorts(totals[index], value, part)
        for v in range(vectors):
            end = offset(b, args["out"], 4 * k.lanes * v)
            if isa.vnni:
                total = _join_halves(k, totals[2 * v], totals[2 * v + 1])
            else:
                total = b.sitofp(totals[v], k.floats)
            k.store(b.fadd(k.load(end, k.floats, 4), total), end, 4)

    names = ("weights", "low_offset", "values", "stride", "steps", "out")
    typed = kernel(isa, f"int8_values_{vectors}", names, generate)

    @intrinsic
    def sums(
        _typing: Any, weights: Any, low_offset: Any, values: Any, stride: Any, steps: Any, out: Any
    ) -> Any:
        return typed

    return sums
