"""Residual vector quantizer of joint vectors, by k-means on the unit sphere.

The language model is conditioned on these tokens, or on the vector to which they decode. Six levels
of 256 entries (12 x 1024, as in MusicLM, section 3.2, would identify single clips of a small corpus
and encourage memorization). Each level quantizes the residual of the previous ones; decoded vectors
are normalized to the unit sphere.

Input: unit vectors [batch, 128]. Output: tokens int64 [batch, level].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 6
ENTRIES = 256


@dataclass(frozen=True, kw_only=True)
class VectorQuantizerSettings:
    """Sizes of the quantizer."""

    width: int = 128
    """Width of the vectors."""
    levels: int = LEVELS
    """Levels of codebooks."""
    entries: int = ENTRIES
    """Entries of each codebook."""


class VectorQuantizer(nn.Module):
    """Residual quantization by nearest centroid."""

    codes: Tensor

    def __init__(self, *, width: int = 128, levels: int = LEVELS, entries: int = ENTRIES) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(levels, entries, width, dtype=torch.float32))

    @torch.no_grad()
    def fit(self, vectors: Tensor, generator: torch.Generator, rounds: int = 20) -> None:
        """Fits the centroids by k-means, level by level.

        Args:
            vectors: Unit vectors [vector, width].
            generator: Random generator of the initial centroids.
            rounds: Iterations per level.
        """
        residual = vectors.float()
        for level in range(self.codes.shape[0]):
            centroids = _k_means(residual, self.codes.shape[1], rounds, generator)
            self.codes[level] = centroids
            residual = residual - centroids[_nearest(residual, centroids)]

    @torch.no_grad()
    def encode(self, vectors: Tensor) -> Tensor:
        """Unit vectors [batch, width] -> tokens int64 [batch, level]."""
        residual, tokens = vectors.float(), []
        for level in range(self.codes.shape[0]):
            found = _nearest(residual, self.codes[level])
            residual = residual - self.codes[level][found]
            tokens.append(found)
        return torch.stack(tokens, dim=1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, level], any number of leading levels -> unit vectors [batch, width].

        Zero levels decode to the zero vector, the language model's unconditional input.
        """
        total = self.codes.new_zeros(tokens.shape[0], self.codes.shape[2])
        for level in range(tokens.shape[1]):
            total = total + self.codes[level][tokens[:, level]]
        return F.normalize(total, dim=-1)


def _nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid (Euclidean) of each vector."""
    return (vectors @ centroids.T - 0.5 * centroids.square().sum(dim=-1)).argmax(dim=-1)


def _k_means(vectors: Tensor, entries: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm from random vectors; empty clusters are reset to random vectors."""
    picks = torch.randperm(len(vectors), generator=generator, dtype=torch.long, device="cpu")[
        :entries
    ]
    if len(picks) < entries:
        again = torch.randint(
            len(vectors),
            (entries - len(picks),),
            generator=generator,
            dtype=torch.long,
            device="cpu",
        )
        picks = torch.cat([picks, again])
    centroids = vectors[picks].clone()
    for _ in range(rounds):
        found = _nearest(vectors, centroids)
        counts = torch.bincount(found, minlength=entries).to(vectors.dtype)
        sums = torch.zeros_like(centroids).index_add_(0, found, vectors)
        centroids = sums / counts.clamp(min=1.0)[:, None]
        empty = torch.nonzero(counts == 0).flatten()
        if len(empty):
            again = torch.randint(
                len(vectors), (len(empty),), generator=generator, dtype=torch.long, device="cpu"
            )
            centroids[empty] = vectors[again]
    return centroids
