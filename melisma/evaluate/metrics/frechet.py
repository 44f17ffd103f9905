"""Fréchet audio distance between a set of pieces and a set of real ones, in an embedding.

Kilgour et al., "Fréchet audio distance", 1812.08466: a Gaussian is fitted to the windows of each
set, and the distance is |m_a - m_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2)). Pieces, not
windows, are resampled, because windows of one piece are alike. The distance is biased upwards for
few pieces, so values are comparable only at one number of pieces: `matched_distance` samples equal
numbers of outputs, real halves (the floor) and the codec's round trips, and `frechet_infinity`
extrapolates to infinitely many (Gui et al., "Adapting Fréchet audio distance for generative music
evaluation", 2311.01616, section 3, which also has the distance of a single piece).

Input: embedded pieces, float [window, width] each. Output: distances in squared units of the
embedding, smaller is nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from melisma.evaluate.metrics.statistics import Interval, recentred
from melisma.values.errors import MelismaError

REPEATS = 1_000
"""Bootstrap samples (chosen: the fewest that Efron and Tibshirani advise for percentiles; each
costs an eigenvalue decomposition)."""
SPLITS = 20
"""Random halves that a matched distance is averaged over (chosen: of 600 clips single halves
differ by a tenth to a fifth of the distance, means of 20 by 1 to 5 %)."""
SIZES = 12
"""Number of sizes that the line is fitted to (chosen; Gui et al. take 15)."""
SETS = 8
"""Random sets of each size (chosen: Gui et al. take one; the mean of more has less variance)."""
INFINITY_SPLITS = 4
"""Random halves that an extrapolated distance is averaged over (chosen: each needs a hundred
distances or more)."""
SMALLEST_SHARE = 0.25
"""The smallest size as a share of all pieces (chosen: below it the relation is not linear)."""
FENCE = 1.5
"""Distances this many interquartile ranges above the upper quartile are outliers (Tukey,
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
        """The symmetric square root of the covariance, float64 [width, width]."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Embedded pieces. The windows are stored, because they are fewer numbers than a covariance per
    piece: the Gaussian of any sample of pieces is one weighted product."""

    windows: np.ndarray
    """float64 [window, width], piece after piece."""
    owner: np.ndarray
    """The piece of each window, int64 [window], ascending from 0."""
    groups: np.ndarray
    """The work of each piece, int64 [piece]; pieces of one work stay in the same half."""

    @classmethod
    def of(
        cls, embedded: Sequence[np.ndarray] | np.ndarray, groups: Sequence[Hashable] | None = None
    ) -> Pieces:
        """Makes a set from embedded pieces.

        Args:
            embedded: One array [window, width] per piece (or one [piece, window, width]).
            groups: The work of each piece; by default every piece is a work of its own.

        Raises:
            MelismaError: For no piece, other shapes, or numbers that are not finite.
        """
        if not len(embedded):
            raise MelismaError("there is no piece to measure: give one or more")
        shapes = {np.shape(rows)[1:] for rows in embedded}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1 or any(not len(r) for r in embedded):
            raise MelismaError(
                "pieces are embedded as [window, width] with one window or more and one width, "
                f"not as {sorted({np.shape(rows) for rows in embedded})}"
            )
        windows = np.concatenate([np.asarray(rows, dtype=np.float64) for rows in embedded])
        if not np.isfinite(windows).all():
            raise MelismaError("an embedding holds numbers that are not finite")
        if groups is not None and len(groups) != len(embedded):
            raise MelismaError(f"{len(groups)} groups were given for {len(embedded)} pieces")
        works: list[Hashable] = list(range(len(embedded))) if groups is None else list(groups)
        names = {name: index for index, name in enumerate(dict.fromkeys(works))}
        return cls(
            windows=windows,
            owner=np.repeat(np.arange(len(embedded)), [len(rows) for rows in embedded]),
            groups=np.array([names[name] for name in works]),
        )

    def __len__(self) -> int:
        return len(self.groups)

    def part(self, index: np.ndarray) -> Pieces:
        """The pieces of some indices, in their order; `index` int64 [piece], without repeats."""
        chosen = np.isin(self.owner, index)
        _, owner = np.unique(self.owner[chosen], return_inverse=True)
        groups = self.groups[np.sort(index)]
        return Pieces(windows=self.windows[chosen], owner=owner, groups=groups)

    def gaussian(self, index: np.ndarray | None = None) -> Gaussian:
        """Mean and covariance of the windows of all pieces, or of a sample.

        All windows have equal weight, as in Kilgour et al.; a single window has no covariance.

        Args:
            index: Indices of the sample, int64, counted as often as they are repeated.
        """
        counts = np.ones(len(self)) if index is None else np.bincount(index, minlength=len(self))
        weights = counts[self.owner].astype(np.float64)
        chosen = weights > 0
        weights, rows = weights[chosen], self.windows[chosen]
        total = weights.sum()
        mean = weights @ rows / total
        centred = (rows - mean) * np.sqrt(weights / max(total - 1.0, 1.0))[:, None]
        return Gaussian(mean=mean, covariance=centred.T @ centred)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance of two Gaussians, never negative.

    tr((S_a S_b)^(1/2)) is the sum of the square roots of the eigenvalues of the symmetric
    R_b S_a R_b with R_b = S_b^(1/2), so that no complex numbers arise and covariances may be
    singular. The root of `b` is cached: pass the reference as `b`. Raises `MelismaError` for
    different widths.
    """
    if a.mean.shape != b.mean.shape:
        raise MelismaError(
            f"embeddings of {len(a.mean)} and of {len(b.mean)} numbers cannot be compared: "
            "embed both sets with the same embedding"
        )
    between = np.linalg.eigvalsh(b.root @ a.covariance @ b.root)
    common = np.sqrt(np.maximum(between, 0.0)).sum()
    moved = float(np.square(a.mean - b.mean).sum())
    spread = float(np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * common)
    return max(moved + spread, 0.0)


def _bootstrapped(
    statistic: Callable[[np.ndarray], float], count: int, seed: int, repeats: int
) -> np.ndarray:
    """A statistic of bootstrap samples of pieces, float64 [sample]."""
    rng = np.random.default_rng(seed)
    return np.array([statistic(rng.integers(0, count, size=count)) for _ in range(repeats)])


def frechet_interval(
    pieces: Pieces, reference: Pieces, seed: int = 0, repeats: int = REPEATS
) -> Interval:
    """Distance of all pieces, with a 95 % interval for other samples of as many pieces.

    The interval holds *at this number of pieces* (see `frechet_infinity`) and for this reference.

    Args:
        pieces: Outputs.
        reference: Real pieces.
        seed: Of the bootstrap.
        repeats: Number of bootstrap samples.

    Raises:
        MelismaError: For fewer than two pieces.
    """
    _expect_two(pieces)
    other = reference.gaussian()

    def distance(index: np.ndarray) -> float:
        return frechet_distance(pieces.gaussian(index), other)

    resampled = _bootstrapped(distance, len(pieces), seed, repeats)
    return recentred(distance(np.arange(len(pieces))), resampled, len(pieces), lowest=0.0)


def paired_frechet_difference(
    a: Pieces, b: Pieces, reference: Pieces, seed: int = 0, repeats: int = REPEATS
) -> Interval:
    """Distance of `a` minus distance of `b`, with an interval by pairs.

    The same pieces are resampled for both, so that the effect of a prompt on both cancels, and most
    of the bias of the number of pieces. An interval below 0 means that `a` is nearer.

    Args:
        a: Outputs of the first system.
        b: Outputs of the second; piece i for the same prompt as piece i of `a`.
        reference: Real pieces.
        seed: Of the bootstrap.
        repeats: Number of bootstrap samples.

    Raises:
        MelismaError: For different numbers of pieces, or fewer than two.
    """
    _expect_two(a)
    if len(a) != len(b):
        raise MelismaError(
            f"{len(a)} pieces cannot be paired with {len(b)}: give one of each for every prompt"
        )
    other = reference.gaussian()

    def difference(index: np.ndarray) -> float:
        first, second = a.gaussian(index), b.gaussian(index)
        return frechet_distance(first, other) - frechet_distance(second, other)

    resampled = _bootstrapped(difference, len(a), seed, repeats)
    return recentred(difference(np.arange(len(a))), resampled, len(a))


def _expect_two(pieces: Pieces) -> None:
    if len(pieces) < 2:
        raise MelismaError("an interval needs two pieces or more: give more")


@dataclass(frozen=True, kw_only=True)
class FrechetInfinity:
    """A distance extrapolated to infinitely many pieces."""

    value: float
    """Intercept of the line at 1/n = 0. It may be below 0 where both sets are alike."""
    slope: float
    """Slope of the distance over 1/n: the effect of the number of pieces."""
    r2: float
    """Coefficient of determination; far below 1 the value means little."""
    sizes: np.ndarray
    """Numbers of pieces sampled, int64 [size]."""
    distances: np.ndarray
    """Mean distance at each, float64 [size]."""


def frechet_infinity(
    pieces: Pieces, reference: Pieces, seed: int = 0, sizes: int = SIZES, sets: int = SETS
) -> FrechetInfinity:
    """Extrapolates the distance to infinitely many pieces, by a line over 1/n.

    Sets are sampled without replacement, from a quarter of the pieces to all, evenly spaced in 1/n.
    The bias of the size of the *reference* remains, as with Gui et al.: compare against one
    reference.

    Args:
        pieces: Outputs.
        reference: Real pieces.
        seed: Of the sampling.
        sizes: Number of sizes.
        sets: Number of sets of each size.

    Raises:
        MelismaError: For fewer than eight pieces.
    """
    if len(pieces) < 8:
        raise MelismaError(
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
                    for _ in range(sets if count < len(pieces) else 1)
                ]
            )
            for count in counts
        ]
    )
    slope, intercept = np.polyfit(1.0 / counts, means, 1)
    residual = np.square(means - intercept - slope / counts).sum()
    total = np.square(means - means.mean()).sum()
    return FrechetInfinity(
        value=float(intercept),
        slope=float(slope),
        r2=float(1.0 - residual / total) if total > 0.0 else 1.0,
        sizes=counts,
        distances=means,
    )


@dataclass(frozen=True, kw_only=True)
class PieceDistances:
    """Distance of each single piece from the reference."""

    values: np.ndarray
    """float64 [piece]. They include the reference's own covariance: compare them with each
    other."""
    outliers: np.ndarray
    """Indices of outliers, the farthest first, int64; see `FENCE`."""


def matched_infinity(
    outputs: Pieces,
    reference: Pieces,
    *,
    seed: int = 0,
    splits: int = INFINITY_SPLITS,
    derived: bool = False,
) -> FrechetInfinity:
    """`frechet_infinity` against random halves of the reference, averaged; comparable with floor
    and ceiling, as `matched_distance` is.

    Args:
        outputs: As `matched_distance`.
        reference: As `matched_distance`.
        seed: As `matched_distance`.
        splits: Number of random halves.
        derived: As `matched_distance`; the distances of all halves are then interpolated at the
            sizes of the first.
    """
    lines = []
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        real, held = _halves(reference, rng)
        pool = outputs.part(held) if derived else outputs
        lines.append(frechet_infinity(pool, reference.part(real), seed=seed + split, sets=4))
    sizes = lines[0].sizes
    return FrechetInfinity(
        value=float(np.mean([line.value for line in lines])),
        slope=float(np.mean([line.slope for line in lines])),
        r2=float(np.mean([line.r2 for line in lines])),
        sizes=sizes,
        distances=np.mean([np.interp(sizes, one.sizes, one.distances) for one in lines], axis=0),
    )


def piece_distances(pieces: Pieces, reference: Pieces) -> PieceDistances:
    """Distance between the windows of each piece and the whole reference (Gui et al., section 4.4).
    A piece of one window has no covariance."""
    other = reference.gaussian()
    spread = float(np.trace(other.covariance))
    values = np.zeros(len(pieces))
    for index in range(len(pieces)):
        rows = pieces.windows[pieces.owner == index]
        mean = rows.mean(axis=0)
        centred = (rows - mean) / max(len(rows) - 1, 1) ** 0.5
        # With few windows the needed roots are the singular values of a thin matrix.
        common = np.linalg.svd(centred @ other.root, compute_uv=False).sum()
        moved = np.square(mean - other.mean).sum() + np.square(centred).sum()
        values[index] = moved + spread - 2.0 * common
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

    Args:
        outputs: Outputs, or real pieces for the floor.
        reference: Real pieces.
        count: Number of outputs that are sampled; half the reference by default.
        seed: The same seed gives the same halves, so that outputs, floor and ceiling, all at the
            same `count`, are comparable.
        splits: Number of random halves.
        derived: Output i was made from piece i of the reference (the piece itself, or its round
            trip through a codec); outputs are then sampled from works of the *other* half.

    Returns:
        The mean, with percentiles over halves: the range of a single sample.

    Raises:
        MelismaError: If there are too few pieces.
    """
    count = len(reference) // 2 if count is None else count
    if derived and len(outputs) != len(reference):
        raise MelismaError(
            f"{len(outputs)} outputs cannot have been made from {len(reference)} pieces, one each"
        )
    most = len(reference) // 2 if derived else len(outputs)
    if not 2 <= count <= most or len(reference) < 4:
        raise MelismaError(
            f"{count} pieces cannot be sampled from {most} beside a reference of {len(reference)}: "
            "give a lower count (two or more), or more pieces"
        )
    distances = []
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        real, held = _halves(reference, rng)
        pool = held if derived else np.arange(len(outputs))
        sample = rng.permutation(pool)[:count]
        other = reference.gaussian(real)
        distances.append(frechet_distance(outputs.gaussian(sample), other))
    low, high = np.percentile(distances, [2.5, 97.5])
    return Interval(value=float(np.mean(distances)), low=float(low), high=float(high), count=count)


def half_floor(
    reference: Pieces, *, count: int | None = None, seed: int = 0, splits: int = SPLITS
) -> Interval:
    """The floor F: mean distance of `count` real pieces from a half of the reference without them.

    It is matched in size, not extrapolated: the expectation for a perfect generator in
    `matched_distance` with the same `count`, `seed` and `splits`. No work is in both halves.
    """
    return matched_distance(
        reference, reference, count=count, seed=seed, splits=splits, derived=True
    )


def _halves(pieces: Pieces, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of at most half of the pieces, in whole works, and of the others."""
    order = rng.permutation(int(pieces.groups.max()) + 1)
    sizes = np.bincount(pieces.groups)[order]
    # A work that is larger than the rest of the half is skipped.
    taken, remaining = [], len(pieces) // 2
    for work, size in zip(order, sizes, strict=True):
        if size <= remaining:
            taken.append(work)
            remaining -= size
    first = np.isin(pieces.groups, taken)
    if not first.any():
        raise MelismaError("all pieces are of one work: halves need two works or more")
    return np.flatnonzero(first), np.flatnonzero(~first)
