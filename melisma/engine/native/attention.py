"""Attention of rows to the past of their sequences, and to texts.

Enters: queries (with keys and values that join the past) float32 [row, width]. Leaves: what is
attended to, float32 [row, width]. A past is [slot, head, place, number] in the order that
`kv_cache.py` describes, and a ring: its first place is written again when all are full.
"""

from __future__ import annotations

import math

import numpy as np

from melisma.engine.native.kv_cache import (
    BLOCK,
    KINDS,
    MAX_POSITIONS,
    key_products,
    key_products_of_bytes,
    kv_layout,
    value_sums,
    value_sums_of_bytes,
)
from melisma.engine.native.quantization import (
    abs_max_of,
    quantize_to,
    quantize_to_halves,
    quantize_weights,
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
_TOGETHER = _LAYOUT.together
_VNNI = _ISA.vnni
_KEY_SIGNS = np.int32(-0x7F7F7F80 if _LAYOUT.key_zero else 0)
"""Bits that turn four bytes with signs into four with 128 added."""
_FLOAT_KEYS, _SHORT_KEYS = (key_products(_ISA, kind) for kind in KINDS[:2])
_BYTE_KEYS = key_products_of_bytes(_ISA)
_FLOAT_SUMS_1, _SHORT_SUMS_1 = (value_sums(_ISA, kind, 1) for kind in KINDS[:2])
_FLOAT_SUMS_4, _SHORT_SUMS_4 = (value_sums(_ISA, kind, 4) for kind in KINDS[:2])
_BYTE_SUMS_1, _BYTE_SUMS_4 = (value_sums_of_bytes(_ISA, vectors) for vectors in (1, 4))
_ABS_MAX = abs_max_of(_ISA)
_TO_BYTES, _TO_SHORTS = (quantize_to(_ISA, kind) for kind in ("int8", "int16"))
_TO_HALVES, _TO_WEIGHTS = quantize_to_halves(_ISA), quantize_weights(_ISA)
_AS_FLOATS, _AS_SHORTS, _AS_BYTES = range(3)
"""Numbers of `past.KINDS`."""
_NEVER = np.float32(-1e30)
"""Score of a place that is not attended to."""
_SIGNED = np.float32(127 * 256 + 127)
"""Largest number of two halves with signs."""
_WEIGHTS = np.float32(0x7FFF)
"""Largest weight of a place as a whole number of 16 bits with a sign."""


def scratch_size(window: int, size: int) -> int:
    """float32 numbers that a thread needs to attend to `window` places with heads of `size`, as
    filled up: a query, what is found, scores, and two bytes for each score or each number."""
    # A window may begin and end within a block, and turn over once.
    places = (window // BLOCK + 3) * BLOCK
    return 2 * size + places + max(places, size) // 2


@compiled
def _filled(count):
    return (count + BLOCK - 1) // BLOCK * BLOCK


@compiled
def apply_rope(vector, turn, size):
    """A vector of a head by the cosines and sines of its place (2104.09864)."""
    half = size // 2
    for i in range(half):
        a, b = vector[i], vector[half + i]
        vector[i] = a * turn[i] - b * turn[size + i]
        vector[half + i] = b * turn[half + i] + a * turn[size + half + i]


@compiled
def _short_of(x):
    """bfloat16 of a float32, rounded to nearest even."""
    bits = np.uint32(bits_of_float(x))
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16)


@compiled
def _store_float(vector, past, kind, first, step, size):
    """Puts a vector into a past of floats, `step` numbers apart from `first` on."""
    if kind == _AS_FLOATS:
        for i in range(size):
            floats_at(past)[first + i * step] = vector[i]
    else:
        for i in range(size):
            shorts_at(past)[first + i * step] = _short_of(vector[i])


@compiled
def _to_bytes(vector, scale, size):
    """Quantizes a vector to int8 where it lies; what 1 is worth goes to the address `scale`."""
    most = max(_ABS_MAX(vector, size), np.float32(1e-20))
    floats_at(scale)[0] = most / np.float32(127.0)
    _TO_BYTES(vector, np.float32(127.0) / most, size, vector)


@compiled
def _store_int8_key(vector, keys, scale, first, size):
    """Puts a key into a past of bytes, some numbers side by side, a block of places apart."""
    _to_bytes(vector, scale, size)
    if _TOGETHER == 4:
        for i in range(size // 4):
            ints_at(keys + first)[i * LANES] = ints_at(vector)[i] ^ _KEY_SIGNS
    else:
        for i in range(size // 2):
            shorts_at(keys + first)[i * LANES] = shorts_at(vector)[i]


@compiled
def _store_int8_value(vector, values, scale, first, size):
    """Puts a value into a past of bytes, its numbers as far apart as places lie side by side."""
    _to_bytes(vector, scale, size)
    for i in range(size):
        bytes_at(values + first)[i * _TOGETHER] = bytes_at(vector)[i]


@compiled
def append_kv(
    joined, width, heads, angles, angle_index, keys, key_scales, values, value_scales, kind, ring,
    slots, positions, first, last,
):  # fmt: skip
    """Turns queries and new keys of [row, 3 * width] by their angles and puts keys and values into
    the past. Pieces: heads of all rows.

    `angles`: float32 [place, 2 * head width], cosines then sines, of rows `angle_index`; 0 for
    none. `kind`: number of one of `past.KINDS`; scales float32 [slot, head, ring].
    """
    size = width // heads
    full = _filled(size)
    for one in range(first, last):
        row, head = one // heads, one % heads
        at = joined + 4 * (row * 3 * width + head * size)
        if angles != 0:
            turn = floats_at(angles + 8 * size * longs_at(angle_index)[row])
            apply_rope(floats_at(at), turn, size)
            apply_rope(floats_at(at + 4 * width), turn, size)
        key, value = at + 4 * width, at + 8 * width
        base = (longs_at(slots)[row] * heads + head) * ring
        place = base + longs_at(positions)[row] % ring
        lane, some = place % LANES, place % _TOGETHER
        if kind == _AS_BYTES:
            to = (place - lane) * full + _TOGETHER * lane
            _store_int8_key(key, keys, key_scales + 4 * place, to, size)
            to = (place - some) * full + some
            _store_int8_value(value, values, value_scales + 4 * place, to, size)
        else:
            _store_float(floats_at(key), keys, kind, (place - lane) * full + lane, LANES, size)
            _store_float(floats_at(value), values, kind, place * full, 1, size)


@compiled
def _quantize_query(query, size, out, sums):
    """A query as whole numbers of 16 bits, at the address `out`: with VNNI in two halves with
    signs, all high ones and then all low ones, 256 * high + low, and their sums int32 at `sums`;
    else whole. Returns what 1 is worth."""
    most = max(_ABS_MAX(query, size), np.float32(1e-20))
    if _VNNI:
        _TO_HALVES(query, _SIGNED / most, size, out, sums)
    else:
        _TO_SHORTS(query, _SIGNED / most, size, out)
    return most / _SIGNED


@compiled
def qk_scores(kind, query, whole, starts, keys, scales, place, size, blocks, scores):
    """Products of a query with the keys of `blocks` blocks from a place on, into `scores`."""
    if kind == _AS_FLOATS:
        _FLOAT_KEYS(query, keys + 4 * place * size, size, blocks, scores)
    elif kind == _AS_SHORTS:
        _SHORT_KEYS(query, keys + 2 * place * size, size, blocks, scores)
    else:
        _BYTE_KEYS(
            whole, starts[0], starts[1], keys + place * size, scales + 4 * place, size, blocks,
            scores,
        )  # fmt: skip


@compiled
def weighted_values(kind, weights, whole, behind, values, place, size, blocks, out):
    """out [size] += sum of the values of `blocks` blocks from a place on, by their weights.

    `whole`: address of the first place's weight as a whole number; with VNNI the upper half, and
    the lower ones lie `behind` bytes on.
    """
    places = LANES * blocks
    if kind == _AS_FLOATS:
        at, step = values + 4 * place * size, 4 * size
        if size % (4 * LANES) == 0:
            for v in range(0, size // LANES, 4):
                _FLOAT_SUMS_4(weights, at + 4 * LANES * v, step, places, out + 4 * LANES * v)
        else:
            for v in range(size // LANES):
                _FLOAT_SUMS_1(weights, at + 4 * LANES * v, step, places, out + 4 * LANES * v)
    elif kind == _AS_SHORTS:
        at, step = values + 2 * place * size, 2 * size
        if size % (4 * LANES) == 0:
            for v in range(0, size // LANES, 4):
                _SHORT_SUMS_4(weights, at + 2 * LANES * v, step, places, out + 4 * LANES * v)
        else:
            for v in range(size // LANES):
                _SHORT_SUMS_1(weights, at + 2 * LANES * v, step, places, out + 4 * LANES * v)
    else:
        at, step, each = values + place * size, _TOGETHER * size, 1 if _VNNI else 2
        for begin in range(0, places, MAX_POSITIONS):
            some = min(MAX_POSITIONS, places - begin) // _TOGETHER
            at_weight, at_value = whole + each * begin, at + begin * size
            if size % (4 * LANES) == 0:
                for v in range(0, size // LANES, 4):
                    _BYTE_SUMS_4(
                        at_weight, behind, at_value + _TOGETHER * LANES * v, step, some,
                        out + 4 * LANES * v,
                    )  # fmt: skip
            else:
                for v in range(size // LANES):
                    _BYTE_SUMS_1(
                        at_weight, behind, at_value + _TOGETHER * LANES * v, step, some,
                        out + 4 * LANES * v,
                    )  # fmt: skip


@compiled
def softmax_(address, count, scale):
    """scores = e to the (scale * (scores - their largest)); returns their sum."""
    scores, most = floats_at(address), _NEVER
    for t in range(count):
        most = max(most, scores[t])
    for t in range(count):
        scores[t] = exponential((scores[t] - most) * scale)
    return sum_floats(address, count)


@compiled
def _scaled(weights, scales, count):
    """Weights times what a byte is worth at their places; returns the largest."""
    most = np.float32(1e-30)
    for t in range(count):
        weights[t] *= scales[t]
        most = max(most, weights[t])
    return most


@compiled
def mask_range(scores, first, last):
    for t in range(first, last):
        scores[t] = _NEVER


@compiled
def _attend(
    query, keys, key_scales, values, value_scales, kind, base, ring, begin, count, size, room, out
):
    """Attention of a query [size] to `count` places of its sequence and head from place `begin` on,
    into out [size]. `base`: where the ring of `ring` places begins; `room`: as `scratch_size`
    says."""
    full = _filled(size)
    asked, found = floats_at(room), floats_at(room + 4 * full)
    for i in range(full):
        asked[i] = query[i] if i < size else np.float32(0.0)
        found[i] = np.float32(0.0)
    first = begin % ring
    ahead = min(count, ring - first)
    lane = first % BLOCK
    # Whole blocks: those up to the end of the window or the ring, and those of a ring turned over.
    place, blocks = base + first - lane, _filled(lane + ahead) // LANES
    more = _filled(count - ahead) // LANES
    behind, places = LANES * blocks, LANES * (blocks + more)
    scores = room + 8 * full
    whole = scores + 4 * places
    step, starts = np.float32(1.0), (np.int64(0), np.int64(0))
    if kind == _AS_BYTES:
        # The sums of the halves lie where scores will.
        step, sums = _quantize_query(room, full, whole, scores), ints_at(scores)
        starts = -128 * np.int64(sums[0]), -128 * np.int64(sums[1])
    qk_scores(kind, room, whole, starts, keys, key_scales, place, full, blocks, scores)
    later = scores + 4 * behind
    qk_scores(kind, room, whole, starts, keys, key_scales, base, full, more, later)
    weights = floats_at(scores)
    mask_range(weights, 0, lane)
    mask_range(weights, lane + ahead, behind)
    mask_range(weights, behind + count - ahead, places)
    worth = np.float32(1.0) / softmax_(scores, places, step / np.float32(math.sqrt(size)))
    if kind == _AS_BYTES:
        most = max(
            _scaled(weights, floats_at(value_scales + 4 * place), behind),
            _scaled(floats_at(later), floats_at(value_scales + 4 * base), places - behind),
        )
        _TO_WEIGHTS(scores, _WEIGHTS / most, places, whole)
        worth *= most / _WEIGHTS
    to = room + 4 * full
    weighted_values(kind, scores, whole, places, values, place, full, blocks, to)
    turned = whole + (behind if _VNNI else 2 * behind)
    weighted_values(kind, later, turned, places, values, base, full, more, to)
    for i in range(size):
        out[i] = found[i] * worth


@compiled
def attend_cache(
    joined, width, heads, keys, key_scales, values, value_scales, kind, ring, window, slots,
    positions, room, room_width, out, first, last, thread,
):  # fmt: skip
    """Attention of every row to its past: at most `window` places up to its own. Pieces: heads of
    all rows.

    `room`: float32 [thread, room_width], see `scratch_size`.
    """
    size = width // heads
    for one in range(first, last):
        row, head = one // heads, one % heads
        position = longs_at(positions)[row]
        count = min(position + 1, window)
        _attend(
            floats_at(joined + 4 * (row * 3 * width + head * size)), keys, key_scales, values,
            value_scales, kind, (longs_at(slots)[row] * heads + head) * ring, ring,
            position + 1 - count, count, size, room + 4 * thread * room_width,
            floats_at(out + 4 * (row * width + head * size)),
        )  # fmt: skip


@compiled
def attend_text(
    query, width, heads, keys, values, kind, longest, lengths, slots, room, room_width, out,
    first, last, thread,
):  # fmt: skip
    """Attention of every row [row, width] to a text of floats [slot, head, longest, number], of
    which `lengths` int64 [slot] places count; zeros where there is no text. Pieces: heads of all
    rows."""
    size = width // heads
    for one in range(first, last):
        row, head = one // heads, one % heads
        slot = longs_at(slots)[row]
        count = longs_at(lengths)[slot]
        at = row * width + head * size
        to = floats_at(out + 4 * at)
        if count == 0:
            for i in range(size):
                to[i] = np.float32(0.0)
            continue
        _attend(
            floats_at(query + 4 * at), keys, 0, values, 0, kind, (slot * heads + head) * longest,
            longest, 0, count, size, room + 4 * thread * room_width, to,
        )  # fmt: skip
