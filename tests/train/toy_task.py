"""A task of two small models with everything that a resumed run must bring back; a tiny codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from melisma.codec import CodecSettings
from melisma.train.loop import LoopSettings, Task

TINY_CODEC = CodecSettings(
    encoder_width=16, encoder_blocks=1, latent_width=16, latent_blocks=1, levels=2, vocabulary=8,
    code_width=4, decoder_slow_width=16, decoder_slow_blocks=1, decoder_width=16,
    decoder_blocks=1, decoder_expansion=2,
)  # fmt: skip
"""The smallest codec that still has every part."""


def loop(updates: int, **changes: Any) -> LoopSettings:
    """Fast settings, a checkpoint every third update."""
    fields = {
        "learning_rate": 0.05, "warmup_updates": 2, "checkpoint_updates": 3, "log_updates": 2,
        "sample_updates": 5, "average_decay": 0.9,
    }  # fmt: skip
    return LoopSettings(updates=updates, **{**fields, **changes})


class Learner(nn.Module):
    """A matrix, a vector, a shipped buffer, and a buffer that is not shipped."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("codes", torch.zeros(4))
        self.register_buffer("memory", torch.zeros(4), persistent=False)


class ToyTask(Task):
    """Fits noise; every random value comes from the generator or from torch's own state."""

    kind = "toy"

    def __init__(self, size: int = 4) -> None:
        torch.manual_seed(0)
        self.size = size
        self.learner, self.critic = Learner(), nn.Linear(4, 1)
        self.broken_at: int | None = None
        self.judged = 0

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return {"learner": self.learner, "critic": self.critic}

    def settings_tree(self) -> dict[str, Any]:
        return {"size": self.size, "list": [1, 2]}

    def fingerprints(self) -> dict[str, str]:
        return {"codec": "abc"}

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        inputs = torch.randn(8, 4, generator=generator)
        made = nn.functional.dropout(self.learner.layer(inputs), 0.2)
        memory, codes = self.learner.memory, self.learner.codes
        assert isinstance(memory, Tensor)
        assert isinstance(codes, Tensor)
        with torch.no_grad():
            memory.lerp_(made.mean(dim=0), 0.1)
            codes.copy_(memory * 2)
        loss = (made - inputs.flip(1) + memory).square().mean()
        if number == self.broken_at:
            loss = loss * float("nan")
        losses = {"learner": loss}
        if number % 2:
            losses["critic"] = (self.critic(made.detach()) - 1).square().mean()
        return losses, {"loss": float(loss.detach())}

    def judge(self, averaged: nn.Module) -> dict[str, float]:
        assert not averaged.training
        self.judged += 1
        return {"score": 1.0}
