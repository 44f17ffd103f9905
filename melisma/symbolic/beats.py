"""Felt beats and downbeats of a score, from its metres and tempi."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from melisma.values import Metre, Score


@dataclass(frozen=True, kw_only=True)
class BeatGrid:
    """Felt beats and downbeats of a score, in quarter notes, ascending."""

    beats: np.ndarray
    """float64 [beat]."""
    bars: np.ndarray
    """float64 [bar]."""
    metre: str | None
    """One of `METRES` where it holds for the whole score, otherwise None."""


def beat_grid(score: Score) -> BeatGrid:
    """Positions of the felt beats and downbeats of a score, up to its end.

    The felt beat is the quarter note; the dotted quarter in 6/8, 9/8 and 12/8, the half note in 2/2
    and 3/2 (unless that would be slower than 45 per minute), the eighth note in 3/8; at extreme
    tempi the rules differ.
    """
    end = max(score.end_beats, 1.0)
    metres = [metre for metre in score.metres if metre.beat < end]
    stops = [metre.beat for metre in metres[1:]] + [end + metres[-1].bar_beats]
    beats: list[np.ndarray] = []
    bars: list[np.ndarray] = []
    names: set[str | None] = set()
    for metre, stop in zip(metres, stops, strict=True):
        bpm = _local_bpm(score, metre.beat, stop)
        unit, name = _felt_beat(metre, bpm)
        if stop - metre.beat < 0.9 * metre.bar_beats:  # a pickup or an odd bar
            unit_count = math.floor((stop - metre.beat) / unit + 1e-6)
            beats.append(stop - unit * np.arange(unit_count, 0, -1))
            continue
        names.add(name)
        bars.append(np.arange(metre.beat, stop - 0.5 * metre.bar_beats, metre.bar_beats))
        beats.append(np.arange(metre.beat, stop - 0.5 * unit, unit))
    return BeatGrid(
        beats=np.unique(np.concatenate(beats)),
        bars=np.unique(np.concatenate(bars)) if bars else np.zeros(0),
        metre=names.pop() if len(names) == 1 else None,
    )


def _local_bpm(score: Score, start: float, stop: float) -> float:
    seconds = np.diff(score.tempo.seconds(np.array([start, stop])))[0]
    return 60.0 * (stop - start) / max(float(seconds), 1e-6)


def _felt_beat(metre: Metre, quarter_bpm: float) -> tuple[float, str | None]:
    """(felt beat in quarter notes, the metre's name in `METRES` or None)."""
    top, bottom = metre.numerator, metre.denominator
    slowest = 45.0
    if bottom == 8 and top in (6, 9, 12):
        beat = 1.5 if quarter_bpm / 1.5 >= 38.0 else 0.5
        return beat, "6/8" if top == 6 else None
    if bottom == 8 and top == 3:
        return (0.5, "3/4") if quarter_bpm * 2 <= 185 else (1.5, None)
    if bottom == 8 and top in (2, 4):
        return (0.5, f"{top}/4") if quarter_bpm * 2 <= 200 else (1.0, None)
    if bottom == 4 and top == 6:
        return (3.0, "6/8") if quarter_bpm / 3 >= slowest else (1.0, None)
    if bottom == 2 and top in (2, 3, 4):
        if quarter_bpm / 2 >= slowest:
            return 2.0, f"{top}/4"
        return 1.0, "4/4" if top == 2 else None
    name = f"{top}/{bottom}"
    return 1.0, name if name in ("2/4", "3/4", "4/4") else None


def felt_bpm(score: Score) -> float:
    """Median felt tempo in beats per minute; 120 for a score without two beats."""
    beats = score.tempo.seconds(beat_grid(score).beats)
    return 60.0 / float(np.median(np.diff(beats))) if len(beats) > 1 else 120.0
