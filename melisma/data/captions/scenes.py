"""Scenes, uses and images, and the musical attributes people mean by them.

Enters: `values.Facts`. Leaves: a scene that the facts allow. A scene is added to a caption only
where it contradicts no known fact and at least one mood or style speaks for it.
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
    """One scene in words, and what it implies."""

    text: str
    """A noun phrase, e.g. "a walk through fresh snow"."""
    kind: str
    """"use" (follows "for"), "place" (where it plays, with its preposition) or "image"."""
    moods: tuple[str, ...]
    """Of `MOODS`, the fitting ones."""
    tempo_bpm: tuple[float, float]
    """Fitting tempi, lowest and highest."""
    styles: tuple[str, ...]
    """Of `STYLES`, the fitting ones; empty where any will do."""
    dynamics: str | None
    """Of `DYNAMICS`, None where any will do."""
    families: tuple[str, ...]
    """Of `FAMILIES`, those that one expects; empty where any will do."""
    mode: str | None
    """"major" or "minor", None where either will do."""


@cache
def all_scenes() -> tuple[Scene, ...]:
    """Every scene of `scenes.csv`, in its order."""
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


def are_opposites(one: str, other: str) -> bool:
    """Whether two moods exclude each other.

    >>> are_opposites("happy", "sad"), are_opposites("sad", "tender")
    (True, False)
    """
    return frozenset((one, other)) in _OPPOSITES


def _opposed(mood: str, moods: tuple[str, ...]) -> bool:
    """Whether a mood stands against a scene that does not name it."""
    return mood not in moods and any(are_opposites(mood, other) for other in moods)


def fits(scene: Scene, facts: Facts) -> bool:
    """Whether the scene contradicts nothing, and at least one mood or style speaks for it."""
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


def fitting_scene(facts: Facts, rng: np.random.Generator, tries: int = 40) -> Scene | None:
    """A random scene that fits, None where `tries` random ones do not."""
    scenes = all_scenes()
    for index in rng.permutation(len(scenes))[:tries]:
        if fits(scenes[int(index)], facts):
            return scenes[int(index)]
    return None


def scene_clause(scene: Scene, rng: np.random.Generator) -> str:
    """A clause with a leading space that ends a sentence about the piece."""
    text = scene.text
    if scene.kind == "use":
        options = [f" for {text}", f" for {text}", f", good for {text}", f", perfect for {text}"]
    elif scene.kind == "place":
        options = [f", as you might hear it {text}", f" to be played {text}", f", {text}"]
    else:
        options = [f", like {text}", f" that sounds like {text}", f" evoking {text}", f": {text}"]
    return choose(rng, options)


def scene_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence of its own about where or when the piece belongs."""
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
