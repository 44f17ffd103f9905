"""Waltz: three beats per bar, the bass on one, chords on two and three.

Variants: Viennese orchestra, musette with accordion, drawing-room piano, music box with harp,
fairground organ, and a jazz waltz.
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, program_weights

_ORCHESTRA = drums.Groove(
    quiet={"triangle": "o.........g."},
    normal={"kick": "o...........", "snare": "....g...g..."},
    full={"kick": "x...........", "snare": "....o...o...", "cymbals": "g..........."},
    variation={"snare": "....o...oggg"},
    fills=({"snare": "....o.o.oxxX"}, {"snare": "o.o.oooooxxX"}),
    loudness=86,
)
_BRUSHES = drums.Groove(
    quiet={"pedal": "....o...o..."},
    normal={"kick": "o...........", "rim": "....g...o...", "hat": "g...o...o..."},
    full={"kick": "x...........", "snare": "....o...x...", "ride": "x...o...o.g."},
    variation={"snare": "....o...x.g."},
    fills=({"snare": "....o.g.x.xX"}, {"high tom": "....x.......", "low tom": "........x.x."}),
    loudness=88,
)
_JAZZ = drums.Groove(
    quiet={"ride": "x...o...o.o.", "pedal": "....x......."},
    normal={"ride": "x...o.o.x.o.", "pedal": "....x.......", "kick": "o.........g."},
    full={
        "ride": "X...x.o.x.o.",
        "pedal": "....x...x...",
        "kick": "x.....o.....",
        "snare": "..g...g...o.",
    },
    variation={"snare": "......o...x."},
    fills=({"snare": "..o.x.o.....", "low tom": "........x.X."},),
    loudness=84,
)
_FIGURES = ("....x-..o-..", "....x-..x-..", "....x...x...")


def _figure(rng: np.random.Generator) -> str:
    return _FIGURES[int(rng.integers(len(_FIGURES)))]


def _oom_pah(
    plan: Plan, rng: np.random.Generator, low: int, chord: int, loudness: float
) -> list[PartWriter]:
    """Bass on one, chords on two and three."""
    bottom = bass.alternating(plan, PartWriter(program=low, name="bass"), (0.0,), loudness + 8)
    figure = _figure(rng)
    chords = comping.voicings(plan, 52, 71, 3)

    def pattern(bar: Bar) -> str:
        return "x-----------" if bar.kind == "ending" else figure

    upper = comping.comp(plan, PartWriter(program=chord, name="chords"), chords, pattern, loudness)
    return [bottom, upper]


def _jazz_waltz(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    chords = comping.voicings(plan, 52, 72, 4, richness=2, rootless=True)
    figures = ("x-----..o...", "....x-....x-", "x-....x-----", "..x---......")
    order = rng.permutation(len(figures))

    def pattern(bar: Bar) -> str:
        return "x-----------" if bar.kind == "ending" else figures[order[bar.bar_in_phrase % 4]]

    keys = PartWriter(program=choose(rng, (0, 4, 26, 11), lead), name="chords")
    low = bass.patterned(
        plan,
        PartWriter(program=32, name="bass"),
        {"root": "x-----......", "fifth": "......o---o-"},
        84,
    )
    kit = PartWriter(program=32, name="drums", is_drum=True)
    return [
        comping.comp(plan, keys, chords, pattern, 70),
        low,
        drums.play(plan, kit, _JAZZ, rng),
    ]


def _music_box(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    chords = comping.voicings(plan, 52, 74, 4)
    harp = PartWriter(program=choose(rng, (46, 46, 24, 0), lead), name="arpeggio")
    orders = ((0, 1, 2, 3, 2, 1), (0, 2, 1, 3, 2, 1))
    order = orders[int(rng.integers(2))]
    strings = PartWriter(program=choose(rng, (48, 49, 52), lead), name="pad")
    return [
        comping.arpeggio(plan, harp, chords, lambda _: order, 0.5, 74),
        bass.sustained(
            plan, PartWriter(program=choose(rng, (46, 42, 32)), name="bass"), 70, 36, 50
        ),
        comping.pad(plan, strings, comping.voicings(plan, 55, 72, 3), 52, 1),
    ]


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(
        doubling="thirds" if lead in (21, 23, 48, 56) and rng.random() < 0.5 else "none",
        graces=0.08 if lead in (21, 22, 40, 71, 73) else 0.0,
        legato=0.92,
    )
    first = tune.lead(plan, PartWriter(program=lead, name="lead"), expression, rng)
    if lead in (4, 5, 11, 26, 27, 65, 66) or (lead in (0, 64, 73) and rng.random() < 0.25):
        return [first, *_jazz_waltz(plan, lead, rng)]
    if lead in (8, 9, 10, 14, 46, 52, 53):
        return [first, *_music_box(plan, lead, rng)]
    if lead in (16, 19, 20):
        parts = _oom_pah(plan, rng, 58, lead, 66)
        return [first, *parts, drums.play(plan, _kit(48), _ORCHESTRA, rng)]
    if lead in (21, 22, 23, 24, 25, 71) and rng.random() < 0.8:
        parts = _oom_pah(plan, rng, 32, choose(rng, (24, 25, 26, 0), lead), 74)
        answer = tune.answer(
            plan, PartWriter(program=choose(rng, (71, 40, 21), lead), name="answer"), rng, 74
        )
        return [first, *parts, answer, drums.play(plan, _kit(40), _BRUSHES, rng)]
    if lead in (0, 6, 7, 40, 73) and rng.random() < 0.5:
        program = lead if lead in (0, 6) else 0
        parts = _oom_pah(plan, rng, program, program, 68)
        return [first, *parts]
    parts = _oom_pah(plan, rng, choose(rng, (43, 32, 58)), choose(rng, (45, 48, 60, 46), lead), 70)
    voice = PartWriter(program=choose(rng, (42, 60, 70, 71), lead), name="counter-melody")
    lines = [first, *parts, tune.counter_line(plan, voice, 66, 1)]
    if rng.random() < 0.7:
        lines.append(drums.play(plan, _kit(48), _ORCHESTRA, rng))
    return lines


def _kit(program: int) -> PartWriter:
    return PartWriter(program=program, name="drums", is_drum=True)


STYLE = Style(
    name="waltz",
    metre="3/4",
    tempo_bpm=(84.0, 186.0),
    notes_a_second=(1.1, 4.2),
    leads=program_weights(
        {
            2.0: (0, 21, 40, 48, 71, 73),
            1.0: (4, 6, 8, 10, 11, 16, 19, 22, 23, 24, 25, 26, 46, 52, 56, 60, 68),
            0.5: (7, 9, 14, 20, 42, 53, 64, 65, 74, 75),
        }
    ),
    band=_band,
    chord_beats=3.0,
)
