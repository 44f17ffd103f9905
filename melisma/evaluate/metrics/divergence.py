"""Divergence of a tagger's classes: whether outputs contain the same sounds as their references.

KL(reference || output) of the class probabilities of a tagger, pair by pair (MusicLM, 2301.11325,
section 5.1, "KLD", with the AudioSet tagger LEAF; here the judge's probabilities that each family
of instruments sounds). A tagger's probabilities do not sum to one, as several classes may hold;
they are normalised.

Input: probabilities [piece, class], row i of both for the same prompt. Output: nats per piece, 0
where both are equal; chance is the mean over references of *other* prompts.
"""

from __future__ import annotations

import numpy as np

from melisma.values.errors import MelismaError

FLOOR_PROBABILITY = 1e-6
"""Added to every probability before normalisation (the value of audiocraft's metric)."""


def class_divergence(reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """KL(reference || output) of each pair.

    Args:
        reference: Probabilities of real pieces, [piece, class], 0 to 1.
        outputs: The same of outputs.

    Returns:
        Nats, float64 [piece].

    Raises:
        MelismaError: For other shapes, or numbers outside 0 to 1.
    """
    real, made = _distributions(reference, outputs)
    return (real * (np.log(real) - np.log(made))).sum(axis=1)


def chance_divergence(reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Mean of KL(reference || output) over the references of all *other* prompts, for each output:
    the expectation for shuffled pairs. float64 [piece]; `MelismaError` for fewer than two
    pieces."""
    real, made = _distributions(reference, outputs)
    if len(real) < 2:
        raise MelismaError("shuffled pairs need two pieces or more: give more")
    own = (real * np.log(real)).sum(axis=1)
    pairs = own[:, None] - real @ np.log(made).T
    return (pairs.sum(axis=0) - np.diagonal(pairs)) / (len(real) - 1)


def _distributions(*tables: np.ndarray) -> list[np.ndarray]:
    if len({np.shape(table) for table in tables}) != 1 or np.ndim(tables[0]) != 2:
        raise MelismaError(
            "probabilities come as [piece, class], references and outputs alike, not as "
            f"{[list(np.shape(table)) for table in tables]}"
        )
    found = []
    for table in tables:
        rows = np.asarray(table, dtype=np.float64)
        if not ((rows >= 0.0) & (rows <= 1.0)).all():
            raise MelismaError("probabilities lie between 0 and 1")
        rows = rows + FLOOR_PROBABILITY
        found.append(rows / rows.sum(axis=1, keepdims=True))
    return found
