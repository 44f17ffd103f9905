"""Statistics of metrics: bootstrap intervals, area under the curve, recall among candidates.

Input: arrays with one entry per piece. Output: `Interval`s and plain numbers. Everything random
comes from a seed, so that a table can be reproduced.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from melisma.values.errors import MelismaError

REPEATS = 2_000
"""Bootstrap samples (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13:
a thousand or more for percentile intervals)."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    """Number of pieces."""


def bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, seed: int = 0, repeats: int = REPEATS
) -> Interval:
    """95 % percentile interval of a statistic of pieces.

    Unlike `scipy.stats.bootstrap` it accepts a single piece and samples whose statistic is not a
    number (a class may be missing from a sample; these are left out).

    Args:
        statistic: Called with indices of pieces, int64 [count], with repeats.
        count: Number of pieces.
        seed: Of the resampling.
        repeats: Number of bootstrap samples.

    Raises:
        MelismaError: If there is no piece.
    """
    if count < 1:
        raise MelismaError("no piece was measured, so there is no value: give one or more")
    rng = np.random.default_rng(seed)
    resampled = [statistic(rng.integers(0, count, size=count)) for _ in range(repeats)]
    finite = np.array([value for value in resampled if np.isfinite(value)])
    value = statistic(np.arange(count))
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (value, value)
    return Interval(value=float(value), low=float(low), high=float(high), count=count)


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of one number (or yes and no) per piece, with its interval.

    Where all are 1 or all are 0, a bootstrap interval has no width; then it is Wilson's (for a
    count: that of the share of pieces that have any).

    Args:
        values: Numbers or booleans [piece].
        seed: Of the bootstrap.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) and (not values.any() or (values == 1.0).all()):
        low, high = wilson(values[:1], len(values), float(norm.ppf(0.975)))
        low, high = max(float(low[0]), 0.0), min(float(high[0]), 1.0)
        return Interval(value=float(values[0]), low=low, high=high, count=len(values))
    return bootstrap(lambda index: float(values[index].mean()), len(values), seed)


def wilson(share: np.ndarray, count: int, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval (1927) of proportions.

    Args:
        share: Proportions, float [any].
        count: Number of pieces of each.
        z: Half width in standard deviations.

    Returns:
        Lower and upper ends, in the shape of `share`.
    """
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return middle - half, middle + half


def constant_chance(answers: Sequence[Hashable], tries: int = 1) -> float | None:
    """Accuracy of always giving the commonest answer (or the `tries` commonest); None without
    answers."""
    common = Counter(answers).most_common(tries)
    return sum(count for _, count in common) / len(answers) if answers else None


def median_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Median of one number per piece, with its bootstrap interval."""
    values = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda index: float(np.median(values[index])), len(values), seed)


def recentred(
    value: float,
    resampled: np.ndarray,
    count: int,
    *,
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> Interval:
    """95 % interval of a distance, or of a difference of two, from its bootstrap samples, shifted
    so that their mean is the value.

    A bootstrap sample holds fewer distinct pieces, which alone makes a distance larger; percentile
    intervals would lie above the value itself.

    Args:
        value: The distance of all pieces.
        resampled: The distance of every bootstrap sample, float64 [sample].
        count: Number of pieces.
        lowest: Lower bound of the interval.
        highest: Upper bound of the interval.
    """
    low, high = np.percentile(resampled - resampled.mean(), [2.5, 97.5])
    return Interval(
        value=value,
        low=max(value + float(low), lowest),
        high=min(value + float(high), highest),
        count=count,
    )


def balanced_interval(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> Interval:
    """Mean over groups of the mean within each, e.g. balanced accuracy.

    Args:
        values: Numbers or booleans [piece].
        groups: Group of each piece [piece].
        seed: Of the bootstrap.
    """
    values = np.asarray(values, dtype=np.float64)
    _, membership = np.unique(np.asarray(groups), return_inverse=True)

    def statistic(index: np.ndarray) -> float:
        total = np.bincount(membership[index], weights=values[index])
        size = np.bincount(membership[index])
        return float((total[size > 0] / size[size > 0]).mean())

    return bootstrap(statistic, len(values), seed)


def area_under_curve(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a positive piece scores above a negative one,
    ties counting half (Mann and Whitney); nan where all pieces are of one class.

    Args:
        scores: float [piece].
        truth: bool [piece].
    """
    truth = np.asarray(truth, dtype=bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(scores)
    excess = float(ranks[truth].sum()) - positives * (positives + 1) / 2.0
    return excess / (positives * negatives)


def ranks_of_true(similarity: np.ndarray) -> np.ndarray:
    """Rank (0 is best) of each row's own column in [text, music]; ties count as worse, int64
    [text]."""
    own = np.diagonal(similarity)[:, None]
    return (similarity >= own).sum(axis=1) - 1


def recall_interval(similarity: np.ndarray, within: int, seed: int = 0) -> Interval:
    """Recall at `within`: share of rows whose own column is among the best, with its interval."""
    return mean_interval(ranks_of_true(similarity) < within, seed)
