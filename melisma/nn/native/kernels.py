"""The operations of a step, one function each: what they read and write lies at raw addresses.

Every operation is shared by all threads: each does the part that falls to it (`share_of`), and a
barrier stands between operations (`program.py`). Vectors of the batch are float32 [row, width];
rows are sequences, or places of one sequence side by side while a beginning is read in. Products
with matrices are in `products.py`.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from melisma.nn.native.past import HEAD, KINDS, past_products, past_sums
from melisma.nn.native.vectors import (
    bits_of_float,
    bytes_at,
    float_of_bits,
    floats_at,
    longs_at,
    shorts_at,
)

FLAGS = {"contract", "reassoc", "arcp", "nsz", "afn"}
"""Freedoms that the compiler has with floats: sums in any order, so that they can be vectors. Not
that there is no infinity: scores begin with one."""
compiled = numba.njit(nogil=True, fastmath=FLAGS, error_model="numpy", cache=True)
"""Turns a function into machine code when it is first called, kept on disk for the next time."""


_FLOAT_PRODUCTS, _SHORT_PRODUCTS, _BYTE_PRODUCTS = (past_products(kind) for kind in KINDS)
_FLOAT_SUMS, _SHORT_SUMS, _BYTE_SUMS = (past_sums(kind) for kind in KINDS)
_AS_FLOATS, _AS_SHORTS, _AS_BYTES = range(3)
"""Numbers of `past.KINDS`."""


@compiled
def share_of(count, part, parts):
    """First and last of the pieces that fall to a part of the threads."""
    return count * part // parts, count * (part + 1) // parts


@compiled
def exponential(x):
    """e to the x for float32, to 2 units in the last place; it can be vectorised."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    whole = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    rest = x - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
    # Coefficients of Cephes' expf.
    y = np.float32(1.9875691500e-4)
    y = y * rest + np.float32(1.3981999507e-3)
    y = y * rest + np.float32(8.3334519073e-3)
    y = y * rest + np.float32(4.1665795894e-2)
    y = y * rest + np.float32(1.6666665459e-1)
    y = y * rest + np.float32(5.0000001201e-1)
    y = y * rest * rest + rest + np.float32(1.0)
    return y * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@compiled
def _gelu(x):
    """x times the share of the normal distribution below it (1606.08415), exact to 2e-7."""
    z = abs(x) * np.float32(0.70710678)
    # Abramowitz and Stegun, 7.1.26.
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.3275911) * z)
    y = np.float32(1.061405429)
    y = y * t - np.float32(1.453152027)
    y = y * t + np.float32(1.421413741)
    y = y * t - np.float32(0.284496736)
    y = y * t + np.float32(0.254829592)
    tail = y * t * exponential(-z * z)
    positive = np.float32(1.0) - np.float32(0.5) * tail
    negative = np.float32(0.5) * tail
    return x * (positive if x >= np.float32(0.0) else negative)


@compiled
def _silu(x):
    return x / (np.float32(1.0) + exponential(-x))


@compiled
def _short_of(x):
    """bfloat16 of a float32, rounded to nearest even."""
    bits = np.uint32(bits_of_float(x))
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16)


@compiled
def _float_of(short):
    return float_of_bits(np.int32(np.uint32(short) << np.uint32(16)))


@compiled
def embed_rows(
    tables, levels, tokens, width, first_extra, first_index, second_extra, second_index, out,
    rows, part, parts,
):  # fmt: skip
    """out[row] = sum of the tokens' table rows + a row of each extra table.

    `tables`: address of the tables' addresses, each float32 [entry, width]; tokens int64
    [row, level], -1 for none; indices int64 [row], -1 for none.
    """
    first, last = share_of(rows, part, parts)
    for row in range(first, last):
        to = floats_at(out + 4 * row * width)
        for i in range(width):
            to[i] = np.float32(0.0)
        for level in range(levels):
            token = longs_at(tokens)[row * levels + level]
            if token >= 0:
                table = floats_at(longs_at(tables)[level] + 4 * token * width)
                for i in range(width):
                    to[i] += table[i]
        index = longs_at(first_index)[row]
        if index >= 0:
            extra = floats_at(first_extra + 4 * index * width)
            for i in range(width):
                to[i] += extra[i]
        index = longs_at(second_index)[row]
        if index >= 0:
            extra = floats_at(second_extra + 4 * index * width)
            for i in range(width):
                to[i] += extra[i]


