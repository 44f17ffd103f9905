"""Outputs to judge: what a model makes of a list of prompts, kept as files.

Enters: a model, prompts, a folder. Leaves: one file a prompt, `000.flac` or `000.mid` with its
provenance, in the order of the prompts. Files that are there already with the same prompt, seed,
model and settings stay, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from melisma.files import Provenance, read_provenance, write_audio, write_bytes
from melisma.files.provenance import provenance_from_fields
from melisma.generation import ScoreComposer, ScoreSampling, SoundComposer
from melisma.generation.requests.provenance import provenance_of
from melisma.sound.mastering import master
from melisma.symbolic import write_midi
from melisma.symbolic.midi import midi_bytes
from melisma.symbolic.tags import read_midi_tags, write_midi_tags
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
    composer: SoundComposer,
    prompts: Sequence[str],
    folder: Path,
    making: Making,
    settings: Any = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Draws a sound for every prompt, mastered as `melisma generate` does."""
    chosen = settings or composer.drawing({})
    signs = _signs(composer, prompts, making, asdict(chosen))

    def draw(words: list[str], seed: int, places: list[Path], signed: list[Provenance]) -> None:
        pieces = composer.generate_pieces(
            [Prompt(words=text, duration_seconds=making.seconds) for text in words],
            seed=seed,
            settings=chosen,
            best_of=making.best_of,
        )
        for piece, place, sign in zip(pieces, places, signed, strict=True):
            write_audio(place, master(piece.waveform), sign)

    return _make(prompts, folder, ".flac", making, signs, _sound_sign, draw, progress)


def make_scores(
    composer: ScoreComposer,
    prompts: Sequence[str],
    folder: Path,
    making: Making,
    settings: ScoreSampling | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Composes a score for every prompt."""
    chosen = settings or ScoreSampling()
    signs = _signs(composer, prompts, making, asdict(chosen))

    def draw(words: list[str], seed: int, places: list[Path], signed: list[Provenance]) -> None:
        pieces = composer.compose(
            [ScorePrompt(words=text, duration_seconds=making.seconds) for text in words],
            seed=seed,
            settings=chosen,
            best_of=making.best_of,
        )
        for piece, place, sign in zip(pieces, places, signed, strict=True):
            write_bytes(place, write_midi_tags(write_midi(piece.score), sign.fields()))

    return _make(prompts, folder, ".mid", making, signs, _score_sign, draw, progress)


Draw = Callable[[list[str], int, list[Path], list[Provenance]], None]
"""Makes a batch: words, seed of the first, places, and what the files say of themselves."""


def _make(
    prompts: Sequence[str],
    folder: Path,
    ending: str,
    making: Making,
    signs: Sequence[Provenance],
    read: Callable[[Path], Provenance | None],
    draw: Draw,
    progress: Progress | None,
) -> list[Path]:
    """Draws every batch of which a file is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    places = [folder / f"{number:03d}{ending}" for number in range(len(prompts))]
    for batch in _missing(places, signs, read):
        chosen = slice(batch[0], batch[-1] + 1)
        draw(list(prompts[chosen]), making.seed + batch[0], places[chosen], list(signs[chosen]))
        if progress is not None:
            progress((batch[-1] + 1) / len(prompts))
    return places


def _signs(
    composer: SoundComposer | ScoreComposer,
    prompts: Sequence[str],
    making: Making,
    drawing: dict[str, float | int],
) -> list[Provenance]:
    """What tells each output from any other."""
    drawn = {"seconds": making.seconds, "best_of": making.best_of, "drawing": drawing}
    return [
        provenance_of(composer, words, making.seed + number, drawn)
        for number, words in enumerate(prompts)
    ]


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
