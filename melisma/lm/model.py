"""Token model: a decoder-only Transformer over the steps of a codebook pattern.

Input: tokens of the previous steps (one embedding table per codebook level, summed) and the
conditioning. Output: logits of every level. All stages use this class; the fine stage attends in
both directions and predicts one level of all frames at a time, as SoundStorm (2305.09636) does.
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
    """Sizes and shape of one stage's model, stored in its checkpoint."""

    levels: int
    """Codebook levels that the model reads."""
    first_sampled_level: int = 0
    """First level that the model predicts; levels before it are given (the fine stage)."""
    vocabulary: int = 1024
    """Codebook entries of each level."""
    pattern: str = "delayed"
    """"parallel", "delayed", "flattened" or "delayed_pairs"."""
    causal: bool = True
    """False: bidirectional attention, all frames at once, level after level."""
    width: int = 256
    """Width of the hidden states."""
    layers: int = 6
    """Transformer layers."""
    heads: int = 4
    """Attention heads."""
    window_frames: int = 500
    """Context length in training and generation: frames that attention looks back over."""
    expansion: float = 8 / 3
    """Width of the feed-forward layers, relative to `width`."""
    norm: str = "rms"
    feed_forward: str = "swiglu"
    positions: str = "rotary"
    """Variants of the trunk's layers, see `melisma.nn.transformer.TrunkShape`."""
    conditions: ConditioningSettings = field(default_factory=ConditioningSettings)
    """Sizes of the conditioning slots."""


class TokenModel(nn.Module):
    """Token embeddings, conditioner, Transformer trunk, and one head for each predicted level."""

    def __init__(self, settings: TokenModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.pattern: Pattern = PATTERNS[settings.pattern](settings.levels)
        width = settings.width
        self.conditioner = Conditioner(settings.conditions, width)
        # One more entry: the blank token.
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
        """Steps that attention looks back over, not counting prepended conditions."""
        return self.settings.window_frames * self.pattern.stride

    @property
    def blank(self) -> int:
        """Token of positions without a sampled token."""
        return self.settings.vocabulary

    def embed(self, tokens: Tensor) -> Tensor:
        """Sum of the levels' embeddings.

        Args:
            tokens: int64 [batch, level, step], `blank` included.

        Returns:
            [batch, step, width].
        """
        parts = [table(tokens[:, level]) for level, table in enumerate(self.tables)]
        return torch.stack(parts).sum(dim=0)

    def _with_frames(self, hidden: Tensor, inputs: TrunkInputs) -> Tensor:
        """Adds per-frame conditions to the steps, aligned with the newest frame of each step."""
        if inputs.frames is None:
            return hidden
        index = (
            torch.arange(hidden.shape[1], device=hidden.device, dtype=torch.long)
            // self.pattern.stride
        )
        return hidden + inputs.frames[:, index.clamp(max=inputs.frames.shape[1] - 1)]

    def forward(self, grid: Tensor, conditions: Conditioning, dropout: float = 0.0) -> Tensor:
        """Causal prediction of all tokens of a grid (teacher forcing).

        Args:
            grid: tokens, int64 [batch, level, frame].
            conditions: one row for each row of the grid.
            dropout: probability in the trunk.

        Returns:
            Logits [batch, predicted level, frame, vocabulary], each conditioned on the tokens of
            earlier steps of the pattern.
        """
        inputs = self.conditioner(conditions)
        steps = self.pattern.apply(grid, self.blank)
        start = steps.new_full((*steps.shape[:2], 1), self.blank)
        before = torch.cat([start, steps[:, :, :-1]], dim=2)
        hidden = self._with_frames(self.embed(before), inputs)
        first = 0
        if inputs.before is not None:
            first = inputs.before.shape[1]
            hidden = torch.cat([inputs.before.to(hidden.dtype), hidden], dim=1)
        mask = window_mask(hidden.shape[1], self.window_steps + first, hidden.device)
        hidden, _ = self.trunk(hidden, inputs.whole, text=inputs.text, mask=mask, dropout=dropout)
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
        """Bidirectional prediction of one level of all frames from the levels below it.

        Args:
            grid: tokens, int64 [batch, level, frame]; those from `level` on are ignored.
            level: the level to predict.
            conditions: one row for each row of the grid.
            dropout: probability in the trunk.

        Returns:
            Logits [batch, frame, vocabulary].
        """
        inputs = self.conditioner(conditions)
        known = grid.clone()
        known[:, level:] = self.blank
        hidden = self._with_frames(self.embed(known), inputs)
        hidden, _ = self.trunk(
            hidden, inputs.whole, text=inputs.text, causal=False, dropout=dropout
        )
        return self.heads[level - self.settings.first_sampled_level](hidden)
