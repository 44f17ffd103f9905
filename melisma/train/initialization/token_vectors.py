"""A head start for the text tower: token vectors whose mean is near the sentence encoder's vector.

With its transformer silent the tower is a bag of tokens, and the best bag of tokens is a linear
least-squares problem. Solving it takes seconds where gradient descent would take the better part
of stage one; what word order and company change is left to the transformer.

Enters: sentences as token ids and teacher vectors. Leaves: the tower's table and its first reader.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from melisma.joint.text_tower import TABLE_SCALE, TextTower

RIDGE = 0.02
"""Penalty on the token vectors, in units of rows' squared weights (chosen: a token seen once moves
little)."""
STREAM_SCALE = 6.0
"""Factor that brings token vectors to about unit entries, as a residual stream has them."""


def bag_of_tokens(encoded: Sequence[Sequence[int]], vocabulary: int) -> csr_matrix:
    """Shares of each token in each sentence, [sentence, vocabulary]."""
    counts = np.array([len(ids) for ids in encoded])
    shares = np.repeat(1.0 / counts, counts).astype(np.float32)
    columns = np.concatenate([np.asarray(ids) for ids in encoded])
    starts = np.concatenate([[0], np.cumsum(counts)])
    return csr_matrix((shares, columns, starts), shape=(len(encoded), vocabulary))


@torch.no_grad()
def start_from_bags(
    tower: TextTower, encoded: Sequence[Sequence[int]], vectors: np.ndarray
) -> float:
    """Fills the table and `to_imitation`; returns the mean cosine that the bags alone reach.

    vectors [sentence, 384]; rows of zeros are left out.
    """
    asked = np.flatnonzero(vectors.any(axis=1))
    bags = bag_of_tokens([encoded[int(i)] for i in asked], tower.settings.vocabulary)
    wanted = vectors[asked].astype(np.float32)
    # The principal directions of the teacher's space, as many as the tower is wide.
    _, directions = np.linalg.eigh(wanted.T @ wanted)
    directions = np.ascontiguousarray(directions[:, ::-1][:, : tower.settings.width])
    squares = (bags.T @ bags).toarray().astype(np.float32)
    squares[np.diag_indices_from(squares)] += RIDGE
    factor = cho_factor(squares, lower=True, overwrite_a=True, check_finite=False)
    table = cho_solve(factor, bags.T @ (wanted @ directions), check_finite=False)
    tower.table.weight.copy_(torch.from_numpy(table * (STREAM_SCALE / TABLE_SCALE)))
    tower.to_imitation.weight.copy_(torch.from_numpy(directions))
    tower.to_imitation.bias.zero_()
    made = (bags @ table) @ directions.T
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(((made * wanted).sum(axis=1) / np.maximum(lengths, 1e-9)).mean())
