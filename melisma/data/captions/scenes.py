"""Scenes, uses and images with the musical attributes that people associate with them.

Input: `values.Facts`. Output: a scene compatible with them. A scene is added to a caption only if
it contradicts no known fact and at least one mood or style supports it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from melisma.data.captions.vocabulary import choose
from melisma.values import Facts


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A scene in words, and the attributes it implies."""

    text: str
    """A noun phrase, e.g. "a walk through fresh snow"."""
    kind: str
    """"use" (follows "for"), "place" (with its preposition) or "image"."""
    moods: tuple[str, ...]
    """Compatible values of `MOODS`."""
    tempo_bpm: tuple[float, float]
    """Lowest and highest compatible tempo."""
    styles: tuple[str, ...]
    """Compatible values of `STYLES`; empty: any."""
    dynamics: str | None
    """The implied value of `DYNAMICS`; None: any."""
    families: tuple[str, ...]
    """Values of `FAMILIES` that listeners expect; empty: any."""
    mode: str | None
    """"major" or "minor"; None: either."""


@cache
def all_scenes() -> tuple[Scene, ...]:
    """All scenes of `scenes.csv`, in file order."""
    table = (
        resources.files("melisma.data.captions").joinpath("scenes.csv").read_text(encoding="utf-8")
    )
    return tuple(_read_row(row) for row in csv.DictReader(table.splitlines()))


def _read_row(row: dict[str, str]) -> Scene:
    return Scene(
        kind=row["kind"],
        text=row["scene"],
        moods=_cells(row["moods"]),
        tempo_bpm=(float(row["slowest_bpm"]), float(row["fastest_bpm"])),
        styles=_cells(row["styles"]),
        dynamics=row["dynamics"] or None,
        families=_cells(row["families"]),
        mode=row["mode"] or None,
    )


def _cells(text: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in text.split(";") if cell.strip())


_OPPOSITES = frozenset(
    frozenset(pair)
    for pair in (
        ("happy", "sad"), ("happy", "dark"), ("happy", "tense"), ("calm", "energetic"),
        ("calm", "tense"), ("playful", "solemn"), ("playful", "sad"), ("tender", "energetic"),
        ("tender", "dark"), ("solemn", "energetic"), ("dreamy", "energetic"),
    )
)  # fmt: skip


def are_opposites(first: str, second: str) -> bool:
    """Whether two moods exclude each other.

    >>> are_opposites("happy", "sad"), are_opposites("sad", "tender")
    (True, False)
    """
    return frozenset((first, second)) in _OPPOSITES


def _opposed(mood: str, moods: tuple[str, ...]) -> bool:
    """Whether a mood excludes one of the moods and is not among them."""
    return mood not in moods and any(are_opposites(mood, other) for other in moods)


def fits(scene: Scene, facts: Facts) -> bool:
    """Whether a scene may be added to a caption.

    Args:
        scene: The scene.
        facts: What is known about the clip.

    Returns:
        True if no known fact contradicts the scene and at least one mood or style supports it.
    """
    if facts.tempo_bpm and not scene.tempo_bpm[0] <= facts.tempo_bpm <= scene.tempo_bpm[1]:
        return False
    if facts.style and scene.styles and facts.style not in scene.styles:
        return False
    if facts.dynamics and scene.dynamics and {facts.dynamics, scene.dynamics} == {"soft", "loud"}:
        return False
    if facts.tonality and scene.mode and not facts.tonality.endswith(scene.mode):
        return False
    if facts.families and scene.families and not set(facts.families) & set(scene.families):
        return False
    if facts.style == "drum groove" and facts.style not in scene.styles:
        return False
    if facts.moods and not set(facts.moods) & set(scene.moods):
        return False
    if any(_opposed(mood, scene.moods) for mood in facts.moods):
        return False
    return bool(facts.moods) or bool(facts.style and scene.styles)


def fitting_scene(facts: Facts, rng: np.random.Generator, attempts: int = 40) -> Scene | None:
    """Choose a random scene that `fits`.

    Args:
        facts: What is known about the clip.
        rng: Random generator.
        attempts: Number of random scenes to test.

    Returns:
        The first scene that fits; None if none of the tested scenes does.
    """
    scenes = all_scenes()
    for index in rng.permutation(len(scenes))[:attempts]:
        if fits(scenes[int(index)], facts):
            return scenes[int(index)]
    return None


def scene_clause(scene: Scene, rng: np.random.Generator) -> str:
    """A clause about the scene, with its leading punctuation or space, to end a sentence."""
    text = scene.text
    if scene.kind == "use":
        options = [f" for {text}", f" for {text}", f", good for {text}", f", perfect for {text}"]
    elif scene.kind == "place":
        options = [f", as you might hear it {text}", f" to be played {text}", f", {text}"]
    else:
        options = [f", like {text}", f" that sounds like {text}", f" evoking {text}", f": {text}"]
    return choose(rng, options)


def scene_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """A complete sentence that places the music in the scene."""
    text = scene.text
    if scene.kind == "use":
        options = [f"It would suit {text}.", f"It could be used for {text}.",
                   f"This would be good music for {text}.", f"Suitable for {text}."]  # fmt: skip
    elif scene.kind == "place":
        options = [f"It could be playing {text}.", f"This may be playing {text}.",
                   f"It sounds like something you would hear {text}."]  # fmt: skip
    else:
        options = [f"It makes one think of {text}.", f"It evokes {text}.",
                   f"It paints a picture of {text}.", f"It sounds like {text}."]  # fmt: skip
    return choose(rng, options)