@compiled
def normalise_rows(
    x, out, weight, bias, width, epsilon_bits, centred, told, told_first, slots, rows, part, parts
):
    """Norm of every row: RMS, or `centred` with a bias (LayerNorm); then scaled and shifted.

    `told`: address of float32 [slot, 4 * width], of which [told_first * width, + 2 * width) are
    scale and shift; 0 for none. `slots`: int64 [row].
    """
    epsilon = float_of_bits(np.int32(epsilon_bits))
    first, last = share_of(rows, part, parts)
    w = floats_at(weight)
    for row in range(first, last):
        a, to = floats_at(x + 4 * row * width), floats_at(out + 4 * row * width)
        mean = np.float32(0.0)
        if centred:
            for i in range(width):
                mean += a[i]
            mean /= np.float32(width)
        spread = np.float32(0.0)
        for i in range(width):
            spread += (a[i] - mean) * (a[i] - mean)
        scale = np.float32(1.0) / np.sqrt(spread / np.float32(width) + epsilon)
        if centred:
            b = floats_at(bias)
            for i in range(width):
                to[i] = (a[i] - mean) * scale * w[i] + b[i]
        else:
            for i in range(width):
                to[i] = a[i] * scale * w[i]
        if told != 0:
            at = told + 4 * width * (4 * longs_at(slots)[row] + told_first)
            up, shift = floats_at(at), floats_at(at + 4 * width)
            for i in range(width):
                to[i] = to[i] * (np.float32(1.0) + up[i]) + shift[i]


@compiled
def activate_rows(x, out, width, gated, rows, part, parts):
    """GELU of [row, width], or, `gated`, SiLU of the first half of [row, 2 * width] times the
    second (SwiGLU, 2002.05202)."""
    blocks = (width + 63) // 64
    first, last = share_of(rows * blocks, part, parts)
    for one in range(first, last):
        row, begin = one // blocks, one % blocks * 64
        count = min(64, width - begin)
        to = floats_at(out + 4 * (row * width + begin))
        if gated:
            a = floats_at(x + 4 * (row * 2 * width + begin))
            b = floats_at(x + 4 * (row * 2 * width + width + begin))
            for i in range(count):
                to[i] = _silu(a[i]) * b[i]
        else:
            a = floats_at(x + 4 * (row * width + begin))
            for i in range(count):
                to[i] = _gelu(a[i])


@compiled
def _turn(vector, turn, size):
    """A vector of a head by the cosines and sines of its place (2104.09864)."""
    half = size // 2
    for i in range(half):
        a, b = vector[i], vector[half + i]
        vector[i] = a * turn[i] - b * turn[size + i]
        vector[half + i] = b * turn[half + i] + a * turn[size + half + i]


@compiled
def _keep(vector, past, scales, kind, place, size):
    """Puts a vector at a place of a past."""
    if kind == _AS_FLOATS:
        to = floats_at(past + 4 * place * size)
        for i in range(size):
            to[i] = vector[i]
    elif kind == _AS_SHORTS:
        short = shorts_at(past + 2 * place * size)
        for i in range(size):
            short[i] = _short_of(vector[i])
    else:
        most = np.float32(1e-20)
        for i in range(size):
            most = max(most, abs(vector[i]))
        floats_at(scales)[place] = most / np.float32(127.0)
        back, number = np.float32(127.0) / most, bytes_at(past + place * size)
        for i in range(size):
            number[i] = np.int8(np.int32(np.floor(vector[i] * back + np.float32(0.5))))


@compiled
def remember_rows(
    joined, width, heads, angles, angle_index, keys, key_scales, values, value_scales, kind, ring,
    slots, positions, rows, part, parts,
):  # fmt: skip
    """Turns queries and new keys of [row, 3 * width] by their angles and puts keys and values into
    the past [slot, head, ring, head width].

    `angles`: float32 [place, 2 * head width], cosines then sines, of rows `angle_index`; 0 for
    none. `kind`: number of one of `past.KINDS`; scales float32 [slot, head, ring].
    """
    size = width // heads
    first, last = share_of(rows * heads, part, parts)
    for one in range(first, last):
        row, head = one // heads, one % heads
        at = joined + 4 * (row * 3 * width + head * size)
        if angles != 0:
            turn = floats_at(angles + 8 * size * longs_at(angle_index)[row])
            _turn(floats_at(at), turn, size)
            _turn(floats_at(at + 4 * width), turn, size)
        slot = longs_at(slots)[row]
        place = (slot * heads + head) * ring + longs_at(positions)[row] % ring
        _keep(floats_at(at + 4 * width), keys, key_scales, kind, place, size)
        _keep(floats_at(at + 8 * width), values, value_scales, kind, place, size)


