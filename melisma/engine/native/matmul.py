"""Matrix products of rows with packed weights, tile by tile.

Input: x float32 [row, input], and a matrix as `packing.py` lays it out. Output: float32 [row,
output], written or accumulated. Work items are tiles of the matrix, which the threads share; a
thread multiplies its tiles by all rows, a few rows at a time:

                 tile 0      tile 1      tile 2 (partly padding)
    rows 0-3   [ kernel ]  [ kernel ]  [ kernel -> scratch -> out ]
    rows 4-5   [ kernel ]  [ kernel ]  [ kernel -> scratch -> out ]

Integer weights are multiplied by integer activations: `quantize_rows` quantizes them, once in each
thread, which costs less than waiting for one thread to do it for all.
"""

from __future__ import annotations

import numpy as np

from melisma.engine.native.packing import byte_layout
from melisma.engine.native.pointers import FloatTileArguments, IntTileArguments
from melisma.engine.native.quantization import abs_max_kernel, quantize_kernel
from melisma.simd.dispatch import compiled
from melisma.simd.selection import selected
from melisma.simd.tiles import float_tile, quantized_tile, rows_in_registers, tile_outputs
from melisma.simd.vectors import floats_at, ints_at

_ISA = selected()
TILE = tile_outputs(_ISA)
"""Outputs of one tile."""
_MAX_FLOAT_ROWS, _MAX_INT_ROWS = rows_in_registers(_ISA)
_FLOAT32_1, _FLOAT32_2, _FLOAT32_3, _FLOAT32_4 = (
    float_tile(_ISA, rows, "float32") for rows in range(1, 5)
)
_BFLOAT16_1, _BFLOAT16_2, _BFLOAT16_3, _BFLOAT16_4 = (
    float_tile(_ISA, rows, "bfloat16") for rows in range(1, 5)
)
_INT8_1, _INT8_2, _INT8_4 = (quantized_tile(_ISA, rows, 8) for rows in (1, 2, 4))
_INT4_1, _INT4_2, _INT4_4 = (quantized_tile(_ISA, rows, 4) for rows in (1, 2, 4))
_ABS_MAX = abs_max_kernel(_ISA)
_QUANTIZE_INT8, _QUANTIZE_INT16 = (quantize_kernel(_ISA, dtype) for dtype in ("int8", "int16"))

FLOAT32, BFLOAT16, INT8, INT4 = range(4)
"""Indices into `packing.PRECISIONS`."""
_ACTIVATION_BYTES_INT8 = byte_layout(_ISA, "int8").activation_bytes
_ACTIVATION_BYTES_INT4 = byte_layout(_ISA, "int4").activation_bytes


@compiled
def quantize_rows(x, width, group_size, out, activation_bytes, zero_point, rows):
    """Quantizes activations to integers from -127 to 127, in groups with a scale each.

    Args:
        x: float32 [row, width].
        width: A multiple of `group_size`.
        group_size: Numbers that share a scale.
        out: `QuantizedRows`, written.
        activation_bytes: 1 for int8, 2 for int16.
        zero_point: Of the weights. A group's integers are summed and multiplied by -zero_point:
            what unsigned weights add to the product, with the opposite sign.
        rows: Number of rows.
    """
    groups = width // group_size
    for group in range(rows * groups):
        at = x + 4 * group * group_size
        to = out.integers + activation_bytes * group * group_size
        largest = max(_ABS_MAX(at, group_size), np.float32(1e-20))
        scale = np.float32(127.0) / largest
        if activation_bytes == 2:
            total = _QUANTIZE_INT16(at, scale, group_size, to)
        else:
            total = _QUANTIZE_INT8(at, scale, group_size, to)
        floats_at(out.scales)[group] = largest / np.float32(127.0)
        ints_at(out.sums)[group] = np.int32(-zero_point) * total


@compiled
def _float_tile(dtype, rows, tile):
    """Calls the kernel of a number of rows with `FloatTileArguments`."""
    if dtype == FLOAT32:
        if rows == 4:
            _FLOAT32_4(*tile)
        elif rows == 3:
            _FLOAT32_3(*tile)
        elif rows == 2:
            _FLOAT32_2(*tile)
        else:
            _FLOAT32_1(*tile)
    elif rows == 4:
        _BFLOAT16_4(*tile)
    elif rows == 3:
        _BFLOAT16_3(*tile)
    elif rows == 2:
        _BFLOAT16_2(*tile)
    else:
        _BFLOAT16_1(*tile)


