"""Retrieval between text and music: does a sentence find its clip, an instrument's name its clips?

Input: unit vectors of sentences and of clips in one space. Output: rows of the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import (
    Interval,
    area_under_curve,
    bootstrap,
    recall_interval,
)
from melisma.values.errors import MelismaError

WITHIN = 10
"""A sentence finds its clip where it is among so many best."""


def recall_figure(words: np.ndarray, music: np.ndarray, command: str) -> Figure:
    """R@10 of sentences [n, width] among their n clips [n, width]."""
    interval = recall_interval(words @ music.T, WITHIN)
    chance = min(WITHIN / len(music), 1.0)
    name = f"text to music among {len(music)} clips, R@{WITHIN}, sentences without numbers"
    return figure_of(name, interval, chance=chance, command=command)


def instrument_areas(
    questions: np.ndarray, names: Sequence[str], music: np.ndarray, played: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Area under the curve of each name: does its question [name, width] rank clips [n, width] in
    which it plays above the others? Names that play in fewer than three clips are left out."""
    similarity = questions @ music.T
    areas: dict[str, float] = {}
    for row, name in zip(similarity, names, strict=True):
        truth = np.array([name in instruments for instruments in played])
        if 3 <= truth.sum() <= len(truth) - 3:
            areas[name] = area_under_curve(row, truth)
    return areas


def instrument_interval(
    questions: np.ndarray, names: Sequence[str], music: np.ndarray, played: Sequence[Sequence[str]]
) -> Interval:
    """Mean area over the names, over resampled clips."""
    similarity = questions @ music.T
    truth = np.array([[name in instruments for instruments in played] for name in names])
    enough = (truth.sum(axis=1) >= 3) & (truth.sum(axis=1) <= len(music) - 3)
    if not enough.any():
        raise MelismaError("no instrument plays in three clips or more: take more clips")

    def statistic(index: np.ndarray) -> float:
        areas = [
            area_under_curve(row[index], hit[index])
            for row, hit in zip(similarity[enough], truth[enough], strict=True)
        ]
        finite = [area for area in areas if np.isfinite(area)]
        return float(np.mean(finite)) if finite else float("nan")

    return bootstrap(statistic, len(music), repeats=300)
