"""What the benchmarks share: held-out clips, paths, arguments, and the output of rows."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from melisma.data.audio_shards import AudioShards
from melisma.evaluate.metrics.figures import HEADER, Figure, markdown_row, write_figures

HERE = Path(__file__).parent
PROMPTS = HERE / "prompts"
RESULTS = HERE / "results"


def parser_of(description: str | None, *, held: bool = False) -> argparse.ArgumentParser:
    """Arguments that most benchmarks take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="default", help="name or folder of the model")
    if held:
        parser.add_argument(
            "--held", type=Path, required=True, help="clips of the split held (melisma prepare)"
        )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    return parser


def command_line() -> str:
    """The command line of this process, for the table."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def one_clip_per_piece(shards: AudioShards, count: int) -> list[int]:
    """The first clip of each work, at most `count`: intervals need independent pieces."""
    seen: set[object] = set()
    chosen: list[int] = []
    for clip, row in enumerate(shards.rows):
        if row["group"] not in seen and len(chosen) < count:
            seen.add(row["group"])
            chosen.append(clip)
    return chosen


def balanced_clips(shards: AudioShards, families: Sequence[str], count: int) -> list[int]:
    """Clips led by the families in turn, at most `count`, in the order of the folder."""
    by_family: dict[str, list[int]] = defaultdict(list)
    for clip in range(len(shards)):
        lead = shards.facts(clip).lead
        if lead is not None and lead in families:
            by_family[lead].append(clip)
    chosen: list[int] = []
    queues: list[Iterator[int]] = [iter(by_family[family]) for family in families]
    while len(chosen) < count:
        before = len(chosen)
        for queue in queues:
            clip = next(queue, None)
            if clip is not None and len(chosen) < count:
                chosen.append(clip)
        if len(chosen) == before:
            break
    return sorted(chosen)


def report(figures: Sequence[Figure], path: Path) -> None:
    """Prints the rows and writes the JSON."""
    print(HEADER)
    for figure in figures:
        print(markdown_row(figure))
    write_figures(path, figures)
