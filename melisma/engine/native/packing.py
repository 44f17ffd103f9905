"""Packed weight matrices: memory layout for the kernels of `simd/tiles.py`, and quantization.

Input: weights float32 [output, input]. Output: a `Packed` in one of four precisions. A matrix is
cut into tiles of T outputs (`tile_outputs`), padded with zero outputs to whole tiles; a tile lies
contiguously, input after input:

    float32, bfloat16: [tile, input, output of the tile]

        input 0   w[0, 0]  w[1, 0]  ...  w[T-1, 0]
        input 1   w[0, 1]  w[1, 1]  ...  w[T-1, 1]          w[output, input]
          ...

    int8: [tile, input / I, output of the tile, input % I], with I inputs interleaved (4 or 2)

        w[0,0] w[0,1] w[0,2] w[0,3] | w[1,0] w[1,1] w[1,2] w[1,3] | ... | w[T-1,0] ... w[T-1,3]
        w[0,4] w[0,5] w[0,6] w[0,7] | ...

    int4: [tile, input / (2 I), output of the tile, input % I], two weights in a byte

        bits 0-3:  w[0,0] w[0,1] w[0,2] w[0,3] | w[1,0] ...
        bits 4-7:  w[0,4] w[0,5] w[0,6] w[0,7] | w[1,4] ...

    weight = (integer - zero point) * group scale (float16, [tile, input / group, output])
                                    * row scale   (float32, [tile, output])

T, I and the zero point depend on the instruction set (`byte_layout`).
"""

from __future__ import annotations

import contextlib
import math
import mmap
import sys
from dataclasses import dataclass

import numpy as np

from melisma.simd.instruction_set import InstructionSet
from melisma.simd.selection import selected
from melisma.simd.tiles import tile_outputs
from melisma.values.errors import MelismaError
from melisma.values.model_ref import PRECISIONS

_GROUPS = {"int8": 128, "int4": 64}
"""Inputs that share a scale (chosen: smaller int4 groups cost more memory than they gain)."""
_ALIGN = 64
"""Bytes of a cache line."""
_CHUNK = 64 << 20
"""Bytes that an arena allocates at once."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed matrix. All arrays are contiguous and aligned to cache lines."""

    precision: str
    """One of `PRECISIONS`."""
    inputs: int
    outputs: int
    """Outputs of the matrix, without the padding of the last tile."""
    tiles: int
    """Number of tiles."""
    weights: np.ndarray
    """uint8, in the layout described above."""
    group_size: int = 0
    """Inputs of a quantization group; 0 for floats."""
    group_scales: np.ndarray | None = None
    """float16 [tile, group, output of the tile], relative to the row's scale."""
    row_scales: np.ndarray | None = None
    """float32 [tile, output of the tile], flattened."""

    @property
    def bytes(self) -> int:
        """Bytes that one product reads: weights and scales."""
        scales = (self.group_scales, self.row_scales)
        return self.weights.nbytes + sum(one.nbytes for one in scales if one is not None)


