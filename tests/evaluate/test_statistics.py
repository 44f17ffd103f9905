"""Intervals cover, areas and recalls are right on cases counted by hand."""

import numpy as np
import pytest

from melisma.evaluate.metrics.statistics import (
    area_under_curve,
    balanced_interval,
    bootstrap,
    mean_interval,
    median_interval,
    ranks_of_true,
    recall_interval,
)
from melisma.values.errors import MelismaError


def test_an_interval_holds_its_mean_and_narrows_with_more_pieces() -> None:
    rng = np.random.default_rng(0)
    few = mean_interval(rng.random(20) < 0.7)
    many = mean_interval(rng.random(2_000) < 0.7)
    assert few.low <= few.value <= few.high
    assert many.low <= 0.7 <= many.high
    assert many.high - many.low < few.high - few.low
    assert many.count == 2_000


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).random(30)
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4)


def test_no_piece_is_an_error() -> None:
    with pytest.raises(MelismaError, match="no piece was measured"):
        mean_interval(np.zeros(0))


def test_the_median_of_five() -> None:
    assert median_interval(np.array([3.0, 1.0, 2.0, 9.0, 4.0])).value == 3.0


def test_balancing_lets_each_group_count_alike() -> None:
    values = np.array([1, 1, 1, 1, 0])
    groups = np.array(["a", "a", "a", "a", "b"])
    assert balanced_interval(values, groups).value == 0.5
    assert mean_interval(values).value == 0.8


def test_samples_without_a_value_are_left_out() -> None:
    found = bootstrap(lambda index: float("nan") if index[0] == 0 else 1.0, 5)
    assert (found.low, found.high) == (1.0, 1.0)


def test_area_under_the_curve_by_hand() -> None:
    truth = np.array([True, True, False, False])
    assert area_under_curve(np.array([4.0, 3.0, 2.0, 1.0]), truth) == 1.0
    assert area_under_curve(np.array([4.0, 1.0, 3.0, 2.0]), truth) == 0.5
    assert area_under_curve(np.ones(4), truth) == 0.5
    assert np.isnan(area_under_curve(np.ones(2), np.array([True, True])))


def test_recall_counts_ties_against_us() -> None:
    similarity = np.array([[0.9, 0.1, 0.0], [0.8, 0.5, 0.0], [0.3, 0.3, 0.3]])
    assert ranks_of_true(similarity).tolist() == [0, 1, 2]
    assert recall_interval(similarity, 1).value == pytest.approx(1 / 3)
    assert recall_interval(similarity, 2).value == pytest.approx(2 / 3)
