"""Residual vector quantizer with EMA codebooks.

SoundStream (2107.03312), section III.C: each level quantizes the residual of the previous levels,
codebooks are exponential moving averages of the vectors assigned to them, initialized from the
first batch, and unused codes are replaced by random vectors of the current batch. (Low-dimensional
codes with cosine similarity and learned projections, 2306.06546, were tried first and collapsed
within 500 updates at this batch size.)

Input: latents [batch, frame, width]. Output: `Quantized`; tokens are [batch, level, frame].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Result of a quantization."""

    latent: Tensor
    """Sum of the codes of the used levels, [batch, frame, width]; straight-through gradients."""
    tokens: Tensor
    """[batch, level, frame]."""
    commitment: Tensor
    """Scalar commitment loss: mean squared distance of the latent to the sum of *all* its codes.
    (With the codes of the levels that quantizer dropout left, the latents lost detail: only 15 bits
    per frame were used.)"""


class ResidualQuantizer(nn.Module):
    """Residual vector quantizer: each level quantizes the residual of the previous levels."""

    codes: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, *, width: int, levels: int, vocabulary: int) -> None:
        """Zero codebooks: initialized from the first batch of training, or loaded.

        Args:
            width: Of the latents.
            levels: Codebooks.
            vocabulary: Codes of each codebook.
        """
        super().__init__()
        self.levels, self.vocabulary = levels, vocabulary
        self.register_buffer("codes", torch.zeros(levels, vocabulary, width, dtype=torch.float32))
        # Moving averages of sums and counts; needed to continue training, not to quantize.
        self.register_buffer(
            "sums", torch.zeros(levels, vocabulary, width, dtype=torch.float32), persistent=False
        )
        self.register_buffer(
            "counts", torch.zeros(levels, vocabulary, dtype=torch.float32), persistent=False
        )

    def _nearest(self, residual: Tensor, level: int) -> Tensor:
        """Nearest code of each vector [..., width] -> tokens [...]."""
        codes = self.codes[level]
        return (codes.square().sum(-1) - 2 * residual @ codes.T).argmin(dim=-1)

    def forward(
        self, latent: Tensor, depth: Tensor, *, generator: torch.Generator | None = None
    ) -> Quantized:
        """Quantizes latents.

        Args:
            latent: [batch, frame, width].
            depth: int64 [batch], levels used by each item (quantizer dropout, sampled by the
                caller).
            generator: For training: codebooks are updated with this batch. Without, they are fixed.
        """
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            total = torch.zeros_like(latent)
            residual = latent.detach()
            tokens = []
            for level in range(self.levels):
                if generator is not None:
                    self._initialize(residual, level, generator)
                found = self._nearest(residual, level)
                code = self.codes[level][found]
                if generator is not None:
                    self._update(residual, found, level, generator)
                used = (depth > level).to(latent.dtype)[:, None, None]
                total = total + code * used
                residual = residual - code
                tokens.append(found)
            return Quantized(
                latent=latent + (total - latent).detach(),
                tokens=torch.stack(tokens, dim=1),
                commitment=(latent - (latent.detach() - residual)).square().mean(),
            )

    @torch.no_grad()
    def set_codebooks(self, codes: Tensor) -> None:
        """Sets the codebooks [level, vocabulary, width], computed beforehand."""
        self.codes.copy_(codes)
        self.sums.copy_(codes)
        self.counts.fill_(1.0)

    @torch.no_grad()
    def _initialize(self, residual: Tensor, level: int, generator: torch.Generator) -> None:
        """Initializes a level with random vectors of its first batch."""
        if bool(self.counts[level].any()) or bool(self.codes[level].any()):
            if not bool(self.counts[level].any()):  # training continues from loaded weights
                self.counts[level] = 1.0
                self.sums[level] = self.codes[level]
            return
        pool = residual.flatten(0, -2)
        picks = torch.randint(
            len(pool), (self.vocabulary,), generator=generator, dtype=torch.long, device="cpu"
        ).to(pool.device)
        noise = torch.randn(
            self.vocabulary, pool.shape[1], generator=generator, dtype=torch.float32, device="cpu"
        ).to(pool.device)
        self.codes[level] = pool[picks] + 1e-3 * pool.std() * noise
        self.counts[level] = 1.0
        self.sums[level] = self.codes[level]

    @torch.no_grad()
    def _update(
        self,
        residual: Tensor,
        found: Tensor,
        level: int,
        generator: torch.Generator,
        decay: float = 0.995,
        dead_count: float = 0.03,
    ) -> None:
        """Updates the moving averages; replaces codes with an average count below `dead_count`."""
        pool, owners = residual.flatten(0, -2), found.flatten()
        counts = torch.bincount(owners, minlength=self.vocabulary).to(pool.dtype)
        sums = torch.zeros_like(self.sums[level]).index_add_(0, owners, pool)
        self.counts[level].lerp_(counts, 1 - decay)
        self.sums[level].lerp_(sums, 1 - decay)
        dead = torch.nonzero(self.counts[level] < dead_count).flatten()
        if len(dead):
            picks = torch.randint(
                len(pool), (len(dead),), generator=generator, dtype=torch.long, device="cpu"
            ).to(pool.device)
            self.counts[level][dead] = 0.5
            self.sums[level][dead] = 0.5 * pool[picks]
        self.codes[level] = self.sums[level] / self.counts[level][:, None].clamp(min=1e-6)

    @torch.no_grad()
    def encode(self, latent: Tensor, levels: int) -> Tensor:
        """Quantizes without training.

        Args:
            latent: [batch, frame, width].
            levels: Number of levels to use.

        Returns:
            Tokens int64 [batch, level, frame].
        """
        residual, tokens = latent.float(), []
        for level in range(levels):
            found = self._nearest(residual, level)
            residual = residual - self.codes[level][found]
            tokens.append(found)
        return torch.stack(tokens, dim=1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, level, frame] of the first levels -> latent [batch, frame, width]."""
        parts = [self.codes[level][tokens[:, level]] for level in range(tokens.shape[1])]
        return torch.stack(parts).sum(dim=0)
