"""Accuracy of the judge of sound on held-out clips: lead, families, tempo, key, text.

Run: `python benchmarks/judge.py --held CLIPS [--unseen CLIPS2] [--judges FOLDER]`. CLIPS are
clips of the split *held*, which the judge was not trained on (`melisma prepare --split held`);
CLIPS2 the same of a soundfont that it was not trained on. One clip of each work first, raw sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from held_clips import command_line, parser_of, report
from retrieval import sentences
from studies.retrieval import WITHIN

from melisma.analysis.audio.tempo import meets_tempo
from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.data.sources.splits import spread_over_works
from melisma.evaluate.metrics.adherence import requested_of, tempo_chance
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import (
    Interval,
    area_under_curve,
    bootstrap,
    constant_chance,
    mean_interval,
    recall_interval,
)
from melisma.evaluate.models.judge import Judge, Verdict
from melisma.generation.resolve import model_folder
from melisma.train.judge import clip_waveform
from melisma.values import Facts
from melisma.values.attributes import FAMILIES

FEWEST_CLIPS = 3
"""Fewest clips with, and without, a family for which the area is measured (chosen)."""


def families_interval(facts: list[Facts], verdicts: list[Verdict]) -> Interval:
    """Area under the curve of detecting a family, mean over the families."""
    truth = np.array([[family in one.families for family in FAMILIES] for one in facts])
    predicted = np.stack([one.family_probabilities for one in verdicts])
    count = truth.sum(axis=0)
    enough = np.flatnonzero((count >= FEWEST_CLIPS) & (count <= len(truth) - FEWEST_CLIPS))

    def mean_area(rows: np.ndarray) -> float:
        areas = [
            area_under_curve(predicted[rows, family], truth[rows, family]) for family in enough
        ]
        return float(np.nanmean(areas))

    return bootstrap(mean_area, len(truth), repeats=300)


def _right(pairs: Sequence[tuple[str, str | None]]) -> Interval:
    return mean_interval(np.array([true == predicted for true, predicted in pairs]))


def figures_of(judge: Judge, shards: AudioShards, count: int, label: str) -> list[Figure]:
    """All rows of one folder of clips."""
    clips = spread_over_works([str(row["group"]) for row in shards.rows], count)
    facts = [shards.facts(clip) for clip in clips]
    verdicts = [judge.judge_all([clip_waveform(shards, clip)])[0] for clip in clips]
    texts = sentences(shards, clips)
    requests = [requested_of(one, words) for one, words in zip(facts, texts, strict=True)]
    pairs = list(zip(requests, verdicts, strict=True))
    leads = [(one.lead, verdict.lead) for one, verdict in pairs if one.lead is not None]
    tonics = [
        (one.tonality, verdict.tonality) for one, verdict in pairs if one.tonality is not None
    ]
    met = [
        meets_tempo(verdict.tempo_bpm, one.tempo_bpm)
        for one, verdict in pairs
        if one.tempo_bpm is not None
    ]
    music = np.stack([one.embedding for one in verdicts])
    rows = [
        ("lead family", _right(leads), constant_chance([true for true, _ in leads])),
        ("tonality", _right(tonics), constant_chance([true for true, _ in tonics])),
        ("tempo within 5 %", mean_interval(np.array(met)), tempo_chance(requests)),
        ("AUC of families sounding", families_interval(facts, verdicts), 0.5),
        (
            f"own words among the best {WITHIN} of {len(clips)}",
            recall_interval(judge.read_words(texts) @ music.T, WITHIN),
            WITHIN / len(clips),
        ),
    ]
    return [
        figure_of(f"{what}, {label}", interval, chance=chance, command=command_line())
        for what, interval, chance in rows
    ]


def main() -> None:
    """Judges, compares and reports."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument(
        "--unseen", type=Path, help="clips of a soundfont the judge was not trained on"
    )
    parser.add_argument("--judges", type=Path, help="folder of a judge; the shipped one if missing")
    parser.add_argument("--count", type=int, default=300)
    given = parser.parse_args()
    judge = Judge.read(given.judges or model_folder("default"))
    figures = figures_of(
        judge, read_audio_shards(given.held), given.count, "soundfont of the reference"
    )
    if given.unseen is not None:
        figures += figures_of(
            judge, read_audio_shards(given.unseen), given.count, "unseen soundfont"
        )
    report(figures, given.results / "judge.json")


if __name__ == "__main__":
    main()
