"""Similarity limits of a clip index: the values beyond which a piece is too similar.

Held-out real pieces are compared with the index like a new piece, at several lengths; the
`LIMIT_SHARE` quantile of their similarity is the limit for that length.

Inputs: a `ClipIndex`, tokens and vectors of held-out pieces. Output: a `Limit` for each length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from melisma.analysis.similarity.clip_index import LIMIT_SHARE, ClipIndex, Limit
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ

LIMIT_SECONDS = (5.0, 10.0, 20.0)
"""Lengths with a limit if the held-out pieces are longer, besides their own length: a longer piece
shares more by chance."""
LIMIT_JOINS = (2, 4)
"""Numbers of held-out pieces that are concatenated to simulate a longer one: with clips of 20 s,
limits extend to 40 and 80 s."""

Piece = tuple[np.ndarray, np.ndarray]
"""First-level tokens [frame] and joint vectors [window, width] of a piece."""


def measure_limits(
    index: ClipIndex,
    pieces: Sequence[Piece],
    works: Sequence[str],
    *,
    window_seconds: float,
    hop_seconds: float,
) -> list[Limit]:
    """The `LIMIT_SHARE` quantiles of independent real pieces for each length, ascending.

    Beginnings of the pieces stand for shorter pieces, and concatenations of different works for
    longer ones: as these are more varied, they share by chance at least as much as one long piece.

    Args:
        index: the clips to compare with.
        pieces: held-out pieces of one length.
        works: the work that each piece is from.
        window_seconds: length of a window of the joint vectors.
        hop_seconds: distance of neighbouring windows.

    Raises:
        MelismaError: without pieces.
    """
    if not pieces:
        raise MelismaError("limits are measured on held-out pieces: give one or more")
    longest = max(len(tokens) for tokens, _ in pieces) / FRAME_RATE_HZ
    limits = []
    for seconds in [seconds for seconds in LIMIT_SECONDS if seconds < longest]:
        windows = 1 + max(int((seconds - window_seconds) // hop_seconds), 0)
        frames = round(seconds * FRAME_RATE_HZ)
        shortened = [(tokens[:frames], vectors[:windows]) for tokens, vectors in pieces]
        limits.append(_limit(index, shortened, seconds))
    for times in (1, *LIMIT_JOINS):
        if joined := _joined(pieces, works, times):
            limits.append(_limit(index, joined, longest * times))
    return limits


def _limit(index: ClipIndex, pieces: Sequence[Piece], seconds: float) -> Limit:
    """Quantiles of run, agreement and similarity over the pieces."""
    found = [index.nearest(*piece) for piece in pieces]
    reached = [[one.run_seconds, one.equal_share, one.similarity] for one in found]
    run, agreement, similarity = np.quantile(reached, LIMIT_SHARE, axis=0)
    return Limit(
        piece_seconds=seconds,
        run_seconds=float(run),
        agreement=float(agreement),
        similarity=float(similarity),
        pieces=len(pieces),
    )


def _joined(pieces: Sequence[Piece], works: Sequence[str], times: int) -> list[Piece]:
    """Concatenates each piece with `times` - 1 pieces of other works.

    Returns:
        As many pieces, `times` as long; none if one work has too many of them.
    """
    # In the order of the works, two pieces this far apart (around the end too) are of two works.
    apart = len(pieces) // times
    if times > 1 and apart < max(Counter(works).values()):
        return []
    order = np.argsort(np.array(works), kind="stable")
    rows = np.stack([np.roll(order, turn * apart) for turn in range(times)], axis=1)
    return [
        (
            np.concatenate([pieces[row][0] for row in parts]),
            np.concatenate([pieces[row][1] for row in parts]),
        )
        for parts in rows
    ]
