"""Rock: even eighths, backbeat, power chords, bass on the root.

Variants: straight rock with distorted guitars, organ rock, soft rock with acoustic guitar and
piano.
"""

from __future__ import annotations

import numpy as np

from melisma.data.arrange.accompaniment import bass, comping, drums, tune
from melisma.data.arrange.plan import Bar, PartWriter, Plan
from melisma.data.arrange.style import Style, choose, program_weights

_FILLS = (
    {"snare": "........x.x.xxxX"},
    {"snare": "........xx......", "high tom": "..........xx....",
     "middle tom": "............xx..", "low tom": "..............xX"},
    {"snare": "....x.x.x.x.....", "high tom": "............x...", "low tom": "..............X."},
    {"snare": "............xxxX", "kick": "............x..."},
)  # fmt: skip
_GROOVES = (
    drums.Groove(
        quiet={"kick": "X.......x.x.....", "rim": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        normal={"kick": "X.......X.x.....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        full={"kick": "X.....x.X.x.....", "snare": "....X.......X...", "open": "x...x...x...x..."},
        variation={"open": "..............x.", "hat": "x.o.x.o.x.o.x..."},
        fills=_FILLS,
        loudness=104,
    ),
    drums.Groove(
        quiet={"kick": "X.........x.....", "rim": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        normal={"kick": "X..x......X.....", "snare": "....X..g.g..X...", "hat": "x.o.x.o.x.o.x.o."},
        full={"kick": "X..x..x...X..x..", "snare": "....X..g.g..X..g", "ride": "x.o.x.o.x.o.x.o."},
        variation={"kick": "X..x......X...x.", "open": "......x........."},
        fills=_FILLS,
        loudness=103,
    ),
    drums.Groove(
        quiet={"kick": "X...x...X...x...", "hat": "x.o.x.o.x.o.x.o."},
        normal={"kick": "X.x.....X.x.....", "snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
        full={"kick": "X.x...x.X.x...x.", "snare": "....X.......X..o", "open": "x.x.x.x.x.x.x.x."},
        variation={"snare": "....X.......X.X."},
        fills=_FILLS,
        loudness=105,
    ),
)
_CHUGS = ("X.x.x.x.X.x.x.x.", "X--.x.x.X--.x.x.", "X.x.x---X.x.x---", "X-----X---X-----")
_BASS = ("X-x-x-x-x-x-x-x-", "X-....x-X-x-....", "X---..x-x---x-x-", "X-..X-x-X-..X-x-")
_STRUM = ("X---x-x-..x-x-x-", "X---x-g-x---x-g-", "X-------x---x---")


def _power(plan: Plan) -> list[comping.Voicing]:
    """Power chords: root, fifth and octave, in a low register."""
    result: list[comping.Voicing] = []
    before = 45
    for span in plan.spans:
        root = bass.nearest_pitch(span.chord.root, (before + 44) // 2, 40, 51)
        fifth = bass.nearest_pitch(bass.fifth_of(span), root + 7, root + 5, root + 16)
        result.append((root, fifth, root + 12))
        before = root
    return result


def _band(plan: Plan, lead: int, rng: np.random.Generator) -> list[PartWriter]:
    expression = tune.LeadExpression(
        loudness=104,
        doubling="octave" if lead in (0, 1, 2) else "none",
        anticipation=0.12,
    )
    first = tune.lead(plan, PartWriter(program=lead, name="lead"), expression, rng)
    low = PartWriter(program=choose(rng, (33, 34, 34)), name="bass")
    figure = _BASS[int(rng.integers(len(_BASS)))]
    lines = [first, bass.patterned(plan, low, figure, 100, 28, 47)]
    soft = rng.random() < (0.75 if lead in (22, 24, 25, 53, 68, 73, 10, 11, 46) else 0.25)
    lines += _soft_rhythm(plan, rng) if soft else _hard_rhythm(plan, rng)
    keys = PartWriter(program=choose(rng, (18, 16, 0, 48, 50), lead), name="pad")
    lines.append(comping.pad(plan, keys, comping.voicings(plan, 55, 74, 3), 54, 1))
    soloist = choose(rng, (27, 29, 18, 0), lead)
    lines.append(tune.answer(plan, PartWriter(program=soloist, name="answer"), rng, 82))
    groove = _GROOVES[int(rng.integers(len(_GROOVES)))]
    kit = PartWriter(program=int(rng.choice([0, 8, 16])), name="drums", is_drum=True)
    lines.append(drums.play(plan, kit, groove, rng))
    return lines


def _hard_rhythm(plan: Plan, rng: np.random.Generator) -> list[PartWriter]:
    """Distorted guitars: palm-muted eighths in quiet sections, sustained chords in loud ones."""
    chug = _CHUGS[int(rng.integers(len(_CHUGS)))]

    def muted(bar: Bar) -> str:
        return "................" if bar.intensity > 0.82 or bar.kind == "ending" else chug

    def ringing(bar: Bar) -> str:
        if bar.kind == "ending":
            return "X---------------"
        return "X-----X-X-----x-" if bar.intensity > 0.82 else "................"

    chords = _power(plan)
    palm = PartWriter(program=choose(rng, (28, 29, 30)), name="rhythm guitar")
    wide = PartWriter(program=choose(rng, (29, 30)), name="power chords")
    return [
        comping.comp(plan, palm, chords, muted, 76),
        comping.comp(plan, wide, chords, ringing, 74),
    ]


def _soft_rhythm(plan: Plan, rng: np.random.Generator) -> list[PartWriter]:
    strum = _STRUM[int(rng.integers(len(_STRUM)))]

    def pattern(bar: Bar) -> str:
        return "X---------------" if bar.kind == "ending" else strum

    guitar = PartWriter(program=choose(rng, (25, 27, 25), None), name="chords")
    return [comping.comp(plan, guitar, comping.voicings(plan, 45, 67, 5), pattern, 78)]


STYLE = Style(
    name="rock",
    metre="4/4",
    tempo_bpm=(92.0, 164.0),
    notes_a_second=(1.4, 4.4),
    leads=program_weights(
        {
            3.0: (29, 30),
            2.0: (18, 27),
            1.0: (0, 22, 25, 53, 61, 65, 66, 81),
            0.5: (1, 2, 7, 11, 16, 40, 48, 56, 73, 80, 84, 87),
        }
    ),
    band=_band,
)
