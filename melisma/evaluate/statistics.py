"""How sure a figure is: bootstrap intervals, areas under curves, recall among candidates.

Enters: arrays with one entry per piece. Leaves: `Interval`s and plain numbers. Every random draw
comes from a seed, so that a table can be printed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

REPEATS = 2_000
"""Bootstrap samples (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13:
a thousand or more for percentile intervals)."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Pieces it rests on."""


def bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, seed: int = 0, repeats: int = REPEATS
) -> Interval:
    """95 % percentile interval of a statistic of piece indices.

    `statistic` gets an int64 array of indices below `count`, with repeats; values that are not a
    number (a class missing from a draw) are left out.
    """
    if count < 1:
        raise ValueError("no piece was measured, so there is no figure: give one or more")
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(0, count, size=count)) for _ in range(repeats)]
    finite = np.array([value for value in drawn if np.isfinite(value)])
    value = statistic(np.arange(count))
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (value, value)
    return Interval(value=float(value), low=float(low), high=float(high), count=count)


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of one number (or yes and no) per piece."""
    values = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda index: float(values[index].mean()), len(values), seed)


def median_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Median of one number per piece."""
    values = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda index: float(np.median(values[index])), len(values), seed)


def balanced_interval(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Interval:
    """Mean over groups of the mean within each, e.g. accuracy where each family counts alike."""
    values = np.asarray(values, dtype=np.float64)
    _, membership = np.unique(np.asarray(groups), return_inverse=True)

    def statistic(index: np.ndarray) -> float:
        total = np.bincount(membership[index], weights=values[index])
        size = np.bincount(membership[index])
        return float((total[size > 0] / size[size > 0]).mean())

    return bootstrap(statistic, len(values), seed)


def area_under_curve(scores: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a true piece scores above a false one (ties count half); nan where all
    pieces are alike (Mann and Whitney)."""
    truth = np.asarray(truth, dtype=bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(scores)
    excess = float(ranks[truth].sum()) - positives * (positives + 1) / 2.0
    return excess / (positives * negatives)


def ranks_of_true(similarity: np.ndarray) -> np.ndarray:
    """Rank (0 is best) of each row's own column in [text, music]; ties count against us."""
    own = np.diagonal(similarity)[:, None]
    return (similarity >= own).sum(axis=1) - 1


def recall_interval(similarity: np.ndarray, within: int, seed: int = 0) -> Interval:
    """Share of rows whose own column is among the best `within`."""
    return mean_interval(ranks_of_true(similarity) < within, seed)
