"""A token model small enough for tests, and conditions at random."""

from __future__ import annotations

import dataclasses

import torch

from melisma.lm import Conditioning, ConditioningSettings, TokenModel, TokenModelSettings
from melisma.lm.conditioning import ATTRIBUTE_SIZES, FAMILY_COUNT, MELODY_SIZE, Condition
from melisma.lm.patterns import PATTERNS

VOCABULARY = 12
PATTERNS_OF_THREE = sorted(set(PATTERNS) - {"delayed_pairs"})
"""Patterns that an odd number of levels may have."""
SOURCE = ConditioningSettings(source_levels=2, source_vocabulary=VOCABULARY)


def stage(pattern: str = "delayed", *, window: int = 6, **changes: object) -> TokenModel:
    """Random weights, also where a fresh model is silent, so that every condition counts."""
    torch.manual_seed(0)
    shape = TokenModelSettings(
        levels=3, vocabulary=VOCABULARY, pattern=pattern, width=16, layers=2, heads=2,
        window_frames=window,
    )  # fmt: skip
    model = TokenModel(dataclasses.replace(shape, **changes)).eval()  # pyright: ignore[reportArgumentType]
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.25)
    return model


def conditions(frames: int, batch: int = 2, seed: int = 0, source: bool = False) -> Conditioning:
    """Something in every slot."""
    generator = torch.Generator().manual_seed(seed)

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    style = torch.nn.functional.normalize(torch.randn(batch, 128, generator=generator), dim=1)
    attributes = torch.stack([integers(size, batch) for _, size in ATTRIBUTE_SIZES], dim=1)
    return Conditioning(
        batch=batch,
        length=frames,
        style=Condition.full(style),
        attributes=Condition.full(attributes, 2),
        families=Condition.full(integers(2, batch, FAMILY_COUNT).float()),
        rhythm=Condition.full(torch.rand(batch, frames, 2, generator=generator), 3),
        melody=Condition.full(integers(MELODY_SIZE, batch, frames), 2),
        source=integers(VOCABULARY, batch, 2, frames) if source else None,
    )


def generators(*seeds: int) -> list[torch.Generator]:
    """One for each piece."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]
