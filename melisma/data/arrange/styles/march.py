"""March: tuba on the beat, horns off the beat, prominent snare.

Variants: military band, pipes and drums with a fife, parade with accordion or whistle, toy march
with bells.
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, program_weights

_FILLS = (
    {"snare": "x.xxx.xxx.xxxxxX"},
    {"snare": "........x.x.xxxX"},
    {"snare": "........xxxxxxxX", "kick": "........x...x..."},
)
_FIELD = drums.Groove(
    quiet={"snare": "o...g.g.o...g.g.", "kick": "o.......o......."},
    normal={"snare": "x..ox.o.x..ox.o.", "kick": "X.......X......."},
    full={"snare": "X.xxX.x.X.xxX.xx", "kick": "X.......X.......", "cymbals": "x.......x......."},
    variation={"snare": "x.oox.o.x.xxxxxx"},
    fills=_FILLS,
    crash="cymbals",
    loudness=100,
)
_QUICK = drums.Groove(
    quiet={"snare": "..g...g...g...g.", "kick": "o.......o......."},
    normal={"snare": "..x...x...x...xo", "kick": "X...o...X...o..."},
    full={"snare": "..X.o.X...X.ooXo", "kick": "X...x...X...x...", "cymbals": "x...x...x...x..."},
    variation={"snare": "..x...x.x.x.xxxx"},
    fills=_FILLS,
    crash="cymbals",
    loudness=98,
)
_AFTER_BEATS = ("....x-......x-..", "..x...x...x...x.", "....x...o...x...")


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(
        loudness=102,
        legato=0.84,
        doubling="thirds" if lead in (21, 56, 61, 71, 73) and rng.random() < 0.5 else
        "octave" if lead in (0, 48, 71) and rng.random() < 0.4 else "none",
        graces=0.06 if lead in (72, 73, 75, 71) else 0.0,
    )  # fmt: skip
    first = tune.lead(plan, PartWriter(program=lead, name="lead"), expression, rng)
    toy = lead in (8, 9, 10, 13) or (lead in (6, 12, 46) and rng.random() < 0.5)
    low = PartWriter(
        program=choose(rng, (70, 32, 45)) if toy else choose(rng, (58, 58, 32)), name="bass"
    )
    lines = [first, bass.alternating(plan, low, (0.0, 2.0), 96 if not toy else 80)]
    figure = _AFTER_BEATS[int(rng.integers(len(_AFTER_BEATS)))]

    def pattern(bar: Bar) -> str:
        return "X---------------" if bar.kind == "ending" else figure

    options = (45, 12, 24) if toy else (60, 60, 61, 21, 0, 19)
    horns = PartWriter(program=choose(rng, options, lead), name="chords")
    lines.append(comping.comp(plan, horns, comping.voicings(plan, 52, 70, 3), pattern, 78))
    tenor = PartWriter(program=choose(rng, (57, 57, 42, 70), lead), name="counter-melody")
    if not toy:
        lines.append(tune.counter_line(plan, tenor, 80, 1))
    if rng.random() < 0.5:
        answering = PartWriter(program=choose(rng, (72, 71, 56, 9), lead), name="answer")
        lines.append(tune.answer(plan, answering, rng, 80))
    groove = _FIELD if rng.random() < 0.55 else _QUICK
    kit = PartWriter(program=int(rng.choice([48, 0])), name="drums", is_drum=True)
    lines.append(drums.play(plan, kit, groove, rng))
    return lines


STYLE = Style(
    name="march",
    metre="4/4",
    tempo_bpm=(92.0, 136.0),
    notes_a_second=(1.5, 4.6),
    leads=program_weights(
        {
            3.0: (56,),
            2.0: (72,),
            1.0: (0, 9, 13, 19, 21, 48, 52, 60, 61, 71, 73),
            0.5: (6, 10, 12, 16, 40, 57, 68, 70, 74, 75, 80),
        }
    ),
    band=_band,
)
