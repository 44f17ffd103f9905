"""Who wins: systems compared in pairs over one list of prompts, by a judge or by people.

Follows MusicLM (2301.11325, section 5.3) and MusicRL (2402.04229, section 5): every two systems are
compared on every prompt; a win is any preference, the rest are ties; the Wilcoxon signed-rank test
says whether the preferences are more than luck, at the level .01 divided by the n (n - 1) / 2 pairs
(Bonferroni); the win share is wins over wins and losses, ties left out, as MusicRL's win rate. The
papers do not say what they do with zero differences: here they are dropped before ranking, as
Wilcoxon did (1945) and as is scipy's default; a comparison without any other has p = 1.

Enters: per system one number for each prompt (higher is better), or people's answers from -2 to 2.
Leaves: `Comparison`s, `Tournament`s, and their rows of the table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test, rankdata, wilcoxon

from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import Interval, bootstrap

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
MOST_FLIPPED = 13
"""Up to so many differences all their signs are tried (chosen: 8,192 tables, a few hundredths of a
second); equal magnitudes, which the usual tables do not know, are then right as well."""
MOST_EXACT = 50
"""Up to so many differences, all unlike, the distribution is exact (scipy's own limit); beyond, and
where magnitudes are equal, it is the normal one with its correction for ties."""


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
    """What `p_value` must stay below: `LEVEL` over the number of pairs."""
    share: Interval
    """wins / (wins + losses) with its 95 % interval, prompts drawn anew; where all are ties 0.5
    within 0 to 1, because nothing is known."""

    @property
    def count(self) -> int:
        """Pieces (or answers) compared."""
        return self.wins + self.ties + self.losses

    @property
    def is_significant(self) -> bool:
        """Whether the preferences are more than luck, all pairs considered."""
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
        luck = f"p = {self.p_value:.2g}, to stay below {self.level:.2g}"
        if self.winner is None:
            return f"{self.first} and {self.second} cannot be told apart: {counted} ({luck})"
        other = self.second if self.winner == self.first else self.first
        return f"{self.winner} beats {other}: {self.first} has {counted} ({luck})"


@dataclass(frozen=True, kw_only=True)
class Tournament:
    """Every two systems against each other."""

    systems: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    """All pairs, in the order of `systems`."""
    totals: Mapping[str, Interval]
    """System -> wins over all its comparisons, `count` of them, prompts drawn anew."""
    level: float
    """Of each comparison, after Bonferroni's correction."""
    margin: float
    """Scores that differ by less are ties."""


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p value of the Wilcoxon signed-rank test; 1 where every difference is zero.

    `differences` float [piece]; zeros are dropped.
    """
    told = np.asarray(differences, dtype=np.float64)
    told = told[told != 0.0]
    if len(told) < 2:  # one difference is as likely either way
        return 1.0
    if len(told) <= MOST_FLIPPED:
        return _flipped_p(told)
    unlike = len(np.unique(np.abs(told))) == len(told)
    method = "exact" if unlike and len(told) <= MOST_EXACT else "asymptotic"
    return float(np.asarray(wilcoxon(told, method=method), dtype=np.float64)[1])


def _flipped_p(differences: np.ndarray) -> float:
    """Exact p of the signed ranks under every choice of signs; float [piece] without zeros."""
    ranks = rankdata(np.abs(differences)) * np.sign(differences)

    def statistic(signed: np.ndarray, axis: int) -> np.ndarray:
        return np.sum(signed, axis=axis)

    found = permutation_test(
        (ranks,),
        statistic,
        permutation_type="samples",
        n_resamples=2**MOST_FLIPPED,
        vectorized=True,
    )
    return min(float(found.pvalue), 1.0)


def _win_share(preferences: np.ndarray, prompts: np.ndarray, seed: int) -> Interval:
    """Wins over wins and losses; preferences -1, 0 or 1 and number of the prompt, [answer]."""
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
    """From the first system's advantage, zero for a tie, float [answer]."""
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
    """Every two systems by their numbers, higher is better.

    `scores` system -> [prompt], the same prompts in the same order; a number that is none (nan)
    leaves its piece out of that system's comparisons, so give a failed piece the worst number
    instead. Scores that differ by less than `margin`, in the judge's unit, are a tie, and a zero of
    the signed-rank test; equal ones always are. `ValueError` for fewer than two systems, for lists
    of unlike length, and where two systems have no piece in common.
    """
    systems = tuple(scores)
    if len(systems) < 2:
        raise ValueError(f"a comparison needs two systems or more, {len(systems)} was given")
    if margin < 0.0:
        raise ValueError(f"the margin of a tie is 0 or more, not {margin}")
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if len({column.shape for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise ValueError(f"systems are compared on one list of prompts, but have: {lengths}")
    pairs = list(itertools.combinations(systems, 2))
    comparisons, wins_of = [], {name: np.zeros(len(columns[systems[0]])) for name in systems}
    met_of = dict.fromkeys(systems, 0)
    for first, second in pairs:
        kept = np.flatnonzero(np.isfinite(columns[first]) & np.isfinite(columns[second]))
        if not len(kept):
            raise ValueError(f"{first} and {second} have no piece in common that was judged")
        advantages = columns[first][kept] - columns[second][kept]
        advantages[np.abs(advantages) < margin] = 0.0
        comparisons.append(
            _compare((first, second), advantages, np.arange(len(kept)), level / len(pairs), seed)
        )
        wins_of[first][kept] += advantages > 0
        wins_of[second][kept] += advantages < 0
        for name in (first, second):
            met_of[name] += len(kept)
    return Tournament(
        systems=systems,
        comparisons=tuple(comparisons),
        totals={name: _total(wins_of[name], met_of[name], seed) for name in systems},
        level=level / len(pairs),
        margin=margin,
    )


def _total(wins: np.ndarray, count: int, seed: int) -> Interval:
    """Sum of wins per prompt, over `count` comparisons."""
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
    """Two systems by what people answered; the first was A, the second B.

    `answers` [answer] are those of `ANSWERS`, -2 for "strongly A" to 2 for "strongly B"; where the
    sides were changed, turn the sign back first. `prompts` [answer] says which answers are about
    the same prompt: the interval draws prompts anew, all their answers together, because people
    agree about a clip; the test takes every answer for itself, as the papers do. `pairs` is the
    number of pairs that are compared in all. `ValueError` for other answers or none.
    """
    given = np.asarray(answers)
    if not len(given):
        raise ValueError("nobody answered: a comparison needs one answer or more")
    strange = sorted({str(one) for one in given.tolist() if one not in ANSWERS.values()})
    if strange:
        allowed = ", ".join(f"{value} ({words})" for words, value in ANSWERS.items())
        raise ValueError(f"the answer {strange[0]} is not one of {allowed}")
    if prompts is not None and len(prompts) != len(given):
        raise ValueError(f"there are {len(given)} answers about {len(prompts)} prompts")
    groups = np.arange(len(given))
    if prompts is not None:
        groups = np.unique(np.asarray(prompts), return_inverse=True)[1]
    return _compare((first, second), -given.astype(np.float64), groups, level / pairs, seed)


def comparison_figure(comparison: Comparison, judge: str, command: str = "") -> Figure:
    """A row of the table: the win share, chance .5, with its counts and p in the details."""
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
