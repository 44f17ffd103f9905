"""Semantic encoder: log-frequency spectra, a local convolution, a bidirectional transformer.

Trained by masked prediction of random-projection codes (BEST-RQ, 2202.01855, section 3, instead of
w2v-BERT's learned codes, 2108.06209: a random codebook cannot collapse) and by heads that predict
the score from which the audio was rendered: pitch classes, bass, melody, onsets, drums, chord,
phase of beat and bar, instrument families. The score heads see only a narrow *bottleneck* on a
middle layer; its k-means clusters are the semantic tokens, so they preserve the musical content.

Audio is [batch, sample] at 24 kHz; all outputs are at 25 frames per second.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.linear import Linear
from melisma.nn.transformer import Trunk
from melisma.sound.spectra import log_frequency, log_mel
from melisma.values.attributes import FAMILIES
from melisma.values.tokens import SAMPLE_RATE_HZ

FEATURE_HOP_SAMPLES = 480
"""Hop of the input spectra (50 Hz)."""
LOG_FREQUENCY_BINS = 252
HIGH_BINS = 36
"""Mel bins above the log-frequency range: cymbals, breath, pick noise."""
FEATURE_WIDTH = LOG_FREQUENCY_BINS + HIGH_BINS

HEADS: dict[str, int] = {
    "pitch_class": 12,
    "bass": 13,
    "top": 64,
    "onset": 12,
    "drum": 3,
    "chord": 25,
    "beat": 16,
    "bar": 16,
}
"""Score heads on the bottleneck and their widths (phases of beat and bar: bins of 1/16)."""

LOWEST_TOP_PITCH = 34
"""MIDI pitch of class 1 of the melody head; class 0 is silence, the last class anything higher."""


@dataclass(frozen=True, kw_only=True)
class SemanticSettings:
    """Sizes of the semantic encoder and its tokens."""

    width: int = 256
    """Width of the transformer."""
    layers: int = 6
    """Transformer layers."""
    heads: int = 4
    """Attention heads."""
    token_layer: int = 4
    """The middle layer (1-based) that the bottleneck reads."""
    bottleneck_width: int = 64
    """Width of the bottleneck whose clusters are the tokens."""
    projection_codes: int = 1024
    """Codebook size of the random-projection quantizer."""
    projection_width: int = 16
    """Width of its codes."""
    levels: int = 2
    """Levels of the tokens' residual k-means."""
    vocabulary: int = 1024
    """Clusters of each level."""


def features(sound: Tensor) -> Tensor:
    """Input features of the encoder.

    The loudest bin of each clip is normalized to a fixed level: the musical content does not depend
    on the loudness.

    Args:
        sound: Audio [batch, sample] at 24 kHz.

    Returns:
        [batch, 50 Hz frame, FEATURE_WIDTH], at about unit scale.
    """
    low = log_frequency(sound, rate_hz=SAMPLE_RATE_HZ, hop_samples=FEATURE_HOP_SAMPLES)
    high = log_mel(
        sound,
        rate_hz=SAMPLE_RATE_HZ,
        window_samples=1024,
        hop_samples=FEATURE_HOP_SAMPLES,
        bins=HIGH_BINS,
        low_hz=2000.0,
    )
    peak = low.flatten(1).amax(dim=1).clamp(min=-7.0)[:, None, None]
    low = (low - peak) / 2.5 + 1.5
    high = (high - peak - 3.5) / 2.5 + 1.5
    return torch.cat([low, high], dim=1).clamp(min=-2.5).transpose(1, 2)


class SemanticEncoder(nn.Module):
    """Features -> hidden states and bottleneck, with score heads and a head for masked codes."""

    def __init__(self, settings: SemanticSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.in_proj = Linear(FEATURE_WIDTH, width)
        self.local = nn.Conv1d(width, width, 5, padding=2, groups=8)
        self.join = Linear(2 * width, width)
        self.masked = nn.Parameter(torch.empty(width, dtype=torch.float32))
        nn.init.normal_(self.masked, std=0.02)
        self.trunk = Trunk(width=width, layers=settings.layers, heads=settings.heads)
        self.bottleneck = Linear(width, settings.bottleneck_width)
        self.bottleneck_norm = nn.LayerNorm(settings.bottleneck_width, elementwise_affine=False)
        self.score_heads = nn.ModuleDict(
            {name: Linear(settings.bottleneck_width, size) for name, size in HEADS.items()}
        )
        self.family_head = Linear(width, len(FAMILIES))
        self.code_head = Linear(width, settings.projection_codes)
        generator = torch.Generator().manual_seed(20_220_115)
        projection = torch.randn(
            2 * FEATURE_WIDTH,
            settings.projection_width,
            generator=generator,
            dtype=torch.float32,
            device="cpu",
        )
        codes = torch.randn(
            settings.projection_codes,
            settings.projection_width,
            generator=generator,
            dtype=torch.float32,
            device="cpu",
        )
        self.register_buffer(
            "projection", projection / (2 * FEATURE_WIDTH) ** 0.5, persistent=False
        )
        self.register_buffer("codes", F.normalize(codes, dim=-1), persistent=False)

    def random_codes(self, spectra: Tensor) -> Tensor:
        """Targets of the masked prediction (BEST-RQ).

        Args:
            spectra: Features [batch, 50 Hz frame, bin].

        Returns:
            Code of each 25 Hz frame, int64 [batch, frame].
        """
        assert isinstance(self.projection, Tensor)
        assert isinstance(self.codes, Tensor)
        batch, frames, width = spectra.shape
        pairs = spectra.float().reshape(batch, frames // 2, 2 * width)
        # Each bin's mean over the clip is subtracted: codes shall distinguish frames, not clips.
        pairs = pairs - pairs.mean(dim=1, keepdim=True)
        return (F.normalize(pairs @ self.projection, dim=-1) @ self.codes.T).argmax(dim=-1)

    def forward(
        self, spectra: Tensor, masked: Tensor | None = None, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encodes features.

        Args:
            spectra: Features [batch, 50 Hz frame, bin].
            masked: bool [batch, frame], true where a frame is masked.
            dropout: Dropout probability.

        Returns:
            (bottleneck [batch, frame, bottleneck_width], middle state, last state [batch, frame,
            width]), at 25 Hz.
        """
        hidden = F.gelu(self.in_proj(spectra))
        hidden = hidden + F.gelu(self.local(hidden.transpose(1, 2)).transpose(1, 2))
        batch, frames, width = hidden.shape
        hidden = self.join(hidden.reshape(batch, frames // 2, 2 * width))
        if masked is not None:
            hidden = torch.where(masked[..., None], self.masked.to(hidden.dtype), hidden)
        last, middle = self.trunk(
            hidden, causal=False, dropout=dropout, keep=self.settings.token_layer
        )
        assert middle is not None
        return self.bottleneck_norm(self.bottleneck(middle).float()), middle, last
