"""The inner loops of `phase_retrieval.py` as machine code: what PyTorch does in a hundred small
calls for a second of sound, and in passes over memory, a processor does in two loops.
"""

from __future__ import annotations

import math

import numpy as np

from melisma.simd.jit import compiled_loop

_CYCLE = 2.0 * math.pi


@compiled_loop
def propagate_phases(logs, number, hops, low_lines, phase, out):
    """Phases of all lines of all frames, in order.

    Args:
        logs: Log magnitudes, float32 [batch, frame, line], contiguous.
        number: Number of each line in its band's spectrum, float64 [line].
        hops: Cycles by which a line of number 1 advances from frame to frame, float64 [line].
        low_lines: Lines of the low band.
        phase: Phases of the frame before, float32 [batch, line]; those of the last frame are put
            there.
        out: float32 [batch, frame, line].
    """
    batch, frames, lines = logs.shape
    before, after = np.empty(lines, np.int64), np.empty(lines, np.int64)
    advance = np.empty(lines, np.float64)
    old, new = np.empty(lines, np.float64), np.empty(lines, np.float64)
    for b in range(batch):
        for i in range(lines):
            old[i] = phase[b, i] / _CYCLE
        for n in range(frames):
            row = logs[b, n]
            last = -10_000
            for i in range(lines):
                left = row[i - 1] if i > 0 else np.float32(0.0)
                right = row[i + 1] if i + 1 < lines else np.float32(0.0)
                if row[i] >= left and row[i] > right:
                    last = i
                before[i] = last
                # A parabola through a peak of the logarithm finds a tone to a few per cent.
                curve = min(left - 2 * row[i] + right, np.float32(-1e-3))
                offset = min(max(0.5 * (left - right) / curve, -0.5), 0.5)
                advance[i] = (number[i] + offset) * hops[i]
            following = 20_000
            for i in range(lines - 1, -1, -1):
                if before[i] == i:
                    following = i
                after[i] = following
            for i in range(lines):
                nearest = before[i] if i - before[i] <= after[i] - i else after[i]
                # Bands do not share peaks; where a band has none, a line is its own peak.
                if nearest < 0 or nearest >= lines or (nearest < low_lines) != (i < low_lines):
                    nearest = i
                cycles = old[nearest] + advance[nearest]
                new[i] = cycles - math.floor(cycles)
                out[b, n, i] = new[i] * _CYCLE
            old, new = new, old
        for i in range(lines):
            phase[b, i] = old[i] * _CYCLE


@compiled_loop
def overlap_add(pieces, window, hop, wait, total):
    """Adds windowed pieces of sound, each a hop after the one before.

    Args:
        pieces: float32 [batch, frame, sample], contiguous.
        window: float32 [sample].
        hop: Samples from a piece to the next.
        wait: Samples before the first piece.
        total: float32 [batch, sample], to which they are added.
    """
    batch, frames, samples = pieces.shape
    for b in range(batch):
        for n in range(frames):
            piece = pieces[b, n]
            first = wait + n * hop
            to = total[b, first : first + samples]
            for i in range(samples):
                to[i] += piece[i] * window[i]
