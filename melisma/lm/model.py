"""The token model: a decoder-only transformer over steps of a codebook pattern.

Enters: tokens of the steps before (one embedding table a level, summed) and conditions. Leaves:
logits of every level. The same class serves all stages; the fine stage looks both ways and fills
one level of all frames at a time (SoundStorm's place, 2305.09636, in MusicRL's base model).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from melisma.lm.conditioning import Conditioner, Conditioning, ConditioningSettings, TrunkInputs
from melisma.lm.patterns import PATTERNS, Pattern
from melisma.nn.transformer import Trunk, window_mask


@dataclass(frozen=True, kw_only=True)
class TokenModelSettings:
    """Sizes and shape of one stage's model."""

    levels: int
    """Levels that the model reads and draws."""
    first_sampled_level: int = 0
    """The first level that is drawn; levels before it are given (the fine stage)."""
    vocabulary: int = 1024
    """Entries of each level."""
    pattern: str = "delayed"
    """"parallel", "delayed", "flattened" or "delayed_pairs"."""
    causal: bool = True
    """False: all frames at once, level after level."""
    width: int = 256
    """Width of the transformer."""
    layers: int = 6
    """Transformer layers."""
    heads: int = 4
    """Attention heads."""
    window_frames: int = 500
    """Frames that attention looks back over, as in training."""
    expansion: float = 8 / 3
    """Width inside the feed-forward parts over `width`."""
    norm: str = "rms"
    feed_forward: str = "swiglu"
    positions: str = "rotary"
    """Kinds of the trunk's parts, see `melisma.nn.transformer.TrunkShape`."""
    conditions: ConditioningSettings = field(default_factory=ConditioningSettings)
    """Sizes of the condition slots."""


class TokenModel(nn.Module):
    """Embeddings, conditions, trunk, heads."""

    def __init__(self, settings: TokenModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.pattern: Pattern = PATTERNS[settings.pattern](settings.levels)
        width = settings.width
        self.conditioner = Conditioner(settings.conditions, width)
        # One more entry: nothing drawn here yet.
        self.tables = nn.ModuleList(
            nn.Embedding(settings.vocabulary + 1, width) for _ in range(settings.levels)
        )
        self.trunk = Trunk(
            width=width,
            layers=settings.layers,
            heads=settings.heads,
            expansion=settings.expansion,
            condition_width=width if settings.conditions.slots else 0,
            norm=settings.norm,
            feed_forward=settings.feed_forward,
            positions=settings.positions,
            text=bool(settings.conditions.text_width) and not settings.conditions.text_before,
        )
        self.heads = nn.ModuleList(
            nn.Linear(width, settings.vocabulary, bias=False)
            for _ in range(settings.levels - settings.first_sampled_level)
        )
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.5)
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.normal_(head.weight, std=0.02)

    @property
    def window_steps(self) -> int:
        """Steps that attention looks back over, beside what stands before the piece."""
        return self.settings.window_frames * self.pattern.stride

    @property
    def blank(self) -> int:
        """The token that stands for "nothing drawn here"."""
        return self.settings.vocabulary

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, level, step], `blank` allowed -> [batch, step, width]."""
        parts = [table(tokens[:, level]) for level, table in enumerate(self.tables)]
        return torch.stack(parts).sum(dim=0)

    def _with_frames(self, hidden: Tensor, told: TrunkInputs) -> Tensor:
        """Per-frame conditions added to steps, aligned with the newest frame of each."""
        if told.frames is None:
            return hidden
        index = torch.arange(hidden.shape[1], device=hidden.device) // self.pattern.stride
        return hidden + told.frames[:, index.clamp(max=told.frames.shape[1] - 1)]

    def forward(self, grid: Tensor, conditions: Conditioning, dropout: float = 0.0) -> Tensor:
        """Causal: logits of all tokens of a grid [batch, level, frame], each given what is drawn
        before it: [batch, level, frame, vocabulary]."""
        told = self.conditioner(conditions)
        steps = self.pattern.apply(grid, self.blank)
        start = steps.new_full((*steps.shape[:2], 1), self.blank)
        before = torch.cat([start, steps[:, :, :-1]], dim=2)
        hidden = self._with_frames(self.embed(before), told)
        first = 0
        if told.before is not None:
            first = told.before.shape[1]
            hidden = torch.cat([told.before.to(hidden.dtype), hidden], dim=1)
        mask = window_mask(hidden.shape[1], self.window_steps + first, hidden.device)
        hidden, _ = self.trunk(hidden, told.whole, text=told.text, mask=mask, dropout=dropout)
        hidden = hidden[:, first:]
        frames = grid.shape[2]
        logits = []
        for level, head in enumerate(self.heads):
            start = self.pattern.offsets[level]
            stride = self.pattern.stride
            logits.append(head(hidden[:, start : start + (frames - 1) * stride + 1 : stride]))
        return torch.stack(logits, dim=1)

    def fill(
        self, grid: Tensor, level: int, conditions: Conditioning, dropout: float = 0.0
    ) -> Tensor:
        """Not causal: logits [batch, frame, vocabulary] of one level of all frames, given the
        levels below it: the others are taken as blank."""
        told = self.conditioner(conditions)
        known = grid.clone()
        known[:, level:] = self.blank
        hidden = self._with_frames(self.embed(known), told)
        hidden, _ = self.trunk(hidden, told.whole, text=told.text, causal=False, dropout=dropout)
        return self.heads[level - self.settings.first_sampled_level](hidden)
