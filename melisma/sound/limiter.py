"""Streaming look-ahead limiter, for sound that is played while it is generated.

Input: blocks of any length. Output: the same sound, a few milliseconds later, never above the
ceiling. The gain of every millisecond is low enough for the next few, changes linearly, and is
released slowly. (The look-ahead scheme of `mastering.py`, by blocks.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.values.waveform import Waveform

CEILING_DB = -1.5
"""Of sample peaks; true peaks between samples stay below full scale (chosen)."""
_HOP_SECONDS = 0.001
_AHEAD_HOPS = 5
_RELEASE_SECONDS = 0.2
"""Time constant of the release (chosen)."""


@dataclass(frozen=True, kw_only=True)
class LimiterState:
    """State of a `StreamLimiter`."""

    waiting: np.ndarray
    """Look-ahead buffer: sound not yet returned, float32 [channel, sample]."""
    gain: float
    """At the end of the last hop that was returned."""
    held: float
    """Gain of the release there."""


class StreamLimiter:
    """Limits a stream to `CEILING_DB`; the caller holds the state."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        """A limiter for a sample rate and a number of channels, which share the gain."""
        self.rate_hz, self.channels = rate_hz, channels
        self._hop = max(1, round(_HOP_SECONDS * rate_hz))
        self._release = 1.0 - float(np.exp(-_HOP_SECONDS / _RELEASE_SECONDS))

    def initial_state(self) -> LimiterState:
        """The state before the first block."""
        return LimiterState(waiting=np.zeros((self.channels, 0), np.float32), gain=1.0, held=1.0)

    def step(self, block: Waveform, state: LimiterState) -> tuple[Waveform, LimiterState]:
        """Appends a block; returns the sound whose gain is decided, and the new state."""
        waiting = np.concatenate([state.waiting, block.samples], axis=1)
        return self._limit(waiting, max(waiting.shape[1] // self._hop - _AHEAD_HOPS, 0), state)

    def finish(self, state: LimiterState) -> Waveform:
        """Returns the remaining sound."""
        count = state.waiting.shape[1]
        hops = -(-count // self._hop)
        padded = np.pad(state.waiting, ((0, 0), (0, (hops + _AHEAD_HOPS) * self._hop - count)))
        sound, _ = self._limit(padded, hops, state)
        return replace(sound, samples=sound.samples[:, :count])

    def _limit(
        self, waiting: np.ndarray, hops: int, state: LimiterState
    ) -> tuple[Waveform, LimiterState]:
        """Limits the first `hops` of the waiting sound, which is followed by at least `_AHEAD_HOPS`
        more."""
        count = hops * self._hop
        seen = (hops + _AHEAD_HOPS) * self._hop if hops else 0
        peaks = np.abs(waiting[:, :seen]).reshape(self.channels, -1, self._hop).max(axis=(0, 2))
        needed = np.minimum(1.0, 10.0 ** (CEILING_DB / 20.0) / np.maximum(peaks, 1e-9))
        gains, gain, held = np.empty((hops, self._hop)), state.gain, state.held
        ramp = np.arange(1, self._hop + 1) / self._hop
        for hop in range(hops):
            held = min(held + (1.0 - held) * self._release, float(needed[hop : hop + 2].min()))
            # At the end of this hop the gain is low enough for the next one, too, and on a line to
            # the gain that the loudest hop ahead needs.
            ahead = needed[hop + 1 : hop + 1 + _AHEAD_HOPS]
            lines = gain + (ahead - gain) / np.arange(1, len(ahead) + 1)
            end = min(held, float(lines.min()), float(needed[hop]))
            start = min(gain, float(needed[hop]))
            gains[hop] = start + (end - start) * ramp
            gain = held = end
        sound = waiting[:, :count] * gains.reshape(1, -1).astype(np.float32)
        out = Waveform(samples=sound.astype(np.float32), rate_hz=self.rate_hz)
        return out, LimiterState(waiting=waiting[:, count:], gain=gain, held=held)
