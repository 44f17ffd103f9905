"""Dance: four on the floor, claps on two and four, bass in octaves or off the beat, synths.

Variants: house with piano or organ stabs, trance with arpeggios, disco with octave bass and
strings.
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, program_weights

_FILLS = (
    {"snare": "........x.x.xxxX"},
    {"snare": "x...x...x.x.xxxX"},
    {"clap": "........x.....xX", "low tom": "..........x.x..."},
)
_HOUSE = drums.Groove(
    quiet={"kick": "X...X...X...X...", "hat": "..o...o...o...o."},
    normal={"kick": "X...X...X...X...", "clap": "....X.......X...", "open": "..x...x...x...x."},
    full={"kick": "X...X...X...X...", "clap": "....X.......X...", "open": "..x...x...x...x.",
          "hat": "xo.oxo.oxo.oxo.o", "snare": "....x.......x..."},
    variation={"clap": "....X.......X..x", "kick": "X...X...X...X.x."},
    fills=_FILLS,
    loudness=106,
)  # fmt: skip
_DISCO = drums.Groove(
    quiet={"kick": "X...X...X...X...", "hat": "o.x.o.x.o.x.o.x."},
    normal={"kick": "X...X...X...X...", "snare": "....X.......X...", "hat": "xo..xo..xo..xo..",
            "open": "..x...x...x...x."},
    full={"kick": "X...X...X...X...", "snare": "....X.......X...", "hat": "xo..xo..xo..xo..",
          "open": "..x...x...x...x.", "tambourine": "o.x.o.x.o.x.o.x."},
    variation={"snare": "....X.......X.xx"},
    fills=_FILLS,
    loudness=103,
)  # fmt: skip
_STABS = ("x..x..x...x..x..", "..x...x...x...x.", "X-..x-..x-x-..x-", "x--x--x--x--x---")
_ORDERS = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 2, 3, 4, 3, 2, 1), (0, 3, 1, 2))


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(
        loudness=102,
        legato=0.88,
        doubling="octave"
        if lead in (0, 1, 4, 5, 6) or (lead in (80, 81, 48) and rng.random() < 0.5)
        else "none",
        anticipation=0.15,
    )
    first = tune.lead(plan, PartWriter(program=lead, name="lead"), expression, rng)
    kind = str(rng.choice(["house", "trance", "disco"]))
    lines = [first, _bass_line(plan, kind, rng)]
    stab = _STABS[int(rng.integers(len(_STABS)))]

    def pattern(bar: Bar) -> str:
        return "X---------------" if bar.kind == "ending" else stab

    options = {"house": (0, 1, 16, 81), "trance": (81, 90, 62), "disco": (27, 4, 7, 0)}[kind]
    keys = PartWriter(program=choose(rng, options, lead), name="chords")
    chords = comping.voicings(plan, 53, 73, 4, richness=int(kind != "trance"))
    lines.append(comping.comp(plan, keys, chords, pattern, 68))
    if kind == "trance" or rng.random() < 0.3:
        order = _ORDERS[int(rng.integers(len(_ORDERS)))]
        arpeggio = PartWriter(program=choose(rng, (81, 80, 87, 88, 12), None), name="arpeggio")
        voices = comping.voicings(plan, 60, 79, 4)
        lines.append(_from_section(plan, comping.arpeggio(
            plan, arpeggio, voices, lambda bar: order if bar.kind != "ending" else (0, -1, -1, -1),
            0.25, 52, ring=False), 1))  # fmt: skip
    pad = PartWriter(program=choose(rng, (48, 50, 89, 90, 51), lead), name="pad")
    lines.append(_duck_pads(plan, comping.pad(plan, pad, comping.voicings(plan, 55, 74, 3), 50, 1)))
    kit = PartWriter(program=int(rng.choice([24, 25, 0, 8])), name="drums", is_drum=True)
    groove = _DISCO if kind == "disco" else _HOUSE
    lines.append(drums.play(plan, kit, groove, rng))
    return lines


def _bass_line(plan: Plan, kind: str, rng: np.random.Generator) -> PartWriter:
    line = PartWriter(
        program=choose(rng, (38, 39, 38) if kind != "disco" else (33, 36, 34)), name="bass"
    )
    off_beat = {"root": "..X-..X-..X-..X-"}
    octaves = {"root": "X...X...X...X...", "octave": "..x...x...x...x."}
    rolling = {"root": ".xXx.xXx.xXx.xXx"}
    figure = octaves
    if kind == "house" and rng.random() < 0.5:
        figure = off_beat
    elif kind == "trance":
        figure = rolling if rng.random() < 0.4 else off_beat
    return bass.patterned(plan, line, figure, 102, 28, 45, length=0.8)


def _from_section(plan: Plan, line: PartWriter, section: int) -> PartWriter:
    line.rows = [row for row in line.rows if plan.bar_at(row[0]).section >= section]
    return line


def _duck_pads(plan: Plan, line: PartWriter) -> PartWriter:
    """Repeat pads after each kick: imitates sidechain compression by the kick drum."""
    rows = []
    for start, duration, pitch, velocity in line.rows:
        if plan.bar_at(start).kind == "ending" or plan.bar_at(start).intensity < 0.75:
            rows.append((start, duration, pitch, velocity))
            continue
        beat = start
        while beat < start + duration - 0.3:
            until = min(np.floor(beat + 1.0), start + duration)
            begin = beat + 0.25 if beat % 1.0 < 0.2 else beat
            rows.append((begin, max(float(until) - begin - 0.02, 0.1), pitch, velocity))
            beat = float(until)
    line.rows = rows
    return line


STYLE = Style(
    name="dance",
    metre="4/4",
    tempo_bpm=(112.0, 138.0),
    notes_a_second=(1.5, 4.6),
    leads=program_weights(
        {
            3.0: (81,),
            2.0: (80,),
            1.0: (0, 12, 16, 48, 87),
            0.5: (
                1,
                4,
                5,
                6,
                7,
                11,
                18,
                21,
                27,
                28,
                40,
                45,
                46,
                50,
                52,
                54,
                56,
                61,
                62,
                65,
                66,
                73,
                75,
                82,
                84,
                86,
                90,
            ),
        }
    ),
    band=_band,
)
