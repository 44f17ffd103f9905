"""What a style is made of, and the feel that is common to its players."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from melisma.data.arrange.plan import PartWriter, Plan, Row
from melisma.values.attributes import program_family


def straight(tempo_bpm: float) -> float:
    """No swing, at any tempo."""
    del tempo_bpm
    return 0.5


def weighted(weights: dict[float, tuple[int, ...]]) -> dict[int, float]:
    """Weight of each program from the programs of each weight."""
    return {program: weight for weight, programs in weights.items() for program in programs}


@dataclass(frozen=True, kw_only=True)
class Style:
    """One of the eight arranged styles."""

    name: str
    metre: str
    """Metre it is written in."""
    tempo_bpm: tuple[float, float]
    """Slowest and fastest, quarter notes a minute."""
    notes_a_second: tuple[float, float]
    """A tune with fewer or more notes a second is written in half or double values."""
    leads: dict[int, float]
    """Programs that may carry the tune with their weights."""
    band: Callable[[Plan, int, np.random.Generator], list[PartWriter]]
    """Writes all parts for a plan and a lead program; the first line is the lead."""
    chord_beats: float = 2.0
    """Harmony changes no faster than this."""
    swing: Callable[[float], float] = straight
    """Where in the beat (or half beat) the second half begins, given the tempo: 0.5 is straight,
    0.667 a triplet."""
    swing_unit_beats: float = 1.0
    """Length that is divided unevenly: 1 for swung eighths, 0.5 for swung sixteenths."""


def jazz_swing(tempo_bpm: float) -> float:
    """Swing falls with tempo: near triplets at 120, almost even at 240.

    After Friberg and Sundström 2002, "Swing ratios and ensemble timing in jazz performance",
    figure 3 (drummers' ratio 3 at slow, 2 at medium, 1 at very fast tempi), softened below 120.
    """
    return float(np.clip(0.69 - (tempo_bpm - 100) * 0.0011, 0.54, 0.69))


def apply_feel(style: Style, line: PartWriter, tempo_bpm: float) -> PartWriter:
    """The line with its off-beats swung and its player's distance from the beat."""
    ratio = style.swing(tempo_bpm)
    late = line.delay_seconds * tempo_bpm / 60.0
    line.rows = [_swung(row, ratio, style.swing_unit_beats, late) for row in line.rows]
    return line


def _swung(row: Row, ratio: float, unit: float, late: float) -> Row:
    start, duration, pitch, velocity = row
    end = start + duration
    begin = _warp(start, ratio, unit)
    return begin + late, max(_warp(end, ratio, unit) - begin, 0.03), pitch, velocity


def _warp(beat: float, ratio: float, unit: float) -> float:
    """A position moved so that halves of the unit fall at `ratio`; triplets stay."""
    whole, part = divmod(beat / unit, 1.0)
    if min(abs(part - 1 / 3), abs(part - 2 / 3)) < 0.02:
        return beat
    moved = part * 2 * ratio if part <= 0.5 else ratio + (part - 0.5) * 2 * (1 - ratio)
    return (whole + moved) * unit


def choose(rng: np.random.Generator, options: Sequence[int], lead: int | None = None) -> int:
    """A program at random, of another family than the lead where there is one."""
    if lead is not None:
        family = program_family(lead, False)
        others = [program for program in options if program_family(program, False) != family]
        options = others or options
    return int(options[int(rng.integers(len(options)))])
