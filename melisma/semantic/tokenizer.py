"""Semantic tokenizer: residual k-means on the encoder's bottleneck.

MusicLM, 2301.11325, section 3.1, has 1024 clusters on a middle layer; here a second, residual level
is added, because a small encoder needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melisma.files.checkpoint import (
    Checkpoint,
    build_model,
    fingerprint_of,
    read_checkpoint,
    tensor_of,
)
from melisma.nn.precision import AUTO, autocast
from melisma.semantic.model import SemanticEncoder, SemanticSettings, features
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLES_PER_FRAME, TokenGrid
from melisma.values.waveform import Waveform

WINDOW_FRAMES = 500
"""Maximum frames encoded at once (20 s); longer audio is encoded in windows."""
OVERLAP_FRAMES = 100
"""Overlap of adjacent windows in frames; the outer half of each window's overlap is dropped."""


@dataclass(frozen=True, kw_only=True)
class EncoderStates:
    """Outputs of the encoder for a batch of audio of equal length, at 25 frames per second."""

    tokens: Tensor
    """int64 [batch, level, frame]."""
    middle: Tensor
    """Middle hidden state [batch, frame, width]."""
    last: Tensor
    """Last hidden state [batch, frame, width]."""
    heads: dict[str, Tensor]
    """Logits of the score heads [batch, frame, head width]."""


class SemanticTokenizer:
    """The encoder with its k-means centroids: audio -> tokens."""

    def __init__(
        self,
        encoder: SemanticEncoder,
        centroids: Tensor,
        fingerprint: str,
        device: str = "cpu",
        *,
        precision: str = AUTO,
    ) -> None:
        """Wraps an encoder.

        Args:
            encoder: The encoder.
            centroids: [level, vocabulary, bottleneck width].
            fingerprint: Fingerprint of what determines the tokens.
            device: Device to run on.
            precision: Compute precision, one of `COMPUTE_PRECISIONS`.
        """
        self.encoder = encoder.eval().to(device)
        self.centroids = centroids.to(device)
        self.fingerprint = fingerprint
        self.device, self.precision = device, precision

    @property
    def settings(self) -> SemanticSettings:
        """Sizes of the encoder and its tokens."""
        return self.encoder.settings

    @torch.no_grad()
    def encode_states(self, sound: Tensor) -> EncoderStates:
        """Encodes a batch: tokens, hidden states and score heads.

        Args:
            sound: Audio float32 [batch, sample] at 24 kHz, a multiple of 960 samples, at most 20 s.
        """
        spectra = features(sound.to(self.device))
        with autocast(self.device, self.precision):
            bottleneck, middle, last = self.encoder(spectra)
        heads = {name: head(bottleneck) for name, head in self.encoder.score_heads.items()}
        tokens = quantize(bottleneck, self.centroids)
        return EncoderStates(tokens=tokens, middle=middle.float(), last=last.float(), heads=heads)

    def encode(self, waveform: Waveform) -> TokenGrid:
        """Encodes a 24 kHz waveform of any duration; an incomplete last frame is dropped.

        Raises:
            MelismaError: The waveform is shorter than one frame.
        """
        sound = torch.from_numpy(np.ascontiguousarray(waveform.mono))[None]
        frames = sound.shape[1] // SAMPLES_PER_FRAME
        if frames == 0:
            raise MelismaError("the sound is shorter than one frame of 40 ms")
        pieces, start, half = [], 0, OVERLAP_FRAMES // 2
        while True:
            stop = min(start + WINDOW_FRAMES, frames)
            part = sound[:, start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
            tokens = self.encode_states(part).tokens[0]
            first = 0 if start == 0 else half
            last = tokens.shape[1] if stop == frames else tokens.shape[1] - half
            pieces.append(tokens[:, first:last])
            if stop == frames:
                break
            start += WINDOW_FRAMES - OVERLAP_FRAMES
        return TokenGrid(
            tokens=torch.cat(pieces, dim=1).cpu().numpy(),
            vocabulary=self.settings.vocabulary,
            frame_rate_hz=FRAME_RATE_HZ,
            fingerprint=self.fingerprint,
        )

    @classmethod
    def read(cls, path: Path, device: str = "cpu", *, precision: str = AUTO) -> SemanticTokenizer:
        """Loads a checkpoint of kind "semantic"; `MelismaError` where it does not fit."""
        checkpoint = read_checkpoint(path, kind="semantic")
        return cls.from_checkpoint(checkpoint, device, precision=precision)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: str = "cpu", *, precision: str = AUTO
    ) -> SemanticTokenizer:
        """Builds a tokenizer from a checkpoint whose tensors hold the encoder and `centroids`."""
        encoder = build_model(checkpoint, SemanticSettings, SemanticEncoder, without=("centroids",))
        settings = encoder.settings
        shape = (settings.levels, settings.vocabulary, settings.bottleneck_width)
        centroids = tensor_of(checkpoint, "centroids", shape)
        fingerprint = fingerprint_of("semantic", checkpoint.settings, checkpoint.tensors)
        return cls(encoder, centroids, fingerprint, device, precision=precision)


