"""Outputs to judge: what a model makes of a list of prompts, kept as files.

Enters: a model, prompts, a folder. Leaves: one file a prompt, `000.flac` or `000.mid` with its
provenance, in the order of the prompts. Files that are there already with the same prompt, seed,
model and settings stay, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import melisma
from melisma.compose import Composer, DrawingSettings, ScoreComposer, ScoreDrawing
from melisma.files import Provenance, read_provenance, write_audio, write_bytes
from melisma.files.provenance import provenance_from_fields
from melisma.notes import write_midi
from melisma.notes.midi import midi_bytes
from melisma.notes.tags import read_midi_tags, write_midi_tags
from melisma.sound.mastering import master
from melisma.values import Prompt
from melisma.values.score_prompt import ScorePrompt

BATCH = 4
"""Pieces made side by side (as `melisma generate`)."""
Progress = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Making:
    """How outputs are made."""

    seconds: float
    """Length of a piece."""
    best_of: int
    seed: int
    """Of the first piece; piece i has the seed `seed + i`."""


def make_sounds(
    composer: Composer,
    prompts: Sequence[str],
    folder: Path,
    making: Making,
    settings: DrawingSettings | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Draws a sound for every prompt, mastered as `melisma generate` does."""
    settings = settings or DrawingSettings()
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"{number:03d}.flac" for number in range(len(prompts))]
    signs = [
        _sign(composer, words, making, number, asdict(settings))
        for number, words in enumerate(prompts)
    ]
    for batch in _missing(places, signs, _sound_sign):
        pieces = composer.generate_pieces(
            [Prompt(words=prompts[n], duration_seconds=making.seconds) for n in batch],
            seed=making.seed + batch[0],
            settings=settings,
            best_of=making.best_of,
        )
        for number, piece in zip(batch, pieces, strict=True):
            write_audio(places[number], master(piece.waveform), signs[number])
        if progress is not None:
            progress((batch[-1] + 1) / len(prompts))
    return places


def make_scores(
    composer: ScoreComposer,
    prompts: Sequence[str],
    folder: Path,
    making: Making,
    settings: ScoreDrawing | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Composes a score for every prompt."""
    settings = settings or ScoreDrawing()
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"{number:03d}.mid" for number in range(len(prompts))]
    signs = [
        _sign(composer, words, making, number, asdict(settings))
        for number, words in enumerate(prompts)
    ]
    for batch in _missing(places, signs, _score_sign):
        pieces = composer.compose(
            [ScorePrompt(words=prompts[n], duration_seconds=making.seconds) for n in batch],
            seed=making.seed + batch[0],
            settings=settings,
            best_of=making.best_of,
        )
        for number, piece in zip(batch, pieces, strict=True):
            midi = write_midi_tags(write_midi(piece.score), signs[number].fields())
            write_bytes(places[number], midi)
        if progress is not None:
            progress((batch[-1] + 1) / len(prompts))
    return places


def _sign(
    composer: Composer | ScoreComposer,
    words: str,
    making: Making,
    number: int,
    drawing: dict[str, float | int],
) -> Provenance:
    """What tells one output from another."""
    drawn = {"seconds": making.seconds, "best_of": making.best_of, "drawing": drawing}
    return Provenance(
        prompt=words,
        seed=making.seed + number,
        model=composer.name,
        fingerprint=composer.fingerprint,
        licence=composer.licence,
        version=melisma.__version__,
        settings=json.dumps(drawn, sort_keys=True),
    )


def _sound_sign(path: Path) -> Provenance | None:
    return read_provenance(path)


def _score_sign(path: Path) -> Provenance | None:
    tags = read_midi_tags(midi_bytes(path))
    return None if tags is None else provenance_from_fields(tags)


def _missing(
    places: Sequence[Path],
    signs: Sequence[Provenance],
    read: Callable[[Path], Provenance | None],
) -> list[list[int]]:
    """Batches of neighbours of which one is not there yet. Batches begin at the same places
    whatever is there, so that a piece comes out the same in every run."""
    batches = [
        list(range(first, min(first + BATCH, len(places))))
        for first in range(0, len(places), BATCH)
    ]
    return [
        batch for batch in batches if any(not _is_there(places[n], signs[n], read) for n in batch)
    ]


def _is_there(path: Path, sign: Provenance, read: Callable[[Path], Provenance | None]) -> bool:
    try:
        found = read(path) if path.is_file() else None
    except (ValueError, OSError):
        return False
    return found == sign
