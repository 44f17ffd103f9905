"""From the words of the command line to checked values, without loading anything heavy."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from melisma.values import Prompt
from melisma.values.attributes import PITCH_NAMES

MOST_PIECES = 1_000
"""Pieces of one call (chosen: a night's work)."""
MOST_CANDIDATES = 64
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
"""Those of `melisma.engine.native.packing`, which loads numba."""
LARGEST_SEED = 2**32 - 1

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")
"""A name of a repository on the hub, with a revision or none."""
_OTHER_SPELLINGS = {
    "Cb": "B", "B#": "C", "Db": "C#", "D#": "Eb", "Fb": "E", "E#": "F", "Gb": "F#",
    "G#": "Ab", "A#": "Bb",
}  # fmt: skip
_TONALITY = re.compile(r"([A-Ga-g])\s*([#b♯♭]|-?sharp|-?flat)?\s*(m|min|minor|maj|major|)\.?")


def read_tonality(words: str) -> str:
    """One of `values.attributes.TONALITIES` from "Bb major", "c# minor", "Am" or "G"."""
    match = _TONALITY.fullmatch(words.strip()) or _TONALITY.fullmatch(words.strip().lower())
    if match is None:
        raise ValueError(f'no key "{words}": give one like "C major", "F# minor" or "Bb minor"')
    sign = {"♯": "#", "♭": "b"}.get(match[2] or "", match[2] or "")
    sign = "#" if "sharp" in sign else "b" if "flat" in sign else sign
    name = match[1].upper() + sign
    name = _OTHER_SPELLINGS.get(name, name)
    assert name in PITCH_NAMES
    return f"{name} {'minor' if match[3] in ('m', 'min', 'minor') else 'major'}"


def gather_words(prompts: Sequence[str], file: Path | None) -> list[str]:
    """The prompts given one by one, then those of a file (one a line, "#" starts a comment)."""
    words = list(prompts)
    if file is not None:
        if not file.exists():
            raise FileNotFoundError(f"there is no file {file}: check the name")
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise ValueError(f"{file} holds no prompt: write one on each line")
        words += found
    if not words:
        raise ValueError(
            'no prompt was given: say what to play, e.g. melisma generate "a slow piano waltz"'
        )
    return words


def make_prompts(
    words: Sequence[str],
    *,
    count: int,
    duration_seconds: float,
    tempo_bpm: float | None,
    key: str | None,
    metre: str | None,
) -> list[Prompt]:
    """`count` prompts in a row for each of the words; `ValueError` says what is allowed."""
    whole("--count", count, 1, MOST_PIECES)
    if len(words) * count > MOST_PIECES:
        raise ValueError(
            f"{len(words) * count} pieces were asked for, at most {MOST_PIECES} come from one call"
        )
    tonality = read_tonality(key) if key is not None else None
    return [
        Prompt(
            words=text,
            duration_seconds=duration_seconds,
            tempo_bpm=tempo_bpm,
            tonality=tonality,
            metre=metre,
        )
        for text in words
        for _ in range(count)
    ]


def whole(option: str, number: int | None, low: int, high: int) -> None:
    """Raise `ValueError` unless the number is missing or lies between the limits."""
    if number is not None and not low <= number <= high:
        raise ValueError(f"{option} takes a whole number from {low} to {high}, not {number}")


def real(option: str, number: float | None, low: float, high: float) -> None:
    """Raise `ValueError` unless the number is missing or finite and between the limits."""
    if number is not None and not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{option} takes a number from {low:g} to {high:g}, not {number}")


def check_precision(precision: str | None) -> None:
    """Raise unless weights can be kept so."""
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')


def check_model(model: str) -> None:
    """Raise unless the model is the shipped one, a name among the shipped, a path, or of the form
    of a name on the hub."""
    import melisma

    if model == "default" or (model and Path(model).exists()) or HUB_NAME.fullmatch(model):
        return
    folder = Path(melisma.__file__).parent / "weights"
    shipped = sorted(place.name for place in folder.glob("*") if place.is_dir())
    if model not in shipped:
        known = ", ".join(sorted({"default", *shipped}))
        raise ValueError(
            f'no model "{model}": known are {known}, or give the path of a folder of weights, '
            "or a name on the hub like facebook/musicgen-small"
        )
