"""Element-wise and row-wise operations of a decoding step: embedding, normalization, activation.

Every operation is shared by all threads: it is cut into work items, and a thread executes those
that it has claimed, first, ..., last - 1 (`program.py`). Arguments are raw addresses. Activations
are float32 [row, width]; a row is a sequence, or during the prefill a position of a sequence.
Matrix products are in `matmul.py`, attention is in `attention.py`.
"""

from __future__ import annotations

import numpy as np

from melisma.simd.activation import gelu, silu
from melisma.simd.dispatch import compiled
from melisma.simd.vectors import float_of_bits, floats_at, longs_at, sum_floats, sum_squares

ACTIVATED = 64
"""Numbers of a row that are one work item of `activate_rows`."""


@compiled
def embed_rows(embedding, tokens, width, out, first, last):
    """out[row] = sum of the embeddings of its tokens + a row of each extra table. Work items: rows.

    Args:
        embedding: `EmbeddingPointers`.
        tokens: int64 [row, level], -1 for none.
        width: Of the embeddings.
        out: float32 [row, width].
        first: First work item.
        last: One after the last.
    """
    levels = embedding.levels
    for row in range(first, last):
        to = floats_at(out + 4 * row * width)
        for i in range(width):
            to[i] = np.float32(0.0)
        for level in range(levels):
            token = longs_at(tokens)[row * levels + level]
            if token >= 0:
                table = floats_at(longs_at(embedding.tables)[level] + 4 * token * width)
                for i in range(width):
                    to[i] += table[i]
        index = longs_at(embedding.first_index)[row]
        if index >= 0:
            extra = floats_at(embedding.first_extra + 4 * index * width)
            for i in range(width):
                to[i] += extra[i]
        index = longs_at(embedding.second_index)[row]
        if index >= 0:
            extra = floats_at(embedding.second_extra + 4 * index * width)
            for i in range(width):
                to[i] += extra[i]


@compiled
def normalise_rows(norm, x, width, out, rows, first, last):
    """RMSNorm or LayerNorm of every row, scaled and shifted by a modulation. Work items: rows.

    Args:
        norm: `NormPointers`.
        x: float32 [row, width].
        width: Of a row.
        out: float32 [row, width].
        rows: `RowPointers`.
        first: First work item.
        last: One after the last.
    """
    epsilon = float_of_bits(np.int32(norm.epsilon_bits))
    w = floats_at(norm.weight)
    for row in range(first, last):
        a, to = floats_at(x + 4 * row * width), floats_at(out + 4 * row * width)
        mean = np.float32(0.0)
        if norm.centred:
            mean = sum_floats(x + 4 * row * width, width) / np.float32(width)
        squares = sum_squares(x + 4 * row * width, mean, width)
        scale = np.float32(1.0) / np.sqrt(squares / np.float32(width) + epsilon)
        if norm.centred:
            b = floats_at(norm.bias)
            for i in range(width):
                to[i] = (a[i] - mean) * scale * w[i] + b[i]
        else:
            for i in range(width):
                to[i] = a[i] * scale * w[i]
        if norm.modulation != 0:
            sequence = longs_at(rows.sequence_index)[row]
            at = norm.modulation + 4 * width * (4 * sequence + norm.modulation_offset)
            gain, shift = floats_at(at), floats_at(at + 4 * width)
            for i in range(width):
                to[i] = to[i] * (np.float32(1.0) + gain[i]) + shift[i]


@compiled
def activate_rows(x, out, width, gated, first, last):
    """GELU or SwiGLU (2002.05202). Work items: blocks of `ACTIVATED` numbers of all rows.

    Args:
        x: float32 [row, width], or [row, 2 * width] if gated.
        out: float32 [row, width].
        width: Of the output.
        gated: 1 for SiLU of the first half of a row times the second; 0 for GELU.
        first: First work item.
        last: One after the last.
    """
    blocks = (width + ACTIVATED - 1) // ACTIVATED
    for item in range(first, last):
        row, begin = item // blocks, item % blocks * ACTIVATED
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
