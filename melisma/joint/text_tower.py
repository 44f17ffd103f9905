"""The text tower: words -> one vector in the joint space, and the attributes they ask for.

A bidirectional transformer over word pieces, mean-pooled. It learns first from a sentence encoder's
outputs (so that words which no caption used land near their kin) and from captions whose truth is
known; then, against the music tower, where its words sound. MuLan: Huang et al., 2208.12415.

Enters: tokens [batch, token] and `present`. Leaves: `TextReading`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from melisma.joint.attributes import AttributeHeads
from melisma.joint.tokenizer import VOCABULARY
from melisma.joint.transformer import Transformer, mean_over

TABLE_SCALE = 16.0
"""Factor on the token vectors, so that their entries stay small numbers (chosen)."""
JOINT_WIDTH = 128
"""Width of the joint space (MuLan, section 3.2)."""


@dataclass(frozen=True, kw_only=True)
class TextTowerSettings:
    """Shape of the text tower."""

    vocabulary: int = VOCABULARY
    """Entries of the tokenizer."""
    width: int = 256
    """Width of the residual stream."""
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    """Share of the residual branches' entries dropped in training."""
    teacher_width: int = 384
    """Width of the sentence encoder whose outputs are imitated in training."""
    joint_width: int = JOINT_WIDTH


@dataclass(frozen=True, kw_only=True)
class TextReading:
    """What the tower makes of a batch of sentences."""

    vector: Tensor
    """Unit vectors in the joint space, [batch, joint_width]."""
    imitation: Tensor
    """Unit vectors in the sentence encoder's space, [batch, teacher_width]."""
    logits: Tensor
    """Attributes, [batch, 150]; see `attributes.BLOCKS`."""


class TextTower(nn.Module):
    """Tokens -> `TextReading`."""

    def __init__(self, settings: TextTowerSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.table = nn.Embedding(settings.vocabulary, width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.transformer = Transformer(
            width=width, layers=settings.layers, heads=settings.heads, dropout=settings.dropout
        )
        self.norm = nn.LayerNorm(width)
        self.to_imitation = nn.Linear(width, settings.teacher_width)
        self.to_joint = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, settings.joint_width)
        )
        self.to_attributes = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU())
        self.heads = AttributeHeads(width=2 * width)

    def states(self, tokens: Tensor, present: Tensor) -> Tensor:
        """What every token became, normed as their mean is: [batch, token, width]."""
        return self.norm(self.transformer(self.table(tokens) * TABLE_SCALE, present))

    def pool(self, tokens: Tensor, present: Tensor) -> Tensor:
        """tokens int64 and present bool, both [batch, token] -> [batch, width]."""
        hidden = self.table(tokens) * TABLE_SCALE
        return self.norm(mean_over(self.transformer(hidden, present), present))

    def read(self, pooled: Tensor) -> TextReading:
        """What `pool` made of sentences, read three ways."""
        return TextReading(
            vector=F.normalize(self.to_joint(pooled).float(), dim=-1),
            imitation=F.normalize(self.to_imitation(pooled).float(), dim=-1),
            logits=self.heads(self.to_attributes(pooled)),
        )

    def forward(self, tokens: Tensor, present: Tensor) -> TextReading:
        """tokens int64 and present bool, both [batch, token]."""
        return self.read(self.pool(tokens, present))
