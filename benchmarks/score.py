"""Adherence, form and originality of generated scores.

Run: `python benchmarks/score.py --real CORPORA --traditions FILE [--made FOLDER] [--label NAME]`.
Prompts: `melisma/evaluate/score_prompts.jsonl`; `FOLDER` holds 000.mid, 001.mid ... in their
order (missing files are left out and reported), and beside them optionally 000.wav (or .flac, .ogg,
.mp3), from which the tempo is measured as well. `--made` without `--real` gives no ceilings and no
copies.

`--real` reads corpora as `melisma prepare` does: excerpts of held-out pieces with their own written
tempo, key, metre and tradition, and arrangements of held-out songs, give the ceilings; copies are
looked for in training pieces. The classifier of traditions is trained on the training and judge
pieces where FILE does not exist yet, and written there. `--form --seed 5` prints the statistics of
training pieces by which candidates are ranked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from held_clips import command_line, parser_of, report

from melisma.analysis.score.structure import measure_score_structure
from melisma.analysis.similarity.melody_index import MelodyIndex, SharedRun
from melisma.data.sources.pieces import Source, read_score, read_sources
from melisma.data.sources.splits import assign_splits
from melisma.evaluate.metrics.figures import Figure
from melisma.evaluate.metrics.score_adherence import (
    Pair,
    RequestedScoreAttributes,
    measure_score,
    read_score_requests,
    score_figures,
    score_prompts_file,
)
from melisma.evaluate.models.tradition_classifier import (
    TRADITION_CLASSES,
    TraditionClassifier,
    class_of_source,
    piece_features,
    train_classifier,
)
from melisma.evaluate.references.score_requests import arranged_songs, real_excerpts
from melisma.files import read_audio
from melisma.generation.score.adherence import REAL_FORM
from melisma.symbolic import read_midi
from melisma.values import Score, Waveform

WINDOWS_A_PIECE = 6
"""Largest number of windows of a piece that the classifier is trained on."""
SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")


def scores_of(sources: Sequence[Source]) -> Iterator[tuple[str, Score]]:
    """Names and scores of those that can be read."""
    for source in sources:
        try:
            yield source.identity, read_score(source)
        except ValueError:
            continue


def tradition_classifier(
    path: Path | None, sources: Sequence[Source], seed: int
) -> TraditionClassifier:
    """The classifier at `path`, or one trained on the sources and written there."""
    if path is not None and path.is_file():
        return TraditionClassifier.read(path)
    traditions = {source.identity: class_of_source(source) for source in sources}
    known = [source for source in sources if traditions[source.identity] is not None]
    features: list[np.ndarray] = []
    truth: list[int] = []
    pieces: list[int] = []
    for number, (identity, score) in enumerate(scores_of(known)):
        rows = piece_features(score, WINDOWS_A_PIECE)
        features.append(rows)
        truth += [TRADITION_CLASSES.index(traditions[identity] or "")] * len(rows)
        pieces += [number] * len(rows)
    judge = train_classifier(np.concatenate(features), np.array(truth), np.array(pieces), seed)
    if path is not None:
        judge.write(path)
    return judge


def print_form(sources: Sequence[Source], seed: int) -> None:
    """Prints the values of `generation.score.adherence.REAL_FORM`: mean and standard deviation over
    excerpts of pieces."""
    openings = [score for _, score in real_excerpts(sources, np.random.default_rng(seed), 500)]
    built = [measure_score_structure(score, score.metres[0].bar_beats) for score in openings]
    for name in REAL_FORM:
        values = np.array([getattr(one, name) for one in built])
        print(f"{name}: {values.mean():.3f}, {values.std():.3f}")


def _sound_beside(path: Path) -> Waveform | None:
    for ending in SOUND_ENDINGS:
        if path.with_suffix(ending).is_file():
            return read_audio(path.with_suffix(ending))
    return None


def made_pairs(
    folder: Path,
    prompts: Sequence[RequestedScoreAttributes],
    judge: TraditionClassifier | None,
    nearest: Callable[[Score], SharedRun] | None,
) -> list[Pair]:
    """Measurements of the files of a folder that are named by the number of their prompt."""
    pairs: list[Pair] = []
    missing: list[str] = []
    for number, prompt in enumerate(prompts):
        path = folder / f"{number:03d}.mid"
        if not path.is_file():
            missing.append(path.name)
            continue
        score = read_midi(path.read_bytes())
        pairs.append((prompt, measure_score(score, prompt, judge, nearest, _sound_beside(path))))
    if missing:
        print(f"{len(missing)} of {len(prompts)} files are missing, from {missing[0]} on")
    if not pairs:
        raise SystemExit(f"{folder} holds no file named 000.mid, 001.mid ...: compose them first")
    return pairs


def main() -> None:
    """Measures, compares and reports."""
    parser = parser_of(__doc__)
    parser.add_argument("--real", type=Path, help="folder of corpora, for ceilings and copies")
    parser.add_argument("--made", type=Path, help="folder of generated MIDI files")
    parser.add_argument("--prompts", type=Path, default=score_prompts_file())
    parser.add_argument("--traditions", type=Path, help="file of the classifier of traditions")
    parser.add_argument("--splits", type=Path, help="file that remembers which works are held out")
    parser.add_argument("--count", type=int, default=400, help="held-out pieces, at most")
    parser.add_argument("--arranged", type=int, default=100, help="arrangements of held-out songs")
    parser.add_argument("--label", default="generated", help="name of the outputs in the rows")
    parser.add_argument(
        "--form", action="store_true", help="only print the form of training pieces"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.real is None and given.made is None:
        raise SystemExit("there is nothing to measure: give --made FOLDER, --real CORPORA or both")
    began = time.monotonic()
    judge = nearest = None
    truth: list[Pair] = []
    figures: list[Figure] = []
    if given.real is not None:
        sources = read_sources(given.real)
        splits = assign_splits(sources, given.splits)
        if given.form:
            print_form([s for s in sources if splits[s.identity] == "train"], given.seed)
            return
        held = [source for source in sources if splits[source.identity] == "held"]
        others = [source for source in sources if splits[source.identity] != "held"]
        index = MelodyIndex(scores_of([s for s in others if splits[s.identity] == "train"]))
        nearest = index.longest_run
        judge = tradition_classifier(given.traditions, others, given.seed)
        rng = np.random.default_rng(given.seed)
        pieces = real_excerpts(held, rng, given.count) + arranged_songs(held, rng, given.arranged)
        truth = [(prompt, measure_score(score, prompt, judge, nearest)) for prompt, score in pieces]
        figures += score_figures(truth, [], command_line(), "real held-out pieces")
        print(f"{len(pieces)} real pieces, {time.monotonic() - began:.0f} s", flush=True)
    elif given.traditions is not None and given.traditions.is_file():
        judge = TraditionClassifier.read(given.traditions)
    if given.made is not None:
        pairs = made_pairs(given.made, read_score_requests(given.prompts), judge, nearest)
        figures += score_figures(pairs, truth, command_line(), given.label)
    report(figures, given.results / "score.json")


if __name__ == "__main__":
    main()
