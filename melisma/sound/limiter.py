"""A limiter for sound that is listened to while it is made: nobody knows yet how loud it will get.

Enters: blocks of any length. Leaves: the same sound, a few milliseconds later, never above the
ceiling. The gain of every millisecond is low enough for those that follow soon, falls and rises in
straight lines, and comes back slowly. (The look-ahead scheme of `mastering.py`, by blocks.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.values.waveform import Waveform

CEILING_DB = -1.5
"""Of samples; true peaks between them stay below full scale (chosen)."""
_HOP_SECONDS = 0.001
_AHEAD_HOPS = 5
_RELEASE_SECONDS = 0.2
"""Time in which two thirds of a reduction are given back (chosen)."""


@dataclass(frozen=True, kw_only=True)
class LimiterState:
    """Where a limiter stands."""

    waiting: np.ndarray
    """Sound that is not given out yet, [channel, sample]."""
    gain: float
    """At the end of the last hop that was given out."""
    held: float
    """The slowly returning gain there."""


class StreamLimiter:
    """Keeps a stream below `CEILING_DB`. `step` and `finish` take and give the state."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self._hop = max(1, round(_HOP_SECONDS * rate_hz))
        self._back = 1.0 - float(np.exp(-_HOP_SECONDS / _RELEASE_SECONDS))

    def initial_state(self) -> LimiterState:
        """Before the first block."""
        return LimiterState(waiting=np.zeros((self.channels, 0), np.float32), gain=1.0, held=1.0)

    def step(self, block: Waveform, state: LimiterState) -> tuple[Waveform, LimiterState]:
        """Takes a block, gives out what is certain."""
        waiting = np.concatenate([state.waiting, block.samples], axis=1)
        return self._given(waiting, max(waiting.shape[1] // self._hop - _AHEAD_HOPS, 0), state)

    def finish(self, state: LimiterState) -> Waveform:
        """The rest."""
        left = state.waiting.shape[1]
        hops = -(-left // self._hop)
        filled = np.pad(state.waiting, ((0, 0), (0, (hops + _AHEAD_HOPS) * self._hop - left)))
        sound, _ = self._given(filled, hops, state)
        return replace(sound, samples=sound.samples[:, :left])

    def _given(
        self, waiting: np.ndarray, hops: int, state: LimiterState
    ) -> tuple[Waveform, LimiterState]:
        """The first `hops` of what is waiting, limited; behind them lie at least as many as are
        looked ahead."""
        count = hops * self._hop
        whole = (hops + _AHEAD_HOPS) * self._hop if hops else 0
        peaks = np.abs(waiting[:, :whole]).reshape(self.channels, -1, self._hop).max(axis=(0, 2))
        needed = np.minimum(1.0, 10.0 ** (CEILING_DB / 20.0) / np.maximum(peaks, 1e-9))
        gains, gain, held = np.empty((hops, self._hop)), state.gain, state.held
        share = np.arange(1, self._hop + 1) / self._hop
        for hop in range(hops):
            held = min(held + (1.0 - held) * self._back, float(needed[hop : hop + 2].min()))
            # At the end of this hop the gain is low enough for the next one, too, and on a straight
            # way to what the loudest of those ahead needs.
            ahead = needed[hop + 1 : hop + 1 + _AHEAD_HOPS]
            ways = gain + (ahead - gain) / np.arange(1, len(ahead) + 1)
            end = min(held, float(ways.min()), float(needed[hop]))
            start = min(gain, float(needed[hop]))
            gains[hop] = start + (end - start) * share
            gain = held = end
        sound = waiting[:, :count] * gains.reshape(1, -1).astype(np.float32)
        out = Waveform(samples=sound.astype(np.float32), rate_hz=self.rate_hz)
        return out, LimiterState(waiting=waiting[:, count:], gain=gain, held=held)
