"""Multi-band discriminators on log-magnitude spectrograms, for the codec's adversarial losses.

The multi-scale discriminators of EnCodec (2210.13438, section 3.4) read complex spectra; our
decoder predicts magnitudes, so these read magnitudes, in three bands of the spectrum. They are used
only in the last part of a training.

Log magnitudes are [batch, frame, bin]; each band returns its scores and its hidden features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from melisma.sound.phase_retrieval import LINES, LOW_LINES

BANDS: tuple[tuple[int, int], ...] = (
    (0, LOW_LINES),
    (LOW_LINES, (LOW_LINES + LINES) // 2),
    ((LOW_LINES + LINES) // 2, LINES),
)
"""[first, end) of each discriminator's frequency bins."""


class BandDiscriminator(nn.Module):
    """Two-dimensional convolutions over one band of a spectrogram."""

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

    def forward(self, logs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Log magnitudes [batch, frame, bin] -> (scores [batch, 1, frame', bin'], features of every
        layer)."""
        hidden = (logs[:, None] + 7.0) / 2.0
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.verdict(hidden), features


class Discriminators(nn.Module):
    """One discriminator for each band."""

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        self.stretches = nn.ModuleList(BandDiscriminator(width=width) for _ in BANDS)

    def forward(self, logs: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Log magnitudes [batch, frame, bin] -> (scores, features) of each band."""
        return [
            one(logs[..., first:end])
            for one, (first, end) in zip(self.stretches, BANDS, strict=True)
        ]


def discriminator_loss(real: list[Tensor], made: list[Tensor]) -> Tensor:
    """Hinge loss of the scores, by band: real ones above 1, made ones below -1."""
    parts = [F.relu(1 - r).mean() + F.relu(1 + m).mean() for r, m in zip(real, made, strict=True)]
    return torch.stack(parts).mean()


def generator_losses(
    real: list[tuple[Tensor, list[Tensor]]], made: list[tuple[Tensor, list[Tensor]]]
) -> tuple[Tensor, Tensor]:
    """(adversarial loss, feature matching loss), averaged over bands and layers.

    `real` and `made` are outputs of `Discriminators`; the feature loss is relative to the mean
    magnitude of the real features.
    """
    adversarial = torch.stack([-scores.mean() for scores, _ in made]).mean()
    distances = [
        (m - r.detach()).abs().mean() / r.detach().abs().mean().clamp(min=1e-3)
        for (_, reals), (_, mades) in zip(real, made, strict=True)
        for r, m in zip(reals, mades, strict=True)
    ]
    return adversarial, torch.stack(distances).mean()
