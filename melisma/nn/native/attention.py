"""Attention of rows to the past of their sequences, and to texts.

Enters: queries (with keys and values that join the past) float32 [row, width]. Leaves: what is
attended to, float32 [row, width]. A past is [slot, head, place, number] in the order that `past.py`
describes, and a ring: its first place is written again when all are full.
"""

from __future__ import annotations

import math

import numpy as np

from melisma.nn.native.compiling import compiled
from melisma.nn.native.kernels import exponential, share_of
from melisma.nn.native.past import (
    KINDS,
    key_products,
    key_products_of_bytes,
    value_sums,
    value_sums_of_bytes,
)
from melisma.nn.native.vectors import LANES, bits_of_float, bytes_at, floats_at, longs_at, shorts_at

_FLOAT_KEYS, _SHORT_KEYS = (key_products(kind) for kind in KINDS[:2])
_BYTE_KEYS = key_products_of_bytes()
_FLOAT_SUMS_1, _SHORT_SUMS_1 = (value_sums(kind, 1) for kind in KINDS[:2])
_FLOAT_SUMS_4, _SHORT_SUMS_4 = (value_sums(kind, 4) for kind in KINDS[:2])
_BYTE_SUMS_1, _BYTE_SUMS_4 = (value_sums_of_bytes(vectors) for vectors in (1, 4))
_AS_FLOATS, _AS_SHORTS, _AS_BYTES = range(3)
"""Numbers of `past.KINDS`."""
_NEVER = np.float32(-1e30)
"""Score of a place that is not attended to."""
_SIGNED = np.float32(127 * 256 + 127)
"""Largest number of two halves with signs."""
_UNSIGNED = np.float32(0xFFFF)
"""Largest of two halves without."""
_GOLDEN = 40_503
"""The golden section of 2**16: its multiples lie evenly, however many there are."""


