"""The corpus of the ears on disk: clips of sound with labels, facts and words.

Enters: a `ClipRenderer`. Leaves: a folder of shards, each
`sound-00000.npy` int16 [clip, sample] (memory-mapped when read),
`labels-00000.npz` one array per field of `FrameLabels`, [clip, frame, ...], and
`rows-00000.jsonl` one line a clip: provenance, facts, captions.
A shard is written beside its place and moved there whole, so that an interrupted run is taken up
again where it stopped; the same seed writes the same shards with any number of workers.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melisma.analysis.labels.frame_labels import stack_labels
from melisma.data.clips import Clip, ClipRenderer
from melisma.values import Facts
from melisma.values.tokens import FRAME_RATE_HZ

CLIPS_PER_SHARD = 360
"""An hour of clips of 10 s."""


@dataclass(frozen=True, kw_only=True)
class AudioShards:
    """A corpus read back; clip i is the same in all three."""

    sound: tuple[np.ndarray, ...]
    """One memory-mapped int16 [clip, sample] per shard."""
    labels: tuple[dict[str, np.ndarray], ...]
    """One dict of arrays [clip, frame, ...] per shard."""
    rows: tuple[dict[str, object], ...]
    """One per clip over all shards: provenance, "facts" and "captions"."""

    def __len__(self) -> int:
        return len(self.rows)

    def locate(self, clip: int) -> tuple[int, int]:
        """The shard of a clip and its place there."""
        for shard, sound in enumerate(self.sound):
            if clip < len(sound):
                return shard, clip
            clip -= len(sound)
        raise IndexError("no such clip")

    def facts(self, clip: int) -> Facts:
        """The facts of a clip."""
        return facts_from_row(self.rows[clip])

    def onsets_seconds(self, clip: int) -> np.ndarray:
        """True onsets of a clip's notes and drums, by its labels, float64 [onset]."""
        shard, place = self.locate(clip)
        labels = self.labels[shard]
        struck = labels["onset"][place].any(axis=1) | labels["drum"][place].any(axis=1)
        return (np.flatnonzero(struck) + 0.5) / FRAME_RATE_HZ


def facts_from_row(row: dict[str, object]) -> Facts:
    """The facts that a row holds; lists become tuples again."""
    stored = row["facts"]
    if not isinstance(stored, dict):
        raise ValueError("the row holds no facts: it was not written by this program")
    columns = {str(k): tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return dataclasses.replace(Facts(), **columns)


def write_audio_shards(
    folder: Path,
    maker: ClipRenderer,
    hours: float,
    workers: int = 1,
    clips_per_shard: int = CLIPS_PER_SHARD,
) -> None:
    """Renders about `hours` of clips in whole shards; finished shards are kept.

    Clip i of shard s is `maker.clip(s * clips_per_shard + i)`. Each worker loads the soundfonts
    once and writes whole shards.
    """
    if hours <= 0 or workers < 1 or clips_per_shard < 1:
        raise ValueError(
            f"hours ({hours}), workers ({workers}) and clips a shard ({clips_per_shard}) "
            "must be positive"
        )
    folder.mkdir(parents=True, exist_ok=True)
    clips = max(round(hours * 3600 / maker.settings.seconds), 1)
    shards = -(-clips // clips_per_shard)
    missing = [s for s in range(shards) if not (folder / f"rows-{s:05d}.jsonl").exists()]
    jobs = [
        (folder, shard, range(shard * clips_per_shard, min((shard + 1) * clips_per_shard, clips)))
        for shard in missing
    ]
    columns = (
        *Progress.get_default_columns()[:2],
        TextColumn("{task.completed}/{task.total} clips"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("clips", total=sum(len(job[2]) for job in jobs))
        if workers == 1 or len(jobs) <= 1:
            for job in jobs:
                for done in _write_shard(maker, *job):
                    progress.advance(task, done)
            return
        context = multiprocessing.get_context("fork")
        counter = context.Value("q", 0)
        with context.Pool(min(workers, len(jobs)), _enter, (maker, counter)) as pool:
            result = pool.map_async(_work, jobs, chunksize=1)
            while not result.ready():
                result.wait(2.0)
                progress.update(task, completed=counter.value)
            result.get()


_worker: dict[str, object] = {}


def _enter(maker: ClipRenderer, counter: object) -> None:
    """Runs once in each worker: what it needs came over with the fork."""
    _worker["maker"], _worker["counter"] = maker, counter


def _work(job: tuple[Path, int, range]) -> None:
    maker, counter = _worker["maker"], _worker["counter"]
    assert isinstance(maker, ClipRenderer)
    for done in _write_shard(maker, *job):
        with counter.get_lock():  # type: ignore[attr-defined] # a Synchronized has no public type
            counter.value += done  # type: ignore[attr-defined]


def _write_shard(maker: ClipRenderer, folder: Path, shard: int, indices: range) -> Iterator[int]:
    """Renders and writes one shard; yields 1 for every clip made."""
    samples = round(maker.settings.seconds * 24_000)
    sound = np.zeros((len(indices), samples), dtype=np.int16)
    clips: list[Clip] = []
    for place, index in enumerate(indices):
        clip = maker.clip(index)
        sound[place] = clip.sound
        clips.append(clip)
        yield 1
    rows = "".join(json.dumps(_row(clip), ensure_ascii=False) + "\n" for clip in clips)
    labels = stack_labels([clip.labels for clip in clips])
    mark = f".{os.getpid()}.part"
    with (folder / f"sound-{shard:05d}.npy{mark}").open("wb") as file:
        np.save(file, sound)
    with (folder / f"labels-{shard:05d}.npz{mark}").open("wb") as file:
        np.savez_compressed(file, **labels)  # type: ignore[arg-type]
    (folder / f"rows-{shard:05d}.jsonl{mark}").write_text(rows, encoding="utf-8")
    for name in (f"sound-{shard:05d}.npy", f"labels-{shard:05d}.npz", f"rows-{shard:05d}.jsonl"):
        os.replace(folder / (name + mark), folder / name)  # the rows come last: they mark the end


def _row(clip: Clip) -> dict[str, object]:
    return {
        **clip.row,
        "facts": dataclasses.asdict(clip.facts),
        "captions": list(clip.captions),
    }


def read_audio_shards(folder: Path) -> AudioShards:
    """The finished shards of a folder; `ValueError` where there is none."""
    paths = sorted(folder.glob("rows-*.jsonl"))
    if not paths:
        raise ValueError(f"{folder} holds no finished shard: render a corpus into it first")
    sound, labels, rows = [], [], []
    for path in paths:
        number = path.stem.removeprefix("rows-")
        sound.append(np.load(folder / f"sound-{number}.npy", mmap_mode="r"))
        with np.load(folder / f"labels-{number}.npz") as stored:
            labels.append({name: stored[name] for name in stored.files})
        rows.extend(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return AudioShards(sound=tuple(sound), labels=tuple(labels), rows=tuple(rows))
