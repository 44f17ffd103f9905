"""A performance: notes in seconds, as played, with the beats and bars underneath.

It stands between a score (beats) and sound: `perform.py` makes it, `render.py` sounds it,
`labels.py` and `truth.py` read what is true of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Part:
    """One instrument's notes, sorted by start."""

    program: int
    """General MIDI program 0-127 (for drums: the kit)."""
    is_drum: bool
    is_lead: bool
    """Whether this part carries the melody; at most one part of a performance does."""
    start_seconds: np.ndarray
    """float64 [note]."""
    duration_seconds: np.ndarray
    """float64 [note], positive."""
    pitch: np.ndarray
    """int64 [note], MIDI pitch; for drums the percussion key."""
    velocity: np.ndarray
    """int64 [note], 1-127."""


@dataclass(frozen=True, kw_only=True)
class Performance:
    """A whole piece as played."""

    parts: tuple[Part, ...]
    beat_seconds: np.ndarray
    """float64 [beat], when each quarter note falls (dotted quarter in 6/8), ascending."""
    bar_seconds: np.ndarray
    """float64 [bar], when each downbeat falls, ascending."""
    metre: str | None
    """One of `METRES` where the whole performance keeps it, otherwise None."""

    @property
    def seconds(self) -> float:
        """When the last note ends."""
        ends = [
            float((p.start_seconds + p.duration_seconds).max()) for p in self.parts if len(p.pitch)
        ]
        return max(ends, default=0.0)
