"""Text tower: text -> one vector in the joint space, and the attributes it requests.

A bidirectional transformer over subword tokens, mean-pooled. It is trained first by distillation of
a sentence encoder (so that words absent from the captions lie near their synonyms) and on captions
with known attributes; then contrastively against the music tower. MuLan: Huang et al., 2208.12415.

Inputs: tokens [batch, token] and the padding mask `present`. Output: `TextTowerOutput`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from melisma.joint.attributes import AttributeHeads
from melisma.joint.tokenizer import VOCABULARY
from melisma.joint.transformer import Transformer, mean_over

TABLE_SCALE = 16.0
"""Factor on the token embeddings, so that their entries stay small (chosen)."""
JOINT_WIDTH = 128
"""Width of the joint space (MuLan, section 3.2)."""


@dataclass(frozen=True, kw_only=True)
class TextTowerSettings:
    """Sizes of the text tower."""

    vocabulary: int = VOCABULARY
    """Vocabulary of the tokenizer."""
    width: int = 256
    """Width of the residual stream."""
    layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    """Dropout probability of the residual branches in training."""
    teacher_width: int = 384
    """Width of the sentence encoder that is distilled in training."""
    joint_width: int = JOINT_WIDTH


@dataclass(frozen=True, kw_only=True)
class TextTowerOutput:
    """Outputs of the text tower for a batch of sentences."""

    vector: Tensor
    """Unit vectors in the joint space, [batch, joint_width]."""
    imitation: Tensor
    """Unit vectors in the sentence encoder's space, [batch, teacher_width]."""
    logits: Tensor
    """Attribute logits [batch, 150]; see `attributes.BLOCKS`."""


class TextTower(nn.Module):
    """Tokens -> `TextTowerOutput`."""

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
        """Hidden states after the final norm: int64 and bool [batch, token] -> [batch, token,
        width]."""
        return self.norm(self.transformer(self.table(tokens) * TABLE_SCALE, present))

    def pool(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Mean-pooled hidden states: tokens int64 and present bool [batch, token] -> [batch,
        width]."""
        hidden = self.table(tokens) * TABLE_SCALE
        return self.norm(mean_over(self.transformer(hidden, present), present))

    def read(self, pooled: Tensor) -> TextTowerOutput:
        """The three outputs from pooled states [batch, width]."""
        return TextTowerOutput(
            vector=F.normalize(self.to_joint(pooled).float(), dim=-1),
            imitation=F.normalize(self.to_imitation(pooled).float(), dim=-1),
            logits=self.heads(self.to_attributes(pooled)),
        )

    def forward(self, tokens: Tensor, present: Tensor) -> TextTowerOutput:
        """Embeds sentences: tokens int64 and present bool, both [batch, token]."""
        return self.read(self.pool(tokens, present))
