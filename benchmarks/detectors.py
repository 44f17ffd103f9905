"""Accuracy and calibration of the detectors of receipts.

Run: `python benchmarks/detectors.py [--unseen CLIPS] [--recordings FOLDER] [--music CORPORA]
[--calibration CLIPS]`. What is not given is left out. `CLIPS` of a soundfont on which no constant
was fitted are measured as they are and through the codec, one of each work; `FOLDER` (searched with
its subfolders) holds the recordings of `benchmarks/prompts/recordings.csv`, whose truth is known
from titles, from works, and from the length of loops; `CORPORA` give excerpts of held-out pieces
for the detectors of notes. `--calibration` takes clips of the split "judge" and prints the tables
of `melisma/analysis/calibration.py`: share of right answers by raw confidence, isotonic, five
knots.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from held_clips import PROMPTS, command_line, one_clip_per_piece, parser_of, report
from scipy.optimize import isotonic_regression

from melisma.analysis.audio.key import measure_tonality
from melisma.analysis.audio.metre import measure_metre
from melisma.analysis.audio.onsets import find_onsets
from melisma.analysis.audio.tempo import TempoEstimate, measure_tempo, meets_tempo
from melisma.analysis.calibration import CONFIDENCES, calibrated
from melisma.analysis.receipt import SOUND_DENSITY_ONSETS
from melisma.analysis.score.instruments import match_instruments, playing_families
from melisma.analysis.score.key import measure_score_tonality
from melisma.analysis.score.metre import BAR_BEATS, METRE_KINDS, likeliest_kind
from melisma.analysis.score.tempo import measure_score_tempo
from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.data.sources.pieces import Source, read_sources
from melisma.data.sources.splits import assign_splits
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.score_adherence import RequestedScoreAttributes
from melisma.evaluate.metrics.statistics import mean_interval
from melisma.evaluate.references.score_requests import arranged_songs, real_excerpts
from melisma.files import read_audio
from melisma.generation.loading import load_codec
from melisma.train.judge import clip_waveform
from melisma.values import Facts, Score, Waveform
from melisma.values.attributes import DENSITIES

KNOTS = 5
"""Points of a table of confidences (chosen: few enough to be steady)."""
WINDOW_SECONDS = 10.0
"""Length of clips: loops are repeated up to this length, long recordings are cut."""
MOST_WINDOWS = 12
"""Windows of a long recording in which its metre is measured, from the beginning on."""
OPENING_SECONDS = 30.0
"""The beginning of a long recording in which its key is measured: later it may modulate."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One answer of one detector."""

    raw: float
    """Its own confidence; nan for rows that have none."""
    right: float
    """1 or 0, or a share of windows."""


Marks = Mapping[str, Mark]


def tempo_marks(estimate: TempoEstimate, truth_bpm: float, name: str, open_: bool) -> Marks:
    """Within 5 %, and where half and double count; with `open_` the octave is not known."""
    bpm = estimate.bpm
    near = float(meets_tempo(bpm, truth_bpm, octave=True))
    marks = {f"{name}, half and double count": Mark(raw=np.nan, right=near)}
    if not open_:
        right = float(meets_tempo(bpm, truth_bpm))
        marks[name] = Mark(raw=estimate.confidence, right=right)
        for factor, tempo in ((0.5, "half"), (2.0, "double")):
            right = float(meets_tempo(bpm, truth_bpm * factor))
            marks[f"{name} measured at {tempo}"] = Mark(raw=np.nan, right=right)
    return marks


def metre_marks(waveform: Waveform, bpm: float | None, truth: str, suffix: str = "") -> Marks:
    """The metre and its kind; `suffix` is added to the names."""
    found = measure_metre(waveform, bpm)
    best = found.metre
    if best is None:
        miss = Mark(raw=0.0, right=0.0)
        return {f"metre{suffix}": miss, f"kind of metre{suffix}": miss}
    same = [
        p for metre, p in found.probabilities.items() if METRE_KINDS[metre] == METRE_KINDS[best]
    ]
    return {
        f"metre{suffix}": Mark(raw=found.probabilities[best], right=float(best == truth)),
        f"kind of metre{suffix}": Mark(
            raw=sum(same), right=float(METRE_KINDS[best] == METRE_KINDS[truth])
        ),
        f"kind of metre of what is in {METRE_KINDS[truth]}{suffix}": Mark(
            raw=np.nan, right=float(METRE_KINDS[best] == METRE_KINDS[truth])
        ),
    }


