"""The token model: causality and the effect of every condition."""

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
def test_a_token_affects_only_later_steps(pattern: str) -> None:
    model, given, grid = stage(pattern), conditions(FRAMES), grid_of()
    changed = grid.clone()
    changed[:, 1, 4] = (changed[:, 1, 4] + 1) % VOCABULARY
    with torch.no_grad():
        moved = (model(grid, given) - model(changed, given)).abs().amax(dim=(0, 3)) > 1e-6
    when = model.pattern.offsets[1] + 4 * model.pattern.stride
    for level in range(3):
        for frame in range(FRAMES):
            after = model.pattern.offsets[level] + frame * model.pattern.stride > when
            assert not moved[level, frame] or after
    assert bool(moved.any())


def test_every_condition_has_an_effect() -> None:
    model, grid = stage(conditions=SOURCE), grid_of()
    given, other = conditions(FRAMES, source=True), conditions(FRAMES, seed=1, source=True)
    with torch.no_grad():
        before = model(grid, given)
        for slot in dataclasses.fields(Conditioning):
            if slot.name in ("batch", "length") or getattr(given, slot.name) is None:
                continue
            changed = dataclasses.replace(given, **{slot.name: getattr(other, slot.name)})
            assert float((model(grid, changed) - before).abs().max()) > 1e-4, slot.name


def test_bidirectional_models_predict_from_the_levels_below() -> None:
    model = stage(
        levels=3, first_sampled_level=1, causal=False, conditions=SOURCE, pattern="parallel"
    )
    given, grid = conditions(FRAMES, source=True), grid_of()
    above, later = grid.clone(), grid.clone()
    above[:, 1:] = 0
    later[:, 0, -1] = (later[:, 0, -1] + 1) % VOCABULARY
    with torch.no_grad():
        found = model.fill(grid, 1, given)
        assert found.shape == (2, FRAMES, VOCABULARY)
        assert torch.equal(model.fill(above, 1, given), found)
        assert not torch.allclose(model.fill(later, 1, given)[:, 0], found[:, 0])
        assert not torch.allclose(model.fill(grid, 2, given), found)
    assert len(model.heads) == 2


def test_source_tokens_affect_only_nearby_frames() -> None:
    model, given = stage(conditions=SOURCE), conditions(20, source=True)
    assert given.source is not None
    source = given.source.clone()
    source[:, :, 10] = (source[:, :, 10] + 1) % VOCABULARY
    changed = dataclasses.replace(given, source=source)
    with torch.no_grad():
        first, second = (model.conditioner(one).frames for one in (given, changed))
    moved = torch.nonzero((first - second).abs().amax(dim=(0, 2)) > 1e-6).flatten().tolist()
    assert moved == list(range(10 - SOURCE.source_ahead, 10 + SOURCE.source_before + 1))
