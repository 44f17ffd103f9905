"""How near independent music comes to the clips of an index: the limits beyond which a piece is too
near.

Held-out real pieces are asked for what a new piece is asked for, at several lengths; what
`LIMIT_SHARE` of them do not pass is the limit of that length.

Enters: a `ClipIndex`, tokens and vectors of held-out pieces. Leaves: a `Limit` for each length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from melisma.analysis.similarity.clip_index import LIMIT_SHARE, ClipIndex, Limit
from melisma.values.tokens import FRAME_RATE_HZ

LIMIT_SECONDS = (5.0, 10.0, 20.0)
"""Lengths that limits are kept for where the held-out pieces reach them, beside their own: a longer
piece shares more by chance."""
LIMIT_JOINS = (2, 4)
"""So many held-out pieces in a row stand for a longer one: with clips of 20 s, limits go on to 40
and 80 s."""

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
    """What `LIMIT_SHARE` of independent real pieces do not pass, for each length, ascending.

    `pieces` are held-out ones of one length, `works` where each is from. Their beginnings stand for
    shorter pieces, and those of different works, end to end, for longer ones: as these are not more
    of the same, they share by chance at least what one long piece does. A piece's windows last
    `window_seconds` and follow each other by `hop_seconds`. `ValueError` where there is no piece.
    """
    if not pieces:
        raise ValueError("limits are measured on held-out pieces: give one or more")
    longest = max(len(tokens) for tokens, _ in pieces) / FRAME_RATE_HZ
    limits = []
    for seconds in [seconds for seconds in LIMIT_SECONDS if seconds < longest]:
        windows = 1 + max(int((seconds - window_seconds) // hop_seconds), 0)
        frames = round(seconds * FRAME_RATE_HZ)
        cut = [(tokens[:frames], vectors[:windows]) for tokens, vectors in pieces]
        limits.append(_limit(index, cut, seconds))
    for times in (1, *LIMIT_JOINS):
        if joined := _joined(pieces, works, times):
            limits.append(_limit(index, joined, longest * times))
    return limits


def _limit(index: ClipIndex, pieces: Sequence[Piece], seconds: float) -> Limit:
    """What nearly all of these pieces do not pass."""
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
    """As many pieces, `times` as long: each begins one and goes on with some of other works. None
    where a work has so many of them that this cannot be."""
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
