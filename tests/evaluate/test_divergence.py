"""Divergence of class probabilities with known answers."""

import numpy as np
import pytest

from melisma.evaluate.metrics.divergence import chance_divergence, class_divergence
from melisma.values.errors import MelismaError


def test_equal_probabilities_do_not_diverge() -> None:
    table = np.random.default_rng(0).uniform(size=(5, 17))
    np.testing.assert_allclose(class_divergence(table, table), 0.0, atol=1e-12)


def test_two_known_distributions_have_the_closed_form() -> None:
    real, made = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    expected = 0.5 * np.log(2.0) + 0.5 * np.log(2.0 / 3.0)
    assert class_divergence(real, made)[0] == pytest.approx(expected, abs=1e-5)
    assert class_divergence(made, real)[0] != pytest.approx(expected, abs=1e-3)


def test_only_the_shares_of_classes_count() -> None:
    real, made = np.array([[0.8, 0.4, 0.0]]), np.array([[0.4, 0.2, 0.0]])
    assert class_divergence(real, made)[0] == pytest.approx(0.0, abs=1e-5)


def test_a_missing_class_costs_much_but_not_everything() -> None:
    found = class_divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0]
    assert found == pytest.approx(-np.log(1e-6), rel=1e-3)


def test_chance_is_the_mean_over_other_prompts() -> None:
    rng = np.random.default_rng(1)
    real, made = rng.uniform(size=(2, 4, 3))
    chance = chance_divergence(real, made)
    for place in range(4):
        others = [other for other in range(4) if other != place]
        expected = class_divergence(real[others], np.repeat(made[place][None], 3, axis=0)).mean()
        assert chance[place] == pytest.approx(expected)


def test_right_pairs_lie_below_chance() -> None:
    real = np.eye(6) * 0.9
    assert class_divergence(real, real).mean() < 0.01 < chance_divergence(real, real).mean()


def test_errors() -> None:
    with pytest.raises(MelismaError, match="alike"):
        class_divergence(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(MelismaError, match="between 0 and 1"):
        class_divergence(np.full((1, 3), 2.0), np.zeros((1, 3)))
    with pytest.raises(MelismaError, match="two pieces"):
        chance_divergence(np.zeros((1, 3)), np.zeros((1, 3)))
