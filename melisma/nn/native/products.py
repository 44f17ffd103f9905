"""Products of rows with packed matrices, shared by all threads tile by tile.

Enters: float32 [row, input] and a matrix as `packing.py` lays it out. Leaves: float32 [row,
output], written or added. Where the processor multiplies bytes (`vectors.byte_products`), rows meet
integer weights as integers: `round_rows` makes them so.
"""

from __future__ import annotations

import numpy as np

from melisma.nn.native.compiling import compiled
from melisma.nn.native.kernels import share_of
from melisma.nn.native.tiles import float_tile, whole_tile
from melisma.nn.native.vectors import TILE, byte_products, bytes_at, floats_at, ints_at

VNNI = byte_products() > 0
"""Whether activations meet integer weights as integers on this processor."""
_FLOAT_1, _FLOAT_2, _FLOAT_4 = (float_tile(rows, "float32") for rows in (1, 2, 4))
_SHORT_1, _SHORT_2, _SHORT_4 = (float_tile(rows, "bfloat16") for rows in (1, 2, 4))
_BYTE_1, _BYTE_2, _BYTE_4 = (whole_tile(rows, 8, VNNI) for rows in (1, 2, 4))
_HALF_1, _HALF_2, _HALF_4 = (whole_tile(rows, 4, VNNI) for rows in (1, 2, 4))

FLOAT32, BFLOAT16, INT8, INT4 = range(4)
"""Numbers of `packing.PRECISIONS`."""
_X_STEP = 1 if VNNI else 4
"""Bytes of one input of x where weights are integers."""


@compiled
def _round_group(x, first, size, numbers, scales, sums, group, zero):
    """One group of x as int8 with a scale, and what its sum takes off (see `vectors.py`)."""
    most = np.float32(1e-20)
    for i in range(size):
        most = max(most, abs(x[first + i]))
    back = np.float32(127.0) / most
    total = np.int32(0)
    for i in range(size):
        number = np.int32(np.floor(x[first + i] * back + np.float32(0.5)))
        numbers[first + i] = np.int8(number)
        total += number
    scales[group] = most / np.float32(127.0)
    sums[group] = -zero * total


@compiled
def round_rows(x, width, group_size, numbers, scales, sums, zero, rows, part, parts):
    """x float32 [row, width] -> int8 of the same shape, float32 and int32 [row, group]."""
    groups = width // group_size
    first, last = share_of(rows * groups, part, parts)
    for one in range(first, last):
        row, group = one // groups, one % groups
        _round_group(
            floats_at(x + 4 * row * width),
            group * group_size,
            group_size,
            bytes_at(numbers + row * width),
            floats_at(scales + 4 * row * groups),
            ints_at(sums + 4 * row * groups),
            group,
            np.int32(zero),
        )


@compiled
def _float_tiles(kind, rows, weights, x, x_stride, out, out_stride, add, inputs):
    if kind == FLOAT32:
        if rows == 4:
            _FLOAT_4(weights, x, x_stride, out, out_stride, add, inputs)
        elif rows == 2:
            _FLOAT_2(weights, x, x_stride, out, out_stride, add, inputs)
        else:
            _FLOAT_1(weights, x, x_stride, out, out_stride, add, inputs)
    elif rows == 4:
        _SHORT_4(weights, x, x_stride, out, out_stride, add, inputs)
    elif rows == 2:
        _SHORT_2(weights, x, x_stride, out, out_stride, add, inputs)
    else:
        _SHORT_1(weights, x, x_stride, out, out_stride, add, inputs)


@compiled
def _rows_at_once(left):
    return 4 if left >= 4 else (2 if left >= 2 else 1)


@compiled
def _put(room, out, out_width, count, rows, add):
    """The part of a tile [row, TILE] that counts -> out [row, out_width]."""
    for row in range(rows):
        a, to = floats_at(room + 4 * row * TILE), floats_at(out + 4 * row * out_width)
        for i in range(count):
            to[i] = a[i] + (to[i] if add else np.float32(0.0))


@compiled
def multiply_floats(kind, weights, outputs, inputs, x, out, add, spare, rows, part, parts):
    """out [row, output] (+)= x [row, input] times a matrix of floats; `add` is 0 or 1.

    `spare`: float32 [part, 4, TILE], room for a last tile that is not full.
    """
    tile_bytes = TILE * inputs * (4 if kind == FLOAT32 else 2)
    room = spare + 16 * TILE * part
    first, last = share_of((outputs + TILE - 1) // TILE, part, parts)
    for tile in range(first, last):
        w, full = weights + tile * tile_bytes, (tile + 1) * TILE <= outputs
        row = 0
        while row < rows:
            step = _rows_at_once(rows - row)
            xr, to = x + 4 * row * inputs, out + 4 * (row * outputs + tile * TILE)
            if full:
                _float_tiles(kind, step, w, xr, 4 * inputs, to, 4 * outputs, add, inputs)
            else:
                _float_tiles(kind, step, w, xr, 4 * inputs, room, 4 * TILE, 0, inputs)
                _put(room, to, outputs, outputs - tile * TILE, step, add)
            row += step


@compiled
def _whole_tiles(kind, rows, w, gs, rs, x, xb, xs, xc, gb, out, ob, add, groups, size):
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
def multiply_wholes(
    kind, weights, group_scales, row_scales, outputs, inputs, group_size,
    x, x_scales, x_sums, out, add, spare, rows, part, parts,
):  # fmt: skip
    """The same for integers in groups; x as `round_rows` made it (or float32 without VNNI)."""
    groups = inputs // group_size
    tile_bytes = TILE * inputs if kind == INT8 else TILE * inputs // 2
    room = spare + 16 * TILE * part
    xb, gb = _X_STEP * inputs, 4 * groups
    first, last = share_of((outputs + TILE - 1) // TILE, part, parts)
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
                _whole_tiles(
                    kind, step, w, gs, rs, xr, xb, xs, xc, gb, to, ob, add, groups, group_size
                )
            else:
                _whole_tiles(
                    kind, step, w, gs, rs, xr, xb, xs, xc, gb, room, 4 * TILE, 0, groups, group_size
                )
                _put(room, to, outputs, outputs - tile * TILE, step, add)
            row += step
