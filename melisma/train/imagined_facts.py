"""Facts of pieces that nobody played, so that captions can be written before any sound exists.

They cover what a corpus covers thinly: every tempo in every style, all tonalities evenly, every
family as lead. Half of the time a style brings its usual tempo, metre and instruments with it.

Enters: a random generator. Leaves: `values.Facts` of which a random part is known.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from melisma.values import Facts
from melisma.values.attributes import (
    ARTICULATIONS,
    DENSITIES,
    DYNAMICS,
    FAMILIES,
    METRES,
    MOODS,
    REGISTERS,
    STYLES,
    TONALITIES,
)

USUAL: dict[str, tuple[float, float, str, str]] = {
    "waltz": (84, 190, "3/4", "piano,strings,accordion,flutes,reeds"),
    "march": (96, 132, "2/4,4/4,6/8", "brass,drums,flutes,reeds"),
    "ballad": (52, 84, "4/4,6/8", "piano,guitar,strings,bass,drums,reeds"),
    "bossa nova": (100, 150, "4/4,2/4", "guitar,piano,flutes,reeds,bass,drums"),
    "swing": (100, 210, "4/4", "piano,reeds,brass,bass,drums"),
    "rock": (96, 170, "4/4", "electric guitar,bass,drums,organ"),
    "lo-fi": (62, 92, "4/4", "electric piano,guitar,mallets,bass,drums"),
    "dance": (112, 140, "4/4", "synth,bass,drums"),
    "renaissance": (60, 140, "2/4,3/4,4/4", "choir,guitar,flutes,harpsichord,strings,organ"),
    "baroque": (56, 150, "3/4,4/4,6/8", "harpsichord,strings,organ,reeds,flutes"),
    "classical": (50, 176, "2/4,3/4,4/4,6/8", "piano,strings,reeds,flutes,brass"),
    "romantic": (46, 170, "2/4,3/4,4/4,6/8", "piano,strings,brass,harp,reeds"),
    "impressionist": (44, 130, "3/4,4/4,6/8", "piano,harp,flutes,strings"),
    "folk": (70, 170, "2/4,3/4,4/4,6/8", "guitar,accordion,flutes,strings,harp"),
    "church": (46, 104, "3/4,4/4", "organ,choir,strings,brass"),
    "song": (52, 140, "2/4,3/4,4/4,6/8", "piano,choir,guitar,strings"),
    "game": (80, 180, "4/4,3/4", "synth,electric guitar,drums,bass,strings"),
    "drum groove": (70, 190, "4/4,6/8", "drums"),
}  # fmt: skip
"""For each style: lowest and highest usual bpm, metres, families."""

_LEADS = tuple(f for f in FAMILIES if f not in ("drums", "bass"))


def imagine_facts(rng: np.random.Generator) -> Facts:
    """One random piece, of which each attribute is known or not by chance."""
    style = STYLES[int(rng.integers(len(STYLES)))]
    usual = rng.random() < 0.6
    low, high, metres, usual_families = USUAL[style]
    if not usual:
        low, high = 45.0, 210.0
    tempo = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    families = _choose_families(rng, usual_families.split(",") if usual else list(FAMILIES))
    facts = Facts(
        tempo_bpm=round(tempo) if rng.random() < 0.8 else tempo,
        tonality=TONALITIES[int(rng.integers(len(TONALITIES)))],
        metre=_pick(rng, tuple(metres.split(",")) if usual else METRES),
        families=families,
        instruments=(),
        lead=next((f for f in families if f in _LEADS), None),
        style=style if usual else None,
        moods=tuple(MOODS[int(i)] for i in rng.permutation(len(MOODS))[: rng.integers(0, 3)]),
        density=_pick(rng, DENSITIES),
        dynamics=_pick(rng, DYNAMICS),
        register=_pick(rng, REGISTERS),
        articulation=_pick(rng, ARTICULATIONS),
    )
    return _forget(facts, rng)


def _choose_families(rng: np.random.Generator, usual: list[str]) -> tuple[str, ...]:
    count = min(int(rng.integers(1, 5)), len(usual))
    chosen = [usual[int(i)] for i in rng.permutation(len(usual))[:count]]
    # A melody is named first: rhythm instruments follow.
    return tuple(sorted(chosen, key=lambda family: family in ("drums", "bass")))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _forget(facts: Facts, rng: np.random.Generator) -> Facts:
    """Drops each known attribute by chance; at least one of style, families, moods stays."""
    gone = {
        field.name: () if isinstance(getattr(facts, field.name), tuple) else None
        for field in dataclasses.fields(facts)
        if rng.random() < 0.35
    }
    if "families" in gone:
        gone["lead"] = None
    left = dataclasses.replace(facts, **gone)
    return left if left.families or left.style or left.moods else facts
