"""Definition of an arranged style, and the rhythmic feel (swing, delay) of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from melisma.data.arrange.plan import PartWriter, Plan, Row
from melisma.values.attributes import program_family


def straight(tempo_bpm: float) -> float:
    """Swing function without swing: 0.5 at any tempo."""
    del tempo_bpm
    return 0.5


def program_weights(weights: dict[float, tuple[int, ...]]) -> dict[int, float]:
    """Invert weight -> programs to program -> weight."""
    return {program: weight for weight, programs in weights.items() for program in programs}


@dataclass(frozen=True, kw_only=True)
class Style:
    """One of the eight arranged styles."""

    name: str
    metre: str
    """Metre of the arrangement."""
    tempo_bpm: tuple[float, float]
    """Lowest and highest tempo, quarter notes per minute."""
    notes_a_second: tuple[float, float]
    """Limits of the melody's pace, notes per second; outside, note values are halved or doubled."""
    leads: dict[int, float]
    """Programs for the lead, with their weights."""
    band: Callable[[Plan, int, np.random.Generator], list[PartWriter]]
    """Writes all parts, given the plan, the lead program and a random generator; the lead first."""
    chord_beats: float = 2.0
    """Shortest distance of chord changes."""
    swing: Callable[[float], float] = straight
    """Tempo -> position in the swung unit at which its second half begins: 0.5 is straight, 0.667 a
    triplet."""
    swing_unit_beats: float = 1.0
    """Length of the swung unit: 1 for swung eighths, 0.5 for swung sixteenths."""


def jazz_swing(tempo_bpm: float) -> float:
    """Swing position by tempo: near triplets at 120 bpm, almost straight at 240.

    After Friberg and Sundström 2002, "Swing ratios and ensemble timing in jazz performance",
    figure 3 (drummers' ratio 3 at slow, 2 at medium, 1 at very fast tempi), softened below 120.
    """
    return float(np.clip(0.69 - (tempo_bpm - 100) * 0.0011, 0.54, 0.69))


def apply_feel(style: Style, line: PartWriter, tempo_bpm: float) -> PartWriter:
    """Apply the swing of the style and the delay of the part, in place; returns the part."""
    ratio = style.swing(tempo_bpm)
    delay_beats = line.delay_seconds * tempo_bpm / 60.0
    line.rows = [_apply_swing(row, ratio, style.swing_unit_beats, delay_beats) for row in line.rows]
    return line


def _apply_swing(row: Row, ratio: float, unit: float, delay_beats: float) -> Row:
    start, duration, pitch, velocity = row
    end = start + duration
    begin = _warp(start, ratio, unit)
    return begin + delay_beats, max(_warp(end, ratio, unit) - begin, 0.03), pitch, velocity


def _warp(beat: float, ratio: float, unit: float) -> float:
    """Move a position so that halves of the unit fall at `ratio`; triplets are unchanged."""
    whole, part = divmod(beat / unit, 1.0)
    if min(abs(part - 1 / 3), abs(part - 2 / 3)) < 0.02:
        return beat
    moved = part * 2 * ratio if part <= 0.5 else ratio + (part - 0.5) * 2 * (1 - ratio)
    return (whole + moved) * unit


def choose(rng: np.random.Generator, options: Sequence[int], lead: int | None = None) -> int:
    """Choose a program at random, of another family than the lead if possible."""
    if lead is not None:
        family = program_family(lead, False)
        others = [program for program in options if program_family(program, False) != family]
        options = others or options
    return int(options[int(rng.integers(len(options)))])
