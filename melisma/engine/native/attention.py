"""Attention kernels: self-attention over a ring-buffer KV cache, and cross-attention to texts.

Input: queries, keys and values float32 [row, 3 * width], or queries [row, width]. Output: float32
[row, width]. A cache is [sequence, head, position, number]; `kv_cache.py` describes the order of
the numbers. The positions of a sequence form a ring buffer of capacity C: position t is stored at
index t % C, over the oldest one.

    window of W positions up to position t, wrapped around the end of the buffer:

    index     0                t % C           (t + 1 - W) % C             C
              |== second part ====|- - - - - - - - - - |== first part =====|
              first_index of the second part: 0         first_index of the first part

Scores are computed for whole blocks of positions, both parts side by side, and masked outside the
window. Scratch memory of one thread, in float32 numbers, with the head size padded to D and the
positions of both parts to P:

    | query: D | output: D | scores: P | quantized query (2 D bytes, or D int16),        |
    |          |           |           | later quantized attention weights (2 P bytes)   |
"""

from __future__ import annotations

import math

import numpy as np

from melisma.engine.native.kv_cache import (
    BLOCK,
    DTYPES,
    MAX_POSITIONS,
    int8_qk_kernel,
    int8_weighted_values_kernel,
    kv_layout,
    qk_kernel,
    weighted_values_kernel,
)
from melisma.engine.native.quantization import (
    abs_max_kernel,
    quantize_attention_kernel,
    quantize_halves_kernel,
    quantize_kernel,
)
from melisma.simd.activation import exponential
from melisma.simd.dispatch import compiled
from melisma.simd.selection import selected
from melisma.simd.vectors import (
    bits_of_float,
    bytes_at,
    floats_at,
    ints_at,
    longs_at,
    shorts_at,
    sum_floats,
)

_ISA = selected()
LANES = _ISA.lanes
_LAYOUT = kv_layout(_ISA)
_INTERLEAVE = _LAYOUT.interleave
_VNNI = _ISA.vnni
_KEY_SIGNS = np.int32(-0x7F7F7F80 if _LAYOUT.key_zero_point else 0)
"""XOR mask that turns four signed bytes into four bytes with 128 added."""
_FLOAT32_QK, _BFLOAT16_QK = (qk_kernel(_ISA, dtype) for dtype in DTYPES[:2])
_INT8_QK = int8_qk_kernel(_ISA)
_FLOAT32_VALUES_1, _BFLOAT16_VALUES_1 = (
    weighted_values_kernel(_ISA, dtype, 1) for dtype in DTYPES[:2]
)
_FLOAT32_VALUES_4, _BFLOAT16_VALUES_4 = (
    weighted_values_kernel(_ISA, dtype, 4) for dtype in DTYPES[:2]
)
_INT8_VALUES_1, _INT8_VALUES_4 = (int8_weighted_values_kernel(_ISA, n) for n in (1, 4))
_ABS_MAX = abs_max_kernel(_ISA)
_QUANTIZE_INT8, _QUANTIZE_INT16 = (quantize_kernel(_ISA, dtype) for dtype in ("int8", "int16"))
_QUANTIZE_HALVES, _QUANTIZE_ATTENTION = (
    quantize_halves_kernel(_ISA),
    quantize_attention_kernel(_ISA),
)
_FLOAT32, _BFLOAT16, _INT8 = range(3)
"""Indices into `kv_cache.DTYPES`."""
_MASKED = np.float32(-1e30)
"""Score of a position that is not attended to."""
_MAX_QUERY = np.float32(127 * 256 + 127)
"""Largest integer of two signed bytes."""
_MAX_WEIGHT = np.float32(0x7FFF)
"""Largest attention weight as a signed integer of 16 bits."""


def scratch_size(window: int, head_size: int) -> int:
    """Scratch memory that a thread needs for one head, see the module's header.

    Args:
        window: Most positions that are attended to.
        head_size: Numbers of a head, padded.

    Returns:
        float32 numbers.
    """
    # A window may begin and end within a block, and wrap around once.
    positions = (window // BLOCK + 3) * BLOCK
    return 2 * head_size + positions + max(positions, head_size) // 2


@compiled
def _padded(count):
    return (count + BLOCK - 1) // BLOCK * BLOCK


@compiled
def apply_rope(vector, angles, size):
    """Rotates a head vector in place (RoPE, 2104.09864, section 3.4.2).

    `angles`: float32 [2 * size], cosines, then sines.
    """
    half = size // 2
    for i in range(half):
        a, b = vector[i], vector[half + i]
        vector[i] = a * angles[i] - b * angles[size + i]
        vector[half + i] = b * angles[half + i] + a * angles[size + half + i]


@compiled
def _to_bfloat16(x):
    """float32 -> bfloat16 as uint16, rounded to nearest even."""
    bits = np.uint32(bits_of_float(x))
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16)


