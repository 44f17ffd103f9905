"""Score model: a causal Transformer over note events whose fields are predicted one by one.

Input: event rows [batch, event, field] (`values/events.py`) and, for each event, its role, the
program of its part, its onset, and how many bars are left. Output: for every event the logits of
the next event's fields, each conditioned on the fields before it. The trunk takes one step per
event; small heads predict the five fields in order (Nested Music Transformer, Ryu et al.,
2408.01180, section 3). Rotary positions combine the index in the sequence with musical time: an
event that comes later in the sequence may be earlier in the music (an infilled bar knows the bars
after it), and consecutive beats are equally far apart in busy and in empty bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.lm.score.conditioning import ScoreConditioner, ScoreConditions
from melisma.nn.transformer import RMSNorm, Trunk, two_axis_rotary_angles, window_mask
from melisma.values.events import (
    DRUM_PROGRAM,
    FIELD_SIZES,
    FIELDS,
    FIRST_PROGRAM,
    PART_FIELD,
    PITCH,
    TICKS_PER_BEAT,
)

ROLES = ("played", "given", "later")
"""Roles of events: of the piece so far; given (a melody to accompany); of the bars after a gap."""
MAX_BARS_LEFT = 32
MAX_BARS_DONE = 8
"""Counts of bars to the end and from the beginning are clamped to these."""
NO_PROGRAM = DRUM_PROGRAM + 1
"""Program of events that belong to no part."""
TIME_TICKS = TICKS_PER_BEAT // 4
"""Unit of musical time in the rotary positions: a sixteenth note."""


@dataclass(frozen=True, kw_only=True)
class ScoreModelSettings:
    """Sizes of the model, stored in its checkpoint."""

    width: int = 320
    """Width of the hidden states."""
    layers: int = 8
    """Transformer layers."""
    heads: int = 5
    """Attention heads."""
    window_events: int = 640
    """Context length: events that attention looks back over."""


@dataclass(frozen=True, kw_only=True)
class EventBatch:
    """A batch of event sequences."""

    rows: Tensor
    """int64 [batch, event, field]."""
    roles: Tensor
    """int64 [batch, event], index into `ROLES`."""
    programs: Tensor
    """int64 [batch, event]: program of the event's part, `NO_PROGRAM` where it has none."""
    ticks: Tensor
    """int64 [batch, event]: onset."""
    bars_left: Tensor
    """int64 [batch, event]: bars to the end including its own, at most `MAX_BARS_LEFT`; 0 where
    unknown."""
    bars_done: Tensor
    """int64 [batch, event]: bars before its own, at most `MAX_BARS_DONE`."""


class ScoreModel(nn.Module):
    """Event embeddings, conditioner, Transformer trunk, and one head for each field."""

    def __init__(self, settings: ScoreModelSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.conditioner = ScoreConditioner(width)
        self.fields = nn.ModuleList(nn.Embedding(size + 1, width) for size in FIELD_SIZES)
        self.roles = nn.Embedding(len(ROLES), width)
        self.programs = nn.Embedding(NO_PROGRAM + 1, width)
        self.bars_left = nn.Embedding(MAX_BARS_LEFT + 1, width)
        self.bars_done = nn.Embedding(MAX_BARS_DONE + 1, width)
        self.trunk = Trunk(
            width=width, layers=settings.layers, heads=settings.heads, condition_width=width
        )
        # Embeddings of the fields of the next event that are sampled already, for the heads.
        self.sampled_fields = nn.ModuleList(
            nn.Embedding(size + 1, width) for size in FIELD_SIZES[:-1]
        )
        self.sampled_program = nn.Embedding(NO_PROGRAM + 1, width)
        self.mixers = nn.ModuleList(FieldMixer(width) for _ in range(FIELDS - 1))
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in FIELD_SIZES)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.3)
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def embed(self, batch: EventBatch) -> Tensor:
        """Sum of the embeddings of all fields and properties, float [batch, event, width]."""
        parts = [table(batch.rows[..., field]) for field, table in enumerate(self.fields)]
        parts += [
            self.roles(batch.roles),
            self.programs(batch.programs),
            self.bars_left(batch.bars_left),
            self.bars_done(batch.bars_done),
        ]
        return torch.stack(parts).sum(dim=0)

    def angles(self, index: Tensor, ticks: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary (cosine, sine) of events at sequence indices and ticks, both [batch, event]."""
        head_width = self.settings.width // self.settings.heads
        return two_axis_rotary_angles(index, ticks.float() / TIME_TICKS, head_width)

    def forward(
        self, batch: EventBatch, conditions: ScoreConditions, dropout: float = 0.0
    ) -> Tensor:
        """Hidden states of every event, causally masked.

        Args:
            batch: events [batch, event, ...].
            conditions: one row for each row of the batch.
            dropout: probability in the trunk.

        Returns:
            Hidden states [batch, event, width], from which `field_logits` predicts the next event.
        """
        condition = self.conditioner(conditions)
        hidden = self.embed(batch)
        index = torch.arange(hidden.shape[1], device=hidden.device, dtype=torch.long)[None]
        angles = self.angles(index, batch.ticks)
        mask = window_mask(hidden.shape[1], self.settings.window_events, hidden.device)
        hidden, _ = self.trunk(hidden, condition, mask=mask, dropout=dropout, angles=angles)
        return hidden

    def field_logits(self, hidden: Tensor, row: Tensor, program: Tensor, field: int) -> Tensor:
        """Logits of one field of the next events.

        Args:
            hidden: hidden states [..., width].
            row: int64 [..., field], the fields sampled so far (those from `field` on are ignored).
            program: int64 [...], program of the sampled part (used from the pitch on).
            field: index of the field.

        Returns:
            [..., value], as many values as `FIELD_SIZES[field]`.
        """
        if field == 0:
            return self.heads[0](hidden)
        known = hidden
        for before in range(field):
            known = known + self.sampled_fields[before](row[..., before])
        if field > PART_FIELD:
            known = known + self.sampled_program(program)
        return self.heads[field](self.mixers[field - 1](known))

    def losses(self, hidden: Tensor, rows: Tensor, programs: Tensor) -> Tensor:
        """Negative log-likelihood of the next events, by field.

        Args:
            hidden: hidden states [event, width].
            rows: the next events, int64 [event, field].
            programs: programs of their parts, int64 [event].

        Returns:
            float32 [event, field], in nats; 0 for fields that an event does not use.
        """
        # A part has no program yet while the program of its declaration is predicted.
        undeclared = rows[:, PITCH] >= FIRST_PROGRAM
        programs = torch.where(undeclared, NO_PROGRAM, programs)
        parts = []
        for field, size in enumerate(FIELD_SIZES):
            logits = self.field_logits(hidden, rows, programs, field).float()
            parts.append(
                F.cross_entropy(logits, rows[:, field], ignore_index=size, reduction="none")
            )
        return torch.stack(parts, dim=1)


class FieldMixer(nn.Module):
    """Residual layer between the state of a partly sampled event and the head of its next field."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps=1e-5)
        self.up_proj = nn.Linear(width, width)
        self.down_proj = nn.Linear(width, width)

    def forward(self, known: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        normed = self.norm(known)
        return normed + self.down_proj(F.silu(self.up_proj(normed)))
