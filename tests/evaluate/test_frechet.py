"""Fréchet distances with known answers."""

import numpy as np
import pytest

from melisma.evaluate.metrics.frechet import (
    Gaussian,
    Pieces,
    frechet_distance,
    frechet_infinity,
    frechet_interval,
    half_floor,
    matched_distance,
    matched_infinity,
    paired_frechet_difference,
    piece_distances,
)
from melisma.values.errors import MelismaError


def random_pieces(
    count: int, seed: int, width: int = 6, shift: float = 0.0, scale: float = 1.0
) -> Pieces:
    """Pieces of three windows, each piece somewhere else."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(count, 1, width)) * scale + shift
    return Pieces.of(places + 0.3 * rng.normal(size=(count, 3, width)))


def diagonal(mean: np.ndarray, spread: np.ndarray) -> Gaussian:
    return Gaussian(mean=mean, covariance=np.diag(np.square(spread)))


def test_equal_sets_lie_at_no_distance() -> None:
    pieces = random_pieces(40, 0)
    assert frechet_distance(pieces.gaussian(), pieces.gaussian()) == pytest.approx(0.0, abs=1e-6)


def test_a_moved_mean_gives_its_square() -> None:
    pieces = random_pieces(40, 0)
    step = np.array([1.0, -2.0, 0.0, 0.5, 0.0, 0.0])
    moved = Pieces.of([pieces.windows[pieces.owner == i] + step for i in range(40)])
    distance = frechet_distance(moved.gaussian(), pieces.gaussian())
    assert distance == pytest.approx(float(step @ step), rel=1e-6)


def test_diagonal_covariances_have_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    means, spreads = rng.normal(size=(2, 8)), rng.uniform(0.1, 3.0, size=(2, 8))
    spreads[0, 3] = 0.0
    expected = np.square(means[0] - means[1]).sum() + np.square(spreads[0] - spreads[1]).sum()
    a, b = (diagonal(m, s) for m, s in zip(means, spreads, strict=True))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_of_few_windows_do_no_harm() -> None:
    few = random_pieces(4, 0, width=64)
    many = random_pieces(100, 1, width=64)
    there = frechet_distance(few.gaussian(), many.gaussian())
    back = frechet_distance(many.gaussian(), few.gaussian())
    assert np.isfinite(there)
    assert there == pytest.approx(back, rel=1e-6)
    assert frechet_distance(few.gaussian(), few.gaussian()) < 1e-4


def test_the_order_of_pieces_changes_nothing() -> None:
    pieces, reference = random_pieces(20, 0), random_pieces(30, 1).gaussian()
    order = np.random.default_rng(2).permutation(20)
    turned = Pieces.of([pieces.windows[pieces.owner == i] for i in order])
    assert frechet_distance(turned.gaussian(), reference) == pytest.approx(
        frechet_distance(pieces.gaussian(), reference), rel=1e-9
    )


def test_the_gaussian_of_a_sample_is_that_of_its_windows() -> None:
    pieces = random_pieces(10, 0)
    index = np.array([1, 1, 4, 9])
    rows = np.concatenate([pieces.windows[pieces.owner == i] for i in index])
    found = pieces.gaussian(index)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0))
    np.testing.assert_allclose(found.covariance, np.cov(rows.T))


def test_extrapolation_lies_nearer_to_nought_than_few_pieces() -> None:
    reference = random_pieces(3_000, 0, width=16)
    plain, beyond = [], []
    for seed in range(5):
        few = random_pieces(60, 10 + seed, width=16)
        plain.append(frechet_distance(few.gaussian(), reference.gaussian()))
        found = frechet_infinity(few, reference, seed=seed)
        beyond.append(found.value)
        assert found.slope > 0.0
        assert found.r2 > 0.9
    assert abs(np.mean(beyond)) < 0.3 * np.mean(plain)


def test_extrapolation_finds_a_real_distance() -> None:
    few, reference = random_pieces(80, 1, width=8, shift=1.0), random_pieces(3_000, 0, width=8)
    assert frechet_infinity(few, reference).value == pytest.approx(8.0, rel=0.25)


def test_the_line_over_halves_is_that_of_its_points() -> None:
    line = matched_infinity(random_pieces(40, 3, shift=0.5), random_pieces(80, 4))
    slope, value = np.polyfit(1.0 / line.sizes, line.distances, 1)
    assert line.value == pytest.approx(value)
    assert line.slope == pytest.approx(slope)


def test_intervals_hold_the_expected_distance_about_as_often_as_stated() -> None:
    reference = random_pieces(500, 0, width=4)
    samples = [random_pieces(40, 100 + seed, width=4, shift=0.4) for seed in range(60)]
    expected = np.mean([frechet_distance(s.gaussian(), reference.gaussian()) for s in samples])
    intervals = [frechet_interval(s, reference, repeats=150) for s in samples]
    assert all(one.low <= one.value <= one.high for one in intervals)
    held = np.mean([one.low <= expected <= one.high for one in intervals])
    assert held >= 0.85


def test_pairs_show_a_difference_that_single_intervals_hide() -> None:
    reference = random_pieces(300, 0)
    near = random_pieces(30, 1, shift=0.3)
    far = Pieces.of([near.windows[near.owner == i] + 0.15 for i in range(30)])
    first, second = frechet_interval(near, reference), frechet_interval(far, reference)
    assert first.high > second.low
    difference = paired_frechet_difference(far, near, reference)
    assert difference.low > 0.0
    assert difference.value == pytest.approx(second.value - first.value)
    same = paired_frechet_difference(near, near, reference)
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    pieces, reference = random_pieces(20, 0), random_pieces(50, 1)
    first = frechet_interval(pieces, reference, seed=3, repeats=50)
    assert first == frechet_interval(pieces, reference, seed=3, repeats=50)
    assert first != frechet_interval(pieces, reference, seed=4, repeats=50)


def test_a_planted_outlier_is_farthest() -> None:
    pieces, reference = random_pieces(30, 0), random_pieces(200, 1)
    rows = [pieces.windows[pieces.owner == i] for i in range(30)]
    rows[17] = rows[17] + 8.0
    found = piece_distances(Pieces.of(rows), reference)
    assert int(found.values.argmax()) == 17
    assert found.outliers[0] == 17


def test_a_piece_of_one_window_is_a_point() -> None:
    reference = random_pieces(200, 1)
    point = Pieces.of([reference.gaussian().mean[None]])
    spread = float(np.trace(reference.gaussian().covariance))
    assert piece_distances(point, reference).values[0] == pytest.approx(spread, rel=1e-9)


def test_piece_distances_are_those_of_the_general_formula() -> None:
    pieces, reference = random_pieces(5, 0), random_pieces(50, 1)
    expected = [
        frechet_distance(pieces.gaussian(np.array([i])), reference.gaussian()) for i in range(5)
    ]
    np.testing.assert_allclose(piece_distances(pieces, reference).values, expected, rtol=1e-6)


def test_the_floor_falls_with_the_count_and_a_perfect_generator_meets_it() -> None:
    reference = random_pieces(200, 0)
    floors = [half_floor(reference, count=count).value for count in (10, 30, 100)]
    assert floors[0] > floors[1] > floors[2] > 0.0
    perfect = matched_distance(random_pieces(200, 7), reference, count=100)
    assert perfect.value == pytest.approx(floors[2], rel=0.6)
    assert matched_distance(random_pieces(200, 7, shift=1.0), reference, count=100).value > 5.0


def test_round_trips_are_sampled_from_works_outside_the_half() -> None:
    reference = random_pieces(60, 0)
    same = matched_distance(reference, reference, count=30, derived=True)
    assert same == half_floor(reference, count=30)
    damaged = Pieces.of([reference.windows[reference.owner == i] + 0.5 for i in range(60)])
    assert matched_distance(damaged, reference, count=30, derived=True).value > same.value + 1.0


def test_works_stay_in_one_half() -> None:
    rng = np.random.default_rng(0)
    works = np.repeat(np.arange(20), 5)
    rows = rng.normal(size=(20, 1, 12))[works] + 0.05 * rng.normal(size=(100, 3, 12))
    loose = half_floor(Pieces.of(rows), count=40)
    kept = half_floor(Pieces.of(rows, groups=[f"work {w}" for w in works]), count=40)
    assert kept.value > 2.0 * loose.value


def test_one_clip_over_and_over_scores_far_worse_than_a_mixture() -> None:
    reference = random_pieces(200, 0)
    mixture, one = random_pieces(50, 1), random_pieces(1, 1)
    stuck = Pieces.of([one.windows] * 50)
    distances = [frechet_distance(s.gaussian(), reference.gaussian()) for s in (mixture, stuck)]
    assert distances[1] > 5.0 * distances[0]


def test_errors() -> None:
    pieces = random_pieces(10, 0)
    with pytest.raises(MelismaError, match="no piece"):
        Pieces.of([])
    with pytest.raises(MelismaError, match=r"\[window, width\]"):
        Pieces.of([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(MelismaError, match="not finite"):
        Pieces.of([np.full((1, 3), np.nan)])
    with pytest.raises(MelismaError, match="groups"):
        Pieces.of([np.zeros((1, 3))], groups=["a", "b"])
    with pytest.raises(MelismaError, match="same embedding"):
        frechet_distance(pieces.gaussian(), random_pieces(10, 0, width=7).gaussian())
    with pytest.raises(MelismaError, match="two pieces"):
        frechet_interval(Pieces.of([np.zeros((2, 6))]), pieces)
    with pytest.raises(MelismaError, match="8 or more"):
        frechet_infinity(random_pieces(5, 0), pieces)
    with pytest.raises(MelismaError, match="paired"):
        paired_frechet_difference(pieces, random_pieces(9, 0), pieces)
    with pytest.raises(MelismaError, match="reference of"):
        half_floor(pieces, count=6)
    with pytest.raises(MelismaError, match="one each"):
        matched_distance(random_pieces(9, 0), pieces, derived=True)
    with pytest.raises(MelismaError, match="one work"):
        half_floor(Pieces.of(np.zeros((6, 1, 2)), groups=["a"] * 6), count=3)
