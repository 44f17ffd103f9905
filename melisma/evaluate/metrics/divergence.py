"""Whether outputs hold the same sounds as their references: divergence of a tagger's classes.

KL(reference || output) of the class probabilities of a tagger, pair by pair (MusicLM, 2301.11325,
section 5.1, "KLD", with the AudioSet tagger LEAF; here the judge's probabilities of each family of
instruments sounding). A tagger's probabilities do not sum to one, as several classes may hold; they
are made to.

Enters: probabilities [piece, class], row i of both for the same prompt. Leaves: nats per piece, 0
where both are heard alike; chance is what references of *other* prompts give.
"""

from __future__ import annotations

import numpy as np

FLOOR_PROBABILITY = 1e-6
"""Added to every probability before they are made to sum to one (the value of audiocraft's
metric)."""


def class_divergence(reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """KL(reference || output) in nats of each pair, float64 [piece].

    Both [piece, class], probabilities from 0 to 1; `ValueError` otherwise.
    """
    real, made = _distributions(reference, outputs)
    return (real * (np.log(real) - np.log(made))).sum(axis=1)


def chance_divergence(reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The mean of KL(reference || output) over the references of all *other* prompts, for each
    output: what shuffled pairs give on average. float64 [piece], two pieces or more."""
    real, made = _distributions(reference, outputs)
    if len(real) < 2:
        raise ValueError("shuffled pairs need two pieces or more: give more")
    own = (real * np.log(real)).sum(axis=1)
    pairs = own[:, None] - real @ np.log(made).T
    return (pairs.sum(axis=0) - np.diagonal(pairs)) / (len(real) - 1)


def _distributions(*tables: np.ndarray) -> list[np.ndarray]:
    if len({np.shape(table) for table in tables}) != 1 or np.ndim(tables[0]) != 2:
        raise ValueError(
            "probabilities come as [piece, class], references and outputs alike, not as "
            f"{[list(np.shape(table)) for table in tables]}"
        )
    found = []
    for table in tables:
        rows = np.asarray(table, dtype=np.float64)
        if not ((rows >= 0.0) & (rows <= 1.0)).all():
            raise ValueError("probabilities lie between 0 and 1")
        rows = rows + FLOOR_PROBABILITY
        found.append(rows / rows.sum(axis=1, keepdims=True))
    return found
