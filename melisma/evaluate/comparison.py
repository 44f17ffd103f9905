"""Two cards side by side: which differences are sure.

Pieces are paired by name and drawn anew together (paired bootstrap: Efron and Tibshirani, "An
introduction to the bootstrap", 1993, section 8.3), so that what both share, above all the prompt,
cancels. A difference counts as better or worse only where its 95 % interval excludes zero.

Enters: two `Card`s of one protocol. Leaves: a `Difference` for every figure that both have and that
rests on single pieces, or on their embeddings (Fréchet distances).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from melisma.evaluate.card import Card, Row
from melisma.evaluate.frechet import Pieces, frechet_distance, paired_frechet_difference
from melisma.evaluate.reference import Reference, split_windows
from melisma.evaluate.statistics import Interval, bootstrap


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of two cards."""

    key: str
    what: str
    before: float
    """Of the first card, over the pieces that both have."""
    after: float
    """Of the second."""
    change: Interval
    """Second minus first, 95 % by pairs."""
    better: str
    """As in `Row`."""

    @property
    def verdict(self) -> str:
        """ "better", "worse", "changed" (neither is better) or "no difference": the second's."""
        if self.change.low <= 0.0 <= self.change.high:
            return "no difference"
        if self.better not in ("higher", "lower"):
            return "changed"
        return "better" if (self.change.value > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class ComparedCards:
    """All differences, and what could not be compared."""

    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    pairs: int
    """Pieces that both cards have."""


def compare_cards(
    first: Card, second: Card, reference: Reference | None = None, seed: int = 0
) -> ComparedCards:
    """Every figure that both cards have, by pairs of pieces of one name and one prompt.

    `reference` is the set that both were compared with; without it Fréchet distances are left out.
    Raises `ValueError` where the protocols differ, or no piece is in both.
    """
    apart = first.protocol.differences(second.protocol)
    if apart:
        raise ValueError(
            "these cards follow different protocols and cannot be compared: " + "; ".join(apart)
        )
    theirs = {(piece.name, piece.prompt): i for i, piece in enumerate(second.pieces)}
    pairs = [
        (i, theirs[piece.name, piece.prompt])
        for i, piece in enumerate(first.pieces)
        if (piece.name, piece.prompt) in theirs
    ]
    if len(pairs) < 2:
        raise ValueError(
            "these cards have fewer than two pieces of the same name and prompt in common: judge "
            "the same list of prompts for both"
        )
    notes = []
    left = len(first.pieces) + len(second.pieces) - 2 * len(pairs)
    if left:
        notes.append(f"{left} pieces are in one card alone and were left out")
    differences = []
    for row in first.rows:
        name = row.key.removeprefix("fad_")
        if second.row(row.key) is not None and name in first.embeddings:
            if (apart := _frechet(row, name, first, second, pairs, reference, seed)) is not None:
                differences.append(apart)
            else:
                notes.append(f'"{row.figure.what}" needs the reference set: give --reference')
        elif second.row(row.key) is None:
            notes.append(f'"{row.figure.what}" is in the first card alone')
        elif (found := _difference(row, first, second, pairs, seed)) is not None:
            differences.append(found)
    return ComparedCards(differences=tuple(differences), notes=tuple(notes), pairs=len(pairs))


def _frechet(
    row: Row,
    name: str,
    first: Card,
    second: Card,
    pairs: list[tuple[int, int]],
    reference: Reference | None,
    seed: int,
) -> Difference | None:
    """Fréchet distances of both, the same pieces drawn for both; None without what it takes."""
    known = reference is not None and name in reference.raw[0].windows
    if not known or name not in second.embeddings:
        return None
    assert reference is not None
    real = Pieces.of([one.windows[name] for one in reference.raw], reference.groups)
    sides = []
    for card, places in ((first, [i for i, _ in pairs]), (second, [j for _, j in pairs])):
        windows = split_windows(card.embeddings[name])
        sides.append(Pieces.of([windows[place] for place in places]))
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
    row: Row, first: Card, second: Card, pairs: list[tuple[int, int]], seed: int
) -> Difference | None:
    """The means of one figure over pairs; None where it does not rest on pieces."""
    before = np.array([first.pieces[i].values.get(row.key, math.nan) for i, _ in pairs])
    after = np.array([second.pieces[j].values.get(row.key, math.nan) for _, j in pairs])
    both = np.isfinite(before) & np.isfinite(after)
    if both.sum() < 2:
        return None
    before, after = before[both], after[both]
    change = bootstrap(
        lambda index: float((after[index] - before[index]).mean()), len(before), seed
    )
    return Difference(
        key=row.key,
        what=row.figure.what,
        before=float(before.mean()),
        after=float(after.mean()),
        change=change,
        better=row.better,
    )
