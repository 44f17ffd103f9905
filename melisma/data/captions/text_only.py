"""Sentences with their truth and without sound, so that words can be learned by the million.

Enters: a random generator. Leaves: a sentence and the `values.Facts` it speaks of. The pieces are
imagined: every tempo, tonality and instrument comes up, a style usually with its own tempo, metre
and instruments, and moods that the tempo, the mode and the loudness allow.
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

USUAL: dict[str, tuple[float, float, str, str]] = {
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
"""For each style: lowest and highest usual bpm, metres, families (chosen by ear and reading)."""

USUAL_SHARE = 0.65
"""Share of imagined pieces whose style brings its usual surroundings."""
FORGETTING = 0.3
"""Share of the attributes that a piece does not know, so that each is met alone, too."""

_SLOW_MOODS = frozenset({"calm", "sad", "tender", "solemn", "dreamy", "dark"})
_FAST_MOODS = frozenset({"happy", "energetic", "playful", "tense", "dark"})
_MINOR_MOODS = frozenset({"sad", "tense", "dark", "solemn", "dreamy", "energetic", "tender"})
_MAJOR_MOODS = frozenset({"calm", "happy", "tender", "energetic", "solemn", "playful", "dreamy"})


def attribute_sentences(rng: np.random.Generator) -> tuple[str, Facts]:
    """A caption of an imagined piece, and the facts it was written from."""
    facts = imagine_facts(rng)
    return write_captions(facts, rng, 1)[0], facts


def scene_sentences(rng: np.random.Generator) -> tuple[str, Facts]:
    """A scene in words, without a musical term, and one piece of music that would suit it.

    What a scene leaves open (one of three styles, a range of tempi) is drawn, so that many draws
    show the whole of what the scene allows.
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
    return finish(text, rng), suited_facts(scene, rng)


def suited_facts(scene: Scene, rng: np.random.Generator) -> Facts:
    """One draw of what the scene implies."""
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


def imagine_facts(rng: np.random.Generator) -> Facts:
    """One random piece, of which each attribute is known or not by chance."""
    style = choose(rng, STYLES)
    usual = rng.random() < USUAL_SHARE
    low, high, metres, families_text = USUAL[style]
    if not usual:
        low, high = 42.0, 215.0
    tempo = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    families = _choose_families(rng, families_text.split(",") if usual else list(FAMILIES))
    tonality = None if families == ("drums",) else choose(rng, TONALITIES)
    dynamics = choose(rng, DYNAMICS)
    facts = Facts(
        tempo_bpm=float(round(tempo)),
        tonality=tonality,
        metre=choose(rng, metres.split(",") if usual else list(METRES)),
        families=families,
        instruments=_name_instruments(rng, families),
        lead=next((f for f in families if f not in ("drums", "bass")), None),
        style=style if usual else None,
        moods=_imagine_moods(rng, tempo, tonality, dynamics),
        density=choose(rng, DENSITIES),
        dynamics=dynamics,
        register=None if families == ("drums",) else choose(rng, REGISTERS),
        articulation=None if families == ("drums",) else choose(rng, ARTICULATIONS),
    )
    return _forget(facts, rng)


def _choose_families(rng: np.random.Generator, options: list[str]) -> tuple[str, ...]:
    count = min(int(rng.integers(1, 5)), len(options))
    chosen = [options[int(i)] for i in rng.permutation(len(options))[:count]]
    # A melody is named first: rhythm instruments follow.
    return tuple(sorted(chosen, key=lambda family: family in ("drums", "bass")))


_SOUND_EFFECTS_FROM = 120
"""General MIDI programs from here on are no instruments."""


@cache
def _names_by_family() -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for program, name in enumerate(INSTRUMENTS[:_SOUND_EFFECTS_FROM]):
        names[program_family(program, False)].append(name)
    return {family: tuple(found) for family, found in names.items()} | {"drums": ("drums",)}


def _name_instruments(rng: np.random.Generator, families: tuple[str, ...]) -> tuple[str, ...]:
    """One instrument of each family; none in a quarter of the pieces, which speak of families."""
    if rng.random() < 0.25:
        return ()
    return tuple(choose(rng, _names_by_family()[family]) for family in families)


def _imagine_moods(
    rng: np.random.Generator, tempo_bpm: float, tonality: str | None, dynamics: str
) -> tuple[str, ...]:
    """Up to three moods that agree with tempo, mode and loudness and with one another."""
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


def _forget(facts: Facts, rng: np.random.Generator) -> Facts:
    """Drops each attribute by chance; families and instruments go together, and some word stays."""
    gone: dict[str, object] = {
        name: () if name == "moods" else None
        for name in ("tempo_bpm", "tonality", "metre", "style", "moods", "density", "dynamics",
                     "register", "articulation", "lead")
        if rng.random() < FORGETTING
    }  # fmt: skip
    if rng.random() < FORGETTING / 2:
        gone |= {"families": (), "instruments": (), "lead": None}
    left = dataclasses.replace(facts, **gone)
    return left if left.families or left.style or left.moods else facts
