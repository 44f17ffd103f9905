"""Arguments of the command line as checked values; nothing heavy is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from melisma.values import Prompt
from melisma.values.attributes import PITCH_NAMES
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef

MOST_PIECES = 1_000
"""Pieces of one call (chosen: a night's work)."""
MOST_CANDIDATES = 64
PRECISIONS = ("float32", "bfloat16", "int8", "int4")
"""Those of `melisma.engine.native.packing`, which loads numba."""
LARGEST_SEED = 2**32 - 1

_OTHER_SPELLINGS = {
    "Cb": "B", "B#": "C", "Db": "C#", "D#": "Eb", "Fb": "E", "E#": "F", "Gb": "F#",
    "G#": "Ab", "A#": "Bb",
}  # fmt: skip
_TONALITY = re.compile(r"([A-Ga-g])\s*([#b♯♭]|-?sharp|-?flat)?\s*(m|min|minor|maj|major|)\.?")


def read_tonality(words: str) -> str:
    """One of `values.attributes.TONALITIES` from "Bb major", "c# minor", "Am" or "G"."""
    match = _TONALITY.fullmatch(words.strip()) or _TONALITY.fullmatch(words.strip().lower())
    if match is None:
        raise MelismaError(f'no key "{words}": give one like "C major", "F# minor" or "Bb minor"')
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
            raise MelismaError(f"there is no file {file}: check the name")
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise MelismaError(f"{file} holds no prompt: write one on each line")
        words += found
    if not words:
        raise MelismaError(
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
    """`count` prompts in a row for each of the words; `MelismaError` says what is allowed."""
    whole("--count", count, 1, MOST_PIECES)
    if len(words) * count > MOST_PIECES:
        raise MelismaError(
            f"{len(words) * count} pieces were requested, at most {MOST_PIECES} come from one call"
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
    """Raise `MelismaError` unless the number is missing or lies between the limits."""
    if number is not None and not low <= number <= high:
        raise MelismaError(f"{option} takes a whole number from {low} to {high}, not {number}")


def real(option: str, number: float | None, low: float, high: float) -> None:
    """Raise `MelismaError` unless the number is missing or finite and between the limits."""
    if number is not None and not (math.isfinite(number) and low <= number <= high):
        raise MelismaError(f"{option} takes a number from {low:g} to {high:g}, not {number}")


def check_precision(precision: str | None) -> None:
    """Raise unless weights can be kept so."""
    if precision is not None and precision not in PRECISIONS:
        raise MelismaError(f'no precision "{precision}": known are {", ".join(PRECISIONS)}')


def named_model(model: str) -> ModelRef:
    """The model of `--model`, resolved.

    Raises:
        MelismaError: There is no such model.
    """
    from melisma.generation.resolve import resolve_model

    return resolve_model(model)
