"""A small evaluation made by hand: what tests of cards, comparisons and reports share."""

from __future__ import annotations

import numpy as np

from melisma.evaluate.metrics.figures import figure_of
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.evaluate.report.card import Card, CardRow, PieceRow, Protocol


def small_protocol(**changes: object) -> Protocol:
    """A protocol of sound; `changes` override its fields."""
    fields: dict[str, object] = {
        "subject": "sound",
        "reference": "sixteen clips",
        "reference_hash": "0123456789abcdef",
        "prompts": "a list",
        "prompts_hash": "fedcba9876543210",
        "embeddings": {"music": "aaaa", "signal": "bbbb"},
        "judge": "cccc",
        "rate_hz": 24_000,
        "level": "as it is",
        "seconds": 10.0,
        "count": 16,
        "seed": 0,
        "repeats": 200,
    }
    return Protocol(**(fields | changes))  # pyright: ignore[reportArgumentType]


def small_card(tempo: np.ndarray, hiss: np.ndarray, **changes: object) -> Card:
    """A card of two figures, one number of each for every piece."""
    pieces = tuple(
        PieceRow(name=f"{n:03d}.flac", prompt=f"prompt {n}", values={"tempo": float(t), "hiss": h})
        for n, (t, h) in enumerate(zip(tempo, hiss.tolist(), strict=True))
    )
    rows = (
        CardRow(
            key="tempo",
            section="adherence",
            figure=figure_of("tempo met", mean_interval(tempo), chance=0.1, ceiling=0.8),
            better="higher",
            goals={"floor": 0.5},
        ),
        CardRow(
            key="hiss",
            section="faults",
            figure=figure_of("hiss", mean_interval(hiss), unit="dB"),
            better="lower",
        ),
    )
    return Card(
        title="Sixteen pieces",
        judged={"model": "none"},
        protocol=small_protocol(**changes),
        rows=rows,
        pieces=pieces,
        notes=("KLD was not measured.",),
        made_by={"command": "by hand"},
    )
