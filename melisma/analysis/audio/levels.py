"""Stability of the level of a piece over time.

Listeners notice at once when the level drifts without a musical reason. Music does change its
level, so the values are only meaningful in comparison with real music of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.values import Waveform

WINDOW_SECONDS = 0.4
"""Windows of this length, half overlapping (the momentary loudness of EBU R 128)."""
RANGE_DB = 35.0
"""Windows this far below the loudest are pauses and left out."""
SILENCE = 1e-4
"""Added to a level before the logarithm: -80 dB."""


@dataclass(frozen=True, kw_only=True)
class LevelChanges:
    """Level changes in decibels; 0 for clips that are too short."""

    mean_db: float
    """Mean absolute change between adjacent, non-overlapping windows."""
    spread_db: float
    """Standard deviation of the window levels."""


def measure_levels(waveform: Waveform) -> LevelChanges:
    """Level changes of a piece."""
    samples = waveform.mono.astype(np.float64)
    length = round(WINDOW_SECONDS * waveform.rate_hz)
    hop = length // 2
    starts = range(0, len(samples) - length + 1, max(hop, 1))
    power = np.array([np.mean(samples[start : start + length] ** 2) for start in starts])
    levels = 20 * np.log10(np.sqrt(power) + SILENCE)
    if len(levels) < 3:
        return LevelChanges(mean_db=0.0, spread_db=0.0)
    audible = levels > levels.max() - RANGE_DB
    both = audible[2:] & audible[:-2]
    changes = np.abs(levels[2:] - levels[:-2])[both]
    return LevelChanges(
        mean_db=float(changes.mean()) if len(changes) else 0.0,
        spread_db=float(levels[audible].std()),
    )
