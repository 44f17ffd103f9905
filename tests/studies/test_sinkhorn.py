"""Costs of transport: known ones, and exact ones by linear programming."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog
from studies.sinkhorn import centroid_distances, token_counts, transport_costs

RNG = np.random.default_rng(0)
CENTROIDS = RNG.normal(size=(30, 8))
DISTANCES = centroid_distances(CENTROIDS)


def exact(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> float:
    """The best plan's cost, as a linear programme over all plans."""
    size = len(first)
    rows = np.kron(np.eye(size), np.ones(size))
    columns = np.kron(np.ones(size), np.eye(size))
    found = linprog(
        distances.reshape(-1),
        A_eq=np.concatenate([rows, columns]),
        b_eq=np.concatenate([first / first.sum(), second / second.sum()]),
    )
    return float(found.fun)


def test_distances_are_euclidean() -> None:
    apart = np.linalg.norm(CENTROIDS[:, None] - CENTROIDS[None], axis=-1)
    np.testing.assert_allclose(DISTANCES, apart, atol=1e-7)
    assert (np.diagonal(DISTANCES) == 0).all()


def test_tokens_are_counted() -> None:
    counts = token_counts(np.array([[0, 2, 2], [1, 1, 1]]), 4)
    assert counts.tolist() == [[1, 0, 2, 0], [0, 3, 0, 0]]


def test_equal_histograms_cost_nothing_and_two_points_their_distance() -> None:
    counts = RNG.integers(0, 4, size=(6, 30))
    assert (transport_costs(counts, counts, DISTANCES) == 0).all()
    assert transport_costs(counts, 3 * counts, DISTANCES) == pytest.approx(np.zeros(6), abs=1e-9)
    point = np.eye(30, dtype=np.int64)
    moved = transport_costs(point[[3, 5]], point[[7, 11]], DISTANCES)
    np.testing.assert_allclose(moved, [DISTANCES[3, 7], DISTANCES[5, 11]], rtol=1e-6)
    half = point[[3]] + point[[9]]
    assert transport_costs(half, 2 * point[[9]], DISTANCES) == pytest.approx(DISTANCES[3, 9] / 2)


def test_costs_are_hardly_above_those_of_the_best_plan() -> None:
    few = DISTANCES[:8, :8]
    first, second = RNG.integers(0, 5, size=(2, 20, 8)) + np.eye(8, dtype=np.int64)[0]
    found = transport_costs(first, second, few)
    best = np.array([exact(a, b, few) for a, b in zip(first, second, strict=True)])
    assert (found >= best - 1e-7).all()
    assert (found <= 1.02 * best + 0.01).all()


def test_tokens_of_five_seconds_cost_what_an_assignment_costs() -> None:
    first, second = RNG.integers(0, 30, size=(2, 10, 125))
    found = transport_costs(token_counts(first, 30), token_counts(second, 30), DISTANCES)
    for cost, one, other in zip(found, first, second, strict=True):
        between = DISTANCES[np.ix_(one, other)]
        best = between[linear_sum_assignment(between)].sum() / 125
        assert best - 1e-9 <= cost <= 1.03 * best


def test_one_token_that_becomes_many_costs_its_mean_distance() -> None:
    """Tokens of a generation that is stuck in a loop: every transport plan is optimal."""
    many = token_counts(RNG.integers(0, 30, size=(300, 125)), 30)
    stuck = RNG.integers(0, 30, size=300)
    one = 125 * np.eye(30, dtype=np.int64)[stuck]
    known = (many * DISTANCES[stuck]).sum(axis=1) / 125
    np.testing.assert_allclose(transport_costs(one, many, DISTANCES), known, rtol=1e-6)
    few = token_counts(np.tile(RNG.integers(0, 30, size=(300, 5)), 25), 30)
    found = transport_costs(few, many, DISTANCES)
    assert (found > 0).all()
    assert (found < DISTANCES.max()).all()


def test_the_same_comes_out_in_any_company() -> None:
    first, second = RNG.integers(0, 3, size=(2, 150, 30))
    whole = transport_costs(first, second, DISTANCES)
    np.testing.assert_allclose(
        transport_costs(first[100:], second[100:], DISTANCES), whole[100:], rtol=1e-9
    )
    np.testing.assert_allclose(transport_costs(second, first, DISTANCES), whole, rtol=0.02)


def test_what_is_no_histogram_is_refused() -> None:
    counts = np.ones((2, 30))
    with pytest.raises(ValueError, match="do not fit 30 tokens"):
        transport_costs(counts[:, :20], counts[:, :20], DISTANCES)
    with pytest.raises(ValueError, match="not negative"):
        transport_costs(counts, -counts, DISTANCES)
    with pytest.raises(ValueError, match="without any token"):
        transport_costs(counts, 0 * counts, DISTANCES)
    with pytest.raises(ValueError, match="softness"):
        transport_costs(counts, counts, DISTANCES, softness=0.0001)
