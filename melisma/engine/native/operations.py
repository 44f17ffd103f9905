"""The operations of a step, one function each: what they read and write lies at raw addresses.

Every operation is shared by all threads: it is cut into pieces, and a thread does those from
`first` to before `last` that it has claimed (`program.py`). Vectors of the batch are float32 [row,
width]; rows are sequences, or places of one sequence side by side while a beginning is read in.
Products with matrices are in `matmul.py`, attention is in `attention.py`.
"""

from __future__ import annotations

import numpy as np

from melisma.simd.activation import gelu, silu
from melisma.simd.dispatch import compiled
from melisma.simd.vectors import float_of_bits, floats_at, longs_at, sum_floats, sum_squares

ACTIVATED = 64
"""Numbers that are activated as one piece."""


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
                to[i] = silu(a[i]) * b[i]
        else:
            a = floats_at(x + 4 * (row * width + begin))
            for i in range(count):
                to[i] = gelu(a[i])
