"""Win rates: systems compared in pairs over one list of prompts, by a judge or by people.

Follows MusicLM (2301.11325, section 5.3) and MusicRL (2402.04229, section 5): every two systems are
compared on every prompt; a win is any preference, the rest are ties; the Wilcoxon signed-rank test
decides whether the preferences are significant, at the level .01 divided by the n (n - 1) / 2 pairs
(Bonferroni); the win rate is wins over wins and losses, without ties, as MusicRL's. The papers do
not state their treatment of zero differences: here they are dropped before ranking, as in Wilcoxon
(1945) and scipy's default; a comparison with only zeros has p = 1.

Input: per system one number for each prompt (higher is better), or people's answers from -2 to 2.
Output: `Comparison`s, `Tournament`s, and their rows of the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test, rankdata, wilcoxon

from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import Interval, bootstrap
from melisma.values.errors import MelismaError

LEVEL = 0.01
"""Level of significance of all pairs together (MusicLM, section 5.3: p < .01 / 15)."""
ANSWERS: Mapping[str, int] = {
    "strongly A": -2,
    "slightly A": -1,
    "no preference": 0,
    "slightly B": 1,
    "strongly B": 2,
}
"""The five answers of a listener to the pair A and B (MusicLM, appendix B), as numbers."""
MOST_PERMUTED = 13
"""Largest number of differences for which all signs are permuted (chosen: 8,192 permutations, a few
hundredths of a second); this is exact for equal magnitudes, too."""
MOST_EXACT = 50
"""Largest number of differences of distinct magnitudes for which the distribution is exact (scipy's
own limit); otherwise it is the normal approximation with its correction for ties."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two systems on the same prompts."""

    first: str
    second: str
    wins: int
    """Pieces (or answers) in which the first is preferred."""
    ties: int
    losses: int
    p_value: float
    """Of the two-sided signed-rank test."""
    level: float
    """Level of significance of this pair: `LEVEL` over the number of pairs."""
    share: Interval
    """wins / (wins + losses) with its 95 % interval over resampled prompts; 0.5 within 0 to 1 where
    all are ties."""

    @property
    def count(self) -> int:
        """Pieces (or answers) compared."""
        return self.wins + self.ties + self.losses

    @property
    def is_significant(self) -> bool:
        """Whether the preferences are significant after correction for all pairs."""
        return self.p_value < self.level

    @property
    def winner(self) -> str | None:
        """The system that wins significantly; None where neither does."""
        if not self.is_significant or self.wins == self.losses:
            return None
        return self.first if self.wins > self.losses else self.second

    def sentence(self) -> str:
        """The outcome in words."""
        counted = f"{self.wins} wins, {self.ties} ties, {self.losses} losses"
        test = f"p = {self.p_value:.2g}, significant below {self.level:.2g}"
        if self.winner is None:
            return (
                f"no significant difference between {self.first} and {self.second}: "
                f"{counted} ({test})"
            )
        other = self.second if self.winner == self.first else self.first
        return f"{self.winner} beats {other}: {self.first} has {counted} ({test})"


