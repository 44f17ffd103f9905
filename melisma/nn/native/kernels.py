"""The operations of a step, one function each: what they read and write lies at raw addresses.

Every operation is shared by all threads: it is cut into pieces, and a thread does those from
`first` to before `last` that it has claimed (`program.py`). Vectors of the batch are float32 [row,
width]; rows are sequences, or places of one sequence side by side while a beginning is read in.
Products with matrices are in `products.py`, attention is in `attention.py`.
"""

from __future__ import annotations

import numpy as np

from melisma.nn.native.compiling import compiled
from melisma.nn.native.vectors import (
    float_of_bits,
    floats_at,
    fma,
    longs_at,
    sum_floats,
    sum_squares,
)

ACTIVATED = 64
"""Numbers that are activated as one piece."""


@compiled
def exponential(x):
    """e to the x for float32, to 2 units in the last place; it can be vectorised."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    whole = np.floor(fma(x, np.float32(1.44269504), np.float32(0.5)))
    rest = fma(whole, np.float32(2.12194440e-4), fma(whole, np.float32(-0.693359375), x))
    # Coefficients of Cephes' expf.
    y = fma(np.float32(1.9875691500e-4), rest, np.float32(1.3981999507e-3))
    y = fma(y, rest, np.float32(8.3334519073e-3))
    y = fma(y, rest, np.float32(4.1665795894e-2))
    y = fma(y, rest, np.float32(1.6666665459e-1))
    y = fma(y, rest, np.float32(5.0000001201e-1))
    y = fma(y, rest * rest, rest + np.float32(1.0))
    return y * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@compiled
def _gelu(x):
    """x times the share of the normal distribution below it (1606.08415), exact to 2e-7."""
    z = abs(x) * np.float32(0.70710678)
    # Abramowitz and Stegun, 7.1.26.
    t = np.float32(1.0) / fma(np.float32(0.3275911), z, np.float32(1.0))
    y = fma(np.float32(1.061405429), t, np.float32(-1.453152027))
    y = fma(y, t, np.float32(1.421413741))
    y = fma(y, t, np.float32(-0.284496736))
    y = fma(y, t, np.float32(0.254829592))
    tail = y * t * exponential(-z * z)
    positive = np.float32(1.0) - np.float32(0.5) * tail
    negative = np.float32(0.5) * tail
    return x * (positive if x >= np.float32(0.0) else negative)


@compiled
def _silu(x):
    return x / (np.float32(1.0) + exponential(-x))


@compiled
def embed_rows(
    tables, levels, tokens, width, first_extra, first_index, second_extra, second_index, out,
    first, last,
):  # fmt: skip
    """out[row] = sum of the tokens' table rows + a row of each extra table. Pieces: rows.

    `tables`: address of the tables' addresses, each float32 [entry, width]; tokens int64
    [row, level], -1 for none; indices int64 [row], -1 for none.
    """
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
    x, out, weight, bias, width, epsilon_bits, centred, told, told_first, slots, first, last
):
    """Norm of every row: RMS, or `centred` with a bias (LayerNorm); then scaled and shifted.
    Pieces: rows.

    `told`: address of float32 [slot, 4 * width], of which [told_first * width, + 2 * width) are
    scale and shift; 0 for none. `slots`: int64 [row].
    """
    epsilon = float_of_bits(np.int32(epsilon_bits))
    w = floats_at(weight)
    for row in range(first, last):
        a, to = floats_at(x + 4 * row * width), floats_at(out + 4 * row * width)
        mean = np.float32(0.0)
        if centred:
            mean = sum_floats(x + 4 * row * width, width) / np.float32(width)
        spread = sum_squares(x + 4 * row * width, mean, width)
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
def activate_rows(x, out, width, gated, first, last):
    """GELU of [row, width], or, `gated`, SiLU of the first half of [row, 2 * width] times the
    second (SwiGLU, 2002.05202). Pieces: blocks of `ACTIVATED` numbers of all rows."""
    blocks = (width + ACTIVATED - 1) // ACTIVATED
    for one in range(first, last):
        row, begin = one // blocks, one % blocks * ACTIVATED
        count = min(ACTIVATED, width - begin)
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