def room_of(window: int, size: int) -> int:
    """float32 numbers that a thread needs to attend to `window` places with heads of `size`, as
    filled up: a query, what is found, scores, and two bytes for each score or each number."""
    # A window may begin and end within a block, and turn over once.
    places = (window // LANES + 3) * LANES
    return 2 * size + places + max(places, size) // 2


@compiled
def _filled(count):
    return (count + LANES - 1) // LANES * LANES


@compiled
def _turn(vector, turn, size):
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
def _keep(vector, past, kind, first, step, size):
    """Puts a vector into a past of floats, `step` numbers apart from `first` on."""
    if kind == _AS_FLOATS:
        for i in range(size):
            floats_at(past)[first + i * step] = vector[i]
    else:
        for i in range(size):
            shorts_at(past)[first + i * step] = _short_of(vector[i])


@compiled
def _keep_bytes(vector, past, scale, first, together, step, zero, size):
    """Puts a vector into a past of bytes: `together` numbers side by side, every next of them
    `step` bytes on; and what a byte is worth at the address `scale`."""
    most = np.float32(1e-20)
    for i in range(size):
        most = max(most, abs(vector[i]))
    floats_at(scale)[0] = most / np.float32(127.0)
    back, to = np.float32(127.0) / most, bytes_at(past)
    for i in range(size):
        number = np.int32(np.floor(vector[i] * back + np.float32(0.5)))
        to[first + i // together * step + i % together] = np.int8(number + zero)


@compiled
def remember_rows(
    joined, width, heads, angles, angle_index, keys, key_scales, values, value_scales, kind, ring,
    slots, positions, rows, part, parts,
):  # fmt: skip
    """Turns queries and new keys of [row, 3 * width] by their angles and puts keys and values into
    the past.

    `angles`: float32 [place, 2 * head width], cosines then sines, of rows `angle_index`; 0 for
    none. `kind`: number of one of `past.KINDS`; scales float32 [slot, head, ring].
    """
    size = width // heads
    full = _filled(size)
    first, last = share_of(rows * heads, part, parts)
    for one in range(first, last):
        row, head = one // heads, one % heads
        at = joined + 4 * (row * 3 * width + head * size)
        if angles != 0:
            turn = floats_at(angles + 8 * size * longs_at(angle_index)[row])
            _turn(floats_at(at), turn, size)
            _turn(floats_at(at + 4 * width), turn, size)
        key, value = floats_at(at + 4 * width), floats_at(at + 8 * width)
        base = (longs_at(slots)[row] * heads + head) * ring
        place = base + longs_at(positions)[row] % ring
        lane, four = place % LANES, place % 4
        if kind == _AS_BYTES:
            to = (place - lane) * full + 4 * lane
            _keep_bytes(key, keys, key_scales + 4 * place, to, 4, 4 * LANES, 128, size)
            to = (place - four) * full + four
            _keep_bytes(value, values, value_scales + 4 * place, to, 1, 4, 0, size)
        else:
            _keep(key, keys, kind, (place - lane) * full + lane, LANES, size)
            _keep(value, values, kind, place * full, 1, size)


@compiled
def _halve(query, size, high, low):
    """A query as whole numbers of 16 bits in two halves with signs, 256 * high + low: (what 1 is
    worth, -128 times the sums of the halves)."""
    most = np.float32(1e-20)
    for i in range(size):
        most = max(most, abs(query[i]))
    back = _SIGNED / most
    highs, lows = np.int32(0), np.int32(0)
    for i in range(size):
        number = np.int32(np.floor(query[i] * back + np.float32(0.5)))
        upper = (number + np.int32(128)) >> np.int32(8)
        lower = number - (upper << np.int32(8))
        high[i], low[i] = np.int8(upper), np.int8(lower)
        highs += upper
        lows += lower
    return most / _SIGNED, -128 * np.int64(highs), -128 * np.int64(lows)


@compiled
def _weigh(kind, query, halves, starts, keys, scales, place, size, blocks, scores):
    """Products of a query with the keys of `blocks` blocks from a place on, into `scores`."""
    if kind == _AS_FLOATS:
        _FLOAT_KEYS(query, keys + 4 * place * size, size, blocks, scores)
    elif kind == _AS_SHORTS:
        _SHORT_KEYS(query, keys + 2 * place * size, size, blocks, scores)
    else:
        _BYTE_KEYS(
            halves, halves + size, starts[0], starts[1], keys + place * size, scales + 4 * place,
            size, blocks, scores,
        )  # fmt: skip


@compiled
def _gather(kind, weights, high, low, values, place, size, blocks, out):
    """out [size] += sum of the values of `blocks` blocks from a place on, by their weights."""
    places = LANES * blocks
    if kind == _AS_FLOATS:
        at, step = values + 4 * place * size, 4 * size
        if size == 4 * LANES:
            _FLOAT_SUMS_4(weights, at, step, places, out)
        else:
            for v in range(size // LANES):
                _FLOAT_SUMS_1(weights, at + 4 * LANES * v, step, places, out + 4 * LANES * v)
    elif kind == _AS_SHORTS:
        at, step = values + 2 * place * size, 2 * size
        if size == 4 * LANES:
            _SHORT_SUMS_4(weights, at, step, places, out)
        else:
            for v in range(size // LANES):
                _SHORT_SUMS_1(weights, at + 2 * LANES * v, step, places, out + 4 * LANES * v)
    else:
        at, step = values + place * size, 4 * size
        if size == 4 * LANES:
            _BYTE_SUMS_4(high, low, at, step, places // 4, out)
        else:
            for v in range(size // LANES):
                _BYTE_SUMS_1(
                    high, low, at + 4 * LANES * v, step, places // 4, out + 4 * LANES * v
                )  # fmt: skip


@compiled
def _soften(scores, count, scale):
    """scores = e to the (scale * (scores - their largest)); returns their sum."""
    most = _NEVER
    for t in range(count):
        most = max(most, scores[t])
    total = np.float32(0.0)
    for t in range(count):
        value = exponential((scores[t] - most) * scale)
        scores[t] = value
        total += value
    return total


@compiled
def _scaled(weights, scales, count):
    """Weights times what a byte is worth at their places; returns the largest."""
    most = np.float32(1e-30)
    for t in range(count):
        weights[t] *= scales[t]
        most = max(most, weights[t])
    return most


@compiled
def _split(weights, count, back, high, low):
    """Weights times `back` as whole numbers of 16 bits in two halves, 256 * high + low. What is
    added before the rest is cut off goes through all fractions: hundreds of weights below 1 keep
    their sum."""
    for t in range(count):
        fraction = np.float32((t * _GOLDEN) & 0xFFFF) * np.float32(1.0 / 0x10000)
        number = min(np.int32(weights[t] * back + fraction), np.int32(0xFFFF))
        high[t], low[t] = np.int8(number >> np.int32(8)), np.int8(number & np.int32(255))


@compiled
def _forget(scores, first, last):
    for t in range(first, last):
        scores[t] = _NEVER


@compiled
def _attend(
    query, keys, key_scales, values, value_scales, kind, base, ring, begin, count, size, room, out
):
    """Attention of a query [size] to `count` places of its sequence and head from place `begin` on,
    into out [size]. `base`: where the ring of `ring` places begins; `room`: as `room_of` says."""
    full = _filled(size)
    asked, found = floats_at(room), floats_at(room + 4 * full)
    for i in range(full):
        asked[i] = query[i] if i < size else np.float32(0.0)
        found[i] = np.float32(0.0)
    first = begin % ring
    ahead = min(count, ring - first)
    lane = first % LANES
    # Whole blocks: those up to the end of the window or the ring, and those of a ring turned over.
    place, blocks = base + first - lane, _filled(lane + ahead) // LANES
    more = _filled(count - ahead) // LANES
    behind, places = LANES * blocks, LANES * (blocks + more)
    scores = room + 8 * full
    halves = scores + 4 * places
    step, starts = np.float32(1.0), (np.int64(0), np.int64(0))
    if kind == _AS_BYTES:
        step, highs, lows = _halve(asked, full, bytes_at(halves), bytes_at(halves + full))
        starts = highs, lows
    _weigh(kind, room, halves, starts, keys, key_scales, place, full, blocks, scores)
    later = scores + 4 * behind
    _weigh(kind, room, halves, starts, keys, key_scales, base, full, more, later)
    weights = floats_at(scores)
    _forget(weights, 0, lane)
    _forget(weights, lane + ahead, behind)
    _forget(weights, behind + count - ahead, places)
    worth = np.float32(1.0) / _soften(weights, places, step / np.float32(math.sqrt(size)))
    high, low = halves, halves + places
    if kind == _AS_BYTES:
        most = max(
            _scaled(weights, floats_at(value_scales + 4 * place), behind),
            _scaled(floats_at(later), floats_at(value_scales + 4 * base), places - behind),
        )
        _split(weights, places, _UNSIGNED / most, bytes_at(high), bytes_at(low))
        worth *= most / _UNSIGNED
    to = room + 4 * full
    _gather(kind, scores, high, low, values, place, full, blocks, to)
    _gather(kind, later, high + behind, low + behind, values, base, full, more, to)
    for i in range(size):
        out[i] = found[i] * worth


@compiled
def attend_past(
    joined, width, heads, keys, key_scales, values, value_scales, kind, ring, window, slots,
    positions, room, room_width, out, rows, part, parts,
):  # fmt: skip
    """Attention of every row to its past: at most `window` places up to its own.

    `room`: float32 [part, room_width], see `room_of`.
    """
    size = width // heads
    first, last = share_of(rows * heads, part, parts)
    for one in range(first, last):
        row, head = one // heads, one % heads
        position = longs_at(positions)[row]
        count = min(position + 1, window)
        _attend(
            floats_at(joined + 4 * (row * 3 * width + head * size)), keys, key_scales, values,
            value_scales, kind, (longs_at(slots)[row] * heads + head) * ring, ring,
            position + 1 - count, count, size, room + 4 * part * room_width,
            floats_at(out + 4 * (row * width + head * size)),
        )  # fmt: skip


@compiled
def attend_text(
    query, width, heads, keys, values, kind, longest, lengths, slots, room, room_width, out,
    rows, part, parts,
):  # fmt: skip
    """Attention of every row [row, width] to a text of floats [slot, head, longest, number], of
    which `lengths` int64 [slot] places count; zeros where there is no text."""
    size = width // heads
    first, last = share_of(rows * heads, part, parts)
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
            longest, 0, count, size, room + 4 * part * room_width, to,
        )  # fmt: skip
