"""What the sections of a card have found so far: rows, numbers of every piece, plots, notes.

Enters: one number a piece. Leaves: `Row`s with intervals, and the `PieceRow`s of the card.
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
    """What the sections have found so far."""

    rows: list[CardRow] = field(default_factory=list)
    values: list[dict[str, float]] = field(default_factory=list)
    """Per piece: key of a row -> its number."""
    told: list[dict[str, str]] = field(default_factory=list)
    plots: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, count: int) -> Results:
        """Nothing found yet in so many pieces."""
        return cls(values=[{} for _ in range(count)], told=[{} for _ in range(count)])

    def piece_rows(self, names: Sequence[tuple[str, str]]) -> tuple[PieceRow, ...]:
        """The numbers of every piece, by its name and prompt."""
        return tuple(
            PieceRow(name=name, prompt=prompt, values=values, told=told)
            for (name, prompt), values, told in zip(names, self.values, self.told, strict=True)
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
        """A row that is the mean of one number a piece; nan where a piece has none."""
        for values, number in zip(self.values, numbers, strict=True):
            if math.isfinite(number):
                values[key] = float(number)
        known = numbers[np.isfinite(numbers)]
        if len(known):
            figure = figure_of(
                what, mean_interval(known), chance=chance, ceiling=ceiling, unit=unit
            )
            self.rows.append(CardRow(key=key, section=section, figure=figure, better=better))
