"""Training corpus of the score model: shards of event rows from a folder of notation."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from melisma.data.score_shards import ScoreRows, ScoreSettings, write_score_shards
from melisma.data.sources.pieces import METADATA_NAME, Source, read_midi_folder, read_sources
from melisma.data.sources.splits import assign_splits
from melisma.data.workers import progress_bar

HELD_WINDOWS = 3
"""Most windows of each held-out piece."""
HELD_SHARE = 25
"""Training arrangements for each held-out arrangement."""


def read_notation(folder: Path) -> list[Source]:
    """Pieces of the corpora with metadata in a folder, or else every MIDI file below it."""
    corpora = any(folder.glob(f"*/{METADATA_NAME}"))
    return read_sources(folder) if corpora else read_midi_folder(folder)


def write_score_corpora(data: Path, folder: Path, settings: ScoreSettings) -> None:
    """Writes `folder/train` and `folder/held`; shards that exist already are kept.

    A folder of a few pieces may have none to hold out; then the held-out set is of training pieces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = read_notation(data)
    splits = assign_splits(sources, folder / "splits.json")
    if "held" not in splits.values():
        splits = dict.fromkeys(splits, "train")
    for split in ("train", "held"):
        available = split if split in splits.values() else "train"
        few = {
            "arranged": -(-settings.arranged // HELD_SHARE),
            "most_windows": min(settings.most_windows, HELD_WINDOWS),
        }
        sized = settings if split == "train" else dataclasses.replace(settings, **few)
        rows = ScoreRows(sources, splits, dataclasses.replace(sized, split=available))
        with progress_bar(split, len(rows), "scores") as report:
            write_score_shards(folder / split, rows, os.cpu_count() or 1, report)
