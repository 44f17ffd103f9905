"""The interface of every pipeline, and what comes out: a piece.

Three pipelines implement it: our three stages (`musiclm.py`), MusicGen's single stage
(`musicgen.py`) and the score model (`score/pipeline.py`). The rest of the program knows them by
`Pipeline` and `AudioPipeline` alone.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar, cast

import torch

from melisma.engine.sampling import StageSampling
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.seam import Seam, joined_sound
from melisma.generation.conditioning.understanding import Understanding
from melisma.generation.originality import OriginalityIndex
from melisma.sound.long_mastering import master_stored
from melisma.sound.stored import StoredSound
from melisma.values.attributes import Facts
from melisma.values.errors import MelismaError, MelismaTypeError, expect_integer
from melisma.values.prompt import Prompt
from melisma.values.sampling import LARGEST_SEED, MAX_CANDIDATES, STAGES, SamplingParams
from melisma.values.tokens import TokenGrid
from melisma.values.waveform import Waveform

Progress = Callable[[float], None]
"""Called with the finished share of the work, 0 to 1."""
Sampling = Mapping[str, float | int | None]
"""Sampling parameters with nothing left open, by the names of `SamplingParams.flat`; top-k and
top-p None: all tokens."""

PromptT = TypeVar("PromptT")
ContextT = TypeVar("ContextT")


@dataclass(frozen=True, kw_only=True)
class AudioPiece:
    """One piece of music and how it came about."""

    sound: StoredSound
    """As decoded: not mastered yet, and what is continued as the codec has it. After a recording a
    little longer than was asked for (`AudioConditions.spare_seconds`)."""
    prompt: Prompt
    seed: int
    similarity: float | None
    """Cosine similarity of words and sound in the joint space, of the selected candidate; None
    where nothing was ranked."""
    candidates: list[float]
    """The score of every candidate; the highest was selected."""
    semantic: TokenGrid | None
    """None where the model has no semantic stage."""
    acoustic: TokenGrid
    conditions: dict[str, str]
    """What the model was conditioned on, in words."""
    stated: Facts
    """What the words and the exact settings state outright, for the receipt."""
    context: AudioConditions | None = None
    """The audio that was given besides the words."""
    understanding: Understanding = field(default_factory=Understanding)
    """What of the prompt was understood."""
    absent: tuple[str, ...] = ()
    """Instrument families that were to be left out, for the receipt."""
    new_sample: int = 0
    """First sample of the sound that is new; before it is the recording that is continued."""

    @property
    def waveform(self) -> Waveform:
        """The sound in memory, as long as was asked for."""
        spare_seconds = 0.0 if self.context is None else self.context.spare_seconds
        count = self.sound.length - round(spare_seconds * self.sound.rate_hz)
        return Waveform(samples=self.sound.read(0, count), rate_hz=self.sound.rate_hz)

    def finished(self) -> tuple[StoredSound, Seam | None]:
        """The sound, ready to be written: mastered; of a continuation the recording as it is and
        the new music fitted to it, and how it was fitted."""
        if self.context is None or self.context.beginning is None:
            return master_stored(self.sound), None
        return joined_sound(self.context, self.sound, self.new_sample, self.prompt.duration_seconds)


PieceT = TypeVar("PieceT")


class Pipeline(ABC, Generic[PromptT, ContextT, PieceT]):
    """From prompts to pieces."""

    sampling_defaults: ClassVar[Sampling]
    """The parameters that this model is sampled with, and their defaults."""

    def __init__(self, *, name: str, licence: str, best_of: int) -> None:
        """
        Args:
            name: What outputs call the model.
            licence: Of the weights.
            best_of: Candidates sampled for each piece by default.
        """
        self.name, self.licence, self.best_of = name, licence, best_of

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with anything that decides what is sampled."""

    @abstractmethod
    def generate_pieces(
        self,
        prompts: Sequence[PromptT | str] | PromptT | str,
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        best_of: int | None = None,
        rank: str = "words",
        context: ContextT | None = None,
        progress: Progress | None = None,
    ) -> list[PieceT]:
        """Generates a piece for each prompt; piece i has the seed `seed + i`.

        Args:
            prompts: One or more; strings stand for prompts without exact settings.
            seed: The same seed gives the same piece, whatever else is in the batch.
            sampling: Parameters that differ from the model's defaults.
            best_of: Candidates sampled for each piece, of which the best is selected.
            rank: How candidates are ranked, one of `ranks`.
            context: What all pieces are given beside their words.
            progress: Called with the finished share.

        Raises:
            MelismaError: There is nothing to do, a parameter is unknown to this model, or the
                context cannot be used.
        """

    @abstractmethod
    def originality_index(self) -> OriginalityIndex[PieceT]:
        """The index of the training music.

        Raises:
            MelismaError: The model has none.
        """

    def resolve_sampling(self, sampling: SamplingParams | None) -> Sampling:
        """All sampling parameters: those given, and the model's defaults.

        Raises:
            MelismaError: A parameter that this model does not have.
        """
        given = {} if sampling is None else sampling.flat()
        if "guidance" in given and "guidance_semantic" in self.sampling_defaults:
            given["guidance_semantic"] = given.pop("guidance")
        if unknown := [name for name in given if name not in self.sampling_defaults]:
            names = ", ".join("--" + name.replace("_", "-") for name in unknown)
            raise MelismaError(
                f"this model is not sampled with {names}: it has "
                f"{', '.join(self.sampling_defaults)}"
            )
        return dict(self.sampling_defaults) | given


