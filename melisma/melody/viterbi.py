"""The likeliest path through scores of states (Viterbi), where a move costs what it is far.

Enters: scores float [frame, state]. Leaves: the state of each frame, int64 [frame].
"""

from __future__ import annotations

import numpy as np


def likeliest_path(
    scores: np.ndarray, *, step_cost: float, jump_cost: float, reach: int
) -> np.ndarray:
    """The path with the greatest sum of scores less the cost of its moves.

    A move by at most `reach` states costs `step_cost` for each; any other costs `jump_cost`.
    """
    frames, states = scores.shape
    came = np.zeros((frames, states), dtype=np.int32)
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
        came[frame] = np.where(jumps, leader, index + choice - reach)
        total = np.where(jumps, total[leader] - jump_cost, best) + scores[frame]
    path = np.empty(frames, dtype=np.int64)
    path[-1] = total.argmax()
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = came[frame, path[frame]]
    return path