def quantize(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Residual vector quantization by nearest centroid.

    Args:
        vectors: [batch, frame, width].
        centroids: [level, vocabulary, width].

    Returns:
        Tokens int64 [batch, level, frame].
    """
    residual, tokens = vectors.float(), []
    for level in centroids:
        distance = level.square().sum(-1) - 2 * residual @ level.T
        found = distance.argmin(dim=-1)
        residual = residual - level[found]
        tokens.append(found)
    return torch.stack(tokens, dim=1)


def cluster(
    vectors: Tensor,
    *,
    levels: int,
    vocabulary: int,
    generator: torch.Generator,
    rounds: int = 25,
    before: Tensor | None = None,
) -> Tensor:
    """Fits centroids by residual k-means.

    Lloyd's algorithm, started from random vectors; an empty cluster moves to the vector farthest
    from its centroid. Full batch: every vector takes part in each iteration.

    Args:
        vectors: [vector, width].
        levels: Number of residual levels.
        vocabulary: Clusters of each level.
        generator: Random generator of the initial centroids.
        rounds: Iterations per level.
        before: Initial centroids [level, vocabulary, width] of a previous version of the encoder,
            so that tokens approximately retain their meaning; None: random vectors.

    Returns:
        Centroids [level, vocabulary, width].

    Raises:
        MelismaError: There are fewer vectors than clusters.
    """
    if len(vectors) < vocabulary:
        raise MelismaError(
            f"{vocabulary} clusters need {vocabulary} vectors or more, not {len(vectors)}: "
            "give more sound, or ask for a smaller vocabulary"
        )
    residual, found_levels = vectors.float(), []
    for level in range(levels):
        if before is None:
            start = torch.randperm(
                len(residual), generator=generator, dtype=torch.long, device="cpu"
            )[:vocabulary]
            centroids = residual[start.to(residual.device)].clone()
        else:
            centroids = before[level].to(residual.device, torch.float32).clone()
        for _ in range(rounds):
            nearest, distance = _assign(residual, centroids)
            counts = torch.bincount(nearest, minlength=vocabulary).clamp(min=0)
            sums = torch.zeros_like(centroids).index_add_(0, nearest, residual)
            centroids = torch.where(
                (counts > 0)[:, None], sums / counts.clamp(min=1)[:, None], centroids
            )
            empty = torch.nonzero(counts == 0).flatten()
            if len(empty):
                centroids[empty] = residual[distance.topk(len(empty)).indices]
        nearest, _ = _assign(residual, centroids)
        residual = residual - centroids[nearest]
        found_levels.append(centroids)
    return torch.stack(found_levels)


def _assign(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """(nearest centroid, its squared distance) of each vector, in chunks."""
    nearest, distances = [], []
    for chunk in vectors.split(8192):
        square = centroids.square().sum(-1) - 2 * chunk @ centroids.T
        best = square.min(dim=-1)
        nearest.append(best.indices)
        distances.append(best.values + chunk.square().sum(-1))
    return torch.cat(nearest), torch.cat(distances)


def tokenizer_checkpoint(
    settings: SemanticSettings, weights: Mapping[str, Tensor], centroids: Tensor, **notes: float
) -> Checkpoint:
    """Builds the checkpoint that `SemanticTokenizer.read` reads.

    Args:
        settings: Sizes of the encoder.
        weights: The encoder's tensors by name.
        centroids: [level, vocabulary, bottleneck width].
        **notes: Further metadata of the checkpoint.
    """
    return Checkpoint(
        kind="semantic",
        settings=asdict(settings),
        tensors={**weights, "centroids": centroids},
        notes=dict(notes),
    )
