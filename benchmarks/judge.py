"""What the judge of sound is worth: lead, families, tempo, tonality, words, on held-out truth.

Run: `python benchmarks/judge.py --held CLIPS [--unseen CLIPS2] [--judges FOLDER]`. CLIPS are
clips of the split *held*, which the judge did not learn from (`melisma prepare --split held`);
CLIPS2 the same of a soundfont that it never heard. One clip of each work first, raw sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from held_clips import command_line, parser_of, tell
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
from melisma.generation.loading import model_folder
from melisma.train.judge import clip_waveform
from melisma.values import Facts
from melisma.values.attributes import FAMILIES

FEWEST_CLIPS = 3
"""A family has an area where so many clips have it and so many have not (chosen)."""


def families_interval(facts: list[Facts], verdicts: list[Verdict]) -> Interval:
    """Area under the curve of hearing a family, mean over the families."""
    truth = np.array([[family in one.families for family in FAMILIES] for one in facts])
    heard = np.stack([one.family_probabilities for one in verdicts])
    count = truth.sum(axis=0)
    enough = np.flatnonzero((count >= FEWEST_CLIPS) & (count <= len(truth) - FEWEST_CLIPS))

    def mean_area(rows: np.ndarray) -> float:
        areas = [area_under_curve(heard[rows, family], truth[rows, family]) for family in enough]
        return float(np.nanmean(areas))

    return bootstrap(mean_area, len(truth), repeats=300)


def _right(pairs: Sequence[tuple[str, str | None]]) -> Interval:
    return mean_interval(np.array([true == heard for true, heard in pairs]))


def figures_of(judge: Judge, ears: AudioShards, count: int, label: str) -> list[Figure]:
    """All rows of one folder of clips."""
    clips = spread_over_works([str(row["group"]) for row in ears.rows], count)
    facts = [ears.facts(clip) for clip in clips]
    verdicts = [judge.judge_all([clip_waveform(ears, clip)])[0] for clip in clips]
    told = sentences(ears, clips)
    wishes = [requested_of(one, words) for one, words in zip(facts, told, strict=True)]
    pairs = list(zip(wishes, verdicts, strict=True))
    leads = [(one.lead, heard.lead) for one, heard in pairs if one.lead is not None]
    tonics = [(one.tonality, heard.tonality) for one, heard in pairs if one.tonality is not None]
    met = [
        meets_tempo(heard.tempo_bpm, one.tempo_bpm)
        for one, heard in pairs
        if one.tempo_bpm is not None
    ]
    music = np.stack([one.embedding for one in verdicts])
    rows = [
        ("lead family", _right(leads), constant_chance([true for true, _ in leads])),
        ("tonality", _right(tonics), constant_chance([true for true, _ in tonics])),
        ("tempo within 5 %", mean_interval(np.array(met)), tempo_chance(wishes)),
        ("AUC of families sounding", families_interval(facts, verdicts), 0.5),
        (
            f"own words among the best {WITHIN} of {len(clips)}",
            recall_interval(judge.read_words(told) @ music.T, WITHIN),
            WITHIN / len(clips),
        ),
    ]
    return [
        figure_of(f"{what}, {label}", interval, chance=chance, command=command_line())
        for what, interval, chance in rows
    ]


def main() -> None:
    """Listen, compare, tell."""
    parser = parser_of(__doc__, held=True)
    parser.add_argument("--unseen", type=Path, help="clips of a soundfont the judge never heard")
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
    tell(figures, given.results / "judge.json")


if __name__ == "__main__":
    main()
