"""Musical attributes that both towers predict, laid out in one row of probabilities.

A row is float32 [150]: the classes of all attributes, one block after another in the order of
`ATTRIBUTES`. A row of targets comes with a mask [11] of the known attributes. Tempo is a
distribution over log-spaced bins (targets are smoothed over neighbouring bins, because bin edges
are arbitrary); moods and families are multi-label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.values import Facts
from melisma.values.attributes import (
    ATTRIBUTE_CLASSES,
    FAMILIES,
    FAST_BPM,
    SLOW_BPM,
    TEMPO_BINS,
    TEMPO_RANGE_BPM,
    bin_tempo_bpm,
)


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute: its name, its classes in order, and whether it is multi-label."""

    name: str
    classes: tuple[str, ...]
    several: bool = False


_MULTI_LABEL = ("moods", "families")

ATTRIBUTES: tuple[Attribute, ...] = tuple(
    Attribute(name=name, classes=classes, several=name in _MULTI_LABEL)
    for name, classes in ATTRIBUTE_CLASSES.items()
)
"""The order is an interface: the rows of a trained head follow it."""

NAMES: tuple[str, ...] = tuple(a.name for a in ATTRIBUTES)
ROW_WIDTH = sum(len(a.classes) for a in ATTRIBUTES)


def _blocks() -> dict[str, slice]:
    blocks, start = {}, 0
    for attribute in ATTRIBUTES:
        blocks[attribute.name] = slice(start, start + len(attribute.classes))
        start += len(attribute.classes)
    return blocks


BLOCKS: Mapping[str, slice] = _blocks()
"""Slice of each attribute in a row."""

TEMPO_SMEAR_BINS = 0.6
"""Standard deviation of a tempo target in bins (chosen: 2 %, the tolerance of listeners)."""


def tempo_distribution(tempo_bpm: float, smear_bins: float = TEMPO_SMEAR_BINS) -> np.ndarray:
    """Gaussian over the tempo bins around a tempo.

    Args:
        tempo_bpm: Tempo in quarter notes per minute.
        smear_bins: Standard deviation in bins.

    Returns:
        float32 [48], summing to one.
    """
    low, high = TEMPO_RANGE_BPM
    centre = math.log(max(tempo_bpm, 1e-3) / low) / math.log(high / low) * TEMPO_BINS - 0.5
    centre = min(max(centre, 0.0), TEMPO_BINS - 1.0)
    bell = np.exp(-0.5 * ((np.arange(TEMPO_BINS) - centre) / smear_bins) ** 2)
    return (bell / bell.sum()).astype(np.float32)


