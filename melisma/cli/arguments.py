"""Parsing and validation of command-line arguments; nothing heavy is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from melisma.values import Prompt
from melisma.values.attributes import parse_key
from melisma.values.errors import MelismaError
from melisma.values.model_ref import PRECISIONS, ModelRef

MOST_PIECES = 1_000
"""Maximum number of pieces of one call (chosen: a night's work)."""
MOST_CANDIDATES = 64
"""Maximum number of candidates per piece."""
LARGEST_SEED = 2**32 - 1


def gather_prompts(prompts: Sequence[str], file: Path | None) -> list[str]:
    """The prompts of the command line, then those of a file.

    Args:
        prompts: Prompts given one by one.
        file: UTF-8 text with one prompt per line; lines that start with "#" are comments.

    Raises:
        MelismaError: The file does not exist or is not text, or there is no prompt at all.
    """
    words = list(prompts)
    if file is not None:
        if not file.exists():
            raise MelismaError(f"there is no file {file}: check the name")
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise MelismaError(f"{file} is not UTF-8 text: save it as UTF-8") from error
        lines = [line.strip() for line in text.splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise MelismaError(f"{file} contains no prompt: write one per line")
        words += found
    if not words:
        raise MelismaError(
            'no prompt was given: describe the music, e.g. melisma generate "a slow piano waltz"'
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
    """Builds the prompts of an audio request.

    Args:
        words: Text prompts.
        count: Number of consecutive prompts made of each text.
        duration_seconds: Length of each piece.
        tempo_bpm: Overrides the tempo of the text.
        key: Overrides the key of the text, e.g. "F# minor".
        metre: Overrides the metre of the text, e.g. "3/4".

    Raises:
        MelismaError: A value lies outside its limits, or there are too many pieces.
    """
    check_integer("--count", count, 1, MOST_PIECES)
    if len(words) * count > MOST_PIECES:
        raise MelismaError(
            f"{len(words) * count} pieces were requested: one call makes at most {MOST_PIECES}"
        )
    tonality = parse_key(key) if key is not None else None
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


def check_integer(option: str, number: int | None, low: int, high: int) -> None:
    """Raises `MelismaError` unless the number is None or lies between the limits, inclusive."""
    if number is not None and not low <= number <= high:
        raise MelismaError(f"{option} must be a whole number from {low} to {high}, not {number}")


def check_real(option: str, number: float | None, low: float, high: float) -> None:
    """Raises `MelismaError` unless the number is None, or finite and between the limits."""
    if number is not None and not (math.isfinite(number) and low <= number <= high):
        raise MelismaError(f"{option} must be a number from {low:g} to {high:g}, not {number}")


def check_numbers(*, seed: int | None, best_of: int | None, threads: int | None) -> None:
    """Raises `MelismaError` unless the numbers that all generating commands take are valid."""
    check_integer("--seed", seed, 0, LARGEST_SEED - MOST_PIECES)
    check_integer("--best-of", best_of, 1, MOST_CANDIDATES)
    check_integer("--threads", threads, 1, 1024)


def check_precision(precision: str | None) -> None:
    """Raises `MelismaError` unless weights can have this precision."""
    if precision is not None and precision not in PRECISIONS:
        raise MelismaError(unknown_name("precision", precision, PRECISIONS))


def unknown_name(what: str, name: str, allowed: Sequence[str]) -> str:
    """The error sentence about a name that is none of those allowed."""
    return f'unknown {what} "{name}": choose one of {", ".join(allowed)}'


def named_model(model: str) -> ModelRef:
    """Resolves the model of `--model`.

    Raises:
        MelismaError: There is no such model.
    """
    from melisma.generation.resolve import resolve_model

    return resolve_model(model)
