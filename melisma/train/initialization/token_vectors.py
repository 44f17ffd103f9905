"""Initialization of the text tower's token embeddings by least squares.

With a zero Transformer the tower is a bag-of-words model, and the best bag of words in the sense of
the sentence encoder's vectors is a linear least-squares problem. Its solution takes seconds where
gradient descent would take most of stage one; word order and context are left to the Transformer.

Input: sentences as token ids, and the sentence encoder's vectors. Output: the tower's token
embeddings and the matrix of its imitation head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from melisma.joint.text_tower import TABLE_SCALE, TextTower

RIDGE = 0.02
"""Ridge penalty on the token vectors, in units of the rows' squared weights (chosen: a token that
occurs once hardly counts)."""
STREAM_SCALE = 6.0
"""Factor that scales token vectors to entries of about 1, as usual in a residual stream."""


def bag_of_tokens(encoded: Sequence[Sequence[int]], vocabulary: int) -> csr_matrix:
    """Relative frequency of each token in each sentence, float32 [sentence, vocabulary]."""
    counts = np.array([len(ids) for ids in encoded])
    shares = np.repeat(1.0 / counts, counts).astype(np.float32)
    columns = np.concatenate([np.asarray(ids) for ids in encoded])
    starts = np.concatenate([[0], np.cumsum(counts)])
    return csr_matrix((shares, columns, starts), shape=(len(encoded), vocabulary))


@torch.no_grad()
def start_from_bags(
    tower: TextTower, encoded: Sequence[Sequence[int]], vectors: np.ndarray
) -> float:
    """Sets the token embeddings and `to_imitation` of a text tower, in place.

    Args:
        tower: the text tower.
        encoded: token ids of the sentences.
        vectors: the sentence encoder's vectors [sentence, 384]; rows of zeros are ignored.

    Returns:
        Mean cosine between the bags of tokens and the vectors.
    """
    with_vector = np.flatnonzero(vectors.any(axis=1))
    bags = bag_of_tokens([encoded[int(i)] for i in with_vector], tower.settings.vocabulary)
    target = vectors[with_vector].astype(np.float32)
    # The principal directions of the sentence encoder's space, as many as the tower is wide.
    _, directions = np.linalg.eigh(target.T @ target)
    directions = np.ascontiguousarray(directions[:, ::-1][:, : tower.settings.width])
    squares = (bags.T @ bags).toarray().astype(np.float32)
    squares[np.diag_indices_from(squares)] += RIDGE
    factor = cho_factor(squares, lower=True, overwrite_a=True, check_finite=False)
    table = cho_solve(factor, bags.T @ (target @ directions), check_finite=False)
    tower.table.weight.copy_(torch.from_numpy(table * (STREAM_SCALE / TABLE_SCALE)))
    tower.to_imitation.weight.copy_(torch.from_numpy(directions))
    tower.to_imitation.bias.zero_()
    predicted = (bags @ table) @ directions.T
    norms = np.linalg.norm(predicted, axis=1) * np.linalg.norm(target, axis=1)
    return float(((predicted * target).sum(axis=1) / np.maximum(norms, 1e-9)).mean())
