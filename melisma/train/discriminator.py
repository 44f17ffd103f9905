"""Discriminators on complex spectra, for the codec's adversarial and feature losses.

Multi-scale STFT discriminators of EnCodec (2210.13438, section 3.4), narrow and few: they are used in
the last part of a training only.

Sound is [batch, sample]; each scale returns its verdicts and its hidden features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from melisma.sound.spectra import spectrum


class SpectrumDiscriminator(nn.Module):
    """Two-dimensional convolutions over real and imaginary parts of one resolution."""

    def __init__(self, *, window_samples: int, width: int) -> None:
        super().__init__()
        self.window_samples = window_samples
        strides = [(1, 1), (2, 1), (2, 1), (2, 1)]
        layers, before = [], 2
        for stride in strides:
            layer = nn.Conv2d(before, width, (9, 3), stride=stride, padding=(4, 1))
            layers.append(weight_norm(layer))
            before = width
        self.layers = nn.ModuleList(layers)
        self.verdict = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, sound: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[batch, sample] -> verdicts [batch, 1, line, frame], features of every layer."""
        lines = spectrum(sound, self.window_samples, self.window_samples // 4)
        scale = (lines.abs() + 1e-5).pow(-0.5) / self.window_samples**0.25
        hidden = torch.stack([lines.real * scale, lines.imag * scale], dim=1)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.verdict(hidden), features


class Discriminators(nn.Module):
    """Several resolutions side by side."""

    def __init__(
        self, *, windows_samples: tuple[int, ...] = (2048, 1024, 512), width: int = 16
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            SpectrumDiscriminator(window_samples=w, width=width) for w in windows_samples
        )

    def forward(self, sound: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """[batch, sample] -> for each resolution (verdicts, features)."""
        return [scale(sound) for scale in self.scales]


def discriminator_loss(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Hinge loss: real above 1, made below -1."""
    parts = [F.relu(1 - r).mean() + F.relu(1 + m).mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(parts).mean()


def generator_losses(
    real: list[tuple[Tensor, list[Tensor]]], made: list[tuple[Tensor, list[Tensor]]]
) -> tuple[Tensor, Tensor]:
    """(adversarial, relative distance of the features), means over resolutions and layers."""
    adversarial = torch.stack([-verdict.mean() for verdict, _ in made]).mean()
    distances = [
        (m - r.detach()).abs().mean() / r.detach().abs().mean().clamp(min=1e-3)
        for (_, reals), (_, mades) in zip(real, made, strict=True)
        for r, m in zip(reals, mades, strict=True)
    ]
    return adversarial, torch.stack(distances).mean()
