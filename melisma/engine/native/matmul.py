"""Products of rows with packed matrices, shared by all threads tile by tile.

Enters: float32 [row, input] and a matrix as `packing.py` lays it out. Leaves: float32 [row,
output], written or added. Rows meet integer weights as integers: `quantize_rows` makes them so,
once in each thread, which costs less than waiting until one has done it for all.
"""

from __future__ import annotations

import numpy as np

from melisma.engine.native.packing import byte_layout
from melisma.engine.native.quantization import abs_max_of, quantize_to
from melisma.simd.dispatch import compiled
from melisma.simd.selection import selected
from melisma.simd.tiles import float_tile, quantized_tile, rows_in_registers, tile_outputs
from melisma.simd.vectors import floats_at, ints_at

_ISA = selected()
TILE = tile_outputs(_ISA)
"""Outputs of one tile."""
_MOST_FLOAT_ROWS, _MOST_ROWS = rows_in_registers(_ISA)
_FLOAT_1, _FLOAT_2, _FLOAT_3, _FLOAT_4 = (float_tile(_ISA, rows, "float32") for rows in range(1, 5))
_SHORT_1, _SHORT_2, _SHORT_3, _SHORT_4 = (
    float_tile(_ISA, rows, "bfloat16") for rows in range(1, 5)
)
_BYTE_1, _BYTE_2, _BYTE_4 = (quantized_tile(_ISA, rows, 8) for rows in (1, 2, 4))
_HALF_1, _HALF_2, _HALF_4 = (quantized_tile(_ISA, rows, 4) for rows in (1, 2, 4))
_ABS_MAX = abs_max_of(_ISA)
_TO_BYTES, _TO_SHORTS = (quantize_to(_ISA, kind) for kind in ("int8", "int16"))

FLOAT32, BFLOAT16, INT8, INT4 = range(4)
"""Numbers of `packing.PRECISIONS`."""
_X_BYTES_INT8 = byte_layout(_ISA, "int8").x_bytes
_X_BYTES_INT4 = byte_layout(_ISA, "int4").x_bytes


@compiled
def quantize_rows(x, width, group_size, out, x_bytes, scales, sums, zero, rows):
    """x float32 [row, width] -> whole numbers from -127 to 127 of the same shape, int8 (or int16,
    where `x_bytes` is 2); the scale float32 of each group [row, group]; and -`zero` times the sum
    of its numbers, int32: storing weights without sign adds as much, with the other sign."""
    groups = width // group_size
    for one in range(rows * groups):
        at, to = x + 4 * one * group_size, out + x_bytes * one * group_size
        most = max(_ABS_MAX(at, group_size), np.float32(1e-20))
        back = np.float32(127.0) / most
        if x_bytes == 2:
            total = _TO_SHORTS(at, back, group_size, to)
        else:
            total = _TO_BYTES(at, back, group_size, to)
        floats_at(scales)[one] = most / np.float32(127.0)
        ints_at(sums)[one] = np.int32(-zero) * total


@compiled
def _float_tiles(kind, rows, weights, x, x_stride, out, out_stride, add, inputs):
    if kind == FLOAT32:
        if rows == 4:
            _FLOAT_4(weights, x, x_stride, out, out_stride, add, inputs)
        elif rows == 3:
            _FLOAT_3(weights, x, x_stride, out, out_stride, add, inputs)
        elif rows == 2:
            _FLOAT_2(weights, x, x_stride, out, out_stride, add, inputs)
        else:
            _FLOAT_1(weights, x, x_stride, out, out_stride, add, inputs)
    elif rows == 4:
        _SHORT_4(weights, x, x_stride, out, out_stride, add, inputs)
    elif rows == 3:
        _SHORT_3(weights, x, x_stride, out, out_stride, add, inputs)
    elif rows == 2:
        _SHORT_2(weights, x, x_stride, out, out_stride, add, inputs)
    else:
        _SHORT_1(weights, x, x_stride, out, out_stride, add, inputs)


@compiled
def _rows_at_once(left):
    return 4 if left >= 4 and _MOST_ROWS >= 4 else (2 if left >= 2 else 1)


@compiled
def _put(room, out, out_width, count, rows, add):
    """The part of a tile [row, TILE] that counts -> out [row, out_width]."""
    for row in range(rows):
        a, to = floats_at(room + 4 * row * TILE), floats_at(out + 4 * row * out_width)
        for i in range(count):
            to[i] = a[i] + (to[i] if add else np.float32(0.0))


@compiled
def multiply_floats(kind, weights, outputs, inputs, x, out, add, spare, rows, first, last, thread):
    """out [row, output] (+)= x [row, input] times a matrix of floats; `add` is 0 or 1. Pieces:
    tiles.

    `spare`: float32 [thread, 4, TILE], room for a last tile that is not full.
    """
    tile_bytes = TILE * inputs * (4 if kind == FLOAT32 else 2)
    room = spare + 16 * TILE * thread
    for tile in range(first, last):
        w, full = weights + tile * tile_bytes, (tile + 1) * TILE <= outputs
        row = 0
        while row < rows:
            step = min(rows - row, _MOST_FLOAT_ROWS)
            xr, to = x + 4 * row * inputs, out + 4 * (row * outputs + tile * TILE)
            if full:
                _float_tiles(kind, step, w, xr, 4 * inputs, to, 4 * outputs, add, inputs)
            else:
                _float_tiles(kind, step, w, xr, 4 * inputs, room, 4 * TILE, 0, inputs)
                _put(room, to, outputs, outputs - tile * TILE, step, add)
            row += step


@compiled
def _quantized_tiles(kind, rows, w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size):
    if kind == INT8:
        if rows == 4:
            _BYTE_4(w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size)
        elif rows == 2:
            _BYTE_2(w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size)
        else:
            _BYTE_1(w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size)
    elif rows == 4:
        _HALF_4(w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size)
    elif rows == 2:
        _HALF_2(w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size)
    else:
        _HALF_1(w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size)


@compiled
def multiply_quantized(
    kind, weights, group_scales, row_scales, outputs, inputs, group_size,
    x, x_scales, x_sums, out, add, spare, rows, first, last, thread,
):  # fmt: skip
    """The same for integers in groups; x as `quantize_rows` made it."""
    groups = inputs // group_size
    tile_bytes = TILE * inputs if kind == INT8 else TILE * inputs // 2
    room = spare + 16 * TILE * thread
    xb, gb = (_X_BYTES_INT8 if kind == INT8 else _X_BYTES_INT4) * inputs, 4 * groups
    for tile in range(first, last):
        w, full = weights + tile * tile_bytes, (tile + 1) * TILE <= outputs
        gs, rs = group_scales + 2 * tile * TILE * groups, row_scales + 4 * tile * TILE
        row = 0
        while row < rows:
            step = _rows_at_once(rows - row)
            xr, to = x + xb * row, out + 4 * (row * outputs + tile * TILE)
            xs, xc = x_scales + gb * row, x_sums + gb * row
            if full:
                ob = 4 * outputs
                _quantized_tiles(
                    kind, step, w, gs, rs, xr, xb, xs, xc, gb, to, ob, add, groups, group_size
                )
            else:
                _quantized_tiles(
                    kind, step, w, gs, rs, xr, xb, xs, xc, gb, room, 4 * TILE, 0, groups, group_size
                )
                _put(room, to, outputs, outputs - tile * TILE, step, add)
            row += step
