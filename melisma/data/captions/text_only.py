"""Synthetic captions with their facts and without audio, for training text models on millions.

Input: a random generator. Output: a sentence and the `values.Facts` it describes. The pieces do not
exist; their facts are sampled so that every tempo, tonality and instrument occurs, most styles have
their typical tempo, metre and instruments, and moods agree with tempo, mode and dynamics.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from melisma.data.captions.scenes import (
    Scene,
    all_scenes,
    are_opposites,
    scene_clause,
    scene_phrase,
)
from melisma.data.captions.vocabulary import choose
from melisma.data.captions.writer import finish, write_captions
from melisma.symbolic.instruments import INSTRUMENTS
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
    program_family,
)

STYLE_PROFILES: dict[str, tuple[float, float, str, str]] = {
    "waltz": (84, 190, "3/4", "piano,strings,accordion,flutes,reeds,harp"),
    "march": (92, 132, "2/4,4/4,6/8", "brass,drums,flutes,reeds"),
    "ballad": (50, 88, "4/4,6/8", "piano,guitar,strings,electric piano,bass,drums"),
    "bossa nova": (90, 150, "4/4,2/4", "guitar,piano,flutes,reeds,mallets,bass,drums"),
    "swing": (84, 215, "4/4", "piano,reeds,brass,mallets,bass,drums"),
    "rock": (88, 175, "4/4", "electric guitar,organ,bass,drums"),
    "lo-fi": (60, 95, "4/4", "electric piano,guitar,mallets,bass,drums"),
    "dance": (110, 145, "4/4", "synth,bass,drums"),
    "renaissance": (55, 140, "2/4,3/4,4/4", "choir,guitar,flutes,harpsichord,strings,organ"),
    "baroque": (50, 155, "3/4,4/4,6/8", "harpsichord,strings,organ,reeds,flutes"),
    "classical": (48, 180, "2/4,3/4,4/4,6/8", "piano,strings,reeds,flutes,brass"),
    "romantic": (44, 175, "2/4,3/4,4/4,6/8", "piano,strings,brass,harp,reeds"),
    "impressionist": (42, 135, "3/4,4/4,6/8", "piano,harp,flutes,strings"),
    "folk": (66, 180, "2/4,3/4,4/4,6/8", "guitar,accordion,flutes,strings,harp"),
    "church": (44, 108, "3/4,4/4", "organ,choir,strings,brass"),
    "song": (50, 145, "2/4,3/4,4/4,6/8", "piano,choir,guitar,strings,reeds"),
    "game": (76, 185, "4/4,3/4", "synth,electric guitar,strings,bass,drums"),
    "drum groove": (65, 190, "4/4,6/8", "drums"),
}
"""For each style: lowest and highest typical bpm, metres, families (chosen by listening and
reading)."""

PROFILE_SHARE = 0.65
"""Share of pieces whose tempo, metre and families follow the profile of their style."""
DROP_PROBABILITY = 0.3
"""Probability that an attribute is unknown, so that each also occurs without the others."""

_SLOW_MOODS = frozenset({"calm", "sad", "tender", "solemn", "dreamy", "dark"})
_FAST_MOODS = frozenset({"happy", "energetic", "playful", "tense", "dark"})
_MINOR_MOODS = frozenset({"sad", "tense", "dark", "solemn", "dreamy", "energetic", "tender"})
_MAJOR_MOODS = frozenset({"calm", "happy", "tender", "energetic", "solemn", "playful", "dreamy"})


def attribute_sentence(rng: np.random.Generator) -> tuple[str, Facts]:
    """A caption of a random piece, and the facts it was written from."""
    facts = random_facts(rng)
    return write_captions(facts, rng, 1)[0], facts


def scene_sentence(rng: np.random.Generator) -> tuple[str, Facts]:
    """A scene in words, without musical terms, and random facts of a piece that suits it.

    What the scene leaves open (one of several styles, a range of tempi) is sampled, so that many
    samples cover everything the scene allows.
    """
    scenes = all_scenes()
    scene = scenes[int(rng.integers(len(scenes)))]
    form = rng.random()
    if form < 0.3:
        text = scene_phrase(scene, rng)
    elif form < 0.5:
        text = choose(rng, ("music", "something", "a piece", "a tune")) + scene_clause(scene, rng)
    elif form < 0.7 and scene.kind == "use":
        text = f"music for {scene.text}"
    else:
        text = scene.text
    return finish(text, rng), facts_of_scene(scene, rng)


def facts_of_scene(scene: Scene, rng: np.random.Generator) -> Facts:
    """Sample the facts of a piece that suits a scene."""
    low, high = np.log(scene.tempo_bpm)
    fitting = [t for t in TONALITIES if scene.mode and t.endswith(scene.mode)]
    count = min(len(scene.families), int(rng.integers(1, 4)))
    picked = rng.permutation(len(scene.families))[:count]
    return Facts(
        tempo_bpm=float(np.exp(rng.uniform(low, high))),
        tonality=choose(rng, fitting) if fitting else None,
        families=tuple(scene.families[int(i)] for i in picked),
        style=choose(rng, scene.styles) if scene.styles else None,
        moods=scene.moods,
        dynamics=scene.dynamics,
    )


def random_facts(rng: np.random.Generator) -> Facts:
    """Sample the facts of a random piece.

    Args:
        rng: Random generator.

    Returns:
        Plausible facts; each attribute is unknown with probability `DROP_PROBABILITY`, but at least
        the families, the style or a mood is known.
    """
    style = choose(rng, STYLES)
    typical = rng.random() < PROFILE_SHARE
    low, high, metres, families_text = STYLE_PROFILES[style]
    if not typical:
        low, high = 42.0, 215.0
    tempo = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    families = _random_families(rng, families_text.split(",") if typical else list(FAMILIES))
    tonality = None if families == ("drums",) else choose(rng, TONALITIES)
    dynamics = choose(rng, DYNAMICS)
    facts = Facts(
        tempo_bpm=float(round(tempo)),
        tonality=tonality,
        metre=choose(rng, metres.split(",") if typical else list(METRES)),
        families=families,
        instruments=_random_instruments(rng, families),
        lead=next((f for f in families if f not in ("drums", "bass")), None),
        style=style if typical else None,
        moods=_random_moods(rng, tempo, tonality, dynamics),
        density=choose(rng, DENSITIES),
        dynamics=dynamics,
        register=None if families == ("drums",) else choose(rng, REGISTERS),
        articulation=None if families == ("drums",) else choose(rng, ARTICULATIONS),
    )
    return _drop_attributes(facts, rng)


def _random_families(rng: np.random.Generator, options: list[str]) -> tuple[str, ...]:
    count = min(int(rng.integers(1, 5)), len(options))
    chosen = [options[int(i)] for i in rng.permutation(len(options))[:count]]
    # The lead is named first: rhythm instruments follow.
    return tuple(sorted(chosen, key=lambda family: family in ("drums", "bass")))


_FIRST_SOUND_EFFECT = 120
"""First General MIDI program that is a sound effect, not an instrument."""


@cache
def _names_by_family() -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for program, name in enumerate(INSTRUMENTS[:_FIRST_SOUND_EFFECT]):
        names[program_family(program, False)].append(name)
    return {family: tuple(found) for family, found in names.items()} | {"drums": ("drums",)}


def _random_instruments(rng: np.random.Generator, families: tuple[str, ...]) -> tuple[str, ...]:
    """One instrument of each family; none in a quarter of the pieces, which name families only."""
    if rng.random() < 0.25:
        return ()
    return tuple(choose(rng, _names_by_family()[family]) for family in families)


def _random_moods(
    rng: np.random.Generator, tempo_bpm: float, tonality: str | None, dynamics: str
) -> tuple[str, ...]:
    """Up to three moods that agree with tempo, mode and dynamics and with one another."""
    allowed = set(MOODS)
    if tempo_bpm < 75:
        allowed &= _SLOW_MOODS
    elif tempo_bpm > 125:
        allowed &= _FAST_MOODS
    if tonality is not None:
        allowed &= _MINOR_MOODS if tonality.endswith("minor") else _MAJOR_MOODS
    if dynamics == "soft":
        allowed -= {"energetic"}
    elif dynamics == "loud":
        allowed -= {"calm", "tender", "dreamy"}
    chosen: list[str] = []
    for mood in rng.permutation([m for m in MOODS if m in allowed])[: int(rng.integers(0, 4))]:
        if not any(are_opposites(str(mood), other) for other in chosen):
            chosen.append(str(mood))
    return tuple(chosen)


def _drop_attributes(facts: Facts, rng: np.random.Generator) -> Facts:
    """Drop attributes at random (families with instruments), never all that a text may name."""
    dropped: dict[str, object] = {
        name: () if name == "moods" else None
        for name in ("tempo_bpm", "tonality", "metre", "style", "moods", "density", "dynamics",
                     "register", "articulation", "lead")
        if rng.random() < DROP_PROBABILITY
    }  # fmt: skip
    if rng.random() < DROP_PROBABILITY / 2:
        dropped |= {"families": (), "instruments": (), "lead": None}
    remaining = dataclasses.replace(facts, **dropped)
    return remaining if remaining.families or remaining.style or remaining.moods else facts
