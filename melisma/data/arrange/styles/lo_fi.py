"""Lo-fi: slow hip-hop drums with a late snare, swung sixteenths, soft ninth chords."""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, program_weights

_FILLS = (
    {"snare": "............o.go"},
    {"kick": "............x.x."},
    {"snare": "..........g.x.og"},
)
_GROOVES = (
    drums.Groove(
        quiet={"hat": "o.g.o.g.o.g.o.g.", "kick": "x.........o....."},
        normal={"kick": "X......x..x.....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        full={"kick": "X......x..x....o", "snare": "....X..g....X...", "hat": "x.ogx.o.x.ogx.o."},
        variation={"kick": "X..x...x..x.....", "open": "..............o."},
        fills=_FILLS,
        crash="open",
        loudness=92,
    ),
    drums.Groove(
        quiet={"hat": "o...o...o...o...", "rim": "....o.......o..."},
        normal={"kick": "X.x.....x.x.....", "rim": "....X.......X...", "hat": "x.o.x.ogx.o.x.o."},
        full={"kick": "X.x....xx.x.....", "snare": "....X....g..X..g", "hat": "x.o.x.ogx.o.xgo."},
        variation={"kick": "X.x.....x.x..x..", "hat": "x.o.x.ogx.o.x.gg"},
        fills=_FILLS,
        crash="open",
        loudness=90,
    ),
    drums.Groove(
        quiet={"shaker": "o.g.o.g.o.g.o.g.", "kick": "x.......o......."},
        normal={
            "kick": "X.....x...x.....",
            "snare": "....X.......X...",
            "shaker": "o.o.o.o.o.o.o.o.",
        },
        full={"kick": "X.....x...x..x..", "snare": "....X.......X.g.", "hat": "x.o.x.o.x.o.x.o."},
        variation={"snare": "....X......gX..."},
        fills=_FILLS,
        crash="open",
        loudness=90,
    ),
)
_CHORDS = (
    ("x-----------o---", "x-----------..o-"),
    ("x------.x-------", "..x-------..o---"),
    ("x---------o-----", "x-------..x-----"),
    ("....x-------x---", "....x-----------"),
)


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(loudness=84, legato=0.95, anticipation=0.15)
    late = float(rng.uniform(0.012, 0.03))
    first = tune.lead(
        plan, PartWriter(program=lead, name="lead", delay_seconds=late), expression, rng
    )
    figures = _CHORDS[int(rng.integers(len(_CHORDS)))]

    def pattern(bar: Bar) -> str:
        return "x---------------" if bar.kind == "ending" else figures[bar.index % 2]

    keys = PartWriter(
        program=choose(rng, (4, 4, 5, 0, 26), lead), name="chords", delay_seconds=0.012
    )
    chords = comping.voicings(plan, 50, 69, 4, richness=2, rootless=bool(rng.random() < 0.6))
    lines = [first, comping.comp(plan, keys, chords, pattern, 66)]
    figure = ("x-----..x-o-....", "x----...........", "x------x--o-....")[int(rng.integers(3))]
    low = PartWriter(program=choose(rng, (33, 35, 39, 32, 38)), name="bass", delay_seconds=0.006)
    lines.append(bass.patterned(plan, low, figure, 86, 28, 45))
    if rng.random() < 0.5:
        pad = PartWriter(program=choose(rng, (89, 49, 91, 88), lead), name="pad")
        lines.append(comping.pad(plan, pad, comping.voicings(plan, 55, 72, 3, richness=1), 44, 1))
    if rng.random() < 0.4:
        bells = PartWriter(program=choose(rng, (11, 10, 8, 46, 24), lead), name="answer")
        lines.append(tune.answer(plan, bells, rng, 62))
    groove = _GROOVES[int(rng.integers(len(_GROOVES)))]
    kit = PartWriter(program=int(rng.choice([0, 8, 25, 24, 40])), name="drums", is_drum=True)
    lines.append(_late_snare(plan, drums.play(plan, kit, groove, rng)))
    return lines


def _late_snare(plan: Plan, line: PartWriter) -> PartWriter:
    """Delay the backbeats by about 18 ms, as played by hand on drum pads."""
    late = 0.018 * plan.tempo_bpm / 60.0
    backbeats = {drums.KIT["snare"], drums.KIT["rim"]}
    line.rows = [
        (start + late if pitch in backbeats else start, duration, pitch, velocity)
        for start, duration, pitch, velocity in line.rows
    ]
    return line


def _swing(tempo_bpm: float) -> float:
    """Second sixteenth at about 58 % of the eighth, less at faster tempi."""
    return 0.6 - 0.001 * (tempo_bpm - 60)


STYLE = Style(
    name="lo-fi",
    metre="4/4",
    tempo_bpm=(62.0, 94.0),
    notes_a_second=(0.65, 3.0),
    leads=program_weights(
        {
            2.0: (0, 4),
            1.0: (5, 10, 11, 24, 26, 27, 46, 53, 59, 66, 73, 108),
            0.5: (8, 12, 16, 17, 21, 22, 25, 45, 49, 52, 54, 56, 64, 65, 71, 75, 79, 80, 82, 88),
        }
    ),
    band=_band,
    swing=_swing,
    swing_unit_beats=0.5,
)
