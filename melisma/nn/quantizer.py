"""Residual vector quantizer whose codebooks follow the data.

SoundStream (2107.03312), section III.C: each level quantizes what the levels before left over,
codebooks are exponential moving averages of the vectors they stand for, started from the first
batch, and codes that nobody uses are replaced by vectors of the present batch. (Low-dimensional
codes by angle with learned projections, 2306.06546, were tried first and collapsed within 500
updates at this batch size.)

Enters: latents [batch, frame, width]; tokens are [batch, level, frame].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What the quantizer found."""

    latent: Tensor
    """Sum over the levels used, [batch, frame, width]; gradients pass straight through."""
    tokens: Tensor
    """[batch, level, frame]."""
    commitment: Tensor
    """Scalar: mean squared distance of the latent to the sum of *all* its codes. (Pulling a latent
    to the codes of the levels that dropout left it took the detail out of it: 15 bits a frame were
    all that was used.)"""


class ResidualQuantizer(nn.Module):
    """Levels that each quantize what the levels before left over."""

    codes: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, *, width: int, levels: int, vocabulary: int) -> None:
        super().__init__()
        self.levels, self.vocabulary = levels, vocabulary
        self.register_buffer("codes", torch.zeros(levels, vocabulary, width))
        # What the moving averages are made of; needed to go on training, not to quantize.
        self.register_buffer("sums", torch.zeros(levels, vocabulary, width), persistent=False)
        self.register_buffer("counts", torch.zeros(levels, vocabulary), persistent=False)

    def _find(self, residual: Tensor, level: int) -> Tensor:
        """Nearest code of each vector [..., width] -> tokens [...]."""
        codes = self.codes[level]
        return (codes.square().sum(-1) - 2 * residual @ codes.T).argmin(dim=-1)

    def forward(
        self, latent: Tensor, depth: Tensor, *, generator: torch.Generator | None = None
    ) -> Quantized:
        """Quantizes latents with `depth` [batch] levels each (quantizer dropout: the caller draws).

        With a `generator` the codebooks follow this batch (training); without, they rest.
        """
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            total = torch.zeros_like(latent)
            residual = latent.detach()
            tokens = []
            for level in range(self.levels):
                if generator is not None:
                    self._begin(residual, level, generator)
                found = self._find(residual, level)
                part = self.codes[level][found]
                if generator is not None:
                    self._follow(residual, found, level, generator)
                used = (depth > level).to(latent.dtype)[:, None, None]
                total = total + part * used
                residual = residual - part
                tokens.append(found)
            return Quantized(
                latent=latent + (total - latent).detach(),
                tokens=torch.stack(tokens, dim=1),
                commitment=(latent - (latent.detach() - residual)).square().mean(),
            )

    @torch.no_grad()
    def start(self, codes: Tensor) -> None:
        """Takes codebooks [level, vocabulary, width] that were found beforehand."""
        self.codes.copy_(codes)
        self.sums.copy_(codes)
        self.counts.fill_(1.0)

    @torch.no_grad()
    def _begin(self, residual: Tensor, level: int, generator: torch.Generator) -> None:
        """Before its first batch a level takes random vectors of it as codes."""
        if bool(self.counts[level].any()) or bool(self.codes[level].any()):
            if not bool(self.counts[level].any()):  # continued from shipped weights
                self.counts[level] = 1.0
                self.sums[level] = self.codes[level]
            return
        pool = residual.flatten(0, -2)
        picks = torch.randint(len(pool), (self.vocabulary,), generator=generator).to(pool.device)
        noise = torch.randn(self.vocabulary, pool.shape[1], generator=generator).to(pool.device)
        self.codes[level] = pool[picks] + 1e-3 * pool.std() * noise
        self.counts[level] = 1.0
        self.sums[level] = self.codes[level]

    @torch.no_grad()
    def _follow(
        self,
        residual: Tensor,
        found: Tensor,
        level: int,
        generator: torch.Generator,
        decay: float = 0.995,
        forgotten: float = 0.03,
    ) -> None:
        """One step of the moving averages; codes with an average count below `forgotten` move."""
        pool, owners = residual.flatten(0, -2), found.flatten()
        counts = torch.bincount(owners, minlength=self.vocabulary).to(pool.dtype)
        sums = torch.zeros_like(self.sums[level]).index_add_(0, owners, pool)
        self.counts[level].lerp_(counts, 1 - decay)
        self.sums[level].lerp_(sums, 1 - decay)
        dead = torch.nonzero(self.counts[level] < forgotten).flatten()
        if len(dead):
            picks = torch.randint(len(pool), (len(dead),), generator=generator).to(pool.device)
            self.counts[level][dead] = 0.5
            self.sums[level][dead] = 0.5 * pool[picks]
        self.codes[level] = self.sums[level] / self.counts[level][:, None].clamp(min=1e-6)

    @torch.no_grad()
    def encode(self, latent: Tensor, levels: int) -> Tensor:
        """latent [batch, frame, width] -> tokens [batch, level, frame]."""
        residual, tokens = latent.float(), []
        for level in range(levels):
            found = self._find(residual, level)
            residual = residual - self.codes[level][found]
            tokens.append(found)
        return torch.stack(tokens, dim=1)

    def decode(self, tokens: Tensor) -> Tensor:
        """tokens [batch, level, frame], any number of levels from the first on -> latent."""
        parts = [self.codes[level][tokens[:, level]] for level in range(tokens.shape[1])]
        return torch.stack(parts).sum(dim=0)
