"""Tempo and metre of a clip from the beats and bars of the performance."""

from __future__ import annotations

import numpy as np

from melisma.symbolic.performance import Performance
from melisma.values.attributes import TEMPO_RANGE_BPM

_MIN_BEATS = 4
_MAX_TEMPO_VARIATION = 0.08
"""Standard deviation of the beat intervals over their median, above which a tempo is free."""
_THIRDS = (0.5, 0.25)
"""Share of the off-beat onsets that fall on thirds of the beat: ternary above the first limit,
binary below the second, undecided in between (chosen)."""
_PHASE_TOLERANCE = 0.07
"""Maximum deviation of onsets from a half, third or quarter, in beats (chosen)."""


def tempo_bpm(performance: Performance, start_seconds: float, seconds: float) -> float | None:
    """Tempo of the perceived beat in bpm, folded into `TEMPO_RANGE_BPM`.

    None if there are fewer than four beats or their intervals vary by more than 8 %.
    """
    gaps = np.diff(_within(performance.beat_seconds, start_seconds, seconds))
    if len(gaps) < _MIN_BEATS - 1:
        return None
    middle = float(np.median(gaps))
    if middle <= 0 or float(gaps.std()) / middle > _MAX_TEMPO_VARIATION:
        return None
    tempo = 60.0 / middle
    low, high = TEMPO_RANGE_BPM
    while tempo < low:
        tempo *= 2
    while tempo > high:
        tempo /= 2
    return round(tempo, 1)


def clip_metre(performance: Performance, start_seconds: float, seconds: float) -> str | None:
    """Metre of a clip, one of `METRES`: that of the performance, or else that of the clip's bars.

    Pieces that change metre between movements have none as a whole; then the beats of the bars in
    the clip are counted, and ternary or binary division of the beat decides between 6/8 and 2/4.
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
    ternary, binary = thirds > _THIRDS[0], thirds < _THIRDS[1]
    if count == 2:
        return "6/8" if ternary else "2/4" if binary else None
    if count in (3, 4) and binary:
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
    # Quarters and thirds are so close that each onset is assigned to the nearest.
    return thirds / max(thirds + others, 1)


def _near(phase: np.ndarray, points: tuple[float, ...]) -> np.ndarray:
    every = np.array((0.0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0))
    distance = np.abs(phase[:, None] - every)
    nearest = every[distance.argmin(axis=1)]
    return np.isin(nearest, points) & (distance.min(axis=1) < _PHASE_TOLERANCE)