def stage_sampling(sampling: Sampling, stage: str = "") -> StageSampling:
    """What the engine needs to sample one stage; "" for a model of one stage."""
    ending = f"_{stage}" if stage else ""
    assert not stage or stage in STAGES

    def value(name: str) -> float | int | None:
        return sampling.get(name + ending)

    temperature, guidance = value("temperature"), value("guidance")
    top_k, top_p = value("top_k"), value("top_p")
    return StageSampling(
        temperature=1.0 if temperature is None else temperature,
        top_k=int(top_k) if top_k else None,
        top_p=None if top_p is None or top_p == 1 else top_p,
        guidance=1.0 if guidance is None else guidance,
    )


class AudioPipeline(Pipeline[Prompt, AudioConditions, AudioPiece]):
    """From prompts to sound."""

    def __init__(self, *, name: str, licence: str, rate_hz: int, best_of: int) -> None:
        """As `Pipeline`; `rate_hz`: sample rate of the sound."""
        super().__init__(name=name, licence=licence, best_of=best_of)
        self.rate_hz = rate_hz

    @abstractmethod
    def stream(
        self,
        prompt: Prompt,
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        context: AudioConditions | None = None,
    ) -> Iterator[Waveform]:
        """Yields the sound of one piece block by block while its tokens are sampled.

        Nothing is ranked. When the caller stops iterating, sampling stops.

        Raises:
            MelismaError: As `generate_pieces`.
        """

    @abstractmethod
    def detect_families(self, sound: StoredSound | Waveform) -> dict[str, float]:
        """Probability that each instrument family plays, by the joint embedding's head."""

    @abstractmethod
    def understand(
        self, prompt: Prompt, *, seed: int = 0, context: AudioConditions | None = None
    ) -> Understanding:
        """What of a prompt is understood, without sampling the piece."""

    def generate(
        self,
        prompt: Prompt | str,
        *,
        duration_seconds: float = 10.0,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        best_of: int | None = None,
        context: AudioConditions | None = None,
    ) -> Waveform:
        """Generates one piece, mastered and ready to be written.

        Args:
            prompt: A prompt, or its words.
            duration_seconds: Length, where the prompt is a string.
            seed: As for `generate_pieces`, like the other arguments.
            sampling: As for `generate_pieces`.
            best_of: As for `generate_pieces`.
            context: As for `generate_pieces`.

        Returns:
            The sound; the `AudioPiece` of `generate_pieces` says how it came about.

        Raises:
            MelismaError: As `Prompt` and `generate_pieces`.
        """
        if isinstance(prompt, str):
            prompt = Prompt(words=prompt, duration_seconds=duration_seconds)
        pieces = self.generate_pieces(
            prompt, seed=seed, sampling=sampling, best_of=best_of, context=context
        )
        return pieces[0].finished()[0].waveform


def best_candidates(scores: Sequence[float], best_of: int) -> list[tuple[int, list[float]]]:
    """The selected candidate of every piece, and the scores of all its candidates.

    Args:
        scores: [piece * best_of], candidates of a piece side by side.
        best_of: Candidates of a piece.
    """
    groups = [range(first, first + best_of) for first in range(0, len(scores), best_of)]
    return [(max(group, key=lambda c: scores[c]), [scores[c] for c in group]) for group in groups]


def prompts_of(
    prompts: Sequence[PromptT | str] | PromptT | str,
    kind: Callable[..., PromptT],
    make: Callable[[str], PromptT] | None = None,
) -> list[PromptT]:
    """A list of one prompt or more.

    Args:
        prompts: One or several; texts stand for prompts without exact settings.
        kind: Class of the prompts.
        make: Makes a prompt of a text; None: as said.

    Raises:
        MelismaError: There is none, or one is something else.
    """
    assert isinstance(kind, type)
    several = [prompts] if isinstance(prompts, str | kind) else prompts
    if isinstance(several, bytes | dict) or not isinstance(several, Iterable):
        raise MelismaTypeError(
            f"a prompt is a text or a {kind.__name__}, or several of them in a list, not a value "
            f"of type {type(prompts).__name__}"
        )
    found: list[PromptT] = []
    for number, one in enumerate(several, start=1):
        if not isinstance(one, str | kind):
            raise MelismaTypeError(
                f"a prompt is a text or a {kind.__name__}; number {number} of the list is a value "
                f"of type {type(one).__name__}"
            )
        made = (make or (lambda words: kind(words=words)))(one) if isinstance(one, str) else one
        found.append(cast(PromptT, made))
    if not found:
        raise MelismaError("there is no prompt: give one or more")
    return found


def check_numbers(seed: int, best_of: int, pieces: int = 1) -> None:
    """Checks the numbers that all pipelines take.

    Args:
        seed: Of the first piece; those of the others follow it.
        best_of: Candidates of each piece.
        pieces: Number of pieces.

    Raises:
        MelismaError: One is no whole number, or beyond its limits.
    """
    expect_integer("a seed", seed, 0, LARGEST_SEED - (pieces - 1))
    expect_integer("best-of", best_of, 1, MAX_CANDIDATES)


def generator_of(seed: int, candidate: int, purpose: str, kind: str = "") -> torch.Generator:
    """The random generator of one candidate of one piece, for one purpose.

    Args:
        seed: Of the piece.
        candidate: Its number.
        purpose: What is random.
        kind: "score/" for scores, whose generators differ from those of sound.
    """
    digest = hashlib.sha256(f"{kind}{seed}/{candidate}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
