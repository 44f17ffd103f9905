"""Codebook patterns: in which order the levels of a token grid are drawn.

MusicGen (2306.05284, section 2.2): a pattern assigns every token of a grid [level, frame] to one
step of a sequence; tokens of one step are drawn side by side. *Parallel* draws all levels of a
frame at once, *delayed* level l of frame f at step f + l, *flattened* one token a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Level l of frame f stands at step `f * stride + offsets[l]`."""

    offsets: tuple[int, ...]
    """Step offset of each level, not descending."""
    stride: int
    """Steps from one frame to the next."""

    @property
    def levels(self) -> int:
        """Levels of the grid."""
        return len(self.offsets)

    def steps(self, frames: int) -> int:
        """Steps that a grid of so many frames takes."""
        return (frames - 1) * self.stride + self.offsets[-1] + 1

    def frame_at(self, step: int, level: int) -> int | None:
        """The frame whose level is drawn at a step, None where there is none, or before frame 0."""
        distance = step - self.offsets[level]
        if distance < 0 or distance % self.stride:
            return None
        return distance // self.stride

    def newest_frame(self, step: int) -> int:
        """The newest frame that any level draws at a step, which conditions are aligned with."""
        return step // self.stride

    def apply(self, grid: Tensor, blank: int) -> Tensor:
        """Grid [batch, level, frame] -> [batch, level, step], `blank` where nothing is drawn."""
        batch, levels, frames = grid.shape
        if levels != self.levels:
            raise ValueError(f"the pattern has {self.levels} levels, the grid {levels}")
        out = grid.new_full((batch, levels, self.steps(frames)), blank)
        for level, offset in enumerate(self.offsets):
            out[:, level, offset : offset + (frames - 1) * self.stride + 1 : self.stride] = grid[
                :, level
            ]
        return out

    def undo(self, steps: Tensor, frames: int) -> Tensor:
        """The inverse of `spread`: [batch, level, step] -> [batch, level, frame]."""
        rows = [
            steps[:, level, offset : offset + (frames - 1) * self.stride + 1 : self.stride]
            for level, offset in enumerate(self.offsets)
        ]
        return torch.stack(rows, dim=1)


def parallel(levels: int) -> Pattern:
    """All levels of a frame in one step."""
    return Pattern(offsets=(0,) * levels, stride=1)


def delayed(levels: int) -> Pattern:
    """Each level one step after the level before."""
    return Pattern(offsets=tuple(range(levels)), stride=1)


def flattened(levels: int) -> Pattern:
    """One token a step."""
    return Pattern(offsets=tuple(range(levels)), stride=levels)


def delayed_pairs(levels: int) -> Pattern:
    """Left and right of a level side by side, each pair one step after the pair before (the stereo
    models of MusicGen: levels are left 0, right 0, left 1, ...). `ValueError` for an odd number."""
    if levels % 2:
        raise ValueError(f"two channels have an even number of levels, not {levels}")
    return Pattern(offsets=tuple(level // 2 for level in range(levels)), stride=1)


PATTERNS = {
    "parallel": parallel,
    "delayed": delayed,
    "flattened": flattened,
    "delayed_pairs": delayed_pairs,
}
"""Patterns by their name in settings."""
