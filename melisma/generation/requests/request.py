"""Requests for generation as values, and how a loaded pipeline runs them.

`run` takes a pipeline that is loaded, generates in batches, and yields every result as soon as it
is there, so that a batch is on disk before the next begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from melisma.files import Provenance
from melisma.generation.originality import check_original
from melisma.generation.pipeline import Pipeline, Progress
from melisma.values.sampling import SamplingParams

BATCH = 4
"""Pieces generated side by side (chosen: more need more memory and are hardly faster on two
cores)."""

PromptT = TypeVar("PromptT")
ContextT = TypeVar("ContextT")


class AnyPiece(Protocol):
    """What the pieces of all pipelines have in common."""

    @property
    def seed(self) -> int:
        """Of this piece."""
        ...


PieceT = TypeVar("PieceT", bound=AnyPiece)


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(Generic[PromptT, ContextT]):
    """What is to be generated."""

    prompts: tuple[PromptT, ...]
    """One for each piece."""
    seed: int = 0
    """Of the first piece; piece i has `seed + i`."""
    sampling: SamplingParams | None = None
    """Parameters that differ from the model's defaults."""
    best_of: int | None = None
    """Candidates for each piece; None: the model's default."""
    rank: str = "words"
    """How candidates are ranked."""
    context: ContextT | None = None
    """What all pieces are given beside their words."""
    receipt: bool = False
    """Whether each piece is measured against what its words state."""
    original: bool = False
    """Whether pieces too similar to training music are sampled again."""
    notes: Mapping[str, object] = field(default_factory=dict[str, object])
    """More for the provenance, fit for JSON: names of files that were given."""


class Result(ABC, Generic[PieceT]):
    """A generated piece with its provenance, ready to be saved."""

    def __init__(
        self,
        piece: PieceT,
        *,
        provenance: Provenance,
        settings: Mapping[str, object],
        original: Mapping[str, object] | None,
    ) -> None:
        """
        Args:
            piece: What the pipeline made.
            provenance: What its files say of themselves.
            settings: How it was made, fit for JSON.
            original: What the originality check found, where one was requested.
        """
        self.piece, self.provenance = piece, provenance
        self.settings, self.original = settings, original

    @abstractmethod
    def save(self, path: Path | str) -> dict[str, object]:
        """Writes the piece to a file, completely or not at all.

        Returns:
            The row of the JSON receipt.
        """

    def made_by(self) -> dict[str, object]:
        """The part of a receipt that says which model made the piece."""
        return {
            "model": self.provenance.model,
            "fingerprint": self.provenance.fingerprint,
            "licence": self.provenance.licence,
            "ai_generated": True,
            "settings": dict(self.settings),
        }


ResultT = TypeVar("ResultT")


def run(
    pipeline: Pipeline[PromptT, ContextT, PieceT],
    request: GenerationRequest[PromptT, ContextT],
    make: Callable[[PieceT, Mapping[str, object] | None], ResultT],
    progress: Progress | None = None,
) -> Iterator[ResultT]:
    """Runs a request on a loaded pipeline.

    Args:
        pipeline: The model.
        request: What is to be generated.
        make: Makes a result of a piece and of what the originality check found.
        progress: Called with the finished share, 0 to 1.

    Yields:
        The results in the order of the prompts.

    Raises:
        MelismaError: As the pipeline.
    """
    index = pipeline.originality_index() if request.original else None
    total = len(request.prompts)

    def generate(
        prompts: list[PromptT], seed: int, progress: Progress | None = None
    ) -> list[PieceT]:
        return pipeline.generate_pieces(
            prompts,
            seed=seed,
            sampling=request.sampling,
            best_of=request.best_of,
            rank=request.rank,
            context=request.context,
            progress=progress,
        )

    for first in range(0, total, BATCH):
        prompts = list(request.prompts[first : first + BATCH])

        def report(part: float, first: int = first, size: int = len(prompts)) -> None:
            if progress is not None:
                progress((first + part * size) / total)

        pieces = generate(prompts, request.seed + first, report)
        for prompt, piece in zip(prompts, pieces, strict=True):
            if index is None:
                yield make(piece, None)
                continue
            checked = check_original(
                piece, lambda seed, p=prompt: generate([p], seed)[0], piece.seed, index
            )
            yield make(checked.piece, checked.as_json())


def part_of(
    request: GenerationRequest[PromptT, ContextT], first: int, stop: int
) -> GenerationRequest[PromptT, ContextT]:
    """The request for pieces `first` to before `stop` alone, with the seeds that they have."""
    return replace(request, prompts=request.prompts[first:stop], seed=request.seed + first)