def clip_marks(waveform: Waveform, facts: Facts) -> Marks:
    """Every detector of sound on one clip, where its truth is known."""
    marks: dict[str, Mark] = {}
    tempo = measure_tempo(waveform)
    if facts.tempo_bpm is not None:
        marks |= tempo_marks(tempo, facts.tempo_bpm, "tempo", open_=False)
    if facts.tonality is not None:
        found = measure_tonality(waveform)
        right = float(found.tonality == facts.tonality)
        marks["tonality"] = Mark(raw=found.confidence, right=right)
    if facts.metre is not None:
        marks |= metre_marks(waveform, tempo.bpm, facts.metre)
        if facts.tempo_bpm is not None:
            marks |= metre_marks(waveform, facts.tempo_bpm, facts.metre, ", tempo given")
    if facts.density is not None:
        rate_hz = len(find_onsets(waveform)) / waveform.seconds
        margin = np.abs(np.log2(max(rate_hz, 0.1) / np.array(SOUND_DENSITY_ONSETS))).min()
        density = DENSITIES[int(np.digitize(rate_hz, SOUND_DENSITY_ONSETS))]
        right = float(density == facts.density)
        marks["onset density"] = Mark(raw=float(margin), right=right)
    return marks


def recording_marks(waveform: Waveform, row: Mapping[str, str]) -> Marks:
    """The same of one recording, whose truth is a row of `recordings.csv`."""
    marks: dict[str, Mark] = {}
    if row["loop"] == "yes":
        times = int(np.ceil(WINDOW_SECONDS / waveform.seconds))
        samples = np.tile(waveform.samples, (1, times))
        waveform = Waveform(samples=samples, rate_hz=waveform.rate_hz)
    if row["tempo_bpm"]:
        estimate = measure_tempo(waveform)
        marks |= tempo_marks(estimate, float(row["tempo_bpm"]), "tempo", row["octave"] == "open")
    if row["tonality"]:
        found = measure_tonality(stretch(waveform, 0.0, OPENING_SECONDS))
        right = float(found.tonality == row["tonality"])
        marks["tonality"] = Mark(raw=found.confidence, right=right)
    if row["metre"]:
        count = min(max(int(waveform.seconds // WINDOW_SECONDS), 1), MOST_WINDOWS)
        windows = [stretch(waveform, i * WINDOW_SECONDS, WINDOW_SECONDS) for i in range(count)]
        found = [metre_marks(one, measure_tempo(one).bpm, row["metre"]) for one in windows]
        for name in ("metre", "kind of metre"):
            share = float(np.mean([one[name].right for one in found]))
            marks[name] = Mark(raw=np.nan, right=share)
    return marks


def stretch(waveform: Waveform, start_seconds: float, seconds: float) -> Waveform:
    """Part of a waveform."""
    first, last = (round(t * waveform.rate_hz) for t in (start_seconds, start_seconds + seconds))
    return Waveform(samples=waveform.samples[:, first:last], rate_hz=waveform.rate_hz)


def score_marks(score: Score, truth: RequestedScoreAttributes) -> Marks:
    """Every detector of notes on one opening, where its truth is known."""
    marks: dict[str, Mark] = {}
    if truth.tempo_bpm is not None:
        estimate = measure_score_tempo(score)
        marks |= tempo_marks(estimate, truth.tempo_bpm, "score tempo", open_=False)
    if truth.tonality is not None:
        found = measure_score_tonality(score)
        right = float(found.tonality == truth.tonality)
        marks["score tonality"] = Mark(raw=found.confidence, right=right)
    if truth.metre is not None:
        kind, probability = likeliest_kind(score)
        right = float(kind == METRE_KINDS[truth.metre])
        marks["score metre"] = Mark(raw=probability, right=right)
    if truth.families:
        playing = playing_families(score, BAR_BEATS.get(truth.metre or "4/4", 4.0))
        recall = match_instruments(truth.families, playing).recall
        marks["score instruments"] = Mark(raw=np.nan, right=recall)
    return marks


def confidence_knots(raw: np.ndarray, right: np.ndarray) -> tuple[list[float], list[float]]:
    """Raw confidences and shares right, at most five: means of equal parts, made monotone."""
    borders = np.unique(np.quantile(raw, np.arange(1, KNOTS) / KNOTS))
    bins = np.digitize(raw, borders)
    parts = [np.flatnonzero(bins == number) for number in np.unique(bins)]
    raws = np.array([raw[part].mean() for part in parts])
    shares = np.array([right[part].mean() for part in parts])
    counts = np.array([len(part) for part in parts], dtype=np.float64)
    return raws.tolist(), isotonic_regression(shares, weights=counts).x.tolist()


def by_detector(pieces: Iterable[Marks]) -> dict[str, list[Mark]]:
    """All marks of each detector."""
    rows: dict[str, list[Mark]] = defaultdict(list)
    for marks in pieces:
        for name, mark in marks.items():
            rows[name].append(mark)
    return dict(rows)


def figures_of(pieces: Sequence[Marks], material: str) -> list[Figure]:
    """Accuracy of each detector, and the calibration error of its confidence."""
    figures: list[Figure] = []
    for name, marks in sorted(by_detector(pieces).items()):
        right = np.array([mark.right for mark in marks])
        interval = mean_interval(right)
        details: dict[str, float | str] = {}
        if name in CONFIDENCES and np.isfinite([mark.raw for mark in marks]).all():
            sure = np.array([calibrated(name, mark.raw) for mark in marks])
            details["mean confidence"] = round(float(sure.mean()), 3)
            details["calibration error"] = round(calibration_error(sure, right), 3)
            print(f"{name}, {material}: {details}", flush=True)
        what = f"{name}, {material}"
        figures.append(figure_of(what, interval, command=command_line(), details=details))
    return figures


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over five equal parts (Guo et al., 1706.04599, section 2)."""
    parts = np.array_split(np.argsort(sure, kind="stable"), KNOTS)
    gaps = [abs(sure[part].mean() - right[part].mean()) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(sure))


def print_knots(pieces: Sequence[Marks]) -> None:
    """Prints the tables of `melisma/analysis/calibration.py`."""
    for name, marks in sorted(by_detector(pieces).items()):
        raw = np.array([mark.raw for mark in marks])
        if not np.isfinite(raw).all():
            continue
        raws, shares = confidence_knots(raw, np.array([mark.right for mark in marks]))
        knots = ", ".join(f"({a:.2f}, {b:.2f})" for a, b in zip(raws, shares, strict=True))
        print(f'"{name}": ({knots}),  # {len(marks)}', flush=True)


def measure_clips(shards: AudioShards, clips: Sequence[int], model: str | None) -> list[Marks]:
    """Marks of clips, through the codec of a model where one is named."""
    codec = None if model is None else load_codec(model)
    found: list[Marks] = []
    for clip in clips:
        sound = clip_waveform(shards, clip)
        if codec is not None:
            sound = codec.decode(codec.encode(sound, None))
        found.append(clip_marks(sound, shards.facts(clip)))
    return found


def measure_recordings(folder: Path) -> list[Marks]:
    """Marks of the recordings whose truth is known; missing files are reported."""
    paths = {path.name: path for path in folder.rglob("*") if path.is_file()}
    with (PROMPTS / "recordings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = [row["file"] for row in rows if row["file"] not in paths]
    if missing:
        print(f"{len(missing)} of {len(rows)} recordings are missing, e.g. {missing[0]}")
    found: list[Marks] = []
    for row in rows:
        if row["file"] in paths:
            found.append(recording_marks(read_audio(paths[row["file"]]), row))
            marks = {name: round(mark.right, 2) for name, mark in found[-1].items()}
            print(row["file"], marks, flush=True)
    return found


def measure_scores(sources: Sequence[Source], seed: int, count: int, arranged: int) -> list[Marks]:
    """Marks of excerpts of pieces and of arrangements."""
    rng = np.random.default_rng(seed)
    pieces = real_excerpts(sources, rng, count) + arranged_songs(sources, rng, arranged)
    return [score_marks(score, truth) for truth, score in pieces]


def main() -> None:
    """Measures, compares and reports."""
    parser = parser_of(__doc__)
    parser.add_argument("--unseen", type=Path, help="clips of a soundfont nothing was fitted on")
    parser.add_argument("--recordings", type=Path, help="folder of recordings")
    parser.add_argument("--music", type=Path, help="folder of corpora")
    parser.add_argument("--splits", type=Path, help="file that remembers which works are held out")
    parser.add_argument("--calibration", type=Path, help="clips that confidences are fitted to")
    parser.add_argument("--count", type=int, default=400, help="clips or pieces, at most")
    parser.add_argument("--arranged", type=int, default=100, help="arrangements of songs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    figures: list[Figure] = []
    sources = [] if given.music is None else read_sources(given.music)
    splits = assign_splits(sources, given.splits) if sources else {}
    if given.calibration is not None:
        shards = read_audio_shards(given.calibration)
        clips = list(range(0, len(shards), max(len(shards) // (3 * given.count), 1)))
        print_knots(measure_clips(shards, clips, None))
        fitted = [source for source in sources if splits[source.identity] == "judge"]
        if fitted:
            print_knots(measure_scores(fitted, given.seed, given.count, given.arranged))
    if given.unseen is not None:
        shards = read_audio_shards(given.unseen)
        clips = one_clip_per_piece(shards, given.count)
        figures += figures_of(measure_clips(shards, clips, None), "unseen soundfont")
        figures += figures_of(measure_clips(shards, clips, given.model), "unseen soundfont, coded")
    if given.recordings is not None:
        figures += figures_of(measure_recordings(given.recordings), "real recordings")
    if sources:
        held = [source for source in sources if splits[source.identity] == "held"]
        pieces = measure_scores(held, given.seed, given.count, given.arranged)
        figures += figures_of(pieces, "held-out pieces")
    if not figures:
        raise SystemExit("there is nothing to measure: give --unseen, --recordings or --music")
    report(figures, given.results / "detectors.json")


if __name__ == "__main__":
    main()
