"""Sampling of one token from logits: temperature, top-k, top-p, guidance, Gumbel noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melisma.engine.limits import NOISE_STEPS
from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class StageSampling:
    """How the tokens of one stage are sampled: `SamplingParams` with nothing left open.

    Raises:
        MelismaError: A value lies beyond its limits.
    """

    temperature: float = 1.0
    """Logits are divided by it; 0 takes the most likely token."""
    top_k: int | None = None
    """Only this many most likely tokens may be sampled; None: all."""
    top_p: float | None = None
    """Only the most likely tokens that together hold this probability may be sampled (nucleus
    sampling, 1904.09751, section 3.1); None: all."""
    guidance: float = 1.0
    """Scale of classifier-free guidance (2207.12598, section 3.2): 1 is none; logits are moved away
    from the unconditional ones by this factor."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise MelismaError(f"a temperature lies between 0 and 10, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise MelismaError(f"top-k is at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise MelismaError(f"top-p lies above 0 and up to 1, not {self.top_p}")
        if not 0 <= self.guidance <= 20:
            raise MelismaError(f"guidance lies between 0 and 20, not {self.guidance}")


class Noise:
    """Exponential noise for the Gumbel trick, from one generator a piece, in chunks of steps."""

    def __init__(self, generators: Sequence[torch.Generator], levels: int, vocabulary: int) -> None:
        self._generators = generators
        self._shape = (NOISE_STEPS, levels, vocabulary)
        self._chunk = torch.empty(0, dtype=torch.float32, device="cpu")
        self._chunks = self._used = 0

    def chunk(self, number: int) -> Tensor:
        """Noise [batch, NOISE_STEPS, level, vocabulary] of chunk `number`, from 0, ascending."""
        while self._chunks <= number:
            rows = [
                torch.empty(self._shape, dtype=torch.float32, device="cpu").exponential_(
                    generator=g
                )
                for g in self._generators
            ]
            self._chunk = torch.stack(rows)
            self._chunks += 1
        return self._chunk

    def next(self) -> Tensor:
        """Noise [batch, level, vocabulary] of the next step."""
        self._used += 1
        chunk, step = divmod(self._used - 1, NOISE_STEPS)
        return self.chunk(chunk)[:, step]


def sample_next_token(logits: Tensor, noise: Tensor | None, sampling: StageSampling) -> Tensor:
    """Samples tokens by the Gumbel-max trick.

    Args:
        logits: [..., vocabulary].
        noise: Exponential noise of the same shape; None: the most likely tokens.
        sampling: How tokens are sampled.

    Returns:
        int64 [...].
    """
    if noise is None or sampling.temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits.float() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    shares = scaled.softmax(dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, order = shares.sort(dim=-1, descending=True)
        # A token stays as long as the more likely ones do not fill the nucleus.
        beyond = ordered.cumsum(dim=-1) - ordered >= sampling.top_p
        shares = shares.masked_fill(beyond.gather(-1, order.argsort(dim=-1)), 0.0)
    # The maximum of p / e, e exponential, is a sample of p (the Gumbel trick without logarithms).
    return (shares / noise.to(scaled.device).clamp(min=1e-20)).argmax(dim=-1)