class ArenaAllocator:
    """Allocates the arrays of a model one after another, in huge pages where available (Linux).

    With pages of 4 KiB, address translation takes a processor about as long as reading the page.
    numpy requests pages of 2 MiB only for arrays larger than that, and most matrices are smaller.
    """

    def __init__(self) -> None:
        self._chunk = np.empty(0, np.uint8)

    def zeros(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """A new array of zeros, aligned to a cache line; the system commits its memory on the first
        write."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > len(self._chunk):
            self._chunk = np.frombuffer(_huge_pages(max(_CHUNK, size)), np.uint8)
        array = self._chunk[:size]
        self._chunk = self._chunk[-(-size // _ALIGN) * _ALIGN :]
        return array.view(dtype).reshape(shape)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """Copies an array into the arena."""
        copy = self.zeros(array.shape, array.dtype.type)
        copy[...] = array
        return copy


def _huge_pages(size: int) -> mmap.mmap:
    """Private zeroed memory, in huge pages where the system has them."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # The kernel may be built without huge pages.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def aligned(array: np.ndarray) -> np.ndarray:
    """A contiguous copy, aligned to a cache line."""
    buffer = np.empty(array.nbytes + _ALIGN, np.uint8)
    start = -buffer.ctypes.data % _ALIGN
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def aligned_zeros(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of zeros, aligned to a cache line."""
    return aligned(np.zeros(shape, dtype))


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 as uint16, rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@dataclass(frozen=True, kw_only=True)
class ByteLayout:
    """Layout of integer weights, and the type of the activations they are multiplied by."""

    interleave: int
    """Inputs of one output that lie side by side."""
    zero_point: int
    """Stored integer of a weight of zero: what is added to make weights unsigned."""
    activation_bytes: int
    """Bytes of one quantized activation."""


def byte_layout(isa: InstructionSet, precision: str) -> ByteLayout:
    """The layout of "int8" or "int4" weights, as `simd/tiles.py` reads them."""
    if precision == "int4":
        return ByteLayout(interleave=4, zero_point=8, activation_bytes=1)
    if isa.vnni:
        return ByteLayout(interleave=4, zero_point=128, activation_bytes=1)
    return ByteLayout(interleave=2, zero_point=0, activation_bytes=2)


def pack(
    weight: np.ndarray,
    precision: str,
    *,
    isa: InstructionSet | None = None,
    arena: ArenaAllocator | None = None,
) -> Packed:
    """Packs a weight matrix, quantizing it for "int8" and "int4".

    Args:
        weight: float32 [output, input].
        precision: One of `PRECISIONS`.
        isa: The instruction set that will multiply it; the selected one by default.
        arena: Allocates the arrays; each gets memory of its own by default.

    Raises:
        MelismaError: Unknown precision, or a number of inputs that is not a multiple of 8.
    """
    if precision not in PRECISIONS:
        raise MelismaError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')
    isa = isa or selected()
    outputs, inputs = weight.shape
    size = tile_outputs(isa)
    tiles = -(-outputs // size)
    padded = np.zeros((tiles * size, inputs), np.float32)
    padded[:outputs] = weight
    store = aligned if arena is None else arena.copy
    facts = {"precision": precision, "inputs": inputs, "outputs": outputs, "tiles": tiles}
    if precision in ("float32", "bfloat16"):
        transposed = padded.reshape(tiles, size, inputs).transpose(0, 2, 1)
        stored = transposed if precision == "float32" else to_bfloat16(transposed)
        return Packed(weights=store(stored).view(np.uint8), **facts)
    group = math.gcd(inputs, _GROUPS[precision])
    if group % 8:
        raise MelismaError(f"{precision} weights need a multiple of 8 inputs, not {inputs}")
    integers, group_scales, row_scales = _quantize(padded, group, 127 if precision == "int8" else 7)
    layout = byte_layout(isa, precision)
    shifted = (integers + layout.zero_point).astype(np.uint8).reshape(tiles, size, inputs)
    interleaved = _interleave_bytes if precision == "int8" else _interleave_nibbles
    scales = group_scales.reshape(tiles, size, -1).transpose(0, 2, 1).astype(np.float16)
    return Packed(
        weights=store(interleaved(shifted, layout.interleave)),
        group_size=group,
        group_scales=store(scales),
        row_scales=store(row_scales),
        **facts,
    )


def _quantize(
    weight: np.ndarray, group: int, largest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symmetric quantization to [-largest, largest], rounded to nearest.

    Returns:
        (int16 [output, input], group scales float16 [output, group] relative to the row scales,
        row scales float32 [output]).
    """
    outputs, inputs = weight.shape
    grouped = weight.reshape(outputs, inputs // group, group)
    exact = np.abs(grouped).max(axis=2) / largest
    row_scale = np.maximum(exact.max(axis=1), 1e-12)
    # Weights are divided by the float16 scale as it is stored: its rounding causes no error.
    group_scale = (exact / row_scale[:, None]).astype(np.float16)
    step = np.maximum(group_scale.astype(np.float32) * row_scale[:, None], 1e-30)
    integers = np.round(grouped / step[..., None]).clip(-largest, largest)
    return (
        integers.reshape(outputs, inputs).astype(np.int16),
        group_scale,
        row_scale.astype(np.float32),
    )


def _interleave_bytes(shifted: np.ndarray, interleave: int) -> np.ndarray:
    """[tile, output, input] -> uint8 [tile, input / interleave, output, interleave]."""
    tiles, size, _ = shifted.shape
    parts = shifted.reshape(tiles, size, -1, interleave)
    return np.ascontiguousarray(parts.transpose(0, 2, 1, 3))


def _interleave_nibbles(shifted: np.ndarray, interleave: int) -> np.ndarray:
    """[tile, output, input] -> uint8 [tile, input / (2 interleave), output, interleave]: the first
    `interleave` inputs in the low nibbles of the bytes, the next in the high ones."""
    tiles, size, _ = shifted.shape
    parts = shifted.reshape(tiles, size, -1, 2, interleave)
    both = parts[..., 0, :] | (parts[..., 1, :] << 4)
    return np.ascontiguousarray(both.transpose(0, 2, 1, 3))
