"""Comparison of two cards: which differences are significant.

Pieces are paired by name and resampled together (paired bootstrap: Efron and Tibshirani, "An
introduction to the bootstrap", 1993, section 8.3), so that what both share, above all the prompt,
cancels. A difference counts as better or worse only where its 95 % interval excludes zero.

Input: two `Card`s of one protocol. Output: a `Difference` for every figure that both have and that
is computed from single pieces, or from their embeddings (Fréchet distances).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from melisma.evaluate.metrics.frechet import Pieces, frechet_distance, paired_frechet_difference
from melisma.evaluate.metrics.statistics import Interval, bootstrap
from melisma.evaluate.references.audio import Reference, split_windows
from melisma.evaluate.report.card import Card, CardRow
from melisma.values.errors import MelismaError

FEWEST_PAIRS = 6
"""With fewer pairs no sign test can reach .05, and a bootstrap is significant for noise."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference of one figure between two cards."""

    key: str
    what: str
    before: float
    """Value of the first card, over the pieces that both have."""
    after: float
    """Value of the second."""
    change: Interval
    """Second minus first, 95 % by pairs."""
    better: str
    """As in `CardRow`."""

    @property
    def verdict(self) -> str:
        """The second compared with the first: "better", "worse", "changed" (where neither direction
        is better) or "no difference"."""
        if self.change.low <= 0.0 <= self.change.high:
            return "no difference"
        if self.better not in ("higher", "lower"):
            return "changed"
        return "better" if (self.change.value > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class ComparedCards:
    """All differences, and sentences about what could not be compared."""

    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    pairs: int
    """Number of pieces that both cards have."""


def compare_cards(
    first: Card, second: Card, reference: Reference | None = None, seed: int = 0
) -> ComparedCards:
    """Compares every figure that both cards have, by pairs of pieces of one name and one prompt.

    Args:
        first: The baseline.
        second: The card that is compared with it.
        reference: The reference set of both; without it Fréchet distances are left out.
        seed: Of the bootstrap.

    Raises:
        MelismaError: If the protocols differ, or fewer than `FEWEST_PAIRS` pieces are in both.
    """
    apart = first.protocol.differences(second.protocol)
    if apart:
        raise MelismaError(
            "these cards follow different protocols and cannot be compared: " + "; ".join(apart)
        )
    theirs = {(piece.name, piece.prompt): i for i, piece in enumerate(second.pieces)}
    pairs = [
        (i, theirs[piece.name, piece.prompt])
        for i, piece in enumerate(first.pieces)
        if (piece.name, piece.prompt) in theirs
    ]
    if len(pairs) < FEWEST_PAIRS:
        raise MelismaError(
            f"these cards have {len(pairs)} pieces of the same name and prompt in common, "
            f"{FEWEST_PAIRS} or more are needed: judge the same list of prompts for both"
        )
    notes = []
    left = len(first.pieces) + len(second.pieces) - 2 * len(pairs)
    if left:
        notes.append(f"{left} pieces are in one card alone and were left out")
    differences = []
    for row in first.rows:
        name = row.key.removeprefix("fad_")
        if second.row(row.key) is None:
            notes.append(f'"{row.figure.what}" is in the first card alone')
        elif name in first.protocol.embeddings:
            if (missing := _missing(name, first, second, reference)) is not None:
                notes.append(f'"{row.figure.what}" was not compared: {missing}')
            else:
                assert reference is not None
                differences.append(_frechet(row, name, first, second, pairs, reference, seed))
        elif (found := _difference(row, first, second, pairs, seed)) is not None:
            differences.append(found)
    return ComparedCards(differences=tuple(differences), notes=tuple(notes), pairs=len(pairs))


def _missing(name: str, first: Card, second: Card, reference: Reference | None) -> str | None:
    """The reason why Fréchet distances in an embedding cannot be compared; None if they can."""
    if first.protocol.embeddings[name] != second.protocol.embeddings.get(name):
        return "the cards have different embeddings of that name"
    if name not in first.embeddings or name not in second.embeddings:
        return "the .safetensors file beside a card is missing"
    if reference is None or reference.fingerprints.get(name) != first.protocol.embeddings[name]:
        return "it needs the reference set, give --reference"
    return None


def _frechet(
    row: CardRow,
    name: str,
    first: Card,
    second: Card,
    pairs: list[tuple[int, int]],
    reference: Reference,
    seed: int,
) -> Difference:
    """The difference of Fréchet distances, the same pieces resampled for both."""
    real = Pieces.of([one.windows[name] for one in reference.raw], reference.groups)
    sides = []
    for card, indices in ((first, [i for i, _ in pairs]), (second, [j for _, j in pairs])):
        windows = split_windows(card.embeddings[name])
        sides.append(Pieces.of([windows[index] for index in indices]))
    before, after = (frechet_distance(side.gaussian(), real.gaussian()) for side in sides)
    return Difference(
        key=row.key,
        what=row.figure.what,
        before=before,
        after=after,
        change=paired_frechet_difference(sides[1], sides[0], real, seed),
        better=row.better,
    )


def _difference(
    row: CardRow, first: Card, second: Card, pairs: list[tuple[int, int]], seed: int
) -> Difference | None:
    """The difference of the means (or medians) over pairs; None where too few pairs have values."""
    before = np.array([first.pieces[i].values.get(row.key, math.nan) for i, _ in pairs])
    after = np.array([second.pieces[j].values.get(row.key, math.nan) for _, j in pairs])
    both = np.isfinite(before) & np.isfinite(after)
    if both.sum() < FEWEST_PAIRS:
        return None
    before, after = before[both], after[both]
    average = np.median if row.average == "median" else np.mean
    change = bootstrap(
        lambda index: float(average(after[index]) - average(before[index])), len(before), seed
    )
    return Difference(
        key=row.key,
        what=row.figure.what,
        before=float(average(before)),
        after=float(average(after)),
        change=change,
        better=row.better,
    )
