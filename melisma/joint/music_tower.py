"""Music tower: a ten-second window of audio -> one vector in the joint space, and attributes.

Its inputs are not samples but precomputed features: the `summary` of the audio (`summary.py`) and
the `trunk`, hidden states of the frozen semantic encoder averaged over 0.4 s. So a corpus is
encoded once, and the tower trains on a few thousand numbers per window. MuLan: Huang et al.,
2208.12415 (there a ResNet over log-mel).

Inputs: summary [batch, 420] and trunk [batch, 25, trunk_width]. Output: `MusicTowerOutput`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.joint.attributes import BLOCKS, AttributeHeads
from melisma.joint.heads import TempoHead, TonalityHead
from melisma.joint.summary import SUMMARY_WIDTH, summary_block
from melisma.joint.text_tower import JOINT_WIDTH
from melisma.joint.transformer import AttentionPool, Transformer
from melisma.values.attributes import TEMPO_BINS, TONALITIES
from melisma.values.errors import MelismaError

WINDOW_SECONDS = 10.0
HOP_SECONDS = 5.0
"""Longer audio is embedded in windows, and their vectors are averaged (MusicLM, section 3.2)."""
_HEAD_LOGITS = len(TONALITIES) + TEMPO_BINS
TRUNK_STEPS = 25
"""Steps of the trunk per window: ten frames of the semantic encoder each."""


@dataclass(frozen=True, kw_only=True)
class MusicTowerSettings:
    """Sizes of the music tower."""

    trunk_width: int = 512
    """Width of the semantic hidden states, layers concatenated; 0 for a tower without trunk."""
    width: int = 192
    layers: int = 1
    heads: int = 4
    dropout: float = 0.1
    """Dropout probability in training."""
    joint_width: int = JOINT_WIDTH


@dataclass(frozen=True, kw_only=True)
class MusicTowerOutput:
    """Outputs of the music tower for a batch of windows."""

    vector: Tensor
    """Unit vectors in the joint space, [batch, joint_width]."""
    logits: Tensor
    """Attribute logits [batch, 150]; see `attributes.BLOCKS`."""


class MusicTower(nn.Module):
    """Summary and trunk -> `MusicTowerOutput`. Inputs are standardized by stored statistics."""

    summary_mean: Tensor
    summary_spread: Tensor
    trunk_mean: Tensor
    trunk_spread: Tensor

    def __init__(self, settings: MusicTowerSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        for name, size in (("summary", SUMMARY_WIDTH), ("trunk", settings.trunk_width)):
            self.register_buffer(f"{name}_mean", torch.zeros(size, dtype=torch.float32))
            self.register_buffer(f"{name}_spread", torch.ones(size, dtype=torch.float32))
        self.read_tempo = TempoHead()
        self.read_tonality = TonalityHead()
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
        mixed = (3 if settings.trunk_width else 2) * width + _HEAD_LOGITS
        self.mix = nn.Sequential(
            nn.LayerNorm(mixed),
            nn.Linear(mixed, 3 * width),
            nn.GELU(),
            nn.Dropout(settings.dropout),
        )
        self.to_joint = nn.Linear(3 * width, settings.joint_width)
        self.heads = AttributeHeads(width=3 * width)

    @torch.no_grad()
    def standardise(self, summary: Tensor, trunk: Tensor | None) -> None:
        """Computes the statistics of the input standardization from a corpus.

        Args:
            summary: [clip, 420].
            trunk: [clip, step, trunk_width]; None for a tower without trunk.
        """
        self.summary_mean.copy_(summary.mean(dim=0))
        self.summary_spread.copy_(summary.std(dim=0).clamp(min=1e-3))
        if trunk is not None and self.settings.trunk_width:
            flat = trunk.float().flatten(0, 1)
            self.trunk_mean.copy_(flat.mean(dim=0))
            self.trunk_spread.copy_(flat.std(dim=0).clamp(min=1e-3))

    def forward(self, summary: Tensor, trunk: Tensor | None) -> MusicTowerOutput:
        """Embeds a batch of windows.

        Args:
            summary: [batch, 420].
            trunk: [batch, step, trunk_width]; None for a tower without trunk.

        Raises:
            MelismaError: The tower needs a trunk, and none was given.
        """
        tempo = self.read_tempo(summary[:, summary_block("tempogram")]).float()
        tonality = self.read_tonality(summary[:, summary_block("chroma")]).float()
        scaled = ((summary - self.summary_mean) / self.summary_spread).clamp(-6, 6)
        parts = [self.read_summary(scaled), 4 * tempo.softmax(dim=-1), 4 * tonality.softmax(dim=-1)]
        if self.settings.trunk_width:
            if trunk is None:
                raise MelismaError(
                    "this music tower needs a trunk of semantic states: pass `trunk`"
                )
            steps = ((trunk.float() - self.trunk_mean) / self.trunk_spread).clamp(-6, 6)
            present = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device)
            hidden = self.transformer(self.read_trunk(steps), present)
            parts.append(self.pool(self.trunk_norm(hidden)))
        mixed = self.mix(torch.cat(parts, dim=-1))
        logits = self.heads(mixed)
        logits[:, BLOCKS["tempo"]] += tempo
        logits[:, BLOCKS["tonality"]] += tonality
        return MusicTowerOutput(
            vector=F.normalize(self.to_joint(mixed).float(), dim=-1), logits=logits
        )


def cut_windows(sound: Tensor, rate_hz: int) -> Tensor:
    """Splits audio into overlapping windows of ten seconds, five seconds apart.

    Audio under ten seconds becomes one window, padded with zeros at the end. Otherwise nothing is
    padded: the last window is aligned with the end of the audio.

    Args:
        sound: Mono audio [sample].
        rate_hz: Sample rate.

    Returns:
        [window, sample].
    """
    length, hop = int(WINDOW_SECONDS * rate_hz), int(HOP_SECONDS * rate_hz)
    if sound.shape[0] <= length:
        return F.pad(sound, (0, length - sound.shape[0]))[None]
    starts = list(range(0, sound.shape[0] - length + 1, hop))
    if starts[-1] + length < sound.shape[0]:
        starts.append(sound.shape[0] - length)
    return torch.stack([sound[start : start + length] for start in starts])
