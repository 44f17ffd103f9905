"""How one token is drawn from logits: temperature, top-k, top-p, guidance, and noise of one's
own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOISE_STEPS = 128
"""Steps for which noise is drawn at once."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn."""

    temperature: float = 1.0
    """Logits are divided by it; 0 takes the most likely token."""
    top_k: int | None = None
    """Only so many most likely tokens may be drawn; None: all."""
    top_p: float | None = None
    """Only the most likely tokens that together hold this much probability may be drawn (nucleus:
    1904.09751, section 3.1); None: all."""
    guidance: float = 1.0
    """Classifier-free guidance (2207.12598, section 3.2): 1 is none; logits are moved from those
    of nothing told by this factor."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"a temperature lies between 0 and 10, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top-k is at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top-p lies above 0 and up to 1, not {self.top_p}")
        if not 0 <= self.guidance <= 20:
            raise ValueError(f"guidance lies between 0 and 20, not {self.guidance}")


class Noise:
    """Exponential noise for the Gumbel trick, from one generator a piece, in chunks of steps."""

    def __init__(self, generators: Sequence[torch.Generator], levels: int, vocabulary: int) -> None:
        self._generators = generators
        self._shape = (NOISE_STEPS, levels, vocabulary)
        self._chunk = torch.empty(0)
        self._chunks = self._used = 0

    def chunk(self, number: int) -> Tensor:
        """Noise [batch, NOISE_STEPS, level, vocabulary] of chunk `number`, from 0, ascending."""
        while self._chunks <= number:
            rows = [torch.empty(self._shape).exponential_(generator=g) for g in self._generators]
            self._chunk = torch.stack(rows)
            self._chunks += 1
        return self._chunk

    def next(self) -> Tensor:
        """Noise [batch, level, vocabulary] of the next step."""
        self._used += 1
        chunk, step = divmod(self._used - 1, NOISE_STEPS)
        return self.chunk(chunk)[:, step]


def sample_next_token(logits: Tensor, noise: Tensor | None, drawing: SamplingParams) -> Tensor:
    """Draws from logits [..., vocabulary] with exponential noise of the same shape -> [...];
    without noise the likeliest tokens."""
    if noise is None or drawing.temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits.float() / drawing.temperature
    if drawing.top_k is not None and drawing.top_k < scaled.shape[-1]:
        least = scaled.topk(drawing.top_k, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    shares = scaled.softmax(dim=-1)
    if drawing.top_p is not None and drawing.top_p < 1:
        ordered, order = shares.sort(dim=-1, descending=True)
        # A token stays as long as those likelier than it leave something of the nucleus.
        beyond = ordered.cumsum(dim=-1) - ordered >= drawing.top_p
        shares = shares.masked_fill(beyond.gather(-1, order.argsort(dim=-1)), 0.0)
    # The maximum of p / e, e exponential, is a draw from p (the Gumbel trick without logarithms).
    return (shares / noise.to(scaled.device).clamp(min=1e-20)).argmax(dim=-1)
