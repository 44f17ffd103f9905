"""Parsing and validation of command-line arguments; nothing heavy is loaded."""

from __future__ import annotations

import atexit
import math
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

from melisma.values import Prompt
from melisma.values.attributes import parse_key
from melisma.values.errors import MelismaError, unknown_name
from melisma.values.model_ref import MAX_THREADS, PRECISIONS, ModelRef
from melisma.values.prompt import clean_text, decode_text, split_lines
from melisma.values.sampling import LARGEST_SEED, MAX_CANDIDATES

MOST_PIECES = 1_000
"""Maximum number of pieces of one call (chosen: a night's work)."""
STANDARD_INPUT = Path("-")

_copies: dict[Path, Path] = {}
"""Copies of what came through pipes, by the pipe; removed when the program ends."""


def gather_prompts(prompts: Sequence[str], file: Path | None) -> list[str]:
    """The prompts of the command line, then those of a file.

    Args:
        prompts: Prompts given one by one.
        file: UTF-8 text with one prompt per line (LF, CR LF or CR); lines that start with "#" are
            comments.

    Raises:
        MelismaError: The file does not exist or is not text, or there is no prompt at all.
    """
    words = [clean_text(one) for one in prompts]
    if file is not None:
        if not file.exists():
            raise MelismaError(f"there is no file {file}: check the name")
        text = decode_text(file.read_bytes(), str(file))
        lines = [line.strip() for line in split_lines(text)]
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
    without: Sequence[str] | None = None,
) -> list[Prompt]:
    """Builds the prompts of an audio request.

    Args:
        words: Text prompts.
        count: Number of consecutive prompts made of each text.
        duration_seconds: Length of each piece.
        tempo_bpm: Overrides the tempo of the text.
        key: Overrides the key of the text, e.g. "F# minor".
        metre: Overrides the metre of the text, e.g. "3/4".
        without: Instruments that do not play.

    Raises:
        MelismaError: A value lies outside its limits, or there are too many pieces.
    """
    check_integer("--count", count, 1, MOST_PIECES)
    if len(words) * count > MOST_PIECES:
        raise MelismaError(
            f"{len(words) * count} pieces were requested: one call makes at most {MOST_PIECES}"
        )
    tonality = parse_key(key) if key is not None else None
    excluded = excluded_instruments(without)
    return [
        Prompt(
            words=text,
            duration_seconds=duration_seconds,
            tempo_bpm=tempo_bpm,
            tonality=tonality,
            metre=metre,
            without=excluded,
        )
        for text in words
        for _ in range(count)
    ]


def excluded_instruments(names: Sequence[str] | None) -> tuple[str, ...]:
    """The instruments of `--without`, each name alone or several with commas.

    Raises:
        MelismaError: A name is unknown.
    """
    if not names:
        return ()
    from melisma.joint.instrument_words import checked_instruments

    return checked_instruments(",".join(names))


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
    check_integer("--best-of", best_of, 1, MAX_CANDIDATES)
    check_integer("--threads", threads, 1, MAX_THREADS)


def check_precision(precision: str | None) -> None:
    """Raises `MelismaError` unless weights can have this precision."""
    if precision is not None and precision not in PRECISIONS:
        raise MelismaError(unknown_name("precision", precision, PRECISIONS))


def named_model(model: str) -> ModelRef:
    """Resolves the model of `--model`.

    Raises:
        MelismaError: There is no such model.
    """
    from melisma.generation.resolve import resolve_model

    return resolve_model(model)


@overload
def input_file(path: Path) -> Path: ...
@overload
def input_file(path: Path | None) -> Path | None: ...
def input_file(path: Path | None) -> Path | None:
    """A file that can be read more than once: the file itself, or a copy of what a pipe brings.

    Args:
        path: A file, a named pipe (as shells make for <(...)), or - for standard input; None for
            an option that was not given.

    Raises:
        MelismaError: Standard input is a terminal, or a pipe is given twice.
        OSError: The pipe cannot be read, or the copy not be written.
    """
    if path is None or (path != STANDARD_INPUT and not _is_pipe(path)):
        return path
    if path in _copies:
        raise MelismaError(f"{path} is given twice, but a pipe can be read only once: use a file")
    if path == STANDARD_INPUT and sys.stdin.isatty():
        raise MelismaError("standard input is a terminal: pipe a file into it, or name a file")
    folder = tempfile.mkdtemp(prefix="melisma-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = Path(folder) / ("standard-input" if path == STANDARD_INPUT else path.name)
    _copies[path] = copy
    with copy.open("wb") as target:
        if path == STANDARD_INPUT:
            shutil.copyfileobj(sys.stdin.buffer, target)
        else:
            with path.open("rb") as pipe:
                shutil.copyfileobj(pipe, target)
    return copy


def as_given(sentence: str) -> str:
    """A sentence in which pipes have the names that they were given by, not those of the copies."""
    for pipe, copy in _copies.items():
        name = "standard input" if pipe == STANDARD_INPUT else str(pipe)
        sentence = sentence.replace(str(copy), name)
    return sentence


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def check_model(
    model: ModelRef, engine: str, options: Mapping[str, object], *, best_of: int | None = None
) -> None:
    """Refuses, before anything is loaded, what the model of `--model` does not take.

    Args:
        model: The model.
        engine: "sound", "score" or "auto".
        options: Options by their names in Python; None: not given.
        best_of: Candidates per piece; None: the model's default.

    Raises:
        MelismaError: The model does not take an option, or has no such engine.
    """
    from melisma.generation.catalogue import facts_of
    from melisma.generation.requests.abilities import check_request
    from melisma.generation.resolve import is_known

    if not is_known(model):
        return  # what it is is known when it is here, and is checked then
    given = [name for name, value in options.items() if value is not None]
    check_request(facts_of(model), engine, given, best_of=best_of)
