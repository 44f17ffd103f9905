"""The music tower: a ten-second window of sound -> one vector in the joint space, and attributes.

It does not hear samples but what others made of them: the `summary` of the sound (`summary.py`) and
the `trunk`, hidden states of the frozen semantic encoder averaged over 0.4 s. So a whole corpus is
heard once, and the tower trains on a few thousand numbers a window. MuLan: Huang et al.,
2208.12415 (there a ResNet over log-mel).

Enters: summary [batch, 420] and trunk [batch, 25, trunk_width]. Leaves: `MusicReading`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.joint.attributes import BLOCKS, AttributeHeads
from melisma.joint.heads import TempoReader, TonalityReader
from melisma.joint.summary import SUMMARY_WIDTH, summary_block
from melisma.joint.text_tower import JOINT_WIDTH
from melisma.joint.transformer import AttentionPool, Transformer
from melisma.values.attributes import TEMPO_BINS, TONALITIES

WINDOW_SECONDS = 10.0
HOP_SECONDS = 5.0
"""Longer sound is heard in windows, and their vectors are averaged (MusicLM, section 3.2)."""
_READ = len(TONALITIES) + TEMPO_BINS
TRUNK_STEPS = 25
"""Steps of the trunk in a window: ten frames of the semantic encoder each."""


@dataclass(frozen=True, kw_only=True)
class MusicTowerSettings:
    """Shape of the music tower."""

    trunk_width: int = 512
    """Width of the semantic hidden states, layers side by side; 0 for a tower without trunk."""
    width: int = 192
    layers: int = 1
    heads: int = 4
    dropout: float = 0.1
    """Share of activations dropped in training."""
    joint_width: int = JOINT_WIDTH


@dataclass(frozen=True, kw_only=True)
class MusicReading:
    """What the tower makes of a batch of windows."""

    vector: Tensor
    """Unit vectors in the joint space, [batch, joint_width]."""
    logits: Tensor
    """Attributes, [batch, 150]; see `attributes.BLOCKS`."""


class MusicTower(nn.Module):
    """Summary and trunk -> `MusicReading`. Inputs are standardised by stored means and spreads."""

    summary_mean: Tensor
    summary_spread: Tensor
    trunk_mean: Tensor
    trunk_spread: Tensor

    def __init__(self, settings: MusicTowerSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        for name, size in (("summary", SUMMARY_WIDTH), ("trunk", settings.trunk_width)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_spread", torch.ones(size))
        self.read_tempo = TempoReader()
        self.read_tonality = TonalityReader()
        self.read_summary = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(SUMMARY_WIDTH, 3 * width),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(3 * width, 2 * width),
        )
        if settings.trunk_width:
            self.read_trunk = nn.Linear(settings.trunk_width, width)
            self.transformer = Transformer(
                width=width, layers=settings.layers, heads=settings.heads, dropout=settings.dropout
            )
            self.trunk_norm = nn.LayerNorm(width)
            self.pool = AttentionPool(width=width, heads=settings.heads)
        read = (3 if settings.trunk_width else 2) * width + _READ
        self.mix = nn.Sequential(
            nn.LayerNorm(read), nn.Linear(read, 3 * width), nn.GELU(), nn.Dropout(settings.dropout)
        )
        self.to_joint = nn.Linear(3 * width, settings.joint_width)
        self.heads = AttributeHeads(width=3 * width)

    @torch.no_grad()
    def standardise(self, summary: Tensor, trunk: Tensor | None) -> None:
        """Takes means and spreads from a corpus: [clip, 420] and [clip, step, trunk_width]."""
        self.summary_mean.copy_(summary.mean(dim=0))
        self.summary_spread.copy_(summary.std(dim=0).clamp(min=1e-3))
        if trunk is not None and self.settings.trunk_width:
            flat = trunk.float().flatten(0, 1)
            self.trunk_mean.copy_(flat.mean(dim=0))
            self.trunk_spread.copy_(flat.std(dim=0).clamp(min=1e-3))

    def forward(self, summary: Tensor, trunk: Tensor | None) -> MusicReading:
        """summary [batch, 420], trunk [batch, step, trunk_width] (None for a tower without)."""
        tempo = self.read_tempo(summary[:, summary_block("tempogram")]).float()
        tonality = self.read_tonality(summary[:, summary_block("chroma")]).float()
        scaled = ((summary - self.summary_mean) / self.summary_spread).clamp(-6, 6)
        parts = [self.read_summary(scaled), 4 * tempo.softmax(dim=-1), 4 * tonality.softmax(dim=-1)]
        if self.settings.trunk_width:
            if trunk is None:
                raise ValueError("this music tower hears a trunk of semantic states: pass `trunk`")
            steps = ((trunk.float() - self.trunk_mean) / self.trunk_spread).clamp(-6, 6)
            present = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device)
            hidden = self.transformer(self.read_trunk(steps), present)
            parts.append(self.pool(self.trunk_norm(hidden)))
        mixed = self.mix(torch.cat(parts, dim=-1))
        logits = self.heads(mixed)
        logits[:, BLOCKS["tempo"]] += tempo
        logits[:, BLOCKS["tonality"]] += tonality
        return MusicReading(vector=F.normalize(self.to_joint(mixed).float(), dim=-1), logits=logits)


def pool_states(*states: Tensor) -> Tensor:
    """Hidden states of a window [batch, 250 frames, width each] -> trunk [batch, 25, widths].

    Each step is the mean of ten frames (0.4 s); the layers stand side by side.
    """
    joined = torch.cat([one.float() for one in states], dim=-1)
    return joined.unflatten(1, (TRUNK_STEPS, -1)).mean(dim=2)


def cut_windows(sound: Tensor, rate_hz: int) -> Tensor:
    """Mono sound [sample] -> windows [window, sample] of ten seconds, five seconds apart.

    Sound under ten seconds is one window, padded with silence at the end; so is no tail, but for
    the last window, which ends with the sound.
    """
    length, hop = int(WINDOW_SECONDS * rate_hz), int(HOP_SECONDS * rate_hz)
    if sound.shape[0] <= length:
        return F.pad(sound, (0, length - sound.shape[0]))[None]
    starts = list(range(0, sound.shape[0] - length + 1, hop))
    if starts[-1] + length < sound.shape[0]:
        starts.append(sound.shape[0] - length)
    return torch.stack([sound[start : start + length] for start in starts])
