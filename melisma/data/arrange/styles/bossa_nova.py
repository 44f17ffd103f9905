"""Bossa nova: the guitar's syncopated chords, root and fifth in the bass, clave on the rim.

Patterns follow Gilberto and Jobim's recordings of about 1960 (bass dotted
quarter and eighth; two-bar clave 3-2 with a late last stroke).
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, program_weights

_FILLS = (
    {"rim": "........x..x..x."},
    {"snare": "........g.o..gox"},
    {"high tom": "........o..o....", "low tom": "............o.x."},
)
_KIT = drums.Groove(
    quiet={"shaker": "o.g.o.g.o.g.o.g.", "kick": "o.....g.o.....g."},
    normal={"hat": "ogogogogogogogog", "kick": "x.....o.x.....o.", "rim": "x.....x.....x..."},
    full={"hat": "xgogxgogxgogxgog", "kick": "x.....o.x.....o.", "rim": "x.....x.....x...",
          "shaker": "o.o.o.o.o.o.o.o."},
    variation={"rim": "....x.....x.....", "open": "..............g."},
    fills=_FILLS,
    crash="splash",
    loudness=82,
)  # fmt: skip
_CLAVE_EVEN = "x.....x.....x..."
_CLAVE_ODD = "....x.....x....."
_GUITAR = (
    ("x---x-x---x-----", "..x-..x-..x-..x-"),
    ("x-----x-----x---", "....x-....x---x-"),
    ("x-..x-..x---..x-", "..x---x-..x-x---"),
)


def _clave(plan: Plan, line: PartWriter) -> PartWriter:
    """Replace the rim by a two-bar clave: three strokes, then two."""
    rim = drums.KIT["rim"]
    other_rows = []
    for row in line.rows:
        bar = plan.bar_at(row[0])
        if row[2] == rim and bar.kind != "ending":
            continue
        other_rows.append(row)
    line.rows = other_rows
    for bar in plan.bars:
        if bar.kind == "ending":
            continue
        cells = _CLAVE_EVEN if bar.index % 2 == 0 else _CLAVE_ODD
        for index, cell in enumerate(cells):
            if cell == "x":
                line.add(bar.start_beat + index / 4, 0.2, rim, 58 + 20 * bar.intensity)
    return line


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(loudness=90, legato=0.94, anticipation=0.35)
    first = tune.lead(
        plan, PartWriter(program=lead, name="lead", delay_seconds=0.012), expression, rng
    )
    figures = _GUITAR[int(rng.integers(len(_GUITAR)))]

    def pattern(bar: Bar) -> str:
        return "x---------------" if bar.kind == "ending" else figures[bar.index % 2]

    guitar = PartWriter(program=24 if lead != 24 else choose(rng, (24, 0, 4)), name="chords")
    chords = comping.voicings(plan, 50, 69, 4, richness=2, rootless=True)
    low = PartWriter(program=choose(rng, (32, 32, 33, 35)), name="bass")
    figure = {"root": "x----.......x-..", "fifth": "......o-x---..o-"}
    lines = [
        first,
        comping.comp(plan, guitar, chords, pattern, 70, anticipate=True),
        bass.patterned(plan, low, {"root": "x----.........o-", "fifth": "......o-x----..."}
                       if rng.random() < 0.7 else figure, 84, 29, 48),
    ]  # fmt: skip
    colour = rng.random()
    if colour < 0.4:
        pad = PartWriter(program=choose(rng, (49, 48, 53, 89), lead), name="pad")
        pads = comping.voicings(plan, 57, 74, 3, richness=1)
        lines.append(comping.pad(plan, pad, pads, 48, 1))
    elif colour < 0.7:
        keys = PartWriter(program=choose(rng, (0, 4, 11), lead), name="answer")
        lines.append(tune.answer(plan, keys, rng, 70))
    if rng.random() < 0.9:
        kit = PartWriter(program=int(rng.choice([0, 32, 40])), name="drums", is_drum=True)
        lines.append(_clave(plan, drums.play(plan, kit, _KIT, rng)))
    return lines


STYLE = Style(
    name="bossa nova",
    metre="4/4",
    tempo_bpm=(104.0, 160.0),
    notes_a_second=(0.9, 3.6),
    leads=program_weights(
        {
            3.0: (73,),
            2.0: (24, 66),
            1.0: (0, 4, 11, 21, 26, 53, 57, 64, 65, 71),
            0.5: (5, 12, 16, 17, 22, 27, 40, 46, 48, 54, 56, 59, 75, 79, 82),
        }
    ),
    band=_band,
)
