"""The verdict on a card in plain words: which goals are met, what is strong, what is weak.

Input: a `Card`. Output: a `CardVerdict`: a headline, one `GoalLine` for each goal, and sentences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from melisma.evaluate.report.card import Card, CardRow
from melisma.evaluate.report.plots import number, percent

MOST_NAMED = 3
"""Largest number of strong, and of weak, figures that are named."""
NEAR_CEILING = 0.9
"""Share of the ceiling from which a figure counts as strong (chosen)."""
FAR_FROM_CEILING = 0.7
"""Share of the ceiling below which it counts as weak (chosen)."""


@dataclass(frozen=True, kw_only=True)
class GoalLine:
    """One goal of one figure."""

    words: str
    met: bool
    """Whether the value itself meets it."""
    sure: bool
    """Whether the whole 95 % interval lies on the same side of it."""


@dataclass(frozen=True, kw_only=True)
class CardVerdict:
    """The summary at the top of a report."""

    headline: str
    goals: tuple[GoalLine, ...]
    sentences: tuple[str, ...]


def verdict_of(card: Card) -> CardVerdict:
    """The verdict on a card, computed from its figures only."""
    goals = tuple(line for row in card.rows for line in goal_lines(row))
    sentences = [
        _named(card, "As good as real music, or nearly", strong=True),
        _named(card, "Farthest from real music", strong=False),
        *(str(row.figure.details["sentence"]) for row in card.rows if _states_bias(row)),
    ]
    if card.notes:
        count = len(card.notes)
        words = "One thing" if count == 1 else f"{count} things"
        sentences.append(f"{words} could not be measured; the reasons are given below.")
    return CardVerdict(
        headline=_headline(card, goals), goals=goals, sentences=tuple(s for s in sentences if s)
    )


def _headline(card: Card, goals: tuple[GoalLine, ...]) -> str:
    pieces = f"{card.protocol.count} pieces" if card.protocol.count != 1 else "1 piece"
    if not goals:
        return f"{len(card.rows)} figures over {pieces}; no goal was set."
    met = sum(line.met for line in goals)
    if met == len(goals):
        return f"All {met} goals are reached, over {pieces}."
    if not met:
        return f"None of {len(goals)} goals is reached, over {pieces}."
    return f"{met} of {len(goals)} goals {'is' if met == 1 else 'are'} reached, over {pieces}."


def goal_lines(row: CardRow) -> list[GoalLine]:
    """A line for each goal of a row; none where the figure is not finite or has no direction."""
    figure = row.figure
    if not math.isfinite(figure.value):
        return []
    lines = []
    for name, met in row.met().items():
        goal = row.goals[name]
        ends = [end for end in (figure.low, figure.high) if end is not None]
        sides = {(end >= goal) == (row.better == "higher") for end in ends} or {met}
        sure = sides == {met}
        what = f"{figure.what}: {number(figure.value, figure.unit)}"
        off = f"{number(abs(figure.value - goal))} {'better' if met else 'short of it'}"
        doubt = "" if sure else ", though its 95 % interval reaches across"
        state = "reached" if met else "not reached"
        words = f"{what}; the goal {name} = {number(goal)} is {state}, {off}{doubt}."
        lines.append(GoalLine(words=words, met=met, sure=sure))
    return lines


def _states_bias(row: CardRow) -> bool:
    """Whether a row is about a significant bias."""
    details = row.figure.details
    named = bool(details.get("too often") or details.get("too seldom"))
    return row.section == "bias" and "sentence" in details and named


def _named(card: Card, words: str, *, strong: bool) -> str:
    """The figures nearest to their ceilings, or farthest from them; only where higher is better,
    because a share of the ceiling has no meaning otherwise."""
    shares = [
        (share, row.figure.what)
        for row in card.rows
        if row.better == "higher"
        and row.section != "wins"
        and (share := row.figure.share_of_ceiling) is not None
        and math.isfinite(share)
        and (share >= NEAR_CEILING if strong else share < FAR_FROM_CEILING)
    ]
    shares.sort(reverse=strong)
    parts = [f"{what} ({percent(share)} of the ceiling)" for share, what in shares[:MOST_NAMED]]
    return f"{words}: {'; '.join(parts)}." if parts else ""
