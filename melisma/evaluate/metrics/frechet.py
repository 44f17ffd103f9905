"""Fréchet audio distance: how far a set of pieces lies from a set of real ones, as heard by an
embedding.

Kilgour et al., "Fréchet audio distance", 1812.08466: a Gaussian is laid through the windows of
each set, and the distance is |m_a - m_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)). Pieces, not
windows, are what is drawn, because windows of one piece are alike. Few pieces make the distance too
large, so figures are comparable only at one number of pieces: `matched_distance` draws equal
numbers for outputs, real halves (the floor) and the codec's round trips, and `frechet_infinity`
extrapolates to infinitely many (Gui et al., "Adapting Fréchet audio distance for generative music
evaluation", 2311.01616, section 3, which also has the distance of a single piece).

Enters: embedded pieces, float [window, width] each. Leaves: distances in squared units of the
embedding, smaller is nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from melisma.evaluate.metrics.statistics import Interval, recentred

REPEATS = 1_000
"""Bootstrap samples (chosen: the least that Efron and Tibshirani advise for percentiles; each costs
an eigenvalue decomposition)."""
SPLITS = 20
"""Random halves that a matched distance is averaged over (chosen: of 600 clips single halves
differ by a tenth to a fifth of the distance, means of 20 by 1 to 5 %)."""
SIZES = 12
"""Sizes that the extrapolation rests on (chosen; Gui et al. take 15)."""
DRAWS = 8
"""Sets of each size (chosen: Gui et al. draw one; the mean of more is steadier)."""
INFINITY_SPLITS = 4
"""Random halves that an extrapolated distance is averaged over (chosen: each is a hundred and more
distances)."""
SMALLEST_SHARE = 0.25
"""The smallest size as a share of all pieces (chosen: below it the line bends)."""
FENCE = 1.5
"""Distances this many interquartile ranges above the upper quartile stand out (Tukey,
"Exploratory data analysis", 1977, section 2E)."""


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Mean and covariance of windows; the covariance may be singular."""

    mean: np.ndarray
    """float64 [width]."""
    covariance: np.ndarray
    """float64 [width, width]."""

    @cached_property
    def root(self) -> np.ndarray:
        """The symmetric root of the covariance, float64 [width, width]."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Embedded pieces. Their windows are kept, being fewer numbers than a covariance each: any
    draw of pieces has its Gaussian after one weighted product."""

    windows: np.ndarray
    """float64 [window, width], piece after piece."""
    owner: np.ndarray
    """The piece of each window, int64 [window], ascending from 0."""
    groups: np.ndarray
    """The work that each piece is of, int64 [piece]; pieces of one work stay together in halves."""

    @classmethod
    def of(
        cls, embedded: Sequence[np.ndarray] | np.ndarray, groups: Sequence[Hashable] | None = None
    ) -> Pieces:
        """From one array [window, width] per piece (or one [piece, window, width]).

        `groups`: the work of each piece; by default every piece is a work of its own. Raises
        `ValueError` for no piece, other shapes, or numbers that are not finite.
        """
        if not len(embedded):
            raise ValueError("there is no piece to measure: give one or more")
        shapes = {np.shape(rows)[1:] for rows in embedded}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1 or any(not len(r) for r in embedded):
            raise ValueError(
                "pieces are embedded as [window, width] with one window or more and one width, "
                f"not as {sorted({np.shape(rows) for rows in embedded})}"
            )
        windows = np.concatenate([np.asarray(rows, dtype=np.float64) for rows in embedded])
        if not np.isfinite(windows).all():
            raise ValueError("an embedding holds numbers that are not finite")
        if groups is not None and len(groups) != len(embedded):
            raise ValueError(f"{len(groups)} groups were given for {len(embedded)} pieces")
        works: list[Hashable] = list(range(len(embedded))) if groups is None else list(groups)
        names = {name: place for place, name in enumerate(dict.fromkeys(works))}
        return cls(
            windows=windows,
            owner=np.repeat(np.arange(len(embedded)), [len(rows) for rows in embedded]),
            groups=np.array([names[name] for name in works]),
        )

    def __len__(self) -> int:
        return len(self.groups)

    def part(self, index: np.ndarray) -> Pieces:
        """Some of the pieces, in order; int64 [piece], without repeats."""
        kept = np.isin(self.owner, index)
        _, owner = np.unique(self.owner[kept], return_inverse=True)
        groups = self.groups[np.sort(index)]
        return Pieces(windows=self.windows[kept], owner=owner, groups=groups)

    def gaussian(self, index: np.ndarray | None = None) -> Gaussian:
        """Of all pieces, or of those drawn: int64 indices, repeats count again.

        All windows weigh alike, as in Kilgour et al.; a single window is a point.
        """
        drawn = np.ones(len(self)) if index is None else np.bincount(index, minlength=len(self))
        weights = drawn[self.owner].astype(np.float64)
        kept = weights > 0
        weights, rows = weights[kept], self.windows[kept]
        total = weights.sum()
        mean = weights @ rows / total
        centred = (rows - mean) * np.sqrt(weights / max(total - 1.0, 1.0))[:, None]
        return Gaussian(mean=mean, covariance=centred.T @ centred)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """The distance, never negative.

    tr((S_a S_b)^(1/2)) is the sum of the roots of the eigenvalues of the symmetric
    R_b S_a R_b with R_b = S_b^(1/2), so that nothing complex arises and singular covariances do
    no harm. The root of `b` is computed once: give the reference there.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"embeddings of {len(a.mean)} and of {len(b.mean)} numbers cannot be compared: "
            "embed both sets with the same embedding"
        )
    between = np.linalg.eigvalsh(b.root @ a.covariance @ b.root)
    common = np.sqrt(np.maximum(between, 0.0)).sum()
    moved = float(np.square(a.mean - b.mean).sum())
    spread = float(np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * common)
    return max(moved + spread, 0.0)


def _drawn(
    statistic: Callable[[np.ndarray], float], count: int, seed: int, repeats: int
) -> np.ndarray:
    """A statistic of pieces drawn with repeats, float64 [draw]."""
    rng = np.random.default_rng(seed)
    return np.array([statistic(rng.integers(0, count, size=count)) for _ in range(repeats)])


def frechet_interval(
    pieces: Pieces, reference: Pieces, seed: int = 0, repeats: int = REPEATS
) -> Interval:
    """Distance of all pieces with a 95 % interval: how much another draw of as many would differ.

    It is about the distance *at this number of pieces* (see `frechet_infinity`) and against this
    reference. Raises `ValueError` for less than two pieces.
    """
    _expect_two(pieces)
    other = reference.gaussian()

    def distance(index: np.ndarray) -> float:
        return frechet_distance(pieces.gaussian(index), other)

    drawn = _drawn(distance, len(pieces), seed, repeats)
    return recentred(distance(np.arange(len(pieces))), drawn, len(pieces), lowest=0.0)


def paired_frechet_difference(
    a: Pieces, b: Pieces, reference: Pieces, seed: int = 0, repeats: int = REPEATS
) -> Interval:
    """Distance of `a` minus distance of `b`, pieces i of both made for the same prompt.

    The same pieces are drawn for both, so that what a prompt does to both cancels; so does most of
    what the number of pieces does. Below 0 throughout: `a` is nearer. Raises `ValueError` for
    unequal numbers or less than two.
    """
    _expect_two(a)
    if len(a) != len(b):
        raise ValueError(
            f"{len(a)} pieces cannot be paired with {len(b)}: give one of each for every prompt"
        )
    other = reference.gaussian()

    def difference(index: np.ndarray) -> float:
        first, second = a.gaussian(index), b.gaussian(index)
        return frechet_distance(first, other) - frechet_distance(second, other)

    drawn = _drawn(difference, len(a), seed, repeats)
    return recentred(difference(np.arange(len(a))), drawn, len(a))


def _expect_two(pieces: Pieces) -> None:
    if len(pieces) < 2:
        raise ValueError("an interval needs two pieces or more: give more")


@dataclass(frozen=True, kw_only=True)
class FrechetInfinity:
    """A distance extrapolated to infinitely many pieces."""

    value: float
    """Where the line meets 1/n = 0. It may lie below 0 where both sets are alike."""
    slope: float
    """Of the distance over 1/n: what the size alone does."""
    r2: float
    """Share of the variance that the line explains; far below 1 the value means little."""
    sizes: np.ndarray
    """Numbers of pieces drawn, int64 [size]."""
    distances: np.ndarray
    """Mean distance at each, float64 [size]."""


def frechet_infinity(
    pieces: Pieces, reference: Pieces, seed: int = 0, sizes: int = SIZES, draws: int = DRAWS
) -> FrechetInfinity:
    """Line through the distances of smaller and smaller draws over 1/n.

    Draws are without replacement, from a quarter of the pieces to all, evenly spaced in 1/n. What
    the size of the *reference* adds stays in, as with Gui et al.: compare against one reference.
    Raises `ValueError` for less than eight pieces.
    """
    if len(pieces) < 8:
        raise ValueError(
            f"{len(pieces)} pieces are too few for a line over their number: give 8 or more"
        )
    rng = np.random.default_rng(seed)
    other = reference.gaussian()
    inverse = np.linspace(1.0 / (SMALLEST_SHARE * len(pieces)), 1.0 / len(pieces), sizes)
    counts = np.unique(np.maximum(np.round(1.0 / inverse), 2)).astype(np.int64)
    means = np.array(
        [
            np.mean(
                [
                    frechet_distance(
                        pieces.gaussian(rng.choice(len(pieces), size=count, replace=False)), other
                    )
                    for _ in range(draws if count < len(pieces) else 1)
                ]
            )
            for count in counts
        ]
    )
    slope, intercept = np.polyfit(1.0 / counts, means, 1)
    left = np.square(means - intercept - slope / counts).sum()
    total = np.square(means - means.mean()).sum()
    return FrechetInfinity(
        value=float(intercept),
        slope=float(slope),
        r2=float(1.0 - left / total) if total > 0.0 else 1.0,
        sizes=counts,
        distances=means,
    )


@dataclass(frozen=True, kw_only=True)
class PieceDistances:
    """How far each piece alone lies from the reference."""

    values: np.ndarray
    """float64 [piece]. They hold the reference's own spread: compare them with one another."""
    outliers: np.ndarray
    """Pieces that stand out, the farthest first, int64; see `FENCE`."""


