"""Arguments of compiled functions as named tuples: raw addresses and sizes, all int64.

numba passes the fields of a named tuple in registers, so they cost nothing over separate integers.
`program.py` fills them from its operation table.
"""

from __future__ import annotations

from typing import NamedTuple


class RowPointers(NamedTuple):
    """Which sequence and position each row of a step belongs to; int64 [row] each."""

    sequence_index: int
    """Row of the KV cache, of the text, and of the modulations."""
    positions: int
    """Position in the sequence, from 0."""
    angle_index: int
    """Row of the table of rotary angles."""


class CachePointers(NamedTuple):
    """Keys and values of one layer (`program.LayerCache`), or of a text."""

    keys: int
    key_scales: int
    """float32 [sequence, head, position]; 0 for floats."""
    values: int
    value_scales: int
    dtype: int
    """Index into `kv_cache.DTYPES`."""
    capacity: int
    """Positions of the ring buffer of each sequence and head."""


class NormPointers(NamedTuple):
    """A normalization (`program.NormWeights`)."""

    weight: int
    bias: int
    """0 for RMSNorm."""
    epsilon_bits: int
    """float32, as the bits of an int32."""
    centred: int
    """1 for LayerNorm, 0 for RMSNorm."""
    modulation: int
    """float32 [sequence, 4 * width], or 0."""
    modulation_offset: int
    """Scale and shift are columns [modulation_offset * width, (modulation_offset + 2) * width)."""


class EmbeddingPointers(NamedTuple):
    """Tables whose rows are summed to the input of the first layer."""

    tables: int
    """Addresses of the token tables, int64 [level], each float32 [entry, width]."""
    levels: int
    first_extra: int
    first_index: int
    """Row of `first_extra` to add, int64 [row], -1 for none."""
    second_extra: int
    second_index: int


class FloatMatrix(NamedTuple):
    """A packed matrix of floats."""

    dtype: int
    """`matmul.FLOAT32` or `matmul.BFLOAT16`."""
    weights: int
    outputs: int
    inputs: int


class IntMatrix(NamedTuple):
    """A packed matrix of integers."""

    dtype: int
    """`matmul.INT8` or `matmul.INT4`."""
    weights: int
    outputs: int
    inputs: int
    group_scales: int
    row_scales: int
    group_size: int


class QuantizedRows(NamedTuple):
    """Activations as `matmul.quantize_rows` writes them."""

    integers: int
    """int8 or int16 [row, input]."""
    scales: int
    """float32 [row, group]."""
    sums: int
    """int32 [row, group]: minus the zero point of the weights times the sum of the integers."""


class FloatTileArguments(NamedTuple):
    """Arguments of `simd.tiles.float_tile`, in its order."""

    weights: int
    x: int
    x_stride: int
    out: int
    out_stride: int
    add: int
    inputs: int


class IntTileArguments(NamedTuple):
    """Arguments of `simd.tiles.quantized_tile`, in its order."""

    weights: int
    group_scales: int
    row_scales: int
    x: int
    x_stride: int
    x_scales: int
    x_sums: int
    x_group_stride: int
    out: int
    out_stride: int
    add: int
    groups: int
    group_size: int
