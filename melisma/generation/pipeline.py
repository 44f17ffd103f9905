"""What every composer of sound offers, and what comes out: a `Piece`.

Two there are: the three stages of `musiclm.py` with our own weights, and MusicGen's single stage of
`musicgen.py` with published ones. The program knows them by `SoundComposer` alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from melisma.generation.conditioning.audio import AudioConditions
from melisma.sound.mastering import master
from melisma.values.attributes import Facts
from melisma.values.prompt import Prompt
from melisma.values.tokens import TokenGrid
from melisma.values.waveform import Waveform

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One piece of music and how it came about."""

    waveform: Waveform
    """As decoded: not mastered yet."""
    prompt: Prompt
    seed: int
    similarity: float | None
    """Cosine of words and sound in the joint space, of the candidate kept; None where nothing was
    ranked."""
    candidates: list[float]
    """What every candidate scored; the highest was kept."""
    semantic: TokenGrid | None
    """None where the model has no semantic stage."""
    acoustic: TokenGrid
    conditions: dict[str, str]
    """What was asked of the model, in words."""
    stated: Facts
    """What the words and the exact settings state outright, for the receipt."""


class SoundComposer(ABC):
    """From prompts to sound."""

    def __init__(self, *, name: str, licence: str, rate_hz: int, best_of: int) -> None:
        """`best_of`: candidates for each piece where nothing else is asked for."""
        self.name, self.licence = name, licence
        self.rate_hz, self.best_of = rate_hz, best_of

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Twelve digits that change with anything that decides what is drawn."""

    @abstractmethod
    def drawing(self, changes: Mapping[str, float | int]) -> Any:
        """The usual settings of drawing with some changed, a dataclass of numbers. `ValueError` for
        a name that is none of them."""

    @abstractmethod
    def generate_pieces(
        self,
        prompts: Sequence[Prompt] | Prompt | str,
        *,
        seed: int = 0,
        settings: Any = None,
        best_of: int | None = None,
        rank: str = "words",
        given: AudioConditions | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> list[Piece]:
        """Pieces for prompts; piece i has the seed `seed + i`.

        `settings`: what `drawing` gives. `best_of`: candidates drawn for each, of which one is kept
        by `rank`: "words", the one whose sound the joint embedding and its heads find nearest to
        the words; "receipt", the one whose measured tempo, tonality, metre and instruments agree
        best with what the words state, the embedding deciding among equals. `given`: a tune that
        all follow, sound that all begin with: it comes before the prompts' durations. `progress`
        hears the share done, 0 to 1. `ValueError` where there is nothing to do, or no tune is to be
        heard.
        """

    @abstractmethod
    def stream(
        self,
        prompt: Prompt,
        *,
        seed: int = 0,
        settings: Any = None,
        given: AudioConditions | None = None,
    ) -> Iterator[Waveform]:
        """The sound of one piece, block by block, while its tokens are drawn; nothing is ranked.

        Whoever stops listening stops the drawing. Errors as `generate_pieces`.
        """

    @abstractmethod
    def detect_families(self, waveform: Waveform) -> dict[str, float]:
        """Probability of each family of instruments sounding, by the joint embedding's head."""

    def generate(
        self,
        prompt: Prompt | str,
        *,
        duration_seconds: float = 10.0,
        seed: int = 0,
        settings: Any = None,
        best_of: int | None = None,
        given: AudioConditions | None = None,
    ) -> Waveform:
        """One piece, mastered and ready to be written: words in, sound out.

        `duration_seconds` counts where the prompt is a string. What was understood and how near it
        came is in the `Piece` that `generate_pieces` returns. Raises `ValueError` as `Prompt` does.
        """
        if isinstance(prompt, str):
            prompt = Prompt(words=prompt, duration_seconds=duration_seconds)
        pieces = self.generate_pieces(
            prompt, seed=seed, settings=settings, best_of=best_of, given=given
        )
        return master(pieces[0].waveform)


Settings = TypeVar("Settings", bound="DataclassInstance")


def changed_settings(settings: Settings, changes: Mapping[str, float | int]) -> Settings:
    """Settings with some fields changed; `ValueError` names those that there are."""
    known = [one.name for one in dataclasses.fields(settings)]
    strange = [name for name in changes if name not in known]
    if strange:
        names = ", ".join("--" + name.replace("_", "-") for name in strange)
        raise ValueError(f"this model is not drawn with {names}: it knows {', '.join(known)}")
    return dataclasses.replace(settings, **changes)


def prompts_of(prompts: Sequence[Prompt] | Prompt | str) -> list[Prompt]:
    """A list of one prompt or more; `ValueError` where there is none."""
    if isinstance(prompts, str):
        prompts = Prompt(words=prompts)
    prompts = [prompts] if isinstance(prompts, Prompt) else list(prompts)
    if not prompts:
        raise ValueError("there is no prompt: give one or more")
    return prompts


def generator_of(seed: int, candidate: int, purpose: str) -> torch.Generator:
    """The generator of one candidate of one piece."""
    digest = hashlib.sha256(f"{seed}/{candidate}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
