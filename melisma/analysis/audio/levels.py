"""How steadily a piece holds its level.

A listener notices at once when a piece swells and sinks for no musical reason. Music does change
its level, so the figure means something only beside that of true music of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.values import Waveform

WINDOW_SECONDS = 0.4
"""Windows of this length, half overlapping (the momentary loudness of EBU R 128)."""
RANGE_DB = 35.0
"""Windows so far below the loudest are pauses and left out."""
SILENCE = 1e-4
"""Added to a level before the logarithm: -80 dB."""


@dataclass(frozen=True, kw_only=True)
class LevelChanges:
    """Changes of level in decibels; 0 where there is too little sound."""

    mean_db: float
    """Mean absolute change from one window to the next that does not overlap it."""
    spread_db: float
    """Standard deviation of the windows' levels."""


def measure_levels(waveform: Waveform) -> LevelChanges:
    """Changes of level of a piece."""
    samples = waveform.mono.astype(np.float64)
    length = round(WINDOW_SECONDS * waveform.rate_hz)
    hop = length // 2
    starts = range(0, len(samples) - length + 1, max(hop, 1))
    power = np.array([np.mean(samples[start : start + length] ** 2) for start in starts])
    levels = 20 * np.log10(np.sqrt(power) + SILENCE)
    if len(levels) < 3:
        return LevelChanges(mean_db=0.0, spread_db=0.0)
    heard = levels > levels.max() - RANGE_DB
    both = heard[2:] & heard[:-2]
    changes = np.abs(levels[2:] - levels[:-2])[both]
    return LevelChanges(
        mean_db=float(changes.mean()) if len(changes) else 0.0,
        spread_db=float(levels[heard].std()),
    )