def matched_infinity(
    outputs: Pieces,
    reference: Pieces,
    *,
    seed: int = 0,
    splits: int = INFINITY_SPLITS,
    derived: bool = False,
) -> FrechetInfinity:
    """`frechet_infinity` against random halves of the reference, averaged: comparable with floor
    and ceiling, as `matched_distance` is.

    `derived` as there; then the draws of all halves are told at the sizes of the first.
    """
    lines = []
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        real, held = _halves(reference, rng)
        pool = outputs.part(held) if derived else outputs
        lines.append(frechet_infinity(pool, reference.part(real), seed=seed + split, draws=4))
    sizes = lines[0].sizes
    return FrechetInfinity(
        value=float(np.mean([line.value for line in lines])),
        slope=float(np.mean([line.slope for line in lines])),
        r2=float(np.mean([line.r2 for line in lines])),
        sizes=sizes,
        distances=np.mean([np.interp(sizes, one.sizes, one.distances) for one in lines], axis=0),
    )


def piece_distances(pieces: Pieces, reference: Pieces) -> PieceDistances:
    """Distance between the windows of each piece and all of the reference (Gui et al., section
    4.4). A piece of one window is a point."""
    other = reference.gaussian()
    spread = float(np.trace(other.covariance))
    values = np.zeros(len(pieces))
    for place in range(len(pieces)):
        rows = pieces.windows[pieces.owner == place]
        mean = rows.mean(axis=0)
        centred = (rows - mean) / max(len(rows) - 1, 1) ** 0.5
        # Of few windows: the singular values of a thin matrix are the roots that are needed.
        common = np.linalg.svd(centred @ other.root, compute_uv=False).sum()
        moved = np.square(mean - other.mean).sum() + np.square(centred).sum()
        values[place] = moved + spread - 2.0 * common
    low, high = np.percentile(values, [25, 75])
    far = np.flatnonzero(values > high + FENCE * (high - low))
    return PieceDistances(values=values, outliers=far[np.argsort(-values[far])])


