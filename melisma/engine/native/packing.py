"""How a matrix lies in memory for `simd/tiles.py`: tiles of outputs, and in each all of its inputs.

Enters: weights float32 [output, input]. Leaves: a `Packed` of one of four precisions. Outputs are
filled up to whole tiles with rows of zeros, of which nobody reads the product. How many outputs a
tile has, and how many bytes lie side by side, depends on the instruction set (`byte_layout`).
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

PRECISIONS = ("float32", "bfloat16", "int8", "int4")
"""How weights may be kept, from exact to small."""
_GROUPS = {"int8": 128, "int4": 64}
"""Inputs that share a scale (chosen: smaller groups of 4 bits cost more memory than they gain)."""
_ALIGN = 64
"""Bytes; of a line of the cache."""
_CHUNK = 64 << 20
"""Bytes that a shelf asks for at once."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A matrix ready to be multiplied. All arrays are contiguous and begin at a line of the
    cache."""

    precision: str
    """One of `PRECISIONS`."""
    inputs: int
    outputs: int
    """As they were asked for; the tiles hold more."""
    tiles: int
    """Tiles, of as many outputs as the instruction set wants."""
    weights: np.ndarray
    """Bytes."""
    group_size: int = 0
    """Inputs of one group; 0 for floats."""
    group_scales: np.ndarray | None = None
    """float16 [tile, group, output of the tile]: each group's share of its row's scale."""
    row_scales: np.ndarray | None = None
    """float32 [tile * output of the tile]."""

    @property
    def bytes(self) -> int:
        """Bytes that one product reads."""
        scales = (self.group_scales, self.row_scales)
        return self.weights.nbytes + sum(one.nbytes for one in scales if one is not None)


class ArenaAllocator:
    """Memory for the arrays of a model, one after the other, in large pages where the system has
    them (Linux).

    Where memory comes in pages of 4 KiB, finding the next page takes a processor about as long as
    reading it; numpy asks for pages of 2 MiB for arrays that fill some, and most matrices do not.
    """

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)

    def zeros(self, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """Zeros that nobody else has, from a line of the cache on; memory is taken when they are
        first written to."""
        count = math.prod(shape) * np.dtype(kind).itemsize
        if count > len(self._room):
            self._room = np.frombuffer(_large_pages(max(_CHUNK, count)), np.uint8)
        found = self._room[:count]
        self._room = self._room[-(-count // _ALIGN) * _ALIGN :]
        return found.view(kind).reshape(shape)

    def copy(self, array: np.ndarray) -> np.ndarray:
        """The same numbers on the shelf."""
        found = self.zeros(array.shape, array.dtype.type)
        found[...] = array
        return found


def _large_pages(count: int) -> mmap.mmap:
    """Zeroed memory of this process alone."""
    if sys.platform == "win32":
        return mmap.mmap(-1, count)
    space = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A kernel may have been built without them.
        with contextlib.suppress(OSError):
            space.madvise(mmap.MADV_HUGEPAGE)
    return space


def aligned(array: np.ndarray) -> np.ndarray:
    """A contiguous copy that begins at a line of the cache."""
    room = np.empty(array.nbytes + _ALIGN, np.uint8)
    start = -room.ctypes.data % _ALIGN
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def aligned_zeros(shape: tuple[int, ...], kind: type) -> np.ndarray:
    """Zeros that begin at a line of the cache."""
    return aligned(np.zeros(shape, kind))


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 -> the upper halves, rounded to nearest even, as uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@dataclass(frozen=True, kw_only=True)
class ByteLayout:
    """How integer weights lie in memory, and what activations they meet."""

    together: int
    """Inputs of one output that lie side by side."""
    zero: int
    """Number that stands for no weight: what is added so that bytes have no sign."""
    x_bytes: int
    """Bytes of one activation."""


def byte_layout(isa: InstructionSet, precision: str) -> ByteLayout:
    """The layout of "int8" or "int4" weights, as `simd/tiles.py` reads them."""
    if precision == "int4":
        return ByteLayout(together=4, zero=8, x_bytes=1)
    if isa.vnni:
        return ByteLayout(together=4, zero=128, x_bytes=1)
    return ByteLayout(together=2, zero=0, x_bytes=2)


def pack(
    weight: np.ndarray,
    precision: str,
    *,
    isa: InstructionSet | None = None,
    shelf: ArenaAllocator | None = None,
) -> Packed:
    """Packs float32 [output, input].

    Args:
        weight: The matrix.
        precision: One of `PRECISIONS`.
        isa: The instruction set that will multiply it; the selected one for None.
        shelf: Where the arrays get their memory.

    Raises:
        ValueError: Another precision, or inputs that cannot be grouped (not a multiple of 8).
    """
    if precision not in PRECISIONS:
        raise ValueError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')
    isa = isa or selected()
    outputs, inputs = weight.shape
    size = tile_outputs(isa)
    tiles = -(-outputs // size)
    whole = np.zeros((tiles * size, inputs), np.float32)
    whole[:outputs] = weight
    put = aligned if shelf is None else shelf.copy
    facts = {"precision": precision, "inputs": inputs, "outputs": outputs, "tiles": tiles}
    if precision in ("float32", "bfloat16"):
        turned = whole.reshape(tiles, size, inputs).transpose(0, 2, 1)
        stored = turned if precision == "float32" else to_bfloat16(turned)
        return Packed(weights=put(stored).view(np.uint8), **facts)
    group = math.gcd(inputs, _GROUPS[precision])
    if group % 8:
        raise ValueError(f"{precision} weights need a multiple of 8 inputs, not {inputs}")
    numbers, group_scales, row_scales = _rounded(whole, group, 127 if precision == "int8" else 7)
    layout = byte_layout(isa, precision)
    shifted = (numbers + layout.zero).astype(np.uint8).reshape(tiles, size, inputs)
    lay = _lay_bytes if precision == "int8" else _lay_halves
    shares = group_scales.reshape(tiles, size, -1).transpose(0, 2, 1).astype(np.float16)
    return Packed(
        weights=put(lay(shifted, layout.together)),
        group_size=group,
        group_scales=put(shares),
        row_scales=put(row_scales),
        **facts,
    )


def _rounded(whole: np.ndarray, group: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int [output, input], share [output, group], row scale [output]), symmetric, to nearest."""
    outputs, inputs = whole.shape
    grouped = whole.reshape(outputs, inputs // group, group)
    wanted = np.abs(grouped).max(axis=2) / most
    row = np.maximum(wanted.max(axis=1), 1e-12)
    # Rounding uses the share as it is stored, so that no error comes from its own rounding.
    share = (wanted / row[:, None]).astype(np.float16)
    step = np.maximum(share.astype(np.float32) * row[:, None], 1e-30)
    numbers = np.round(grouped / step[..., None]).clip(-most, most).reshape(outputs, inputs)
    return numbers.astype(np.int16), share, row.astype(np.float32)


def _lay_bytes(shifted: np.ndarray, together: int) -> np.ndarray:
    """[tile, output, input] -> uint8 [tile, input / together, output, together]."""
    tiles, size, _ = shifted.shape
    parts = shifted.reshape(tiles, size, -1, together)
    return np.ascontiguousarray(parts.transpose(0, 2, 1, 3))


def _lay_halves(shifted: np.ndarray, together: int) -> np.ndarray:
    """[tile, output, input] -> uint8 [tile, input / (2 together), output, together]: the first
    `together` inputs in the lower halves of the bytes, the next in the upper ones."""
    tiles, size, _ = shifted.shape
    parts = shifted.reshape(tiles, size, -1, 2, together)
    both = parts[..., 0, :] | (parts[..., 1, :] << 4)
    return np.ascontiguousarray(both.transpose(0, 2, 1, 3))
