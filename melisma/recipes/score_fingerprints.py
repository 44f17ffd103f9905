"""Prints of the pieces that the score model learned from, with the limits of what is too near.

Enters: the folder of notation that `melisma train score` takes. Leaves: `MelodyFingerprints` of its
split train, whose limits are what openings of the pieces of its split held share with them.
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

FEWEST_STEPS = 30
"""Openings of fewer melodic steps say nothing (chosen: more than a run that is surely found)."""


@dataclass(frozen=True, kw_only=True)
class FingerprintSettings:
    """How the limits are measured."""

    seconds: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0, 240.0)
    """Lengths of openings, ascending."""
    quantile: float = 0.99
    """Of real openings so many stay at or below the limits, each of the two alone."""
    fewest_pieces: int = 100
    """A length of which there are fewer openings has no limit of its own (chosen: one of them lies
    beyond the limit)."""
    most_pieces: int = 1_000
    """Openings of each length at most."""
    seed: int = 0
    """Which pieces are drawn, where there are more."""


def title_of(source: Source) -> str:
    """What is told of a piece, e.g. "Erlkönig, Schubert (openscore_lieder)"."""
    said = [text for text in (source.title, source.composer) if text]
    return f"{', '.join(said) or source.identity} ({source.corpus})"


def readable_scores(sources: Sequence[Source]) -> Iterator[tuple[str, Score]]:
    """Names and scores of those that can be read."""
    for source in sources:
        try:
            yield source.identity, read_score(source)
        except ValueError:
            continue


def first_seconds(score: Score, seconds: float) -> Score | None:
    """The beginning of a score from its first note on; None where it is shorter."""
    begins = [float(t.notes.start_beats.min()) for t in score.tracks if len(t.notes)]
    first = min(begins, default=0.0)
    stop_seconds = float(score.tempo.seconds(np.array(first))) + seconds
    if score.seconds < stop_seconds:
        return None
    return cut_score(score, first, float(score.tempo.position_beats(np.array(stop_seconds))))


def shared_by_excerpts(
    prints: MelodyFingerprints, pieces: Sequence[tuple[str, Score]], seconds: float, most: int
) -> list[SharedRun]:
    """What openings of a length share with the printed pieces, each piece left out of its own."""
    shared: list[SharedRun] = []
    for name, score in pieces:
        cut = first_seconds(score, seconds)
        if cut is not None and np.count_nonzero(melodic_steps(cut)) >= FEWEST_STEPS:
            shared.append(prints.nearest(cut, without=name))
        if len(shared) == most:
            break
    return shared


def measure_limits(
    prints: MelodyFingerprints, pieces: Sequence[tuple[str, Score]], settings: FingerprintSettings
) -> FingerprintLimits:
    """Limits from real pieces that the prints do not hold (or of which each is left out).

    `ValueError` where no length has enough openings.
    """
    order = np.random.default_rng(settings.seed).permutation(len(pieces))
    drawn = [pieces[int(number)] for number in order]
    rows: list[tuple[float, float, float, int]] = []
    for seconds in settings.seconds:
        shared = shared_by_excerpts(prints, drawn, seconds, settings.most_pieces)
        if len(shared) >= settings.fewest_pieces:
            notes = float(np.quantile([one.notes for one in shared], settings.quantile))
            share = float(np.quantile([one.share for one in shared], settings.quantile))
            rows.append((seconds, notes, share, len(shared)))
    if not rows:
        raise ValueError(
            f"limits need {settings.fewest_pieces} pieces of {settings.seconds[0]:g} s and more, "
            "here are fewer: give more pieces, or set prints.fewest_pieces lower"
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
    """Prints of the pieces of the split train, with limits from those of the split held.

    `splits`: the file that remembers them. Where none is held out, each piece is measured against
    all others.
    """
    sources = read_notation(data)
    fates = assign_splits(sources, splits)
    train = [source for source in sources if fates[source.identity] == "train"]
    held = [source for source in sources if fates[source.identity] == "held"]
    titles = {source.identity: title_of(source) for source in train}
    prints = MelodyFingerprints.build(readable_scores(train), titles)
    say(f"{prints.fingerprints:,} prints of {len(prints):,} pieces")
    prints.limits = measure_limits(prints, list(readable_scores(held or train)), settings)
    for seconds in prints.limits.seconds:
        notes, share = prints.limits.at(seconds)
        say(f"too near from {seconds:g} s: over {notes:g} notes, or {share:.1%} of the steps")
    return prints
