"""Melody fingerprints of the score model's training pieces, with limits of similarity.

Input: the folder of notation that `melisma train score` takes. Output: `MelodyFingerprints` of its
training split; the limits are what excerpts of held-out pieces share with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.analysis.similarity.melody_fingerprints import FingerprintLimits, MelodyFingerprints
from melisma.analysis.similarity.melody_index import SharedRun, melodic_steps
from melisma.data.sources.excerpts import cut_score
from melisma.data.sources.pieces import Source, read_score
from melisma.data.sources.splits import assign_splits
from melisma.recipes.score_shards import read_notation
from melisma.values import Score
from melisma.values.errors import MelismaError

FEWEST_STEPS = 30
"""Excerpts with fewer melodic steps are skipped (chosen: more than a run that is surely found)."""


@dataclass(frozen=True, kw_only=True)
class FingerprintSettings:
    """How the limits are measured, on excerpts from the beginnings of real pieces."""

    seconds: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0, 240.0)
    """Lengths of excerpts, ascending."""
    quantile: float = 0.99
    """Share of real excerpts at or below each of the two limits."""
    fewest_pieces: int = 100
    """A length with fewer excerpts has no limit (chosen: one of them is beyond the limit)."""
    most_pieces: int = 1_000
    """Most excerpts of each length."""
    seed: int = 0
    """Of the random choice of pieces, if there are more."""


def title_of(source: Source) -> str:
    """Displayed title of a piece, e.g. "Erlkönig, Schubert (openscore_lieder)"."""
    known = [text for text in (source.title, source.composer) if text]
    return f"{', '.join(known) or source.identity} ({source.corpus})"


def readable_scores(sources: Sequence[Source]) -> Iterator[tuple[str, Score]]:
    """(identity, score) of every source that can be read; others are skipped."""
    for source in sources:
        try:
            yield source.identity, read_score(source)
        except MelismaError:
            continue


def first_seconds(score: Score, seconds: float) -> Score | None:
    """The first seconds of a score from its first note on; None if it is shorter."""
    begins = [float(t.notes.start_beats.min()) for t in score.tracks if len(t.notes)]
    first = min(begins, default=0.0)
    stop_seconds = float(score.tempo.seconds(np.array(first))) + seconds
    if score.seconds < stop_seconds:
        return None
    return cut_score(score, first, float(score.tempo.position_beats(np.array(stop_seconds))))


def shared_by_excerpts(
    fingerprints: MelodyFingerprints, pieces: Sequence[tuple[str, Score]], seconds: float, most: int
) -> list[SharedRun]:
    """Longest shared runs of excerpts with fingerprinted pieces other than their own.

    Args:
        fingerprints: of the training pieces.
        pieces: (identity, score) of real pieces.
        seconds: length of the excerpts; shorter pieces are skipped.
        most: number of excerpts after which to stop.
    """
    shared: list[SharedRun] = []
    for name, score in pieces:
        cut = first_seconds(score, seconds)
        if cut is not None and np.count_nonzero(melodic_steps(cut)) >= FEWEST_STEPS:
            shared.append(fingerprints.nearest(cut, without=name))
        if len(shared) == most:
            break
    return shared


def measure_limits(
    fingerprints: MelodyFingerprints,
    pieces: Sequence[tuple[str, Score]],
    settings: FingerprintSettings,
) -> FingerprintLimits:
    """Measures the limits.

    Args:
        fingerprints: of the training pieces.
        pieces: (identity, score) of real pieces; each is compared with other pieces only.
        settings: lengths, quantile and numbers of excerpts.

    Raises:
        MelismaError: where no length has enough excerpts.
    """
    order = np.random.default_rng(settings.seed).permutation(len(pieces))
    shuffled = [pieces[int(number)] for number in order]
    rows: list[tuple[float, float, float, int]] = []
    for seconds in settings.seconds:
        shared = shared_by_excerpts(fingerprints, shuffled, seconds, settings.most_pieces)
        if len(shared) >= settings.fewest_pieces:
            notes = float(np.quantile([one.notes for one in shared], settings.quantile))
            share = float(np.quantile([one.share for one in shared], settings.quantile))
            rows.append((seconds, notes, share, len(shared)))
    if not rows:
        raise MelismaError(
            f"limits need {settings.fewest_pieces} pieces of {settings.seconds[0]:g} s and more, "
            "here are fewer: give more pieces, or set fingerprints.fewest_pieces lower"
        )
    lengths, notes, shares, counts = zip(*rows, strict=True)
    return FingerprintLimits(
        seconds=lengths,
        notes=notes,
        share=shares,
        quantile=settings.quantile,
        pieces=counts,
        seed=settings.seed,
    )


def make_fingerprints(
    data: Path, splits: Path, settings: FingerprintSettings, say: Callable[[str], None] = print
) -> MelodyFingerprints:
    """Takes fingerprints of the training pieces, with limits measured on the held-out ones.

    Args:
        data: folder of notation.
        splits: file with the split of each piece, written if it does not exist. Without held-out
            pieces, each training piece is compared with all others.
        settings: of the limits.
        say: prints a line of progress.
    """
    sources = read_notation(data)
    split_of = assign_splits(sources, splits)
    train = [source for source in sources if split_of[source.identity] == "train"]
    held = [source for source in sources if split_of[source.identity] == "held"]
    titles = {source.identity: title_of(source) for source in train}
    fingerprints = MelodyFingerprints.build(readable_scores(train), titles)
    say(f"{fingerprints.fingerprints:,} fingerprints of {len(fingerprints):,} pieces")
    pieces = list(readable_scores(held or train))
    fingerprints.limits = measure_limits(fingerprints, pieces, settings)
    for seconds in fingerprints.limits.seconds:
        notes, share = fingerprints.limits.at(seconds)
        say(f"too similar from {seconds:g} s: over {notes:g} notes, or {share:.1%} of the steps")
    return fingerprints