@dataclass(frozen=True, kw_only=True)
class Tournament:
    """Every two systems against each other."""

    systems: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    """All pairs, in the order of `systems`."""
    totals: Mapping[str, Interval]
    """System -> wins over all its comparisons, `count` of them, over resampled prompts."""
    level: float
    """Of each comparison, after Bonferroni's correction."""
    margin: float
    """Scores that differ by less are ties."""


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p value of the Wilcoxon signed-rank test; 1 where every difference is zero.

    Args:
        differences: float [piece]; zeros are dropped.
    """
    nonzero = np.asarray(differences, dtype=np.float64)
    nonzero = nonzero[nonzero != 0.0]
    if len(nonzero) < 2:  # one difference is as likely either way
        return 1.0
    if len(nonzero) <= MOST_PERMUTED:
        return _permutation_p(nonzero)
    distinct = len(np.unique(np.abs(nonzero))) == len(nonzero)
    method = "exact" if distinct and len(nonzero) <= MOST_EXACT else "asymptotic"
    return float(np.asarray(wilcoxon(nonzero, method=method), dtype=np.float64)[1])


def _permutation_p(differences: np.ndarray) -> float:
    """Exact p value over all sign permutations; float [piece] without zeros."""
    ranks = rankdata(np.abs(differences)) * np.sign(differences)

    def statistic(signed: np.ndarray, axis: int) -> np.ndarray:
        return np.sum(signed, axis=axis)

    found = permutation_test(
        (ranks,),
        statistic,
        permutation_type="samples",
        n_resamples=2**MOST_PERMUTED,
        vectorized=True,
    )
    return min(float(found.pvalue), 1.0)


def _win_share(preferences: np.ndarray, prompts: np.ndarray, seed: int) -> Interval:
    """Wins over wins and losses, from preferences (-1, 0, 1) and prompt indices, [answer] each."""
    wins = np.bincount(prompts, weights=preferences > 0)
    losses = np.bincount(prompts, weights=preferences < 0)
    if not (wins.any() or losses.any()):
        return Interval(value=0.5, low=0.0, high=1.0, count=len(preferences))

    def statistic(index: np.ndarray) -> float:
        won, lost = float(wins[index].sum()), float(losses[index].sum())
        return won / (won + lost) if won + lost else float("nan")

    found = bootstrap(statistic, len(wins), seed)
    return Interval(value=found.value, low=found.low, high=found.high, count=len(preferences))


def _compare(
    names: tuple[str, str], advantages: np.ndarray, prompts: np.ndarray, level: float, seed: int
) -> Comparison:
    """Comparison from the advantages of the first system, zero for a tie, float [answer]."""
    preferences = np.sign(advantages)
    return Comparison(
        first=names[0],
        second=names[1],
        wins=int((preferences > 0).sum()),
        ties=int((preferences == 0).sum()),
        losses=int((preferences < 0).sum()),
        p_value=signed_rank_p(advantages),
        level=level,
        share=_win_share(preferences, prompts, seed),
    )


def compare_systems(
    scores: Mapping[str, Sequence[float] | np.ndarray],
    margin: float = 0.0,
    level: float = LEVEL,
    seed: int = 0,
) -> Tournament:
    """Compares every two systems by one score per prompt, higher is better.

    Args:
        scores: System -> scores [prompt], for the same prompts in the same order; nan leaves a
            piece out of that system's comparisons, so give a failed piece the worst score instead.
        margin: Scores that differ by less, in the judge's unit, are a tie and a zero of the
            signed-rank test; equal ones always are.
        level: Level of significance of all pairs together.
        seed: Of the bootstrap.

    Raises:
        MelismaError: For fewer than two systems, lists of different lengths, a negative margin, and
            where two systems have no piece in common.
    """
    systems = tuple(scores)
    if len(systems) < 2:
        raise MelismaError(f"a comparison needs two systems or more, {len(systems)} was given")
    if margin < 0.0:
        raise MelismaError(f"the margin of a tie is 0 or more, not {margin}")
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if len({column.shape for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise MelismaError(f"systems are compared on one list of prompts, but have: {lengths}")
    pairs = list(itertools.combinations(systems, 2))
    comparisons, wins_of = [], {name: np.zeros(len(columns[systems[0]])) for name in systems}
    met_of = dict.fromkeys(systems, 0)
    for first, second in pairs:
        common = np.flatnonzero(np.isfinite(columns[first]) & np.isfinite(columns[second]))
        if not len(common):
            raise MelismaError(f"{first} and {second} have no piece in common that was judged")
        advantages = columns[first][common] - columns[second][common]
        advantages[np.abs(advantages) < margin] = 0.0
        comparisons.append(
            _compare((first, second), advantages, np.arange(len(common)), level / len(pairs), seed)
        )
        wins_of[first][common] += advantages > 0
        wins_of[second][common] += advantages < 0
        for name in (first, second):
            met_of[name] += len(common)
    return Tournament(
        systems=systems,
        comparisons=tuple(comparisons),
        totals={name: _total(wins_of[name], met_of[name], seed) for name in systems},
        level=level / len(pairs),
        margin=margin,
    )


def _total(wins: np.ndarray, count: int, seed: int) -> Interval:
    """Sum of wins over prompts, of `count` comparisons."""
    found = bootstrap(lambda index: float(wins[index].sum()), len(wins), seed)
    return Interval(value=found.value, low=found.low, high=found.high, count=count)


def compare_answers(
    first: str,
    second: str,
    answers: Sequence[int] | np.ndarray,
    prompts: Sequence[str] | None = None,
    pairs: int = 1,
    level: float = LEVEL,
    seed: int = 0,
) -> Comparison:
    """Compares two systems by people's answers; the first was A, the second B.

    Args:
        first: Name of system A.
        second: Name of system B.
        answers: Values of `ANSWERS` [answer], -2 for "strongly A" to 2 for "strongly B"; where the
            sides were swapped, negate them first.
        prompts: Prompt of each answer [answer]. The interval resamples prompts with all their
            answers, because people agree about a clip; the test takes every answer as independent,
            as the papers do. By default every answer has its own prompt.
        pairs: Number of pairs that are compared in all, for Bonferroni's correction.
        level: Level of significance of all pairs together.
        seed: Of the bootstrap.

    Raises:
        MelismaError: For other answers, or none, or a different number of prompts.
    """
    given = np.asarray(answers)
    if not len(given):
        raise MelismaError("nobody answered: a comparison needs one answer or more")
    strange = sorted({str(one) for one in given.tolist() if one not in ANSWERS.values()})
    if strange:
        allowed = ", ".join(f"{value} ({words})" for words, value in ANSWERS.items())
        raise MelismaError(f"the answer {strange[0]} is not one of {allowed}")
    if prompts is not None and len(prompts) != len(given):
        raise MelismaError(f"there are {len(given)} answers about {len(prompts)} prompts")
    groups = np.arange(len(given))
    if prompts is not None:
        groups = np.unique(np.asarray(prompts), return_inverse=True)[1]
    return _compare((first, second), -given.astype(np.float64), groups, level / pairs, seed)


def comparison_figure(comparison: Comparison, judge: str, command: str = "") -> Figure:
    """A row of the table: the win rate, chance .5, with counts and the p value in the details."""
    return figure_of(
        f"{comparison.first} wins against {comparison.second} ({judge})",
        comparison.share,
        chance=0.5,
        command=command,
        details={
            "wins": float(comparison.wins),
            "ties": float(comparison.ties),
            "losses": float(comparison.losses),
            "p": comparison.p_value,
            "level": comparison.level,
            "outcome": comparison.sentence(),
        },
    )
