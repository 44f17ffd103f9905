"""Originality check: is a piece too similar to something the model learned from?

If it is, another one is sampled. The index of training clips (audio) or of training pieces (scores)
lies beside the weights. A piece is too similar where it passes what independent real music reaches
(`ClipIndex`, `MelodyFingerprints`). No published system makes this check on its own outputs;
MusicLM measured it once over a corpus (2301.11325, section 4.3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch

from melisma.analysis.similarity import clip_index, melody_fingerprints
from melisma.analysis.similarity.clip_index import ClipIndex, Resemblance
from melisma.analysis.similarity.melody_fingerprints import MelodyFingerprints
from melisma.analysis.similarity.melody_index import SharedRun
from melisma.sound.resample import mono_samples
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.values import Score, Waveform
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ, TokenGrid

CLIP_INDEX_FILE = f"{clip_index.KIND}.safetensors"
TUNE_INDEX_FILE = f"{melody_fingerprints.KIND}.safetensors"
"""The indexes in a model's folder."""
MAX_RESAMPLED = 4
"""A piece is sampled again at most this often (chosen: at one false alarm in thirty, four in a row
come once in a million pieces)."""
SEED_STEP = 1_000_003
"""Distance of the seeds of the attempts, modulo 2^32: far from the seeds of neighbouring pieces."""
SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How similar a piece is to the training music."""

    excess: float
    """In units of what independent real music reaches: above 1 it is too similar."""
    text: str
    """The most similar training music and how similar it is, in words."""

    @property
    def too_similar(self) -> bool:
        """Whether it passes what independent real music reaches."""
        return self.excess > 1.0


PieceT = TypeVar("PieceT")


PieceT_contra = TypeVar("PieceT_contra", contravariant=True)


class OriginalityIndex(ABC, Generic[PieceT_contra]):
    """The index of a model's training music."""

    @abstractmethod
    def similarity(self, piece: PieceT_contra) -> Similarity:
        """How similar a piece is to the training music."""


class WithSound(Protocol):
    """A piece of sound, as `ClipOriginality` needs it."""

    @property
    def waveform(self) -> Waveform:
        """Its sound."""
        ...

    @property
    def semantic(self) -> TokenGrid | None:
        """The semantic tokens that it was generated from, where there are any."""
        ...


