"""The score model: a causal Transformer over events, one step an event, its fields drawn in turn.

Enters: event rows [batch, event, field] (`values/events.py`) with what is known about each: its
role, the program of its part, when it falls, how many bars are left. Leaves: for every event the
logits of the next one's fields, each given the fields before it. The trunk takes a step for each
event; small heads draw the five fields one after the other (Nested Music Transformer, Ryu et al.,
2408.01180, section 3). Rotary positions follow two clocks: the place in the sequence, and musical
time, so that what comes later in the sequence may be earlier in the music (an infilled bar knows
the bars after it) and a beat is as far from the next in busy bars as in empty ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.lm.score.conditioning import ScoreConditioner, ScoreConditions
from melisma.nn.transformer import RMSNorm, Trunk, two_clock_angles, window_mask
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
"""Events of the piece so far; notes given (a tune to accompany); bars that come after those that
are to be filled in."""
MOST_BARS_LEFT = 32
MOST_BARS_DONE = 8
"""Bars to the end and from the beginning are counted up to here."""
NO_PROGRAM = DRUM_PROGRAM + 1
"""The program of events that belong to no part."""
TIME_TICKS = TICKS_PER_BEAT // 4
"""Unit of the second clock: a sixteenth note."""


@dataclass(frozen=True, kw_only=True)
class ScoreModelSettings:
    """Sizes of the model."""

    width: int = 320
    layers: int = 8
    heads: int = 5
    window_events: int = 640
    """Events that attention looks back over."""


@dataclass(frozen=True, kw_only=True)
class EventBatch:
    """Event rows with what is known about each."""

    rows: Tensor
    """int64 [batch, event, field]."""
    roles: Tensor
    """int64 [batch, event], index into `ROLES`."""
    programs: Tensor
    """int64 [batch, event]: program of the event's part, `NO_PROGRAM` where it has none."""
    ticks: Tensor
    """int64 [batch, event]: when it falls."""
    bars_left: Tensor
    """int64 [batch, event]: bars until the end, its own counted, up to `MOST_BARS_LEFT`; 0 where
    it is not told."""
    bars_done: Tensor
    """int64 [batch, event]: bars before its own, up to `MOST_BARS_DONE`."""


class ScoreModel(nn.Module):
    """Embeddings, conditions, trunk, one head for each field."""

    def __init__(self, settings: ScoreModelSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.conditioner = ScoreConditioner(width)
        self.fields = nn.ModuleList(nn.Embedding(size + 1, width) for size in FIELD_SIZES)
        self.roles = nn.Embedding(len(ROLES), width)
        self.programs = nn.Embedding(NO_PROGRAM + 1, width)
        self.bars_left = nn.Embedding(MOST_BARS_LEFT + 1, width)
        self.bars_done = nn.Embedding(MOST_BARS_DONE + 1, width)
        self.trunk = Trunk(
            width=width, layers=settings.layers, heads=settings.heads, condition_width=width
        )
        # What is drawn already of the event under way, as the heads are told it.
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
        """[batch, event, width]."""
        parts = [table(batch.rows[..., field]) for field, table in enumerate(self.fields)]
        parts += [
            self.roles(batch.roles),
            self.programs(batch.programs),
            self.bars_left(batch.bars_left),
            self.bars_done(batch.bars_done),
        ]
        return torch.stack(parts).sum(dim=0)

    def angles(self, index: Tensor, ticks: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary angles of events at places and ticks [batch, event]."""
        head_width = self.settings.width // self.settings.heads
        return two_clock_angles(index, ticks / TIME_TICKS, head_width)

    def forward(
        self, batch: EventBatch, conditions: ScoreConditions, dropout: float = 0.0
    ) -> Tensor:
        """What the trunk makes of every event, [batch, event, width], given those before it."""
        told = self.conditioner(conditions)
        hidden = self.embed(batch)
        index = torch.arange(hidden.shape[1], device=hidden.device)[None]
        angles = self.angles(index, batch.ticks)
        mask = window_mask(hidden.shape[1], self.settings.window_events, hidden.device)
        hidden, _ = self.trunk(hidden, told, mask=mask, dropout=dropout, angles=angles)
        return hidden

    def field_logits(self, hidden: Tensor, row: Tensor, program: Tensor, field: int) -> Tensor:
        """Logits of one field of the next events.

        hidden [..., width], row int64 [..., field] (fields from `field` on are not looked at),
        program int64 [...]: that of the part drawn (looked at from the pitch on).
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
        """Negative log likelihood in nats of each field of the next events, [event, field].

        hidden [event, width], rows int64 [event, field]: the next events themselves, programs int64
        [event]: those of their parts. Fields that an event does not use cost nothing.
        """
        # A declared part has no program yet while its program is drawn.
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
    """A residual layer between what is known of an event and the head of its next field."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps=1e-5)
        self.up_proj = nn.Linear(width, width)
        self.down_proj = nn.Linear(width, width)

    def forward(self, known: Tensor) -> Tensor:
        """[..., width] -> [..., width]."""
        normed = self.norm(known)
        return normed + self.down_proj(F.silu(self.up_proj(normed)))
