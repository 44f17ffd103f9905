"""Outputs to judge: pieces that a model generates for a list of prompts, stored as files.

Input: a model, prompts, a folder. Output: one file per prompt, `000.flac` or `000.mid` with its
provenance, in the order of the prompts. Existing files with the same prompt, seed, model and
settings are reused, so that an interrupted run continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from melisma.files import Provenance, read_provenance, write_audio, write_bytes
from melisma.files.provenance import provenance_from_fields
from melisma.generation.pipeline import AudioPipeline, Sampling
from melisma.generation.requests.provenance import provenance_of
from melisma.generation.score.pipeline import ScorePipeline
from melisma.sound.mastering import master
from melisma.symbolic import write_midi
from melisma.symbolic.midi import midi_bytes
from melisma.symbolic.tags import read_midi_tags, write_midi_tags
from melisma.values import Prompt
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt

BATCH = 4
"""Pieces of a batch (as `melisma generate`)."""
Progress = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Length, seeds and candidates of the outputs."""

    seconds: float
    """Length of a piece."""
    best_of: int
    """Candidates per piece, of which the best is kept."""
    seed: int
    """Of the first piece; piece i has the seed `seed + i`."""


def make_sounds(
    composer: AudioPipeline,
    prompts: Sequence[str],
    folder: Path,
    outputs: OutputSettings,
    sampling: SamplingParams | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Generates a sound for every prompt, mastered as `melisma generate` does.

    Args:
        composer: The model.
        prompts: Texts.
        folder: Where the files are written.
        outputs: Length, seeds and candidates.
        sampling: Sampling parameters; the defaults of the model if missing.
        progress: Called with the share of prompts done, 0 to 1.

    Returns:
        Paths of the files, in the order of the prompts.
    """
    provenances = _provenances(composer, prompts, outputs, composer.resolve_sampling(sampling))

    def generate(words: list[str], seed: int, paths: list[Path], records: list[Provenance]) -> None:
        pieces = composer.generate_pieces(
            [Prompt(words=text, duration_seconds=outputs.seconds) for text in words],
            seed=seed,
            sampling=sampling,
            best_of=outputs.best_of,
        )
        for piece, path, provenance in zip(pieces, paths, records, strict=True):
            write_audio(path, master(piece.waveform), provenance)

    return _generate_missing(
        prompts, folder, ".flac", outputs, provenances, _sound_provenance, generate, progress
    )


def make_scores(
    composer: ScorePipeline,
    prompts: Sequence[str],
    folder: Path,
    outputs: OutputSettings,
    sampling: SamplingParams | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Generates a score for every prompt; arguments and result as `make_sounds`."""
    provenances = _provenances(composer, prompts, outputs, composer.resolve_sampling(sampling))

    def generate(words: list[str], seed: int, paths: list[Path], records: list[Provenance]) -> None:
        pieces = composer.generate_pieces(
            [ScorePrompt(words=text, duration_seconds=outputs.seconds) for text in words],
            seed=seed,
            sampling=sampling,
            best_of=outputs.best_of,
        )
        for piece, path, provenance in zip(pieces, paths, records, strict=True):
            write_bytes(path, write_midi_tags(write_midi(piece.score), provenance.fields()))

    return _generate_missing(
        prompts, folder, ".mid", outputs, provenances, _score_provenance, generate, progress
    )


GenerateBatch = Callable[[list[str], int, list[Path], list[Provenance]], None]
"""Generates and writes a batch: texts, seed of the first, paths, and provenance of the files."""


def _generate_missing(
    prompts: Sequence[str],
    folder: Path,
    ending: str,
    outputs: OutputSettings,
    provenances: Sequence[Provenance],
    read: Callable[[Path], Provenance | None],
    generate: GenerateBatch,
    progress: Progress | None,
) -> list[Path]:
    """Generates every batch of which a file is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}{ending}" for number in range(len(prompts))]
    for batch in _missing(paths, provenances, read):
        chosen = slice(batch[0], batch[-1] + 1)
        generate(
            list(prompts[chosen]), outputs.seed + batch[0], paths[chosen], list(provenances[chosen])
        )
        if progress is not None:
            progress((batch[-1] + 1) / len(prompts))
    return paths


def _provenances(
    composer: AudioPipeline | ScorePipeline,
    prompts: Sequence[str],
    outputs: OutputSettings,
    sampling: Sampling,
) -> list[Provenance]:
    """Provenance of every output, by which existing files are recognised."""
    settings = {"seconds": outputs.seconds, "best_of": outputs.best_of, "sampling": dict(sampling)}
    return [
        provenance_of(composer, words, outputs.seed + number, settings)
        for number, words in enumerate(prompts)
    ]


def _sound_provenance(path: Path) -> Provenance | None:
    return read_provenance(path)


def _score_provenance(path: Path) -> Provenance | None:
    tags = read_midi_tags(midi_bytes(path))
    return None if tags is None else provenance_from_fields(tags)


def _missing(
    paths: Sequence[Path],
    provenances: Sequence[Provenance],
    read: Callable[[Path], Provenance | None],
) -> list[list[int]]:
    """Batches, as indices, of which a file is missing. Their boundaries do not depend on which
    files exist, so that a piece is the same in every run."""
    batches = [
        list(range(first, min(first + BATCH, len(paths)))) for first in range(0, len(paths), BATCH)
    ]
    return [
        batch
        for batch in batches
        if any(not _is_complete(paths[n], provenances[n], read) for n in batch)
    ]


def _is_complete(
    path: Path, provenance: Provenance, read: Callable[[Path], Provenance | None]
) -> bool:
    try:
        found = read(path) if path.is_file() else None
    except (MelismaError, OSError):
        return False
    return found == provenance
