"""Melody fingerprints against the exact index: recall, and how near composed scores come.

Run: `python benchmarks/prints.py --real CORPORA [--prints FILE] [--made FOLDER] [--splits FILE]`.
CORPORA is the folder that `melisma train prints` was given; FILE, or else that of the model, what
it wrote. Excerpts of held-out pieces (which set the limits), of the judges' pieces (which set none:
those that are too near are false alarms), of training pieces (copies of 100 %), and the MIDI files
of FOLDER, are looked up in the fingerprints and in an index of every melodic step. Rows: recall of
the runs that fingerprints are guaranteed to find, by how many notes they are reported shorter,
pieces with a longer run by fingerprints (of figures at more than 400 positions, which the index
skips), and pieces that are too near.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from held_clips import command_line, parser_of, report

from melisma.analysis.similarity.melody_fingerprints import (
    GUARANTEED_STEPS,
    FingerprintLimits,
    MelodyFingerprints,
)
from melisma.analysis.similarity.melody_index import MelodyIndex, SharedRun
from melisma.data.sources.splits import assign_splits
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import mean_interval, median_interval
from melisma.generation.originality import TUNE_INDEX_FILE
from melisma.generation.resolve import model_folder
from melisma.recipes.score_fingerprints import first_seconds, readable_scores
from melisma.recipes.score_shards import read_notation
from melisma.symbolic import read_midi
from melisma.values import Score

SECONDS = (30.0, 60.0, 120.0)


def timed(
    look_up: Callable[[Score], SharedRun], scores: Sequence[Score]
) -> tuple[list, np.ndarray]:
    """Answers, and processor seconds of each."""
    answers, spent = [], []
    for score in scores:
        began = time.process_time()
        answers.append(look_up(score))
        spent.append(time.process_time() - began)
    return answers, np.array(spent)


def rows_of(
    scores: Sequence[Score],
    fingerprints: MelodyFingerprints,
    limits: FingerprintLimits,
    index: MelodyIndex,
    label: str,
) -> list[Figure]:
    """Rows of one set of scores."""
    found, quick = timed(fingerprints.nearest, scores)
    exact, slow = timed(index.longest_run, scores)
    quick_notes = np.array([one.notes for one in found])
    exact_notes = np.array([one.notes for one in exact])
    sure = exact_notes - 1 >= GUARANTEED_STEPS
    near = [limits.excess(one, s.seconds) > 1 for one, s in zip(found, scores, strict=True)]
    print(
        f"{label}: a query takes {1e3 * quick.mean():.1f} ms with fingerprints, "
        f"{1e3 * slow.mean():.1f} with the index; "
        f"95 % share {np.quantile(quick_notes, 0.95):.0f} notes or less and 99 % "
        f"{np.quantile(quick_notes, 0.99):.0f} (index {np.quantile(exact_notes, 0.95):.0f} and "
        f"{np.quantile(exact_notes, 0.99):.0f})",
        flush=True,
    )

    def row(name: str, values: np.ndarray, median: bool = False) -> Figure:
        interval = median_interval(values) if median else mean_interval(values)
        return figure_of(f"{name} ({label})", interval, command=command_line())

    figures = [
        row("pieces too near to a training piece", np.array(near)),
        row("notes of the longest shared run by fingerprints, median", quick_notes, median=True),
        row("the same by the index, median", exact_notes, median=True),
        row("pieces whose longest run the index skips", quick_notes > exact_notes),
    ]
    if sure.any():
        figures += [
            row(f"runs of {GUARANTEED_STEPS} steps or more that are found", quick_notes[sure] > 0),
            row(
                "notes by which they are reported shorter, median",
                (exact_notes - quick_notes)[sure],
                median=True,
            ),
        ]
    return figures


def openings(pieces: Sequence[tuple[str, Score]], seconds: float) -> list[Score]:
    """Beginnings of the pieces that are long enough."""
    cut = [first_seconds(score, seconds) for _, score in pieces]
    return [score for score in cut if score is not None]


def main() -> None:
    """Reads, looks up and reports."""
    parser = parser_of(__doc__)
    parser.add_argument("--real", type=Path, required=True, help="folder of corpora")
    parser.add_argument("--prints", type=Path, help="file of prints; else that of the model")
    parser.add_argument("--made", type=Path, help="folder of generated MIDI files")
    parser.add_argument("--splits", type=Path, help="file that remembers which works are held out")
    parser.add_argument("--count", type=int, default=300, help="training pieces of each length")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    path = given.prints or model_folder(given.model) / TUNE_INDEX_FILE
    fingerprints = MelodyFingerprints.read(path)
    limits = fingerprints.limits
    if limits is None:
        parser.error(f"{path} has no limits: make it with `melisma train prints`")
    sources = read_notation(given.real)
    fates = assign_splits(sources, given.splits)
    train = [source for source in sources if fates[source.identity] == "train"]
    held, judged = (
        list(readable_scores([s for s in sources if fates[s.identity] == split]))
        for split in ("held", "judge")
    )
    began = time.monotonic()
    index = MelodyIndex(readable_scores(train))
    print(f"an index of {len(index)} pieces after {time.monotonic() - began:.0f} s", flush=True)
    chosen = np.random.default_rng(given.seed).permutation(len(train))[: given.count]
    known = list(readable_scores([train[int(number)] for number in chosen]))
    figures: list[Figure] = []
    for seconds in SECONDS:
        for pieces, name in ((held, "held out"), (judged, "judge"), (known, "training pieces")):
            scores = openings(pieces, seconds)
            if scores:
                figures += rows_of(scores, fingerprints, limits, index, f"{name}, {seconds:g} s")
    if given.made is not None:
        made = [read_midi(file.read_bytes()) for file in sorted(given.made.glob("*.mid"))]
        figures += rows_of(made, fingerprints, limits, index, "composed")
    report(figures, given.results / "prints.json")


if __name__ == "__main__":
    main()