@compiled
def _store_float(vector, cache, dtype, first, step, size):
    """Writes a vector into a float cache, to indices first, first + step, ..."""
    if dtype == _FLOAT32:
        for i in range(size):
            floats_at(cache)[first + i * step] = vector[i]
    else:
        for i in range(size):
            shorts_at(cache)[first + i * step] = _to_bfloat16(vector[i])


@compiled
def _quantize_in_place(vector, scale, size):
    """Quantizes a vector to int8 in place and writes its scale to the address `scale`."""
    largest = max(_ABS_MAX(vector, size), np.float32(1e-20))
    floats_at(scale)[0] = largest / np.float32(127.0)
    _QUANTIZE_INT8(vector, np.float32(127.0) / largest, size, vector)


@compiled
def _store_int8_key(vector, keys, scale, first, size):
    """Quantizes a key and writes it, `_INTERLEAVE` bytes a lane, to the cache from byte `first`."""
    _quantize_in_place(vector, scale, size)
    if _INTERLEAVE == 4:
        for i in range(size // 4):
            ints_at(keys + first)[i * LANES] = ints_at(vector)[i] ^ _KEY_SIGNS
    else:
        for i in range(size // 2):
            shorts_at(keys + first)[i * LANES] = shorts_at(vector)[i]


@compiled
def _store_int8_value(vector, values, scale, first, size):
    """Quantizes a value and writes it, every `_INTERLEAVE`-th byte, to the cache from `first`."""
    _quantize_in_place(vector, scale, size)
    for i in range(size):
        bytes_at(values + first)[i * _INTERLEAVE] = bytes_at(vector)[i]


@compiled
def append_kv(qkv, width, heads, angles, cache, rows, first, last):
    """Applies rotary embeddings to queries and keys, in place, and appends keys and values to the
    cache. Work items: the heads of all rows.

    Args:
        qkv: float32 [row, 3 * width].
        width: Of all heads together.
        heads: Number of heads.
        angles: float32 [angle index, 2 * head size], cosines, then sines; 0 for none.
        cache: `CachePointers`.
        rows: `RowPointers`.
        first: First work item.
        last: One after the last.
    """
    size = width // heads
    padded_size = _padded(size)
    for item in range(first, last):
        row, head = item // heads, item % heads
        query = qkv + 4 * (row * 3 * width + head * size)
        key, value = query + 4 * width, query + 8 * width
        if angles != 0:
            turn = floats_at(angles + 8 * size * longs_at(rows.angle_index)[row])
            apply_rope(floats_at(query), turn, size)
            apply_rope(floats_at(key), turn, size)
        # Index in the ring buffer; `base` is the first index of the sequence and head.
        base = (longs_at(rows.sequence_index)[row] * heads + head) * cache.capacity
        index = base + longs_at(rows.positions)[row] % cache.capacity
        lane, offset = index % LANES, index % _INTERLEAVE
        if cache.dtype == _INT8:
            to = (index - lane) * padded_size + _INTERLEAVE * lane
            _store_int8_key(key, cache.keys, cache.key_scales + 4 * index, to, size)
            to = (index - offset) * padded_size + offset
            _store_int8_value(value, cache.values, cache.value_scales + 4 * index, to, size)
        else:
            to = (index - lane) * padded_size + lane
            _store_float(floats_at(key), cache.keys, cache.dtype, to, LANES, size)
            to = index * padded_size
            _store_float(floats_at(value), cache.values, cache.dtype, to, 1, size)


@compiled
def _quantize_query(query, size, out, sums):
    """Quantizes a query to 16 bits at the address `out`: int16 [size], or with VNNI int8 [half,
    size], high bytes first, with the sum of each half, int32 [half], at `sums`. Returns the scale.
    """
    largest = max(_ABS_MAX(query, size), np.float32(1e-20))
    if _VNNI:
        _QUANTIZE_HALVES(query, _MAX_QUERY / largest, size, out, sums)
    else:
        _QUANTIZE_INT16(query, _MAX_QUERY / largest, size, out)
    return largest / _MAX_QUERY


@compiled
def qk_scores(cache, query, quantized_query, starts, index, size, blocks, scores):
    """Dot products of a query with the keys of `blocks` blocks from `index`, into `scores`.

    `starts`: of the sums of both halves of a quantized query, see `kv_cache.int8_qk_kernel`.
    """
    if cache.dtype == _FLOAT32:
        _FLOAT32_QK(query, cache.keys + 4 * index * size, size, blocks, scores)
    elif cache.dtype == _BFLOAT16:
        _BFLOAT16_QK(query, cache.keys + 2 * index * size, size, blocks, scores)
    else:
        keys, scales = cache.keys + index * size, cache.key_scales + 4 * index
        _INT8_QK(quantized_query, starts[0], starts[1], keys, scales, size, blocks, scores)


@compiled
def weighted_values(cache, weights, quantized, low_offset, index, size, blocks, out):
    """out [size] += weighted sum of the values of `blocks` blocks from `index`.

    `quantized`: address of the quantized weights; with VNNI of their high bytes, with the low ones
    `low_offset` bytes after them. Four vectors of a head are accumulated at once where its size
    allows.
    """
    positions = LANES * blocks
    if cache.dtype == _FLOAT32:
        at, stride = cache.values + 4 * index * size, 4 * size
        if size % (4 * LANES) == 0:
            for v in range(0, size // LANES, 4):
                to = out + 4 * LANES * v
                _FLOAT32_VALUES_4(weights, at + 4 * LANES * v, stride, positions, to)
        else:
            for v in range(size // LANES):
                to = out + 4 * LANES * v
                _FLOAT32_VALUES_1(weights, at + 4 * LANES * v, stride, positions, to)
    elif cache.dtype == _BFLOAT16:
        at, stride = cache.values + 2 * index * size, 2 * size
        if size % (4 * LANES) == 0:
            for v in range(0, size // LANES, 4):
                to = out + 4 * LANES * v
                _BFLOAT16_VALUES_4(weights, at + 2 * LANES * v, stride, positions, to)
        else:
            for v in range(size // LANES):
                to = out + 4 * LANES * v
                _BFLOAT16_VALUES_1(weights, at + 2 * LANES * v, stride, positions, to)
    else:
        at = cache.values + index * size
        _int8_weighted_values(quantized, low_offset, at, size, positions, out)


@compiled
def _int8_weighted_values(weights, low_offset, values, size, positions, out):
    """The same for int8 values, at most `MAX_POSITIONS` of them in one integer sum."""
    stride, weight_bytes = _INTERLEAVE * size, 1 if _VNNI else 2
    for begin in range(0, positions, MAX_POSITIONS):
        steps = min(MAX_POSITIONS, positions - begin) // _INTERLEAVE
        weight, at = weights + weight_bytes * begin, values + begin * size
        if size % (4 * LANES) == 0:
            for v in range(0, size // LANES, 4):
                part, to = at + _INTERLEAVE * LANES * v, out + 4 * LANES * v
                _INT8_VALUES_4(weight, low_offset, part, stride, steps, to)
        else:
            for v in range(size // LANES):
                part, to = at + _INTERLEAVE * LANES * v, out + 4 * LANES * v
                _INT8_VALUES_1(weight, low_offset, part, stride, steps, to)


@compiled
def softmax_(address, count, scale):
    """scores = exp(scale * (scores - their maximum)), in place and not normalized; returns their
    sum."""
    scores, largest = floats_at(address), _MASKED
    for t in range(count):
        largest = max(largest, scores[t])
    for t in range(count):
        scores[t] = exponential((scores[t] - largest) * scale)
    return sum_floats(address, count)


@compiled
def _multiply_scales(weights, scales, count):
    """Multiplies attention weights by the scales of their int8 values; returns the largest."""
    largest = np.float32(1e-30)
    for t in range(count):
        weights[t] *= scales[t]
        largest = max(largest, weights[t])
    return largest


@compiled
def mask_range(scores, first, last):
    """Masks the scores of positions first, ..., last - 1."""
    for t in range(first, last):
        scores[t] = _MASKED


@compiled
def _load_query(query, size, padded_size, scratch):
    """Copies a query to scratch memory, padded with zeros, and clears the output behind it."""
    padded_query, out = floats_at(scratch), floats_at(scratch + 4 * padded_size)
    for i in range(padded_size):
        padded_query[i] = query[i] if i < size else np.float32(0.0)
        out[i] = np.float32(0.0)


@compiled
def _attend(query, cache, base, position, count, size, scratch, out):
    """Attention of one query to a window of its sequence and head.

    Args:
        query: float32 [size].
        cache: `CachePointers`.
        base: First index of the sequence and head in the cache.
        position: First position of the window.
        count: Positions of the window.
        size: Numbers of the head.
        scratch: Scratch memory of the thread.
        out: float32 [size], written.
    """
    padded_size = _padded(size)
    _load_query(query, size, padded_size, scratch)
    # The window in the ring buffer: `ahead` positions up to its end, the rest from its beginning.
    # Both parts are rounded to whole blocks.
    first = position % cache.capacity
    ahead = min(count, cache.capacity - first)
    lane = first % BLOCK
    index, blocks = base + first - lane, _padded(lane + ahead) // LANES
    wrapped_blocks = _padded(count - ahead) // LANES
    wrap, positions = LANES * blocks, LANES * (blocks + wrapped_blocks)
    scores = scratch + 8 * padded_size
    wrapped_scores, quantized = scores + 4 * wrap, scores + 4 * positions
    # Scores.
    step, starts = np.float32(1.0), (np.int64(0), np.int64(0))
    if cache.dtype == _INT8:
        # The sums of the query's halves lie where scores are written afterwards.
        step, sums = _quantize_query(scratch, padded_size, quantized, scores), ints_at(scores)
        starts = -128 * np.int64(sums[0]), -128 * np.int64(sums[1])
    qk_scores(cache, scratch, quantized, starts, index, padded_size, blocks, scores)
    qk_scores(cache, scratch, quantized, starts, base, padded_size, wrapped_blocks, wrapped_scores)
    # Mask of what lies outside the window, and softmax.
    weights = floats_at(scores)
    mask_range(weights, 0, lane)
    mask_range(weights, lane + ahead, wrap)
    mask_range(weights, wrap + count - ahead, positions)
    total = softmax_(scores, positions, step / np.float32(math.sqrt(size)))
    factor = np.float32(1.0) / total
    # Weighted sum of values.
    if cache.dtype == _INT8:
        scales, wrapped_scales = cache.value_scales + 4 * index, cache.value_scales + 4 * base
        largest = max(
            _multiply_scales(weights, floats_at(scales), wrap),
            _multiply_scales(
                floats_at(wrapped_scores), floats_at(wrapped_scales), positions - wrap
            ),
        )
        _QUANTIZE_ATTENTION(scores, _MAX_WEIGHT / largest, positions, quantized)
        factor *= largest / _MAX_WEIGHT
    to = scratch + 4 * padded_size
    weighted_values(cache, scores, quantized, positions, index, padded_size, blocks, to)
    quantized += wrap if _VNNI else 2 * wrap
    weighted_values(
        cache, wrapped_scores, quantized, positions, base, padded_size, wrapped_blocks, to
    )
    for i in range(size):
        out[i] = floats_at(to)[i] * factor


@compiled
def attend_cache(qkv, width, heads, cache, window, rows, scratch, out, first, last):
    """Causal self-attention of every row to at most `window` positions, its own included. Work
    items: the heads of all rows.

    Args:
        qkv: float32 [row, 3 * width], of which the queries are read.
        width: Of all heads together.
        heads: Number of heads.
        cache: `CachePointers`.
        window: Most positions attended to.
        rows: `RowPointers`.
        scratch: Scratch memory of the thread, see `scratch_size`.
        out: float32 [row, width].
        first: First work item.
        last: One after the last.
    """
    size = width // heads
    for item in range(first, last):
        row, head = item // heads, item % heads
        position = longs_at(rows.positions)[row]
        count = min(position + 1, window)
        base = (longs_at(rows.sequence_index)[row] * heads + head) * cache.capacity
        query = floats_at(qkv + 4 * (row * 3 * width + head * size))
        to = floats_at(out + 4 * (row * width + head * size))
        _attend(query, cache, base, position + 1 - count, count, size, scratch, to)


@compiled
def attend_text(query, width, heads, cache, lengths, rows, scratch, out, first, last):
    """Cross-attention of every row to the text of its sequence; zeros where there is no text. Work
    items: the heads of all rows.

    Args:
        query: float32 [row, width].
        width: Of all heads together.
        heads: Number of heads.
        cache: `CachePointers` of the texts, floats.
        lengths: int64 [sequence], tokens of each text.
        rows: `RowPointers`.
        scratch: Scratch memory of the thread, see `scratch_size`.
        out: float32 [row, width].
        first: First work item.
        last: One after the last.
    """
    size = width // heads
    for item in range(first, last):
        row, head = item // heads, item % heads
        sequence = longs_at(rows.sequence_index)[row]
        count = longs_at(lengths)[sequence]
        at = row * width + head * size
        to = floats_at(out + 4 * at)
        if count == 0:
            for i in range(size):
                to[i] = np.float32(0.0)
            continue
        base = (sequence * heads + head) * cache.capacity
        _attend(floats_at(query + 4 * at), cache, base, 0, count, size, scratch, to)
