"""Semantic tokens: residual k-means on the encoder's bottleneck (MusicLM, 2301.11325, section 3.1:
1024 clusters on a middle layer; a second, residual level here, because a small encoder needs
it)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melisma.files.checkpoint import Checkpoint, expect_fit, fingerprint_of, read_checkpoint
from melisma.nn.precision import AUTO, autocast
from melisma.semantic.model import SemanticEncoder, SemanticSettings, features
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLES_PER_FRAME, TokenGrid
from melisma.values.waveform import Waveform

WINDOW_FRAMES = 500
"""Longest stretch that is encoded at once (20 s); longer sound is heard in windows."""
OVERLAP_FRAMES = 100
"""Frames that two windows share; each window's outer half of them is dropped."""


@dataclass(frozen=True, kw_only=True)
class EncoderStates:
    """What the encoder hears in a batch of equally long sounds, at 25 frames a second."""

    tokens: Tensor
    """[batch, level, frame]."""
    middle: Tensor
    """Middle hidden state [batch, frame, width]."""
    last: Tensor
    """Last hidden state [batch, frame, width]."""
    heads: dict[str, Tensor]
    """Logits of the score heads [batch, frame, head width]."""


class SemanticTokenizer:
    """The encoder with its clusters: sound in, tokens out."""

    def __init__(
        self,
        encoder: SemanticEncoder,
        centroids: Tensor,
        fingerprint: str,
        device: str = "cpu",
        *,
        precision: str = AUTO,
    ) -> None:
        """`centroids`: [level, vocabulary, bottleneck width]. `precision`: what it computes in, one
        of `COMPUTE_PRECISIONS`."""
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
        """Sound float32 [batch, sample], a multiple of 960 samples and at most 20 s."""
        spectra = features(sound.to(self.device))
        with autocast(self.device, self.precision):
            bottleneck, middle, last = self.encoder(spectra)
        heads = {name: head(bottleneck) for name, head in self.encoder.score_heads.items()}
        tokens = quantize(bottleneck, self.centroids)
        return EncoderStates(tokens=tokens, middle=middle.float(), last=last.float(), heads=heads)

    def encode(self, waveform: Waveform) -> TokenGrid:
        """Tokens of one 24 kHz waveform of any length; the last part of a frame is left out."""
        sound = torch.from_numpy(np.ascontiguousarray(waveform.mono))[None]
        frames = sound.shape[1] // SAMPLES_PER_FRAME
        if frames == 0:
            raise ValueError("the sound is shorter than one frame of 40 ms")
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
        """Loads from a checkpoint of kind "semantic"."""
        checkpoint = read_checkpoint(path, kind="semantic")
        return cls.from_checkpoint(checkpoint, device, precision=precision)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: str = "cpu", *, precision: str = AUTO
    ) -> SemanticTokenizer:
        """Builds from a checkpoint whose tensors hold the encoder and `centroids`."""
        with expect_fit("semantic"):
            encoder = SemanticEncoder(SemanticSettings(**checkpoint.settings))
            tensors = dict(checkpoint.tensors)
            centroids = tensors.pop("centroids")
            encoder.load_state_dict(tensors)
        fingerprint = fingerprint_of("semantic", checkpoint.settings, checkpoint.tensors)
        return cls(encoder, centroids, fingerprint, device, precision=precision)


def quantize(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Nearest centroid, level by level: [batch, frame, width] -> tokens [batch, level, frame]."""
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
    """Residual k-means [vector, width] -> centroids [level, vocabulary, width].

    Lloyd's rounds from random vectors; an empty cluster moves onto the vector that is farthest
    from its centroid. MiniBatch-free: every vector takes part in each round. With `before`,
    centroids of an encoder that was trained on, the rounds start there, so that a token goes on
    meaning about what it meant. `ValueError` where there are fewer vectors than clusters.
    """
    if len(vectors) < vocabulary:
        raise ValueError(
            f"{vocabulary} clusters need {vocabulary} vectors or more, not {len(vectors)}: "
            "give more sound, or ask for a smaller vocabulary"
        )
    residual, found_levels = vectors.float(), []
    for level in range(levels):
        if before is None:
            start = torch.randperm(len(residual), generator=generator)[:vocabulary]
            centroids = residual[start.to(residual.device)].clone()
        else:
            centroids = before[level].to(residual.device, torch.float32).clone()
        for _ in range(rounds):
            owner, distance = _owners(residual, centroids)
            counts = torch.bincount(owner, minlength=vocabulary).clamp(min=0)
            sums = torch.zeros_like(centroids).index_add_(0, owner, residual)
            centroids = torch.where(
                (counts > 0)[:, None], sums / counts.clamp(min=1)[:, None], centroids
            )
            empty = torch.nonzero(counts == 0).flatten()
            if len(empty):
                centroids[empty] = residual[distance.topk(len(empty)).indices]
        owner, _ = _owners(residual, centroids)
        residual = residual - centroids[owner]
        found_levels.append(centroids)
    return torch.stack(found_levels)


def _owners(vectors: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """(nearest centroid, its squared distance) of each vector, in chunks."""
    owners, distances = [], []
    for chunk in vectors.split(8192):
        square = centroids.square().sum(-1) - 2 * chunk @ centroids.T
        best = square.min(dim=-1)
        owners.append(best.indices)
        distances.append(best.values + chunk.square().sum(-1))
    return torch.cat(owners), torch.cat(distances)


def tokenizer_checkpoint(
    settings: SemanticSettings, weights: Mapping[str, Tensor], centroids: Tensor, **notes: float
) -> Checkpoint:
    """The checkpoint that `SemanticTokenizer.read` reads."""
    return Checkpoint(
        kind="semantic",
        settings=asdict(settings),
        tensors={**weights, "centroids": centroids},
        notes=dict(notes),
    )
