"""A head start for a stage: tokens whose codes lie near each other begin as near neighbours.

A token is the number of a code, and the code is a vector: of the codec's latent, or of the semantic
bottleneck. Tables and heads that begin as random rows have to find out from examples alone that two
codes sound almost alike, one pair of a million at a time. Here they begin as the codes themselves,
turned by a random rotation. After 200 updates of 10 crops of 8 s the coarse stage was at 5.21 nats
a token in place of 6.11.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melisma.lm.model import TokenModel

TABLE_SPREAD = 0.5
"""Root mean square of a table's entries, as random ones have it."""
HEAD_SPREAD = 0.02
"""Root mean square of a head's entries."""


@torch.no_grad()
def start_from_codes(
    model: TokenModel, codes: Tensor, source: Tensor | None, generator: torch.Generator
) -> None:
    """Sets tables and heads from codes [level, vocabulary, code width] of the stage's tokens, and
    the tables of its source tokens from theirs. More levels than the stage reads are left out.

    `ValueError` where the codes are of another vocabulary or of too few levels.
    """
    first = model.settings.first_sampled_level
    _set(model.tables, codes, TABLE_SPREAD, generator)
    _set(model.heads, codes[first:], HEAD_SPREAD, generator)
    if source is not None and model.settings.conditions.source_levels:
        _set(model.conditioner.source, source, TABLE_SPREAD, generator)


def _set(layers: nn.ModuleList, codes: Tensor, spread: float, generator: torch.Generator) -> None:
    if len(layers) > len(codes):
        raise ValueError(
            f"{len(layers)} levels of tokens need as many levels of codes: {len(codes)}"
        )
    for layer, level in zip(layers, codes, strict=False):
        assert isinstance(layer, nn.Embedding | nn.Linear)
        weight = layer.weight
        # A table has one entry more, for "nothing drawn here yet".
        if len(weight) not in (len(level), len(level) + 1):
            raise ValueError(f"{len(weight)} entries do not go with {len(level)} codes")
        weight[: len(level)] = turned(level, weight.shape[1], generator) * spread


def turned(codes: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Codes [vocabulary, code width] -> [vocabulary, width] with mean 0 and mean square 1.

    The dimensions' spreads are tamed to their square roots (loudness, which varies most, would
    drown all others), then a random rotation spreads them over the width.
    """
    centred = codes.float().cpu() - codes.float().cpu().mean(dim=0)
    tamed = centred / centred.std(dim=0).clamp(min=1e-6).sqrt()
    wide = max(width, tamed.shape[1])
    rotation, _ = torch.linalg.qr(torch.randn(wide, tamed.shape[1], generator=generator))
    rows = tamed @ rotation[:width].T
    return rows / rows.square().mean().sqrt().clamp(min=1e-6)
