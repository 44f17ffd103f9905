"""Cost of turning one histogram of tokens into another: optimal transport by Sinkhorn's algorithm.

Sinkhorn's iterations (Cuturi, "Sinkhorn distances", 1306.0895) on the tokens of two histograms, as
in MusicLM's memorisation study (2301.11325, section 4.3): the cost of moving mass is the distance
between the tokens' centroids. Three things make it accurate and fast:

- Mass that both histograms share is not moved. Distances obey the triangle inequality, so some
  optimal plan does not move it; equal histograms cost exactly nothing.
- The regularisation is a hundredth of the largest distance, so no weight is below exp(-100) and no
  scaling above exp(100): float64 holds both, and no logarithms are needed.
- The residual of the last iteration is moved at once (Altschuler et al., 1705.09634, algorithm 2),
  so that the plan is feasible and its cost never below the optimum.

Input: counts [pair, token] and distances [token, token]. Output: costs [pair] in the unit of the
distances.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from melisma.values.errors import MelismaError

SOFTNESS = 0.01
"""Entropic regularisation as a share of the largest distance (chosen: half a percent too dear on
tokens of real music, measured against exact assignment)."""
ROUNDS = 150
"""Iterations (measured: at 100 of them .3 % of the mass is still to be placed, at 200 .01 %)."""
_CHUNK = 64


def centroid_distances(centroids: np.ndarray) -> np.ndarray:
    """Euclidean distances between centroids [token, width]: float64 [token, token]."""
    centroids = np.asarray(centroids, dtype=np.float64)
    square = (centroids**2).sum(axis=1)
    apart = np.sqrt((square[:, None] + square - 2 * centroids @ centroids.T).clip(min=0.0))
    np.fill_diagonal(apart, 0.0)
    return apart


def token_counts(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """How often each token stands in tokens [clip, frame]: int64 [clip, token]."""
    clips = len(tokens)
    cells = np.arange(clips)[:, None] * vocabulary + tokens.astype(np.int64)
    counts = np.bincount(cells.reshape(-1), minlength=clips * vocabulary)
    return counts.reshape(clips, vocabulary)


def transport_costs(
    first: np.ndarray,
    second: np.ndarray,
    distances: np.ndarray,
    *,
    softness: float = SOFTNESS,
    rounds: int = ROUNDS,
) -> np.ndarray:
    """Cost of turning each histogram of `first` into that of `second`, float64 [pair].

    `first` and `second` are counts [pair, token], brought to a sum of 1 each; `distances`
    [token, token] are those of a metric. `ValueError` where the shapes do not fit, counts are
    negative, or a histogram is empty.
    """
    vocabulary = len(distances)
    if first.shape != second.shape or first.shape[1:] != (vocabulary,):
        raise MelismaError(
            f"histograms of {first.shape} and {second.shape} do not fit {vocabulary} tokens: give "
            "counts [pair, token] twice"
        )
    if (first < 0).any() or (second < 0).any():
        raise MelismaError("counts are not negative")
    if not (first.sum(axis=1) > 0).all() or not (second.sum(axis=1) > 0).all():
        raise MelismaError("a histogram without any token has no cost: give one token or more")
    if not 0.002 <= softness <= 1:
        raise MelismaError(f"the softness lies between .002 and 1, not {softness}")
    scale = max(float(distances.max()), 1e-12)
    costs = np.zeros(len(first))
    for start in range(0, len(first), _CHUNK):
        pairs = slice(start, start + _CHUNK)
        left, wanted = _differences(first[pairs], second[pairs])
        source, source_tokens = _support(left)
        target, target_tokens = _support(wanted)
        near = distances[source_tokens[:, :, None], target_tokens[:, None, :]] / scale
        costs[pairs] = scale * _cost(source, target, torch.from_numpy(near), softness, rounds)
    return costs


def _differences(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each histogram [pair, token] has more than the other, of a sum of 1 before."""
    first, second = (one / one.sum(axis=1, keepdims=True) for one in (first, second))
    shared = np.minimum(first, second)
    # What rounding of floats leaves is no mass.
    left, wanted = (one - shared for one in (first, second))
    return np.where(left > 1e-12, left, 0.0), np.where(wanted > 1e-12, wanted, 0.0)


def _support(masses: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """(masses [pair, place], tokens [pair, place]) of the tokens that have mass, the heaviest
    first; shorter supports are filled up with tokens of no mass."""
    most = max(int((masses > 0).sum(axis=1).max()), 1)
    tokens = np.argsort(-masses, axis=1, kind="stable")[:, :most]
    return torch.from_numpy(np.take_along_axis(masses, tokens, axis=1)), tokens


def _cost(source: Tensor, target: Tensor, near: Tensor, softness: float, rounds: int) -> np.ndarray:
    """Cost [pair] of a true plan from masses [pair, row] to masses [pair, column]."""
    kernel = torch.exp(-near / softness)
    turned = kernel.transpose(1, 2).contiguous()
    columns = rows = (target > 0).double()[..., None]
    for _ in range(rounds):
        # The clamp is for pairs without any mass to move; nothing else comes near it.
        rows = source[..., None] / torch.bmm(kernel, columns).clamp(min=1e-300)
        columns = target[..., None] / torch.bmm(turned, rows).clamp(min=1e-300)
    plan = rows * kernel * columns.transpose(1, 2)
    plan = plan * (source / plan.sum(2).clamp(min=1e-300)).clamp(max=1.0)[:, :, None]
    plan = plan * (target / plan.sum(1).clamp(min=1e-300)).clamp(max=1.0)[:, None]
    left = (source - plan.sum(2)).clamp(min=0.0)
    wanted = (target - plan.sum(1)).clamp(min=0.0)
    # Below a billionth what is left is rounding, not mass.
    total = left.sum(dim=1).clamp(min=1e-9)[:, None, None]
    plan = plan + left[:, :, None] * wanted[:, None] / total
    return (plan * near).sum((1, 2)).numpy()
