"""Viterbi decoding with distance-dependent transition costs.

Input: scores float [frame, state]. Output: the state of each frame, int64 [frame].
"""

from __future__ import annotations

import numpy as np


def likeliest_path(
    scores: np.ndarray, *, step_cost: float, jump_cost: float, reach: int
) -> np.ndarray:
    """The path that maximizes the sum of scores minus the transition costs.

    Args:
        scores: float [frame, state].
        step_cost: Cost per state of a transition by at most `reach` states.
        jump_cost: Cost of any other transition.
        reach: Maximum distance of a step.

    Returns:
        State of each frame, int64 [frame].
    """
    frames, states = scores.shape
    previous = np.zeros((frames, states), dtype=np.int32)
    near_costs = step_cost * np.abs(np.arange(-reach, reach + 1))
    index = np.arange(states)
    padded = np.full(states + 2 * reach, -np.inf)
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    total = scores[0].astype(np.float64)
    for frame in range(1, frames):
        padded[reach : reach + states] = total
        reached = near - near_costs
        choice = reached.argmax(axis=1)
        best = reached[index, choice]
        leader = int(total.argmax())
        jumps = best < total[leader] - jump_cost
        previous[frame] = np.where(jumps, leader, index + choice - reach)
        total = np.where(jumps, total[leader] - jump_cost, best) + scores[frame]
    path = np.empty(frames, dtype=np.int64)
    path[-1] = total.argmax()
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = previous[frame, path[frame]]
    return path
