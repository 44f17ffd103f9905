"""Is a new piece too near to something the model learned from? If so, it is drawn again.

The index of training clips (sound) or of training pieces (notes) lies beside the weights. A piece
is too near where it passes what independent real music reaches (`ClipIndex`, `MelodyFingerprints`).
No published system makes this check on its own outputs; MusicLM measured it once over a corpus
(2301.11325, section 4.3).

Enters: a piece, a way to draw another, an index. Leaves: a `Checked`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import soxr
import torch

from melisma.analysis.similarity import clip_index, melody_fingerprints
from melisma.analysis.similarity.clip_index import ClipIndex, Resemblance
from melisma.analysis.similarity.melody_fingerprints import MelodyFingerprints
from melisma.analysis.similarity.melody_index import SharedRun
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.values import Score, Waveform
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ

CLIP_INDEX_FILE = f"{clip_index.KIND}.safetensors"
TUNE_INDEX_FILE = f"{melody_fingerprints.KIND}.safetensors"
"""The indexes in a model's folder."""
REDRAWS = 4
"""A piece is drawn again at most so often (chosen: at a false alarm in thirty, four in a row come
once in a million pieces)."""
SEED_STEP = 1_000_003
"""What the seed of a redrawn piece is moved by, modulo 2^32: far from its neighbours' seeds."""
SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How near a piece comes to the training music."""

    excess: float
    """How near in units of what independent real music reaches: above 1 it is too near."""
    told: str
    """The nearest training music and how near it is, in words."""

    @property
    def too_similar(self) -> bool:
        """Whether it passes what independent real music reaches."""
        return self.excess > 1.0


Piece = TypeVar("Piece")


@dataclass(frozen=True, kw_only=True)
class Checked(Generic[Piece]):
    """A piece that was compared with the training music."""

    piece: Piece
    nearest: Similarity
    redrawn: int
    """How often it was drawn again; the one that is kept is the first that is not too near, or the
    least near of all."""

    def as_json(self) -> dict[str, object]:
        """For receipts."""
        return {
            "too_near": self.nearest.too_similar,
            "nearest": self.nearest.told,
            "excess": round(self.nearest.excess, 3),
            "redrawn": self.redrawn,
        }


def check_original(
    piece: Piece, again: Callable[[int], Piece], seed: int, nearest: Callable[[Piece], Similarity]
) -> Checked[Piece]:
    """Compares a piece of a seed with the training music, and draws it again while it is too near.

    `again(seed)` draws another piece for the same prompt.
    """
    best = Checked(piece=piece, nearest=nearest(piece), redrawn=0)
    for attempt in range(1, REDRAWS + 1):
        if not best.nearest.too_similar:
            break
        other = again((seed + attempt * SEED_STEP) % SEEDS)
        found = Checked(piece=other, nearest=nearest(other), redrawn=attempt)
        kept = found if found.nearest.excess < best.nearest.excess else best
        best = Checked(piece=kept.piece, nearest=kept.nearest, redrawn=attempt)
    return best


class SoundOriginality:
    """The index of training clips with the ears that hear tokens and vectors in a sound.

    `ValueError` for an index without limits: how near is too near would be unknown.
    """

    def __init__(self, index: ClipIndex, ears: AudioTokenizers) -> None:
        if not index.limits:
            raise ValueError("this index has no limits: make it with `melisma train index`")
        self.index, self.ears = index, ears

    @classmethod
    def read(cls, folder: Path, ears: AudioTokenizers | None = None) -> SoundOriginality | None:
        """Of a model's folder; None where it has no index. `ValueError` where the index was made
        by other ears, or without limits."""
        path = folder / CLIP_INDEX_FILE
        if not path.is_file():
            return None
        ears = ears or AudioTokenizers.read(TokenizerPaths.of(folder))
        return cls(ClipIndex.read(path, ears.fingerprints), ears)

    @torch.no_grad()
    def resemblance(self, waveform: Waveform, tokens: np.ndarray | None = None) -> Resemblance:
        """What the index finds for a sound of any rate; it is mixed to mono.

        `tokens` [frame] are the first-level semantic tokens that it was drawn from, where it was:
        heard ones have passed the codec.
        """
        mono = waveform.mono
        if waveform.rate_hz != SAMPLE_RATE_HZ:
            mono = soxr.resample(mono, waveform.rate_hz, SAMPLE_RATE_HZ, quality="HQ")
        frame = SAMPLE_RATE_HZ // FRAME_RATE_HZ
        whole = np.ascontiguousarray(mono[: len(mono) // frame * frame], dtype=np.float32)
        sound = torch.from_numpy(whole)[None]
        if tokens is None:
            tokens = self.ears.semantic.encode_states(sound).tokens[0, 0].numpy()
        joint = self.ears.joint
        vectors, _ = self.ears.windows_of(sound)
        return self.index.nearest(tokens, joint.vectors_of(joint.quantise(vectors[0])))

    def nearness(self, waveform: Waveform, tokens: np.ndarray | None = None) -> Similarity:
        """The same against what independent music reaches."""
        found = self.resemblance(waveform, tokens)
        told = f"sounds most like {found.similar_clip} (cosine {found.similarity:.2f})"
        if found.run is not None:
            told += f"; {found.run.seconds:.1f} s of tokens as in {found.run.clip}"
        if found.agreement is not None:
            told += f"; {found.agreement.share:.0%} of 5 s as in {found.agreement.clip}"
        return Similarity(excess=found.excess, told=told)


class ScoreOriginality:
    """The prints of training pieces; `ValueError` for prints without limits."""

    def __init__(self, prints: MelodyFingerprints) -> None:
        if prints.limits is None:
            raise ValueError("these prints have no limits: make them with `melisma train prints`")
        self.prints, self.limits = prints, prints.limits

    @classmethod
    def read(cls, folder: Path) -> ScoreOriginality | None:
        """Of a model's folder; None where it has none. `ValueError` where they have no limits."""
        path = folder / TUNE_INDEX_FILE
        return cls(MelodyFingerprints.read(path)) if path.is_file() else None

    def shared(self, score: Score) -> SharedRun:
        """The longest run of notes that a score shares with a training piece, by its title."""
        run = self.prints.nearest(score)
        return run if run.piece is None else replace(run, piece=self.prints.title(run.piece))

    def nearness(self, score: Score) -> Similarity:
        """The same against what real pieces of that duration share."""
        run = self.shared(score)
        excess = self.limits.excess(run, score.seconds)
        told = "no run of ten notes as in any training piece"
        if run.piece is not None:
            told = f"{run.notes} notes in a row as in {run.piece}"
        return Similarity(excess=excess, told=told)