def matched_distance(
    outputs: Pieces,
    reference: Pieces,
    *,
    count: int | None = None,
    seed: int = 0,
    splits: int = SPLITS,
    derived: bool = False,
) -> Interval:
    """Distance of `count` outputs from a random half of the reference, averaged over halves.

    `count` is half the reference by default. `derived`: output i was made from piece i of the
    reference (it, or its round trip through a codec), and outputs are drawn from works of the
    *other* half. One seed means the same halves, so that outputs, floor and ceiling, all at the
    same `count`, are comparable. Low and high are percentiles over halves: where a single draw
    lies. Raises `ValueError` where there are not so many pieces.
    """
    count = len(reference) // 2 if count is None else count
    if derived and len(outputs) != len(reference):
        raise ValueError(
            f"{len(outputs)} outputs cannot have been made from {len(reference)} pieces, one each"
        )
    most = len(reference) // 2 if derived else len(outputs)
    if not 2 <= count <= most or len(reference) < 4:
        raise ValueError(
            f"{count} pieces cannot be drawn from {most} beside a reference of {len(reference)}: "
            "ask for fewer (two or more), or give more"
        )
    distances = []
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        real, held = _halves(reference, rng)
        pool = held if derived else np.arange(len(outputs))
        drawn = rng.permutation(pool)[:count]
        other = reference.gaussian(real)
        distances.append(frechet_distance(outputs.gaussian(drawn), other))
    low, high = np.percentile(distances, [2.5, 97.5])
    return Interval(value=float(np.mean(distances)), low=float(low), high=float(high), count=count)


def half_floor(
    reference: Pieces, *, count: int | None = None, seed: int = 0, splits: int = SPLITS
) -> Interval:
    """F: the mean distance of `count` real pieces from a half of the real pieces without them.

    It is matched in size, not extrapolated: what a perfect generator would get in
    `matched_distance` with the same `count`, `seed` and `splits`. Works are never in both halves.
    """
    return matched_distance(
        reference, reference, count=count, seed=seed, splits=splits, derived=True
    )


def _halves(pieces: Pieces, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of at most half of the pieces, in whole works, and of the others."""
    order = rng.permutation(int(pieces.groups.max()) + 1)
    sizes = np.bincount(pieces.groups)[order]
    # A work that is too large for what is left of the half is passed over.
    taken, room = [], len(pieces) // 2
    for work, size in zip(order, sizes, strict=True):
        if size <= room:
            taken.append(work)
            room -= size
    first = np.isin(pieces.groups, taken)
    if not first.any():
        raise ValueError("all pieces are of one work: halves need two works or more")
    return np.flatnonzero(first), np.flatnonzero(~first)
