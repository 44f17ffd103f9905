"""Ballad: slow, arpeggios, long bass notes, sparse or no drums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, program_weights

_SOFT = drums.Groove(
    quiet={"hat": "o...g...o...g..."},
    normal={"kick": "x.........o.....", "rim": "....x.......x...", "hat": "o.g.o.g.o.g.o.g."},
    full={"kick": "x......ox.......", "snare": "....x.......x...", "ride": "x.o.x.o.x.o.x.o."},
    variation={"kick": "x.........o...o.", "open": "..............g."},
    fills=(
        {
            "high tom": "........o.o.....",
            "middle tom": "............o...",
            "low tom": "..............x.",
        },
        {"snare": "............o.ox"},
        {"snare": "........g.o.o.xx"},
    ),
    loudness=84,
)
_ORDERS: tuple[tuple[int, ...], ...] = (
    (0, 1, 2, 3, 2, 1, 2, 1),
    (0, 2, 1, 2, 3, 2, 1, 2),
    (0, 1, 2, 4, 3, 2, 1, 2),
    (0, 1, 2, 3, 4, 3, 2, 1),
)


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(loudness=92, legato=0.98)
    first = tune.lead(
        plan, PartWriter(program=lead, name="lead", delay_seconds=0.01), expression, rng
    )
    keys = PartWriter(program=choose(rng, (0, 0, 4, 24, 25, 46), lead), name="chords")
    solo = rng.random() < 0.2
    chords = comping.voicings(plan, 50, 71, 4, richness=int(rng.random() < 0.5))
    inversions = bool(rng.random() < 0.5)
    if rng.random() < 0.7:
        keys = comping.arpeggio(plan, keys, chords, _order(rng), 0.5, 66)
    else:
        keys = comping.comp(plan, keys, chords, _block(rng), 66)
    low_program = keys.program if solo and keys.program in (0, 4, 24) else choose(rng, (33, 32, 35))
    low = PartWriter(program=low_program, name="bass")
    if rng.random() < 0.5 or solo:
        low = bass.sustained(plan, low, 80, 29, 46, inversions)
    else:
        low = bass.patterned(
            plan, low, {"root": "x-----......x---", "fifth": "......o-o---...."}, 82
        )
    lines = [first, keys, low]
    if solo:
        return lines
    strings = PartWriter(program=choose(rng, (48, 49, 89, 52, 50), lead), name="pad")
    pads = comping.voicings(plan, 55, 72, 3)
    lines.append(comping.pad(plan, strings, pads, 58, int(rng.integers(0, 2))))
    if rng.random() < 0.5:
        second = PartWriter(program=choose(rng, (42, 60, 73, 71, 40), lead), name="counter-melody")
        lines.append(tune.counter_line(plan, second, 60, 1))
    if rng.random() < 0.65:
        kit = PartWriter(program=int(rng.choice([0, 40, 8])), name="drums", is_drum=True)
        lines.append(drums.play(plan, kit, _SOFT, rng))
    return lines


def _order(rng: np.random.Generator):
    """Order of an arpeggio, varied at the end of phrases; the final chord is played once."""
    voices = _ORDERS[int(rng.integers(len(_ORDERS)))]

    def order(bar: Bar) -> Sequence[int]:
        if bar.kind == "ending":
            return (0, 1, 2, 3, 4, -1, -1, -1)
        if bar.ends_phrase:
            return (*voices[:4], 3, 4, 5, 4)
        return voices

    return order


def _block(rng: np.random.Generator):
    """A random rhythm of block chords in quarters and half notes."""
    figures = ("x---o---x---o---", "x-------o---o---", "x---o---o-x-o---")
    figure = figures[int(rng.integers(len(figures)))]

    def pattern(bar: Bar) -> str:
        return "x---------------" if bar.kind == "ending" else figure

    return pattern


STYLE = Style(
    name="ballad",
    metre="4/4",
    tempo_bpm=(54.0, 88.0),
    notes_a_second=(0.6, 2.6),
    leads=program_weights(
        {
            2.0: (0, 24),
            1.0: (
                4,
                11,
                22,
                25,
                26,
                40,
                42,
                46,
                48,
                52,
                53,
                56,
                60,
                64,
                65,
                66,
                68,
                69,
                71,
                73,
                75,
            ),
            0.5: (5, 6, 8, 10, 16, 18, 21, 27, 29, 41, 54, 57, 79, 80, 85, 89),
        }
    ),
    band=_band,
)
