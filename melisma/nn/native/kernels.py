"""The operations of a step, one function each: what they read and write lies at raw addresses.

Every operation is shared by all threads: each does the part that falls to it (`_share`), and a
barrier stands between operations (`program.py`). Vectors of the batch are float32 [row, width];
rows are sequences, or places of one sequence side by side while a beginning is read in.

Compiled with `fastmath` but without the assumption that no infinity occurs.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from melisma.nn.native.vectors import (
    TILE,
    bits_of_float,
    bytes_at,
    float_of_bits,
    float_tile,
    floats_at,
    has_vnni,
    ints_at,
    longs_at,
    shorts_at,
    whole_tile,
)

VNNI = has_vnni()
"""Whether activations meet integer weights as integers on this processor."""
FLAGS = {"contract", "reassoc", "arcp", "nsz", "afn"}

_compiled = numba.njit(nogil=True, fastmath=FLAGS, error_model="numpy", cache=True)

_FLOAT_1, _FLOAT_2, _FLOAT_4 = (float_tile(rows, "float32") for rows in (1, 2, 4))
_SHORT_1, _SHORT_2, _SHORT_4 = (float_tile(rows, "bfloat16") for rows in (1, 2, 4))
_BYTE_1, _BYTE_2, _BYTE_4 = (whole_tile(rows, 8, VNNI) for rows in (1, 2, 4))
_HALF_1, _HALF_2, _HALF_4 = (whole_tile(rows, 4, VNNI) for rows in (1, 2, 4))

FLOAT32, BFLOAT16, INT8, INT4 = range(4)
"""Numbers of `packing.PRECISIONS`."""
_X_STEP = 1 if VNNI else 4
"""Bytes of one input of x where weights are integers."""


@_compiled
def _share(count, part, parts):
    """First and last of the pieces that fall to a part of the threads."""
    return count * part // parts, count * (part + 1) // parts


@_compiled
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


@_compiled
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


@_compiled
def _silu(x):
    return x / (np.float32(1.0) + exponential(-x))


@_compiled
def _short_of(x):
    """bfloat16 of a float32, rounded to nearest even."""
    bits = np.uint32(bits_of_float(x))
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16)


@_compiled
def _float_of(short):
    return float_of_bits(np.int32(np.uint32(short) << np.uint32(16)))


@_compiled
def _round_group(x, first, size, numbers, scales, sums, group, zero):
    """One group of x as int8 with a scale, and what its sum takes off (see `vectors.py`)."""
    most = np.float32(1e-20)
    for i in range(size):
        most = max(most, abs(x[first + i]))
    back = np.float32(127.0) / most
    total = np.int32(0)
    for i in range(size):
        # Rounding by adding and taking off: 1.5 * 2**23.
        near = (x[first + i] * back + np.float32(12582912.0)) - np.float32(12582912.0)
        number = np.int32(near)
        numbers[first + i] = np.int8(number)
        total += number
    scales[group] = most / np.float32(127.0)
    sums[group] = -zero * total


@_compiled
def round_rows(x, width, group_size, numbers, scales, sums, zero, rows, part, parts):
    """x float32 [row, width] -> int8 of the same shape, float32 and int32 [row, group]."""
    groups = width // group_size
    first, last = _share(rows * groups, part, parts)
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


@_compiled
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


@_compiled
def _rows_at_once(left):
    return 4 if left >= 4 else (2 if left >= 2 else 1)


@_compiled
def _put(room, out, out_width, count, rows, add):
    """The part of a tile [row, TILE] that counts -> out [row, out_width]."""
    for row in range(rows):
        a, to = floats_at(room + 4 * row * TILE), floats_at(out + 4 * row * out_width)
        for i in range(count):
            to[i] = a[i] + (to[i] if add else np.float32(0.0))


@_compiled
def multiply_floats(kind, weights, outputs, inputs, x, out, add, spare, rows, part, parts):
    """out [row, output] (+)= x [row, input] times a matrix of floats; `add` is 0 or 1.

    `spare`: float32 [part, 4, TILE], room for a last tile that is not full.
    """
    tile_bytes = TILE * inputs * (4 if kind == FLOAT32 else 2)
    room = spare + 16 * TILE * part
    first, last = _share((outputs + TILE - 1) // TILE, part, parts)
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


@_compiled
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


@_compiled
def multiply_wholes(
    kind, weights, group_scales, row_scales, outputs, inputs, group_size,
    x, x_scales, x_sums, out, add, spare, rows, part, parts,
):  # fmt: skip
    """The same for integers in groups; x as `round_rows` made it (or float32 without VNNI)."""
    groups = inputs // group_size
    tile_bytes = TILE * inputs if kind == INT8 else TILE * inputs // 2
    room = spare + 16 * TILE * part
    xb, gb = _X_STEP * inputs, 4 * groups
    first, last = _share((outputs + TILE - 1) // TILE, part, parts)
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


@_compiled
def embed_rows(
    tables, levels, tokens, width, first_extra, first_index, second_extra, second_index, out,
    rows, part, parts,
):  # fmt: skip
    """out[row] = sum of the tokens' table rows + a row of each extra table.

    `tables`: address of the tables' addresses, each float32 [entry, width]; tokens int64
    [row, level], -1 for none; indices int64 [row], -1 for none.
    """
    first, last = _share(rows, part, parts)
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


@_compiled
def normalise_rows(
    x, out, weight, bias, width, epsilon_bits, centred, told, told_first, slots, rows, part, parts
):
    """Norm of every row: RMS, or `centred` with a bias (LayerNorm); then scaled and shifted.

    `told`: address of float32 [slot, 4 * width], of which [told_first * width, + 2 * width) are
    scale and shift; 0 for none. `slots`: int64 [row].
    """
    epsilon = float_of_bits(np.int32(epsilon_bits))
    first, last = _share(rows, part, parts)
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


@_compiled
def activate_rows(x, out, width, gated, rows, part, parts):
    """GELU of [row, width], or, `gated`, SiLU of the first half of [row, 2 * width] times the
    second (SwiGLU, 2002.05202)."""
    blocks = (width + 63) // 64
    first, last = _share(rows * blocks, part, parts)
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


@_compiled
def remember_rows(
    joined, width, heads, angles, angle_index, past_keys, past_values, short, ring, slots,
    positions, rows, part, parts,
):  # fmt: skip
    """Turns queries and new keys of [row, 3 * width] by their angles and puts keys and values into
    the past [slot, head, ring, head width].

    `angles`: float32 [place, 2 * head width], cosines then sines, of rows `angle_index`; 0 for
    none.
    `short`: whether the past is bfloat16.
    """
    size = width // heads
    half = size // 2
    first, last = _share(rows * heads, part, parts)
    for one in range(first, last):
        row, head = one // heads, one % heads
        at = joined + 4 * (row * 3 * width + head * size)
        query, key, value = floats_at(at), floats_at(at + 4 * width), floats_at(at + 8 * width)
        if angles != 0:
            turn = floats_at(angles + 8 * size * longs_at(angle_index)[row])
            for i in range(half):
                cosine, sine = turn[i], turn[size + i]
                cosine_b, sine_b = turn[half + i], turn[size + half + i]
                a, b = query[i], query[half + i]
                query[i] = a * cosine - b * sine
                query[half + i] = b * cosine_b + a * sine_b
                a, b = key[i], key[half + i]
                key[i] = a * cosine - b * sine
                key[half + i] = b * cosine_b + a * sine_b
        slot, place = longs_at(slots)[row], longs_at(positions)[row] % ring
        start = ((slot * heads + head) * ring + place) * size
        if short:
            keys, values = shorts_at(past_keys + 2 * start), shorts_at(past_values + 2 * start)
            for i in range(size):
                keys[i] = _short_of(key[i])
                values[i] = _short_of(value[i])
        else:
            keys_f, values_f = floats_at(past_keys + 4 * start), floats_at(past_values + 4 * start)
            for i in range(size):
                keys_f[i] = key[i]
                values_f[i] = value[i]


@_compiled
def _weigh(query, past, short, start, size, count, scores):
    """Products of a query with `count` keys in a row, into `scores`."""
    if short:
        keys = shorts_at(past + 2 * start)
        for t in range(count):
            total = np.float32(0.0)
            for i in range(size):
                total += query[i] * _float_of(keys[t * size + i])
            scores[t] = total
    else:
        keys_f = floats_at(past + 4 * start)
        for t in range(count):
            total = np.float32(0.0)
            for i in range(size):
                total += query[i] * keys_f[t * size + i]
            scores[t] = total


@_compiled
def _gather(past, short, start, size, count, scores, to):
    """to += sum of `count` values in a row, weighted by `scores`."""
    t = 0
    if short:
        values = shorts_at(past + 2 * start)
        while t + 4 <= count:
            a, b, c, d = scores[t], scores[t + 1], scores[t + 2], scores[t + 3]
            for i in range(size):
                at = t * size + i
                to[i] += (
                    a * _float_of(values[at])
                    + b * _float_of(values[at + size])
                    + c * _float_of(values[at + 2 * size])
                    + d * _float_of(values[at + 3 * size])
                )
            t += 4
        while t < count:
            for i in range(size):
                to[i] += scores[t] * _float_of(values[t * size + i])
            t += 1
    else:
        values_f = floats_at(past + 4 * start)
        while t < count:
            for i in range(size):
                to[i] += scores[t] * values_f[t * size + i]
            t += 1


@_compiled
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


@_compiled
def attend_past(
    joined, width, heads, past_keys, past_values, short, ring, window, slots, positions, scores,
    scores_width, out, rows, part, parts,
):  # fmt: skip
    """Attention of every row to its past: at most `window` places up to its own.

    `scores`: float32 [part, scores_width], room to work in.
    """
    size = width // heads
    scale = np.float32(1.0 / math.sqrt(size))
    first, last = _share(rows * heads, part, parts)
    room = floats_at(scores + 4 * part * scores_width)
    for one in range(first, last):
        row, head = one // heads, one % heads
        query = floats_at(joined + 4 * (row * 3 * width + head * size))
        to = floats_at(out + 4 * (row * width + head * size))
        slot, position = longs_at(slots)[row], longs_at(positions)[row]
        begin = max(position - window + 1, 0)
        count = position + 1 - begin
        base = (slot * heads + head) * ring
        place = begin % ring
        # The ring may turn over within the window: two stretches.
        ahead = min(count, ring - place)
        _weigh(query, past_keys, short, (base + place) * size, size, ahead, room)
        rest_at = scores + 4 * (part * scores_width + ahead)
        _weigh(query, past_keys, short, base * size, size, count - ahead, floats_at(rest_at))
        _soften(room, count, scale)
        for i in range(size):
            to[i] = np.float32(0.0)
        _gather(past_values, short, (base + place) * size, size, ahead, room, to)
        _gather(past_values, short, base * size, size, count - ahead, floats_at(rest_at), to)


@_compiled
def attend_text(
    query, width, heads, keys, values, short, longest, lengths, slots, scores, scores_width, out,
    rows, part, parts,
):  # fmt: skip
    """Attention of every row [row, width] to a text [slot, head, longest, head width], of which
    `lengths` int64 [slot] places count; zeros where there is no text."""
    size = width // heads
    scale = np.float32(1.0 / math.sqrt(size))
    first, last = _share(rows * heads, part, parts)
    room = floats_at(scores + 4 * part * scores_width)
    for one in range(first, last):
        row, head = one // heads, one % heads
        slot = longs_at(slots)[row]
        count = longs_at(lengths)[slot]
        to = floats_at(out + 4 * (row * width + head * size))
        for i in range(size):
            to[i] = np.float32(0.0)
        if count > 0:
            start = (slot * heads + head) * longest * size
            asked = floats_at(query + 4 * (row * width + head * size))
            _weigh(asked, keys, short, start, size, count, room)
            _soften(room, count, scale)
            _gather(values, short, start, size, count, room, to)