class WithScore(Protocol):
    """A score, as `MelodyOriginality` needs it."""

    @property
    def score(self) -> Score:
        """Its notes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Checked(Generic[PieceT]):
    """A piece that was compared with the training music."""

    piece: PieceT
    nearest: Similarity
    resampled: int
    """How often another one was sampled. The piece is the first that is not too similar, or the
    least similar of all."""

    def as_json(self) -> dict[str, object]:
        """For receipts."""
        return {
            "too_similar": self.nearest.too_similar,
            "nearest": self.nearest.text,
            "excess": round(self.nearest.excess, 3),
            "resampled": self.resampled,
        }


def check_original(
    piece: PieceT, again: Callable[[int], PieceT], seed: int, index: OriginalityIndex[PieceT]
) -> Checked[PieceT]:
    """Compares a piece with the training music, and samples another while it is too similar.

    Args:
        piece: The piece of the seed.
        again: Makes another piece for the same prompt from another seed.
        seed: Of the piece.
        index: The training music.
    """
    best = Checked(piece=piece, nearest=index.similarity(piece), resampled=0)
    for attempt in range(1, MAX_RESAMPLED + 1):
        if not best.nearest.too_similar:
            break
        other = again((seed + attempt * SEED_STEP) % SEEDS)
        found = Checked(piece=other, nearest=index.similarity(other), resampled=attempt)
        selected = found if found.nearest.excess < best.nearest.excess else best
        best = Checked(piece=selected.piece, nearest=selected.nearest, resampled=attempt)
    return best


class ClipOriginality(OriginalityIndex[WithSound]):
    """The index of training clips, with the tokenizers that encode a sound for it.

    Raises:
        MelismaError: The index has no limits, so that it is unknown how similar is too similar.
    """

    def __init__(self, index: ClipIndex, tokenizers: AudioTokenizers) -> None:
        if not index.limits:
            raise MelismaError("this index has no limits: make it with `melisma train index`")
        self.index, self.tokenizers = index, tokenizers

    @classmethod
    def read(
        cls, folder: Path, tokenizers: AudioTokenizers | None = None
    ) -> ClipOriginality | None:
        """The index in a model's folder; None where there is none.

        Raises:
            MelismaError: It was made with other tokenizers, or without limits.
        """
        path = folder / CLIP_INDEX_FILE
        if not path.is_file():
            return None
        tokenizers = tokenizers or AudioTokenizers.read(TokenizerPaths.of(folder))
        return cls(ClipIndex.read(path, tokenizers.fingerprints), tokenizers)

    @torch.no_grad()
    def resemblance(self, waveform: Waveform, tokens: np.ndarray | None = None) -> Resemblance:
        """What the index finds for a sound.

        Args:
            waveform: Of any rate; it is mixed to mono.
            tokens: The first-level semantic tokens [frame] that it was generated from; without
                them the sound is encoded, after it has passed the codec.
        """
        mono = mono_samples(waveform, SAMPLE_RATE_HZ)
        frame = SAMPLE_RATE_HZ // FRAME_RATE_HZ
        whole = np.ascontiguousarray(mono[: len(mono) // frame * frame], dtype=np.float32)
        sound = torch.from_numpy(whole)[None]
        if tokens is None:
            tokens = self.tokenizers.semantic.encode_states(sound).tokens[0, 0].numpy()
        joint = self.tokenizers.joint
        vectors, _ = self.tokenizers.embed_windows(sound)
        return self.index.nearest(tokens, joint.dequantise(joint.quantise(vectors[0])))

    def similarity(self, piece: WithSound) -> Similarity:
        """How similar a sound is, against what independent music reaches."""
        tokens = None if piece.semantic is None else piece.semantic.tokens[0]
        found = self.resemblance(piece.waveform, tokens)
        text = f"sounds most like {found.similar_clip} (cosine {found.similarity:.2f})"
        if found.run is not None:
            text += f"; {found.run.seconds:.1f} s of tokens as in {found.run.clip}"
        if found.agreement is not None:
            text += f"; {found.agreement.share:.0%} of 5 s as in {found.agreement.clip}"
        return Similarity(excess=found.excess, text=text)


class MelodyOriginality(OriginalityIndex[WithScore]):
    """The melody fingerprints of training pieces.

    Raises:
        MelismaError: They have no limits.
    """

    def __init__(self, fingerprints: MelodyFingerprints) -> None:
        if fingerprints.limits is None:
            raise MelismaError(
                "these fingerprints have no limits: make them with `melisma train fingerprints`"
            )
        self.fingerprints, self.limits = fingerprints, fingerprints.limits

    @classmethod
    def read(cls, folder: Path) -> MelodyOriginality | None:
        """Those of a model's folder; None where it has none."""
        path = folder / TUNE_INDEX_FILE
        return cls(MelodyFingerprints.read(path)) if path.is_file() else None

    def shared(self, score: Score) -> SharedRun:
        """The longest run of notes that a score shares with a training piece, by its title."""
        run = self.fingerprints.nearest(score)
        return run if run.piece is None else replace(run, piece=self.fingerprints.title(run.piece))

    def similarity(self, piece: WithScore) -> Similarity:
        """How similar a score is, against what real pieces of that duration share."""
        run = self.shared(piece.score)
        excess = self.limits.excess(run, piece.score.seconds)
        text = "no run of ten notes as in any training piece"
        if run.piece is not None:
            text = f"{run.notes} notes in a row as in {run.piece}"
        return Similarity(excess=excess, text=text)


def without_index(model: str, recipe: str) -> MelismaError:
    """The error of a model that lies without the index that a recipe makes."""
    return MelismaError(
        f"--original: the model {model} has no index of what it learned from; "
        f"`melisma train {recipe}` makes one"
    )
