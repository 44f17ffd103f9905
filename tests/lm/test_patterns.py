"""Codebook patterns: every token has one step, and comes back from it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.lm import delayed, flattened, parallel
from melisma.lm.patterns import PATTERNS, delayed_pairs
from melisma.values.errors import MelismaError

NAMES = st.sampled_from(sorted(set(PATTERNS) - {"delayed_pairs"}))
BLANK = 99


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(name=NAMES, levels=st.integers(1, 5), frames=st.integers(1, 9), batch=st.integers(1, 2))
def test_undo_inverts_apply(name: str, levels: int, frames: int, batch: int) -> None:
    pattern = PATTERNS[name](levels)
    grid = torch.arange(batch * levels * frames).reshape(batch, levels, frames) % BLANK
    steps = pattern.apply(grid, BLANK)
    assert steps.shape == (batch, levels, pattern.steps(frames))
    assert torch.equal(pattern.undo(steps, frames), grid)
    assert int((steps != BLANK).sum()) == grid.numel()


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(name=NAMES, levels=st.integers(1, 5), frames=st.integers(1, 9))
def test_every_step_knows_its_frames(name: str, levels: int, frames: int) -> None:
    pattern = PATTERNS[name](levels)
    grid = torch.arange(levels * frames).reshape(1, levels, frames)
    steps = pattern.apply(grid, -1)
    for step in range(pattern.steps(frames)):
        frames_at_step = [
            place for level in range(levels) if (place := pattern.frame_at(step, level)) is not None
        ]
        assert max(frames_at_step, default=0) <= pattern.newest_frame(step)
        for level in range(levels):
            place = pattern.frame_at(step, level)
            here = int(steps[0, level, step])
            if place is None or place >= frames:
                assert here == -1
            else:
                assert here == level * frames + place


def test_the_three_orders() -> None:
    grid = torch.tensor([[[1, 2], [3, 4]]])
    assert parallel(2).apply(grid, 0)[0].tolist() == [[1, 2], [3, 4]]
    assert delayed(2).apply(grid, 0)[0].tolist() == [[1, 2, 0], [0, 3, 4]]
    assert flattened(2).apply(grid, 0)[0].tolist() == [[1, 0, 2, 0], [0, 3, 0, 4]]


def test_left_and_right_go_side_by_side() -> None:
    grid = torch.arange(1, 9).reshape(1, 4, 2)
    steps = delayed_pairs(4).apply(grid, 0)
    assert steps[0].tolist() == [[1, 2, 0], [3, 4, 0], [0, 5, 6], [0, 7, 8]]
    assert torch.equal(delayed_pairs(4).undo(steps, 2), grid)
    with pytest.raises(MelismaError, match="even number of levels, not 3"):
        delayed_pairs(3)


def test_a_grid_of_other_levels_is_refused() -> None:
    with pytest.raises(MelismaError, match="3 levels, the grid 2"):
        delayed(3).apply(torch.zeros(1, 2, 4, dtype=torch.long), 0)
