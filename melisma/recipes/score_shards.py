"""The corpus of the score model: from a folder of notation to shards of event rows, told once."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melisma.data.score_shards import ScoreRows, ScoreSettings, write_scores
from melisma.data.sources.pieces import METADATA_NAME, Source, read_midi_folder, read_sources
from melisma.data.sources.splits import assign_splits

HELD_WINDOWS = 3
"""Windows of each held-out piece."""
HELD_SHARE = 25
"""The held-out set has one arrangement for so many of the training set."""


def read_notation(folder: Path) -> list[Source]:
    """Corpora with their metadata, or else every MIDI file under the folder."""
    corpora = any(folder.glob(f"*/{METADATA_NAME}"))
    return read_sources(folder) if corpora else read_midi_folder(folder)


def write_score_corpora(data: Path, folder: Path, settings: ScoreSettings) -> None:
    """Writes `folder/train` and `folder/held`; what is there already is kept.

    A folder of a few pieces may have none to hold out: it is then judged on what it learned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = read_notation(data)
    splits = assign_splits(sources, folder / "splits.json")
    if "held" not in splits.values():
        splits = dict.fromkeys(splits, "train")
    columns = (
        *Progress.get_default_columns()[:2],
        TextColumn("{task.completed}/{task.total} scores"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        for split in ("train", "held"):
            lent = "train" if split not in splits.values() else split
            few = {
                "arranged": -(-settings.arranged // HELD_SHARE),
                "most_windows": min(settings.most_windows, HELD_WINDOWS),
            }
            told = settings if split == "train" else dataclasses.replace(settings, **few)
            maker = ScoreRows(sources, splits, dataclasses.replace(told, split=lent))
            task = progress.add_task(split, total=len(maker))
            write_scores(
                folder / split,
                maker,
                os.cpu_count() or 1,
                lambda done, total, task=task: progress.update(task, completed=done, total=total),
            )
            progress.update(task, completed=len(maker))
