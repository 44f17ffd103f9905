"""The token model: step by step equals the whole, and nothing looks ahead."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_stage import PATTERNS_OF_THREE, SOURCE, VOCABULARY, conditions, stage
from torch import Tensor

from melisma.lm import Conditioning

FRAMES = 9


def grid_of(frames: int = FRAMES, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(VOCABULARY, (batch, 3, frames), generator=generator)


@pytest.mark.parametrize("pattern", PATTERNS_OF_THREE)
def test_a_token_changes_only_what_is_drawn_after_it(pattern: str) -> None:
    model, asked, grid = stage(pattern), conditions(FRAMES), grid_of()
    changed = grid.clone()
    changed[:, 1, 4] = (changed[:, 1, 4] + 1) % VOCABULARY
    with torch.no_grad():
        moved = (model(grid, asked) - model(changed, asked)).abs().amax(dim=(0, 3)) > 1e-6
    when = model.pattern.offsets[1] + 4 * model.pattern.stride
    for level in range(3):
        for frame in range(FRAMES):
            after = model.pattern.offsets[level] + frame * model.pattern.stride > when
            assert not moved[level, frame] or after
    assert bool(moved.any())


def test_every_condition_is_heard() -> None:
    model, grid = stage(conditions=SOURCE), grid_of()
    asked, other = conditions(FRAMES, source=True), conditions(FRAMES, seed=1, source=True)
    with torch.no_grad():
        before = model(grid, asked)
        for slot in dataclasses.fields(Conditioning):
            if getattr(asked, slot.name) is None:
                continue
            told = dataclasses.replace(asked, **{slot.name: getattr(other, slot.name)})
            assert float((model(grid, told) - before).abs().max()) > 1e-4, slot.name


def test_what_looks_both_ways_fills_from_the_levels_below() -> None:
    model = stage(
        levels=3, first_sampled_level=1, causal=False, conditions=SOURCE, pattern="parallel"
    )
    asked, grid = conditions(FRAMES, source=True), grid_of()
    above, later = grid.clone(), grid.clone()
    above[:, 1:] = 0
    later[:, 0, -1] = (later[:, 0, -1] + 1) % VOCABULARY
    with torch.no_grad():
        found = model.fill(grid, 1, asked)
        assert found.shape == (2, FRAMES, VOCABULARY)
        assert torch.equal(model.fill(above, 1, asked), found)
        assert not torch.allclose(model.fill(later, 1, asked)[:, 0], found[:, 0])
        assert not torch.allclose(model.fill(grid, 2, asked), found)
    assert len(model.heads) == 2


def test_the_source_is_heard_just_around_the_frame() -> None:
    model, asked = stage(conditions=SOURCE), conditions(20, source=True)
    assert asked.source is not None
    source = asked.source.clone()
    source[:, :, 10] = (source[:, :, 10] + 1) % VOCABULARY
    changed = dataclasses.replace(asked, source=source)
    with torch.no_grad():
        first, second = (model.conditioner(one).frames for one in (asked, changed))
    moved = torch.nonzero((first - second).abs().amax(dim=(0, 2)) > 1e-6).flatten().tolist()
    assert moved == list(range(10 - SOURCE.source_ahead, 10 + SOURCE.source_before + 1))
