"""Compiled inner loops of `phase_retrieval.py`, in place of many small PyTorch calls on the CPU."""

from __future__ import annotations

import math

import numpy as np

from melisma.simd.jit import compiled_loop

_CYCLE = 2.0 * math.pi


@compiled_loop
def propagate_phases(logs, number, hops, low_lines, phase, out):
    """Computes the phases of all bins, frame after frame.

    Args:
        logs: Log magnitudes, float32 [batch, frame, bin], contiguous.
        number: Index of each bin in its band's spectrum, float64 [bin].
        hops: Cycles by which bin 1 of the spectrum advances from frame to frame, float64 [bin].
        low_lines: Bins of the low band.
        phase: Phases of the previous frame, float32 [batch, bin]; overwritten by those of the
            last frame.
        out: float32 [batch, frame, bin], written.
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
                # Parabolic interpolation of the log magnitude: accurate to a few per cent of a bin.
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
                # Bands do not share peaks; in a band without any, a bin is its own peak.
                if nearest < 0 or nearest >= lines or (nearest < low_lines) != (i < low_lines):
                    nearest = i
                cycles = old[nearest] + advance[nearest]
                new[i] = cycles - math.floor(cycles)
                out[b, n, i] = new[i] * _CYCLE
            old, new = new, old
        for i in range(lines):
            phase[b, i] = old[i] * _CYCLE


@compiled_loop
def overlap_add(frames, window, hop, delay, total):
    """Overlap-add of windowed frames.

    Args:
        frames: float32 [batch, frame, sample], contiguous.
        window: float32 [sample].
        hop: Samples from one frame to the next.
        delay: Samples before the first frame.
        total: float32 [batch, sample], to which the frames are added.
    """
    batch, count, samples = frames.shape
    for b in range(batch):
        for n in range(count):
            frame = frames[b, n]
            first = delay + n * hop
            to = total[b, first : first + samples]
            for i in range(samples):
                to[i] += frame[i] * window[i]
