"""Equal systems tie, a better one wins, people's answers count the way round they were given."""

import itertools

import numpy as np
import pytest

from melisma.evaluate.metrics.win_rates import (
    ANSWERS,
    LEVEL,
    compare_answers,
    compare_systems,
    comparison_figure,
    signed_rank_p,
)
from melisma.values.errors import MelismaError

RNG = np.random.default_rng(0)
PIECES = RNG.normal(size=60)


def test_equal_systems_only_tie() -> None:
    pair = compare_systems({"one": PIECES, "two": PIECES}).comparisons[0]
    assert (pair.wins, pair.ties, pair.losses) == (0, 60, 0)
    assert pair.p_value == 1.0
    assert pair.winner is None
    assert (pair.share.value, pair.share.low, pair.share.high) == (0.5, 0.0, 1.0)


def test_a_planted_better_system_wins() -> None:
    noise = np.random.default_rng(1).normal(size=60)
    found = compare_systems({"old": PIECES, "new": PIECES + 0.8 + 0.5 * noise})
    pair = found.comparisons[0]
    assert pair.winner == "new"
    assert pair.losses > 50
    assert pair.share.high < 0.2
    assert pair.sentence().startswith("new beats old")
    assert found.totals["new"].value == pair.losses


def test_noise_alone_has_no_winner() -> None:
    found = compare_systems({"one": PIECES, "two": np.random.default_rng(2).permutation(PIECES)})
    assert found.comparisons[0].winner is None
    assert "no significant difference" in found.comparisons[0].sentence()


def test_the_level_is_divided_by_all_pairs() -> None:
    scores = {name: np.random.default_rng(n).normal(size=20) for n, name in enumerate("abcdef")}
    found = compare_systems(scores)
    assert len(found.comparisons) == 15
    assert found.level == pytest.approx(LEVEL / 15)
    assert all(pair.level == found.level for pair in found.comparisons)
    assert {name: total.count for name, total in found.totals.items()} == dict.fromkeys(scores, 100)
    decided = sum(pair.wins + pair.losses for pair in found.comparisons)
    assert sum(total.value for total in found.totals.values()) == decided == 300


def test_differences_below_the_margin_are_ties() -> None:
    scores = {"one": [0.0, 0.0, 0.0, 0.0], "two": [0.04, -0.06, 0.5, 0.0]}
    pair = compare_systems(scores, margin=0.05).comparisons[0]
    assert (pair.wins, pair.ties, pair.losses) == (1, 2, 1)
    strict = compare_systems(scores).comparisons[0]
    assert (strict.wins, strict.ties, strict.losses) == (1, 1, 2)


def test_a_piece_without_a_number_is_left_out() -> None:
    pair = compare_systems({"one": [1.0, np.nan, 3.0], "two": [0.0, 0.0, 4.0]}).comparisons[0]
    assert (pair.count, pair.wins, pair.losses) == (2, 1, 1)


def enumerated(differences: list[float]) -> float:
    """The signed-rank p by trying all signs, without scipy."""
    magnitudes = sorted(abs(one) for one in differences)
    rank = {
        m: np.mean([i + 1 for i, other in enumerate(magnitudes) if other == m]) for m in magnitudes
    }
    seen = abs(sum(rank[abs(one)] * np.sign(one) for one in differences))
    sums = [
        abs(sum(sign * rank[m] for sign, m in zip(signs, magnitudes, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(magnitudes))
    ]
    return float(np.mean(np.array(sums) >= seen - 1e-9))


@pytest.mark.parametrize(
    "differences", [[1.0], [1.0, 2.0, 3.0, -4.0], [2.0, 2.0, 1.0, 1.0, -1.0, 2.0, 1.0], [1.0, -1.0]]
)
def test_p_of_few_pieces_by_hand(differences: list[float]) -> None:
    assert signed_rank_p(np.array(differences)) == pytest.approx(enumerated(differences))
    assert signed_rank_p(np.array([*differences, 0.0])) == pytest.approx(enumerated(differences))


def test_p_of_many_pieces_is_even_where_nothing_differs() -> None:
    rng = np.random.default_rng(3)
    found = [signed_rank_p(rng.integers(-2, 3, size=60).astype(float)) for _ in range(200)]
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.1


def test_people_prefer_b() -> None:
    answers = [ANSWERS["strongly B"]] * 12 + [ANSWERS["slightly B"]] * 8 + [0] * 5 + [-1]
    pair = compare_answers("A", "B", answers)
    assert (pair.wins, pair.ties, pair.losses) == (1, 5, 20)
    assert pair.winner == "B"
    assert compare_answers("A", "B", answers, pairs=15).level == pytest.approx(LEVEL / 15)


def test_answers_about_one_prompt_go_together() -> None:
    rng = np.random.default_rng(4)
    opinions = rng.choice([-2, 2], size=20)
    answers = np.repeat(opinions, 5)
    prompts = [f"prompt {n}" for n in range(20) for _ in range(5)]
    alone = compare_answers("A", "B", answers).share
    together = compare_answers("A", "B", answers, prompts).share
    assert together.value == alone.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_errors() -> None:
    with pytest.raises(MelismaError, match="two systems or more"):
        compare_systems({"one": PIECES})
    with pytest.raises(MelismaError, match="one list of prompts"):
        compare_systems({"one": PIECES, "two": PIECES[:5]})
    with pytest.raises(MelismaError, match="no piece in common"):
        compare_systems({"one": [np.nan, 1.0], "two": [1.0, np.nan]})
    with pytest.raises(MelismaError, match="margin"):
        compare_systems({"one": [1.0], "two": [1.0]}, margin=-1.0)
    with pytest.raises(MelismaError, match="the answer 3"):
        compare_answers("A", "B", [0, 3])
    with pytest.raises(MelismaError, match="nobody answered"):
        compare_answers("A", "B", [])
    with pytest.raises(MelismaError, match="about 1 prompts"):
        compare_answers("A", "B", [0, 1], ["x"])


def test_rows_say_wins_ties_and_p() -> None:
    found = compare_systems({"old": PIECES, "new": PIECES + 1.0})
    assert (found.totals["new"].value, found.totals["new"].count) == (60.0, 60)
    row = comparison_figure(found.comparisons[0], "judge")
    assert row.what == "old wins against new (judge)"
    assert row.chance == 0.5
    assert row.details["losses"] == 60.0
