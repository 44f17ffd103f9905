"""Checks of the values that are passed to the Python API, before anything is loaded.

The command line has such values typed by its parser; here each is checked for its type and its
limits, so that a wrong one is a `MelismaError` with a sentence, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from melisma.generation.pipeline import check_numbers, prompts_of
from melisma.values.attributes import parse_key
from melisma.values.errors import (
    MelismaError,
    MelismaTypeError,
    expect_integer,
    expect_real,
    expect_text,
)
from melisma.values.model_ref import MAX_THREADS, PRECISIONS, is_device
from melisma.values.prompt import Prompt
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt, parse_time_signature
from melisma.values.tokens import TokenGrid

ValueT = TypeVar("ValueT")


def check_loading(threads: int | None, precision: str | None, device: str) -> None:
    """Checks how a model is to be loaded.

    Raises:
        MelismaError: A value is of another type, or none of those allowed.
    """
    if threads is not None:
        expect_integer("the number of threads", threads, 1, MAX_THREADS)
    if precision is not None and precision not in PRECISIONS:
        raise MelismaError(f"the precision is {', '.join(PRECISIONS)} or None, not {precision!r}")
    if not is_device(expect_text("the device", device)):
        raise MelismaError(f'the device is "auto", "cpu" or "cuda", not "{device}"')


def check_call(
    pieces: int, *, seed: int, best_of: int | None, sampling: SamplingParams | None
) -> tuple[int, int | None]:
    """Checks what every call that makes music takes.

    Args:
        pieces: How many pieces are asked for.
        seed: Of the first of them.
        best_of: Candidates for each; None: the model's default.
        sampling: Parameters that differ from the model's defaults.

    Returns:
        `seed` and `best_of` as numbers of Python.

    Raises:
        MelismaError: A value is of another type, or beyond its limits.
    """
    check_numbers(seed, 1 if best_of is None else best_of, pieces)
    if sampling is not None:
        expect_type("sampling", sampling, SamplingParams)
    return int(seed), None if best_of is None else int(best_of)


def plain_number(value: Any) -> Any:
    """A number of NumPy as that of Python, which goes into JSON; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value  # pyright: ignore[reportUnknownVariableType]


def audio_prompts(
    prompts: str | Prompt | Sequence[str | Prompt], constraints: Mapping[str, Any]
) -> tuple[Prompt, ...]:
    """Prompts as they are, and texts with the constraints of the call.

    Args:
        prompts: One or several.
        constraints: Fields of `Prompt`.

    Raises:
        MelismaError: One is something else, or none is given.
    """
    return tuple(prompts_of(prompts, Prompt, lambda words: Prompt(words=words, **constraints)))


def score_prompts(
    prompts: str | ScorePrompt | Sequence[str | ScorePrompt],
    instruments: str | None,
    constraints: Mapping[str, Any],
) -> tuple[ScorePrompt, ...]:
    """As `audio_prompts`, for scores; the names of `instruments` become programs."""
    from melisma.generation.score.instrumentation import programs_of

    programs = () if instruments is None else programs_of(expect_text("instruments", instruments))
    return tuple(
        prompts_of(
            prompts,
            ScorePrompt,
            lambda words: ScorePrompt(words=words, programs=programs, **constraints),
        )
    )


def expect_type(name: str, value: Any, kind: type[ValueT]) -> ValueT:
    """The value, if it is of a type; `MelismaTypeError` otherwise."""
    if not isinstance(value, kind):
        raise MelismaTypeError(
            f"{name} is a value of type {kind.__name__}, not of type {type(value).__name__}"
        )
    return value


def checked_path(name: str, value: Any) -> Path:
    """A path, from one or from its name.

    Args:
        name: What it is, for the message.
        value: The path.

    Raises:
        MelismaError: It is neither, or holds a zero byte.
    """
    if not isinstance(value, str | Path):
        given = type(value).__name__
        raise MelismaTypeError(f"{name} is the name of a file, not a value of type {given}")
    if "\0" in str(value):
        raise MelismaError(f"{name} is the name of a file, which holds no zero byte")
    return Path(value)


def checked_key(key: str | None) -> str | None:
    """A musical key, one of `TONALITIES`; `MelismaError` for anything else."""
    return None if key is None else parse_key(expect_text("a musical key", key))


def checked_metre(metre: tuple[int, int] | str | None) -> tuple[int, int] | None:
    """A time signature as numerator and denominator.

    Raises:
        MelismaError: It is neither a text nor two whole numbers.
    """
    if metre is None or isinstance(metre, str):
        return None if metre is None else parse_time_signature(metre)
    return checked_pair("a time signature", metre, 'as in "3/4" or (3, 4)')


def checked_pair(name: str, pair: Sequence[int], example: str) -> tuple[int, int]:
    """Two whole numbers.

    Args:
        name: What they are, for the message.
        pair: The numbers.
        example: How they are written, for the message.

    Raises:
        MelismaError: It is something else.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise MelismaError(f"{name} has two whole numbers, {example}")
    first, second = (expect_integer(f"each number of {name}", one, 0, 10_000) for one in pair)
    return first, second


def checked_seconds(name: str, seconds: float) -> float:
    """A number of seconds above 0; `MelismaError` for anything else."""
    found = expect_real(name, seconds, 0.0, 1e6, "seconds")
    if found == 0.0:
        raise MelismaError(f"{name} must be above 0")
    return found


def checked_levels(levels: int | None) -> int | None:
    """A number of levels, or None for all; `MelismaError` for anything else."""
    return None if levels is None else expect_integer("the number of levels", levels, 1, 64)


def checked_tokens(tokens: TokenGrid) -> TokenGrid:
    """A token grid; `MelismaError` for anything else."""
    return expect_type("what is decoded", tokens, TokenGrid)