@compiled
def _int_rows(remaining):
    """Rows of the next integer kernel."""
    return 4 if remaining >= 4 and _MAX_INT_ROWS >= 4 else (2 if remaining >= 2 else 1)


@compiled
def _copy_tile(scratch, out, out_width, count, rows, add):
    """The first `count` outputs of a tile [row, TILE] -> out [row, out_width]."""
    for row in range(rows):
        source, to = floats_at(scratch + 4 * row * TILE), floats_at(out + 4 * row * out_width)
        for i in range(count):
            to[i] = source[i] + (to[i] if add else np.float32(0.0))


@compiled
def multiply_floats(matrix, x, out, add, scratch, rows, first, last):
    """out [row, output] (+)= x [row, input] times a float matrix. Work items: tiles.

    Args:
        matrix: `FloatMatrix`.
        x: float32 [row, input].
        out: float32 [row, output].
        add: 1 to accumulate, 0 to overwrite.
        scratch: float32 [4, TILE] of the thread, for the last tile if it is padded.
        rows: Number of rows.
        first: First work item.
        last: One after the last.
    """
    inputs, outputs = matrix.inputs, matrix.outputs
    tile_bytes = TILE * inputs * (4 if matrix.dtype == FLOAT32 else 2)
    for tile in range(first, last):
        weights, full = matrix.weights + tile * tile_bytes, (tile + 1) * TILE <= outputs
        row = 0
        while row < rows:
            step = min(rows - row, _MAX_FLOAT_ROWS)
            x_rows, to = x + 4 * row * inputs, out + 4 * (row * outputs + tile * TILE)
            kernel_out, stride = (to, 4 * outputs) if full else (scratch, 4 * TILE)
            kernel_add = add if full else 0
            _float_tile(
                matrix.dtype, step,
                FloatTileArguments(
                    weights, x_rows, 4 * inputs, kernel_out, stride, kernel_add, inputs
                ),
            )  # fmt: skip
            if not full:
                _copy_tile(scratch, to, outputs, outputs - tile * TILE, step, add)
            row += step


@compiled
def _int_tile(dtype, rows, tile):
    """Calls the kernel of a number of rows with `IntTileArguments`."""
    if dtype == INT8:
        if rows == 4:
            _INT8_4(*tile)
        elif rows == 2:
            _INT8_2(*tile)
        else:
            _INT8_1(*tile)
    elif rows == 4:
        _INT4_4(*tile)
    elif rows == 2:
        _INT4_2(*tile)
    else:
        _INT4_1(*tile)


@compiled
def multiply_quantized(matrix, x, out, add, scratch, rows, first, last):
    """out [row, output] (+)= x times an integer matrix. Work items: tiles.

    Args:
        matrix: `IntMatrix`.
        x: `QuantizedRows`.
        out: float32 [row, output].
        add: 1 to accumulate, 0 to overwrite.
        scratch: float32 [4, TILE] of the thread, for the last tile if it is padded.
        rows: Number of rows.
        first: First work item.
        last: One after the last.
    """
    inputs, outputs = matrix.inputs, matrix.outputs
    groups = inputs // matrix.group_size
    int8 = matrix.dtype == INT8
    tile_bytes = TILE * inputs if int8 else TILE * inputs // 2
    x_stride = (_ACTIVATION_BYTES_INT8 if int8 else _ACTIVATION_BYTES_INT4) * inputs
    group_stride = 4 * groups
    for tile in range(first, last):
        weights, full = matrix.weights + tile * tile_bytes, (tile + 1) * TILE <= outputs
        group_scales = matrix.group_scales + 2 * tile * TILE * groups
        row_scales = matrix.row_scales + 4 * tile * TILE
        row = 0
        while row < rows:
            step = _int_rows(rows - row)
            to = out + 4 * (row * outputs + tile * TILE)
            kernel_out, stride = (to, 4 * outputs) if full else (scratch, 4 * TILE)
            kernel_add = add if full else 0
            _int_tile(
                matrix.dtype, step,
                IntTileArguments(
                    weights, group_scales, row_scales, x.integers + x_stride * row, x_stride,
                    x.scales + group_stride * row, x.sums + group_stride * row, group_stride,
                    kernel_out, stride, kernel_add, groups, matrix.group_size,
                ),
            )  # fmt: skip
            if not full:
                _copy_tile(scratch, to, outputs, outputs - tile * TILE, step, add)
            row += step
