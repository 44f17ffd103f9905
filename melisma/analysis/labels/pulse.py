"""Tempo and metre of a clip from the beats and bars under its notes."""

from __future__ import annotations

import numpy as np

from melisma.symbolic.performance import Performance
from melisma.values.attributes import TEMPO_RANGE_BPM

_LEAST_BEATS = 4
_MOST_TEMPO_VARIATION = 0.08
"""Standard deviation of the beat's length, over its median, above which a tempo is free."""
_THIRDS = (0.5, 0.25)
"""Share of the onsets off the beat that fall on its thirds: in three above the first, in two
below the second, undecided between (chosen)."""
_PHASE_TOLERANCE = 0.07
"""How far, in beats, played onsets may lie from a half, third or quarter (chosen)."""


def tempo_bpm(performance: Performance, start_seconds: float, seconds: float) -> float | None:
    """Tempo of the felt beat, folded into `TEMPO_RANGE_BPM`.

    None where there are fewer than four beats or their lengths vary by more than 8 %.
    """
    gaps = np.diff(_within(performance.beat_seconds, start_seconds, seconds))
    if len(gaps) < _LEAST_BEATS - 1:
        return None
    middle = float(np.median(gaps))
    if middle <= 0 or float(gaps.std()) / middle > _MOST_TEMPO_VARIATION:
        return None
    tempo = 60.0 / middle
    low, high = TEMPO_RANGE_BPM
    while tempo < low:
        tempo *= 2
    while tempo > high:
        tempo /= 2
    return round(tempo, 1)


def clip_metre(performance: Performance, start_seconds: float, seconds: float) -> str | None:
    """One of `METRES`: that of the performance, or else the one that the clip itself keeps.

    Pieces that change metre between movements have none as a whole; then the beats of the bars in
    the clip are counted, and thirds or halves of the beat tell 6/8 from 2/4.
    """
    if performance.metre is not None:
        return performance.metre
    bars = _within(performance.bar_seconds, start_seconds, seconds)
    if len(bars) < 3:
        return None
    beats = performance.beat_seconds
    counts = set(np.diff(np.searchsorted(beats, bars - 0.02)).tolist())
    if len(counts) != 1:
        return None
    count = counts.pop()
    thirds = _share_of_thirds(performance, start_seconds, seconds)
    in_three, in_two = thirds > _THIRDS[0], thirds < _THIRDS[1]
    if count == 2:
        return "6/8" if in_three else "2/4" if in_two else None
    if count in (3, 4) and in_two:
        return f"{count}/4"
    return None


def _within(marks: np.ndarray, start_seconds: float, seconds: float) -> np.ndarray:
    return marks[(marks >= start_seconds - 1e-6) & (marks <= start_seconds + seconds + 1e-6)]


def _share_of_thirds(performance: Performance, start_seconds: float, seconds: float) -> float:
    """Share of thirds among the onsets at halves, thirds and quarters of the beat; 0 if none."""
    beats = performance.beat_seconds
    thirds = others = 0
    for part in performance.parts:
        onsets = _within(part.start_seconds, start_seconds, seconds)
        phase = np.interp(onsets, beats, np.arange(len(beats), dtype=np.float64)) % 1.0
        thirds += int(_near(phase, (1 / 3, 2 / 3)).sum())
        others += int(_near(phase, (0.25, 0.5, 0.75)).sum())
    # A quarter lies so near to a third that played onsets are counted where they lie nearest.
    return thirds / max(thirds + others, 1)


def _near(phase: np.ndarray, points: tuple[float, ...]) -> np.ndarray:
    every = np.array((0.0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0))
    distance = np.abs(phase[:, None] - every)
    nearest = every[distance.argmin(axis=1)]
    return np.isin(nearest, points) & (distance.min(axis=1) < _PHASE_TOLERANCE)
