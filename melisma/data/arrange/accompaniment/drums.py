"""Drum parts: string patterns with variations, fills at phrase ends, and crashes.

A bar of drums maps kit pieces to pattern strings (see `plan.parse_pattern`). A `Groove` has a
quiet, a normal and a full pattern, a variation for every fourth bar, and fills for phrase ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.data.arrange.plan import Bar, PartWriter, Plan, parse_pattern
from melisma.values import Notes

KIT: dict[str, int] = {
    "kick": 36,
    "snare": 38,
    "rim": 37,
    "clap": 39,
    "hat": 42,
    "pedal": 44,
    "open": 46,
    "crash": 49,
    "splash": 55,
    "ride": 51,
    "bell": 53,
    "low tom": 43,
    "middle tom": 47,
    "high tom": 50,
    "tambourine": 54,
    "cowbell": 56,
    "shaker": 70,
    "cabasa": 69,
    "claves": 75,
    "triangle": 81,
    "low conga": 64,
    "high conga": 63,
    "brush tap": 38,
    "cymbals": 57,
}
"""General MIDI percussion key of each kit piece."""

DrumBar = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Groove:
    """Drum patterns of one style."""

    quiet: DrumBar
    normal: DrumBar
    full: DrumBar
    variation: DrumBar
    """Kit pieces that are replaced in every fourth bar."""
    fills: tuple[DrumBar, ...]
    """Half-bar or whole-bar patterns that replace the end of a phrase's last bar."""
    crash: str = "crash"
    """Kit piece that marks a new section."""
    loudness: float = 100.0
    """Velocity of an accent at full intensity."""


def play(plan: Plan, line: PartWriter, groove: Groove, rng: np.random.Generator) -> PartWriter:
    """Write the drum part of an arrangement.

    Args:
        plan: The arrangement.
        line: Part to which the notes are added.
        groove: Drum patterns.
        rng: Random generator; chooses the fills.

    Returns:
        `line`.
    """
    fill = groove.fills[int(rng.integers(len(groove.fills)))]
    quiet_below, full_above = 0.62, 0.82
    for bar in plan.bars:
        if bar.kind == "ending":
            _final_hit(line, bar, groove)
            continue
        pattern = groove.normal
        if bar.intensity < quiet_below:
            pattern = groove.quiet
        elif bar.intensity > full_above:
            pattern = groove.full
        if bar.bar_in_phrase % 4 == 3 and not bar.ends_phrase:
            pattern = {**pattern, **groove.variation}
        level = groove.loudness * (0.6 + 0.4 * bar.intensity)
        filled_from = plan.bar_beats
        if bar.ends_phrase and bar.phrase_bars > 2 and bar.intensity >= quiet_below:
            next_section = (
                bar.index + 1 < len(plan.bars) and plan.bars[bar.index + 1].section_begins
            )
            if next_section or rng.random() < 0.5:
                fill = groove.fills[int(rng.integers(len(groove.fills)))]
                filled_from = _play_fill(plan, line, bar, fill, level)
        for piece, cells in pattern.items():
            for start, length, strength in parse_pattern(cells, plan.bar_beats):
                if start < filled_from - 1e-6 or (piece == "kick" and start < 1e-6):
                    line.add(bar.start_beat + start, min(length, 0.5), KIT[piece], level * strength)
        if bar.section_begins and bar.index > 0 and bar.intensity >= quiet_below:
            line.add(bar.start_beat, 1.5, KIT[groove.crash], level * 0.95)
    return line


def _play_fill(plan: Plan, line: PartWriter, bar: Bar, fill: DrumBar, level: float) -> float:
    """Add a fill with a crescendo; returns the beat of the bar at which it begins."""
    first = plan.bar_beats
    for piece, cells in fill.items():
        for start, length, strength in parse_pattern(cells, plan.bar_beats):
            first = min(first, start)
            growth = 0.8 + 0.2 * start / plan.bar_beats
            line.add(
                bar.start_beat + start, min(length, 0.5), KIT[piece], level * strength * growth
            )
    return first


def _final_hit(line: PartWriter, bar: Bar, groove: Groove) -> None:
    level = groove.loudness * (0.6 + 0.4 * bar.intensity)
    if "kick" in groove.normal:
        line.add(bar.start_beat, 0.5, KIT["kick"], level)
    line.add(bar.start_beat, 2.0, KIT[groove.crash], level * 0.9)


def play_recorded(plan: Plan, line: PartWriter, groove: Notes) -> PartWriter:
    """Add a recorded groove (beats from its first downbeat), repeated for the whole plan."""
    bars = max(int(np.ceil(float(groove.start_beats.max() + 0.01) / plan.bar_beats)), 1)
    for bar in plan.bars:
        if bar.kind == "ending":
            line.add(bar.start_beat, 2.0, KIT["crash"], 95)
            line.add(bar.start_beat, 0.5, KIT["kick"], 100)
            continue
        begin = (bar.index % bars) * plan.bar_beats
        inside = (groove.start_beats >= begin - 0.06) & (
            groove.start_beats < begin + plan.bar_beats - 0.06
        )
        for start, pitch, velocity in zip(
            groove.start_beats[inside], groove.pitch[inside], groove.velocity[inside], strict=True
        ):
            beat = max(bar.start_beat + float(start) - begin, 0.0)
            line.add(beat, 0.2, int(pitch), float(velocity) * (0.75 + 0.25 * bar.intensity))
    return line
