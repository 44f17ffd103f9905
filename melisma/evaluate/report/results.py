"""Results of the sections of a card, collected: rows, values of every piece, plots, notes.

Input: one number per piece. Output: `CardRow`s with intervals, and the `PieceRow`s of the card.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from melisma.evaluate.metrics.figures import figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.evaluate.report.card import CardRow, PieceRow


@dataclass(kw_only=True)
class Results:
    """Results that the sections have added so far."""

    rows: list[CardRow] = field(default_factory=list)
    values: list[dict[str, float]] = field(default_factory=list)
    """Per piece: key of a row -> its value."""
    texts: list[dict[str, str]] = field(default_factory=list)
    """Per piece: findings in words by name."""
    plots: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, count: int) -> Results:
        """Empty results for `count` pieces."""
        return cls(values=[{} for _ in range(count)], texts=[{} for _ in range(count)])

    def piece_rows(self, names: Sequence[tuple[str, str]]) -> tuple[PieceRow, ...]:
        """The rows of all pieces, from the name and prompt of each."""
        return tuple(
            PieceRow(name=name, prompt=prompt, values=values, texts=texts)
            for (name, prompt), values, texts in zip(names, self.values, self.texts, strict=True)
        )

    def add(
        self,
        key: str,
        section: str,
        what: str,
        numbers: np.ndarray,
        *,
        better: str,
        chance: float | None = None,
        ceiling: float | None = None,
        unit: str = "",
    ) -> None:
        """Adds a row that is the mean of one number per piece.

        Args:
            key: Key of the row, and of the value of each piece.
            section: One of `card.SECTIONS`.
            what: Name of the row.
            numbers: float [piece], nan where a piece has none; without any number no row is added.
            better: "higher", "lower" or empty.
            chance: The value for guessing.
            ceiling: The value of real music.
            unit: Unit of the numbers.
        """
        for values, number in zip(self.values, numbers, strict=True):
            if math.isfinite(number):
                values[key] = float(number)
        known = numbers[np.isfinite(numbers)]
        if len(known):
            figure = figure_of(
                what, mean_interval(known), chance=chance, ceiling=ceiling, unit=unit
            )
            self.rows.append(CardRow(key=key, section=section, figure=figure, better=better))
