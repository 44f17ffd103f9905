"""Joint vectors -> a few words: residual k-means on the unit sphere.

The language model is conditioned on these words, or on the vector they decode to. Six levels of 256
entries (12 x 1024, as in MusicLM, section 3.2, would name single clips of a small corpus and invite
memorising). Levels beyond the first quantise what the levels before left over; what is decoded
lies on the unit sphere again.

Enters: unit vectors [batch, 128]. Leaves: tokens int64 [batch, level].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 6
ENTRIES = 256


class VectorQuantizer(nn.Module):
    """Nearest centroid, level after level."""

    codes: Tensor

    def __init__(self, *, width: int = 128, levels: int = LEVELS, entries: int = ENTRIES) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(levels, entries, width))

    @torch.no_grad()
    def fit(self, vectors: Tensor, generator: torch.Generator, rounds: int = 20) -> None:
        """Learns the centroids from unit vectors [vector, width] by k-means, level after level."""
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
        """Tokens [batch, level], any number of levels from the first on -> unit vectors.

        No level at all decodes to zero, which is "anything" to the language model.
        """
        total = self.codes.new_zeros(tokens.shape[0], self.codes.shape[2])
        for level in range(tokens.shape[1]):
            total = total + self.codes[level][tokens[:, level]]
        return F.normalize(total, dim=-1)


def _nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid (Euclidean) of each vector."""
    return (vectors @ centroids.T - 0.5 * centroids.square().sum(dim=-1)).argmax(dim=-1)


def _k_means(vectors: Tensor, entries: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm from random vectors; empty clusters move onto random vectors."""
    picks = torch.randperm(len(vectors), generator=generator)[:entries]
    if len(picks) < entries:
        again = torch.randint(len(vectors), (entries - len(picks),), generator=generator)
        picks = torch.cat([picks, again])
    centroids = vectors[picks].clone()
    for _ in range(rounds):
        found = _nearest(vectors, centroids)
        counts = torch.bincount(found, minlength=entries).to(vectors.dtype)
        sums = torch.zeros_like(centroids).index_add_(0, found, vectors)
        centroids = sums / counts.clamp(min=1.0)[:, None]
        empty = torch.nonzero(counts == 0).flatten()
        if len(empty):
            again = torch.randint(len(vectors), (len(empty),), generator=generator)
            centroids[empty] = vectors[again]
    return centroids
