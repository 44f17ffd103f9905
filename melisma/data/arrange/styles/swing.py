"""Swing: walking bass, ride cymbal with the hi-hat on two and four, chords that answer the tune.

Variants: small combo with piano or guitar, gypsy jazz with four guitar chords per bar, and big band
with brass riffs.
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, jazz_swing, program_weights

_COMBO = drums.Groove(
    quiet={"ride": "x...x.o.x...x.o.", "pedal": "....x.......x..."},
    normal={
        "ride": "x...X.o.x...X.o.",
        "pedal": "....x.......x...",
        "kick": "g...g...g...g...",
        "snare": "..............g.",
    },
    full={
        "ride": "x...X.o.x...X.o.",
        "pedal": "....x.......x...",
        "kick": "o...g...o...g...",
        "snare": "....o.....g.o.g.",
    },
    variation={"snare": "......o.......x.", "ride": "x...X.o.x.o.X.o."},
    fills=(
        {"snare": "........x.o.x.o.", "kick": "..............x."},
        {
            "snare": "........x.x.....",
            "high tom": "............x...",
            "low tom": "..............X.",
        },
        {"snare": "....o...o.x.x.X."},
    ),
    loudness=90,
)
_BRUSHES = drums.Groove(
    quiet={"brush tap": "o...o.g.o...o.g.", "pedal": "....o.......o..."},
    normal={
        "brush tap": "o...x.g.o...x.g.",
        "pedal": "....x.......x...",
        "kick": "g.......g.......",
    },
    full={"brush tap": "o...X.o.o...X.o.", "pedal": "....x.......x...", "kick": "o...g...o...g..."},
    variation={"brush tap": "o...x.g.o.g.x.o."},
    fills=({"brush tap": "........x.o.x.x."}, {"brush tap": "....o...o.o.x.X."}),
    loudness=78,
)
_COMPING = (
    "x-....x-........",
    "......x-....x---",
    "....x-....x-....",
    "x---......x-....",
    "..x-....x---....",
    "..............x-",
)
_RIFFS = ("......X.........", "X.....X.........", "..............X-", "....x...x.X-....")


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(
        legato=0.9, graces=0.1, anticipation=0.3, loudness=98,
        doubling="octave" if lead in (0, 26) and rng.random() < 0.4 else "none",
    )  # fmt: skip
    first = tune.lead(
        plan, PartWriter(program=lead, name="lead", delay_seconds=0.014), expression, rng
    )
    lines = [first, bass.walking(plan, PartWriter(program=32, name="bass"), rng, 92)]
    line_up = str(rng.choice(["combo", "gypsy", "big band"], p=[0.5, 0.2, 0.3]))
    if lead in (24, 25, 40, 21) and rng.random() < 0.6:
        line_up = "gypsy"
    if line_up == "gypsy":
        guitar = PartWriter(program=choose(rng, (24, 25, 26), None), name="chords")
        chords = comping.voicings(plan, 48, 67, 4, richness=1)
        lines.append(comping.comp(plan, guitar, chords, _four_to_the_bar, 78))
        soloist = choose(rng, (40, 71, 24), lead)
        lines.append(tune.answer(plan, PartWriter(program=soloist, name="answer"), rng, 80))
        groove = _BRUSHES
    else:
        keys = PartWriter(program=choose(rng, (0, 0, 26, 4, 16), lead), name="chords")
        chords = comping.voicings(plan, 50, 70, 4, richness=2, rootless=True)
        order = rng.permutation(len(_COMPING))

        def pattern(bar: Bar) -> str:
            if bar.kind == "ending":
                return "X---------------"
            return _COMPING[order[(bar.bar_in_phrase + 2 * bar.section) % len(_COMPING)]]

        lines.append(comping.comp(plan, keys, chords, pattern, 72, anticipate=True))
        groove = _COMBO if plan.tempo_bpm > 120 or rng.random() < 0.6 else _BRUSHES
    if line_up == "big band":
        lines += _horns(plan, lead, rng)
    elif line_up == "combo":
        soloist = choose(rng, (65, 66, 56, 11, 71, 59), lead)
        lines.append(tune.answer(plan, PartWriter(program=soloist, name="answer"), rng, 78))
    kit = PartWriter(program=40 if groove is _BRUSHES else 32, name="drums", is_drum=True)
    lines.append(drums.play(plan, kit, groove, rng))
    return lines


def _four_to_the_bar(bar: Bar) -> str:
    if bar.kind == "ending":
        return "X---------------"
    return "o-..X...o-..X..." if bar.intensity < 0.8 else "x-..X...x-..X..g"


def _horns(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    """Soft sustained chords of saxophones, brass riffs in loud sections."""
    section = comping.voicings(plan, 53, 72, 4, richness=1, rootless=True)
    saxes = comping.pad(
        plan, PartWriter(program=choose(rng, (65, 66, 48), lead), name="pad"), section, 54, 1
    )
    riff = _RIFFS[int(rng.integers(len(_RIFFS)))]

    def stabs(bar: Bar) -> str:
        if bar.kind == "ending":
            return "X---------------"
        return riff if bar.intensity > 0.72 and bar.bar_in_phrase % 2 == 1 else "................"

    brass = PartWriter(program=choose(rng, (61, 56, 59), None), name="brass")
    high = comping.voicings(plan, 58, 76, 4, richness=1)
    return [saxes, comping.comp(plan, brass, high, stabs, 88, anticipate=True)]


STYLE = Style(
    name="swing",
    metre="4/4",
    tempo_bpm=(104.0, 216.0),
    notes_a_second=(1.5, 4.6),
    leads=program_weights(
        {
            2.0: (0, 11, 26, 56, 65, 66, 71),
            1.0: (16, 17, 21, 40, 57, 59, 61, 64, 73),
            0.5: (4, 12, 22, 24, 25, 27, 45, 53),
        }
    ),
    band=_band,
    swing=jazz_swing,
)