@compiled
def _weigh(query, past, scales, kind, place, size, count, scores):
    """Products of a query with `count` keys from a place on, into `scores`; addresses all."""
    scales += 4 * place
    if size == HEAD:
        if kind == _AS_FLOATS:
            _FLOAT_PRODUCTS(query, past + 4 * place * size, scales, count, scores)
        elif kind == _AS_SHORTS:
            _SHORT_PRODUCTS(query, past + 2 * place * size, scales, count, scores)
        else:
            _BYTE_PRODUCTS(query, past + place * size, scales, count, scores)
        return
    asked, to = floats_at(query), floats_at(scores)
    for t in range(count):
        total = np.float32(0.0)
        for i in range(size):
            total += asked[i] * _past_at(past, kind, (place + t) * size + i)
        to[t] = total * floats_at(scales)[t] if kind == _AS_BYTES else total


@compiled
def _gather(past, scales, kind, place, size, count, scores, out):
    """out += sum of `count` values from a place on, weighted by `scores`; addresses all."""
    scales += 4 * place
    if size == HEAD:
        if kind == _AS_FLOATS:
            _FLOAT_SUMS(scores, past + 4 * place * size, scales, count, out)
        elif kind == _AS_SHORTS:
            _SHORT_SUMS(scores, past + 2 * place * size, scales, count, out)
        else:
            _BYTE_SUMS(scores, past + place * size, scales, count, out)
        return
    weights, to = floats_at(scores), floats_at(out)
    for t in range(count):
        weight = weights[t] * floats_at(scales)[t] if kind == _AS_BYTES else weights[t]
        for i in range(size):
            to[i] += weight * _past_at(past, kind, (place + t) * size + i)


@compiled
def _past_at(past, kind, place):
    """One number of a past, without its scale."""
    if kind == _AS_FLOATS:
        return floats_at(past)[place]
    if kind == _AS_SHORTS:
        return _float_of(shorts_at(past)[place])
    return np.float32(bytes_at(past)[place])


@compiled
def _soften(scores, count, scale):
    """softmax(scale * scores) in place."""
    most = np.float32(-np.inf)
    for t in range(count):
        most = max(most, scores[t])
    total = np.float32(0.0)
    for t in range(count):
        value = exponential((scores[t] - most) * scale)
        scores[t] = value
        total += value
    back = np.float32(1.0) / total
    for t in range(count):
        scores[t] *= back


@compiled
def _clear(out, size):
    to = floats_at(out)
    for i in range(size):
        to[i] = np.float32(0.0)


@compiled
def attend_past(
    joined, width, heads, keys, key_scales, values, value_scales, kind, ring, window, slots,
    positions, scores, scores_width, out, rows, part, parts,
):  # fmt: skip
    """Attention of every row to its past: at most `window` places up to its own.

    `scores`: float32 [part, scores_width], room to work in.
    """
    size = width // heads
    scale = np.float32(1.0 / math.sqrt(size))
    first, last = share_of(rows * heads, part, parts)
    room = scores + 4 * part * scores_width
    for one in range(first, last):
        row, head = one // heads, one % heads
        query = joined + 4 * (row * 3 * width + head * size)
        to = out + 4 * (row * width + head * size)
        slot, position = longs_at(slots)[row], longs_at(positions)[row]
        begin = max(position - window + 1, 0)
        count = position + 1 - begin
        base = (slot * heads + head) * ring
        place = base + begin % ring
        # The ring may turn over within the window: two stretches.
        ahead = min(count, base + ring - place)
        behind, rest = count - ahead, room + 4 * ahead
        _weigh(query, keys, key_scales, kind, place, size, ahead, room)
        _weigh(query, keys, key_scales, kind, base, size, behind, rest)
        _soften(floats_at(room), count, scale)
        _clear(to, size)
        _gather(values, value_scales, kind, place, size, ahead, room, to)
        _gather(values, value_scales, kind, base, size, behind, rest, to)


@compiled
def attend_text(
    query, width, heads, keys, values, kind, longest, lengths, slots, scores, scores_width, out,
    rows, part, parts,
):  # fmt: skip
    """Attention of every row [row, width] to a text [slot, head, longest, head width], of which
    `lengths` int64 [slot] places count; zeros where there is no text. Not as int8."""
    size = width // heads
    scale = np.float32(1.0 / math.sqrt(size))
    first, last = share_of(rows * heads, part, parts)
    room = scores + 4 * part * scores_width
    for one in range(first, last):
        row, head = one // heads, one % heads
        slot = longs_at(slots)[row]
        count = longs_at(lengths)[slot]
        to = out + 4 * (row * width + head * size)
        _clear(to, size)
        if count > 0:
            place = (slot * heads + head) * longest
            asked = query + 4 * (row * width + head * size)
            _weigh(asked, keys, 0, kind, place, size, count, room)
            _soften(floats_at(room), count, scale)
            _gather(values, 0, kind, place, size, count, room, to)
