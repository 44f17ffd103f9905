"""Discriminators on pictures of log magnitudes, for the codec's adversarial and feature losses.

The multi-scale discriminators of EnCodec (2210.13438, section 3.4) look at complex spectra; our
decoder says magnitudes, so these look at those, in three stretches of the spectrum. They are used
in the last part of a training only.

Log magnitudes are [batch, frame, line]; each stretch returns its verdicts and its hidden features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from melisma.sound.phase_retrieval import LINES, LOW_LINES

STRETCHES: tuple[tuple[int, int], ...] = (
    (0, LOW_LINES),
    (LOW_LINES, (LOW_LINES + LINES) // 2),
    ((LOW_LINES + LINES) // 2, LINES),
)
"""(first, last) line of each discriminator's stretch."""


class PictureDiscriminator(nn.Module):
    """Two-dimensional convolutions over one stretch of lines."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        strides = [(1, 1), (1, 2), (2, 2), (1, 2)]
        layers, before = [], 1
        for stride in strides:
            layer = nn.Conv2d(before, width, (3, 7), stride=stride, padding=(1, 3))
            layers.append(weight_norm(layer))
            before = width
        self.layers = nn.ModuleList(layers)
        self.verdict = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[batch, frame, line] -> verdicts [batch, 1, frame, line], features of every layer."""
        hidden = (picture[:, None] + 7.0) / 2.0
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.verdict(hidden), features


class Discriminators(nn.Module):
    """One for each stretch of the spectrum."""

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        self.stretches = nn.ModuleList(PictureDiscriminator(width=width) for _ in STRETCHES)

    def forward(self, logs: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """[batch, frame, line] -> for each stretch (verdicts, features)."""
        return [
            one(logs[..., first:last])
            for one, (first, last) in zip(self.stretches, STRETCHES, strict=True)
        ]


def discriminator_loss(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Hinge loss: real above 1, made below -1."""
    parts = [F.relu(1 - r).mean() + F.relu(1 + m).mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(parts).mean()


def generator_losses(
    real: list[tuple[Tensor, list[Tensor]]], made: list[tuple[Tensor, list[Tensor]]]
) -> tuple[Tensor, Tensor]:
    """(adversarial, relative distance of the features), means over stretches and layers."""
    adversarial = torch.stack([-verdict.mean() for verdict, _ in made]).mean()
    distances = [
        (m - r.detach()).abs().mean() / r.detach().abs().mean().clamp(min=1e-3)
        for (_, reals), (_, mades) in zip(real, made, strict=True)
        for r, m in zip(reals, mades, strict=True)
    ]
    return adversarial, torch.stack(distances).mean()
