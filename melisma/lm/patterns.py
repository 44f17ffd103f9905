"""Codebook interleaving patterns: the order in which the levels of a token grid are sampled.

MusicGen (2306.05284, section 2.2): a pattern assigns every token of a grid [level, frame] to one
step of a sequence; the tokens of one step are sampled in parallel. *Parallel* samples all levels of
a frame at once, *delayed* level l of frame f at step f + l, *flattened* one token per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Level l of frame f is sampled at step `f * stride + offsets[l]`."""

    offsets: tuple[int, ...]
    """Step offset of each level, in ascending order."""
    stride: int
    """Steps per frame."""

    @property
    def levels(self) -> int:
        """Levels of the grid."""
        return len(self.offsets)

    def steps(self, frames: int) -> int:
        """Number of steps of a grid with this number of frames."""
        return (frames - 1) * self.stride + self.offsets[-1] + 1

    def frame_at(self, step: int, level: int) -> int | None:
        """The frame whose level is sampled at a step; None if there is none."""
        distance = step - self.offsets[level]
        if distance < 0 or distance % self.stride:
            return None
        return distance // self.stride

    def newest_frame(self, step: int) -> int:
        """The latest frame that is sampled at a step; frame conditions are aligned with it."""
        return step // self.stride

    def apply(self, grid: Tensor, blank: int) -> Tensor:
        """Interleaves a grid.

        Args:
            grid: tokens [batch, level, frame].
            blank: token of the positions that the pattern leaves empty.

        Returns:
            [batch, level, step].

        Raises:
            MelismaError: where the grid has another number of levels.
        """
        batch, levels, frames = grid.shape
        if levels != self.levels:
            raise MelismaError(f"the pattern has {self.levels} levels, the grid {levels}")
        out = grid.new_full((batch, levels, self.steps(frames)), blank)
        for level, offset in enumerate(self.offsets):
            out[:, level, offset : offset + (frames - 1) * self.stride + 1 : self.stride] = grid[
                :, level
            ]
        return out

    def undo(self, steps: Tensor, frames: int) -> Tensor:
        """Inverse of `apply`: [batch, level, step] -> [batch, level, frame]."""
        rows = [
            steps[:, level, offset : offset + (frames - 1) * self.stride + 1 : self.stride]
            for level, offset in enumerate(self.offsets)
        ]
        return torch.stack(rows, dim=1)


def parallel(levels: int) -> Pattern:
    """All levels of a frame at one step."""
    return Pattern(offsets=(0,) * levels, stride=1)


def delayed(levels: int) -> Pattern:
    """Each level one step after the previous level."""
    return Pattern(offsets=tuple(range(levels)), stride=1)


def flattened(levels: int) -> Pattern:
    """One token per step."""
    return Pattern(offsets=tuple(range(levels)), stride=levels)


def delayed_pairs(levels: int) -> Pattern:
    """Left and right channel of a level at one step, one step after the previous pair.

    Pattern of MusicGen's stereo models: levels are left 0, right 0, left 1, ... `MelismaError` for
    an odd number of levels.
    """
    if levels % 2:
        raise MelismaError(f"two channels have an even number of levels, not {levels}")
    return Pattern(offsets=tuple(level // 2 for level in range(levels)), stride=1)


PATTERNS = {
    "parallel": parallel,
    "delayed": delayed,
    "flattened": flattened,
    "delayed_pairs": delayed_pairs,
}
"""Patterns by their names in settings."""
