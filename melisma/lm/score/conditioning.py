"""Conditioning of the score model: categorical attributes, families, moods, and a text embedding.

The slots of `lm/conditioning.py` belong to the stages that generate audio tokens; notation has
others (composer, tradition, articulation, moods). Here, too, every slot has an absent value and is
dropped at random in training, so that any of them may be left out at inference, and classifier-free
guidance has an unconditional prediction (Ho and Salimans, 2207.12598).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from melisma.values.attributes import (
    ATTRIBUTE_CLASSES,
    CONDITION_ATTRIBUTES,
    FAMILIES,
    MOODS,
    TEMPO_BINS,
    tempo_bin,
)
from melisma.values.traditions import COMPOSERS, TRADITIONS

_CLASSES: dict[str, tuple[str, ...]] = {
    **{name: ATTRIBUTE_CLASSES[name] for name in (*CONDITION_ATTRIBUTES, "articulation")},
    "composer": COMPOSERS,
    "tradition": TRADITIONS,
}
SCORE_ATTRIBUTES: tuple[tuple[str, int], ...] = tuple(
    (name, len(classes)) for name, classes in _CLASSES.items()
)
"""Attribute slots and their numbers of classes; class number `size` means absent."""
WORD_WIDTH = 128
"""Width of the text embedding (`melisma.joint`)."""


def class_of(name: str, value: object) -> int:
    """The class of an attribute's value.

    Args:
        name: one of `SCORE_ATTRIBUTES`.
        value: a tempo in beats a minute, a name of a class, or anything else.

    Returns:
        Index of the class; the number of classes (absent) for any other value.
    """
    if name == "tempo":
        return TEMPO_BINS if not isinstance(value, int | float) else tempo_bin(float(value))
    classes = _CLASSES[name]
    return classes.index(value) if value in classes else len(classes)


@dataclass(frozen=True, kw_only=True)
class ScoreConditions:
    """A batch of conditions."""

    words: Tensor
    """Text embedding of a caption in the joint space, float32 [batch, 128]; zeros where absent."""
    attributes: Tensor
    """int64 [batch, attribute] in the order of `SCORE_ATTRIBUTES`; number of classes where
    absent."""
    families: Tensor
    """float32 [batch, family], 1 present, 0 not, -1 throughout where absent."""
    moods: Tensor
    """float32 [batch, mood], likewise."""

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def absent(cls, batch: int) -> ScoreConditions:
        """Unconditional: every slot absent."""
        sizes = torch.tensor([size for _, size in SCORE_ATTRIBUTES], dtype=torch.long, device="cpu")
        return cls(
            words=torch.zeros(batch, WORD_WIDTH, dtype=torch.float32, device="cpu"),
            attributes=sizes.expand(batch, -1).clone(),
            families=torch.full((batch, len(FAMILIES)), -1.0, dtype=torch.float32, device="cpu"),
            moods=torch.full((batch, len(MOODS)), -1.0, dtype=torch.float32, device="cpu"),
        )

    def joined(self, other: ScoreConditions) -> ScoreConditions:
        """Both batches concatenated."""
        return ScoreConditions(
            **{
                one.name: torch.cat([getattr(self, one.name), getattr(other, one.name)])
                for one in fields(self)
            }
        )

    def to(self, device: str) -> ScoreConditions:
        """The conditions on a device."""
        return ScoreConditions(
            **{one.name: getattr(self, one.name).to(device) for one in fields(self)}
        )


@dataclass(frozen=True, kw_only=True)
class ScoreDrops:
    """Probabilities with which slots are dropped in training."""

    everything: float = 0.1
    """All slots at once (the unconditional case of classifier-free guidance)."""
    words: float = 0.4
    attribute: float = 0.35
    """Each attribute independently."""
    families: float = 0.4
    moods: float = 0.5
    word_noise: float = 0.3
    """Standard deviation of the noise on the text embedding, relative to its norm over
    sqrt(width): people phrase things differently from our captions."""


def drop_conditioning(
    conditions: ScoreConditions, settings: ScoreDrops, generator: torch.Generator
) -> ScoreConditions:
    """Drops slots at random, independently for each row of the batch.

    Args:
        conditions: on the CPU.
        settings: the probabilities.
        generator: a CPU generator.
    """
    batch = len(conditions)
    gone = ScoreConditions.absent(batch)

    def chosen(share: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu") < share

    everything = chosen(settings.everything, batch)
    noise = (
        torch.randn(conditions.words.shape, generator=generator, dtype=torch.float32, device="cpu")
        * settings.word_noise
    )
    noisy = conditions.words + noise * conditions.words.norm(dim=1, keepdim=True) / math.sqrt(
        WORD_WIDTH
    )
    no_words = (everything | chosen(settings.words, batch))[:, None]
    no_attribute = everything[:, None] | chosen(settings.attribute, *conditions.attributes.shape)
    no_families = (everything | chosen(settings.families, batch))[:, None]
    no_moods = (everything | chosen(settings.moods, batch))[:, None]
    return replace(
        conditions,
        words=torch.where(no_words, gone.words, noisy),
        attributes=torch.where(no_attribute, gone.attributes, conditions.attributes),
        families=torch.where(no_families, gone.families, conditions.families),
        moods=torch.where(no_moods, gone.moods, conditions.moods),
    )


class ScoreConditioner(nn.Module):
    """Embeds `ScoreConditions` as [batch, 1, width], which scales and shifts every block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Linear(WORD_WIDTH, width)
        self.attributes = nn.ModuleList(
            nn.Embedding(size + 1, width) for _, size in SCORE_ATTRIBUTES
        )
        self.sets = nn.Linear(2 * (len(FAMILIES) + len(MOODS)), width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.5)

    def forward(self, conditions: ScoreConditions) -> Tensor:
        """Embeds all slots and mixes them, float32 [batch, 1, width]."""
        rows = [self.words(conditions.words * WORD_WIDTH**0.5)]
        rows += [table(conditions.attributes[:, i]) for i, table in enumerate(self.attributes)]
        sets = torch.cat([conditions.families, conditions.moods], dim=1)
        rows.append(self.sets(torch.cat([(sets > 0).float(), (sets < 0).float()], dim=1)))
        return self.mix(torch.stack(rows).sum(dim=0))[:, None]