def target_row(facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Converts facts to a training target.

    Args:
        facts: Attributes of a clip; None and empty tuples are unknown.

    Returns:
        (probabilities float32 [150], known bool [11]).
    """
    row = np.zeros(ROW_WIDTH, dtype=np.float32)
    known = np.zeros(len(ATTRIBUTES), dtype=bool)
    if facts.tempo_bpm is not None:
        row[BLOCKS["tempo"]] = tempo_distribution(facts.tempo_bpm)
        known[0] = True
    for index, attribute in enumerate(ATTRIBUTES):
        if attribute.name == "tempo":
            continue
        value = getattr(facts, attribute.name)
        values = value if isinstance(value, tuple) else (value,) if value is not None else ()
        chosen = [attribute.classes.index(v) for v in values if v in attribute.classes]
        if chosen:
            row[BLOCKS[attribute.name].start + np.array(chosen)] = 1.0
            known[index] = True
    return row, known


@dataclass(frozen=True, kw_only=True)
class AttributePrediction:
    """A tower's prediction from text or audio: a probability for every class of every attribute."""

    row: np.ndarray
    """float32 [150], see `BLOCKS`; a block sums to one unless it is multi-label."""
    stated: Facts = field(default_factory=Facts)
    """Facts stated explicitly by the text; they override the prediction (and are merged into
    `row`)."""

    def probabilities(self, name: str) -> dict[str, float]:
        """Class -> probability, for one attribute of `NAMES`."""
        attribute = ATTRIBUTES[NAMES.index(name)]
        return dict(zip(attribute.classes, map(float, self.row[BLOCKS[name]]), strict=True))

    def best(self, name: str) -> tuple[str, float]:
        """The most probable class of an attribute, and its probability."""
        block = self.row[BLOCKS[name]]
        index = int(block.argmax())
        return ATTRIBUTES[NAMES.index(name)].classes[index], float(block[index])

    def classes_above(self, name: str, at_least: float = 0.5) -> tuple[str, ...]:
        """Classes with a probability of `at_least` or more, the most probable first."""
        ranked = sorted(self.probabilities(name).items(), key=lambda pair: -pair[1])
        return tuple(one for one, probability in ranked if probability >= at_least)

    @property
    def tempo_bpm(self) -> float:
        """The stated tempo, or the mean log tempo within two bins of the likeliest bin."""
        if self.stated.tempo_bpm is not None:
            return self.stated.tempo_bpm
        block = self.row[BLOCKS["tempo"]]
        peak = int(block.argmax())
        near = np.arange(max(peak - 2, 0), min(peak + 3, TEMPO_BINS))
        weights = block[near] / max(float(block[near].sum()), 1e-9)
        return float(np.exp((np.log([bin_tempo_bpm(int(i)) for i in near]) * weights).sum()))

    def confidence(self, name: str) -> float:
        """Probability of the likeliest class; for tempo, of the three bins around it."""
        block = self.row[BLOCKS[name]]
        if name != "tempo":
            return float(block.max())
        peak = int(block.argmax())
        return float(block[max(peak - 1, 0) : peak + 2].sum())

    def overridden(self, stated: Facts, absent: tuple[str, ...] = ()) -> AttributePrediction:
        """Overrides the prediction with certain facts.

        Where families are stated, the lead is restricted to them.

        Args:
            stated: Facts that become certain.
            absent: Families that are excluded.

        Returns:
            The new prediction.
        """
        target, known = target_row(stated)
        row = self.row.copy()
        for index, attribute in enumerate(ATTRIBUTES):
            block = BLOCKS[attribute.name]
            if known[index]:
                row[block] = (
                    np.maximum(row[block], target[block]) if attribute.several else target[block]
                )
        lead = row[BLOCKS["lead"]]
        if known[NAMES.index("families")] and stated.lead is None:
            lead = _restricted(lead, target[BLOCKS["families"]])
        for family in absent:
            row[BLOCKS["families"].start + FAMILIES.index(family)] = 0.0
        present = np.array([family not in absent for family in FAMILIES], dtype=np.float32)
        row[BLOCKS["lead"]] = _restricted(lead, present)
        return AttributePrediction(row=row, stated=stated)

    def avoiding(self, avoided: Sequence[tuple[str, str]]) -> AttributePrediction:
        """Excludes classes, which then have probability 0 (unless no other would be left).

        Args:
            avoided: (attribute, class) as in `values.attributes.CLASS_WORDS`; those of other
                attributes are ignored.
        """
        if not avoided:
            return self
        row = self.row.copy()
        for name in dict.fromkeys(name for name, _ in avoided if name in NAMES):
            attribute, block = ATTRIBUTES[NAMES.index(name)], BLOCKS[name]
            excluded = {one for attribute_name, one in avoided if attribute_name == name}
            allowed = np.array(
                [not _is_of(one, excluded, name) for one in attribute.classes], dtype=np.float32
            )
            row[block] = (
                row[block] * allowed if attribute.several else _restricted(row[block], allowed)
            )
        return AttributePrediction(row=row, stated=self.stated)


def _is_of(one: str, excluded: set[str], attribute: str) -> bool:
    """Whether a class is one of those excluded, or a tempo or a key of such a kind."""
    if attribute == "tempo":
        bpm = float(one)
        return ("fast" in excluded and bpm > FAST_BPM) or ("slow" in excluded and bpm < SLOW_BPM)
    return one in excluded or (attribute == "tonality" and one.split()[1] in excluded)


def _restricted(block: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """A distribution renormalized over the allowed classes; unchanged where none is allowed."""
    if not allowed.any():
        return block
    masked = (block + 1e-6) * allowed
    return masked / masked.sum()


class AttributeHeads(nn.Module):
    """One linear layer for all attributes: [batch, width] -> logits [batch, 150]."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, ROW_WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [batch, width] -> logits [batch, 150], float32."""
        return self.out(self.norm(hidden)).float()


def probabilities(logits: Tensor) -> Tensor:
    """Logits [..., 150] -> probabilities: softmax, or sigmoid for multi-label attributes."""
    parts = []
    for attribute in ATTRIBUTES:
        block = logits[..., BLOCKS[attribute.name]]
        parts.append(block.sigmoid() if attribute.several else block.softmax(dim=-1))
    return torch.cat(parts, dim=-1)


def attribute_loss(
    logits: Tensor, targets: Tensor, known: Tensor, weights: Sequence[float] | None = None
) -> Tensor:
    """Cross-entropy of each attribute over the rows where it is known.

    Args:
        logits: [batch, 150].
        targets: Target probabilities [batch, 150].
        known: [batch, 11], bool or weights between 0 and 1.
        weights: Factor of each attribute's loss.

    Returns:
        Losses [11]; 0 for attributes that are unknown in all rows.
    """
    losses = []
    for index, attribute in enumerate(ATTRIBUTES):
        block = BLOCKS[attribute.name]
        scores, target, counts = logits[:, block], targets[:, block], known[:, index].float()
        if attribute.several:
            each = F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(dim=-1)
        else:
            each = -(target * scores.log_softmax(dim=-1)).sum(dim=-1)
        losses.append((each * counts).sum() / counts.sum().clamp(min=1.0))
    stacked = torch.stack(losses)
    return stacked if weights is None else stacked * stacked.new_tensor(list(weights))
