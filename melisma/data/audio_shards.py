"""Audio shards on disk: clips with labels, facts and captions, for training the tokenizers.

Input: a `ClipRenderer`. Output: a folder of shards, each consisting of
`sound-00000.npy` int16 [clip, sample] (memory-mapped when read),
`labels-00000.npz` one array per field of `FrameLabels`, [clip, frame, ...], and
`rows-00000.jsonl` one line per clip: provenance, facts, captions.
A shard is written to temporary files that are then renamed, so that an interrupted run resumes
after the last complete shard. The same seed writes the same shards with any number of workers.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.analysis.labels.frame_labels import stack_labels
from melisma.data.clips import Clip, ClipRenderer
from melisma.data.workers import Advance, progress_bar, run_jobs
from melisma.files.atomic import atomic_write, write_arrays, write_bytes
from melisma.values import Facts
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ

CLIPS_PER_SHARD = 360
"""One hour of clips of 10 s."""


@dataclass(frozen=True, kw_only=True)
class AudioShards:
    """A corpus of clips, read from disk; clip i has the same position in all three fields."""

    sound: tuple[np.ndarray, ...]
    """One memory-mapped array per shard, int16 [clip, sample], 24 kHz."""
    labels: tuple[dict[str, np.ndarray], ...]
    """One dict of arrays [clip, frame, ...] per shard."""
    rows: tuple[dict[str, object], ...]
    """One per clip over all shards: provenance, "facts" and "captions"."""

    def __len__(self) -> int:
        return len(self.rows)

    def locate(self, clip: int) -> tuple[int, int]:
        """Find a clip.

        Args:
            clip: Index of the clip in the whole corpus.

        Returns:
            Index of its shard, and its row in the arrays of the shard.

        Raises:
            IndexError: If the corpus has no such clip.
        """
        for shard, sound in enumerate(self.sound):
            if clip < len(sound):
                return shard, clip
            clip -= len(sound)
        raise IndexError("no such clip")

    def facts(self, clip: int) -> Facts:
        """The facts about a clip."""
        return facts_from_row(self.rows[clip])

    def onsets_seconds(self, clip: int) -> np.ndarray:
        """Onset times of a clip's notes and drums from its labels, float64 [onset]."""
        shard, row = self.locate(clip)
        labels = self.labels[shard]
        has_onset = labels["onset"][row].any(axis=1) | labels["drum"][row].any(axis=1)
        return (np.flatnonzero(has_onset) + 0.5) / FRAME_RATE_HZ


def facts_from_row(row: dict[str, object]) -> Facts:
    """Parse the facts of a row of `rows-*.jsonl`; lists become tuples.

    Raises:
        MelismaError: If the row has no facts.
    """
    stored = row["facts"]
    if not isinstance(stored, dict):
        raise MelismaError("the row has no facts: it was not written by this program")
    columns = {str(k): tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return dataclasses.replace(Facts(), **columns)


def write_audio_shards(
    folder: Path,
    renderer: ClipRenderer,
    hours: float,
    workers: int = 1,
    clips_per_shard: int = CLIPS_PER_SHARD,
) -> None:
    """Render clips and write them as shards; shards that exist already are not written again.

    Clip i of shard s is `renderer.clip(s * clips_per_shard + i)`. Each worker loads the soundfonts
    once and writes complete shards.

    Args:
        folder: Folder of the shards; created if missing.
        renderer: Renders the clips.
        hours: Total length of the clips in hours, rounded to whole clips.
        workers: Number of processes.
        clips_per_shard: Clips in each shard; the last may have fewer.

    Raises:
        MelismaError: If a number is not positive.
    """
    if hours <= 0 or workers < 1 or clips_per_shard < 1:
        raise MelismaError(
            f"hours ({hours}), workers ({workers}) and clips a shard ({clips_per_shard}) "
            "must be positive"
        )
    folder.mkdir(parents=True, exist_ok=True)
    clips = max(round(hours * 3600 / renderer.settings.seconds), 1)
    shards = -(-clips // clips_per_shard)
    missing = [s for s in range(shards) if not (folder / f"rows-{s:05d}.jsonl").exists()]
    indices = [
        range(shard * clips_per_shard, min((shard + 1) * clips_per_shard, clips))
        for shard in missing
    ]

    def write(job: int, advance: Advance) -> None:
        _write_shard(renderer, folder, missing[job], indices[job], advance)

    with progress_bar("clips", sum(map(len, indices)), "clips") as report:
        if workers == 1 or len(missing) <= 1:
            completed = 0

            def advance(count: int) -> None:
                nonlocal completed
                completed += count
                report(completed)

            for job in range(len(missing)):
                write(job, advance)
        else:
            run_jobs(write, len(missing), workers, report)


def _write_shard(
    renderer: ClipRenderer, folder: Path, shard: int, indices: range, advance: Advance
) -> None:
    """Render and write one shard, whose `rows` file, the mark of completeness, comes last."""
    samples = round(renderer.settings.seconds * 24_000)
    sound = np.zeros((len(indices), samples), dtype=np.int16)
    clips: list[Clip] = []
    for row, index in enumerate(indices):
        clip = renderer.clip(index)
        sound[row] = clip.sound
        clips.append(clip)
        advance(1)
    rows = "".join(json.dumps(_row(clip), ensure_ascii=False) + "\n" for clip in clips)
    labels = stack_labels([clip.labels for clip in clips])
    with atomic_write(folder / f"sound-{shard:05d}.npy") as temporary:
        np.save(temporary, sound)
    write_arrays(folder / f"labels-{shard:05d}.npz", labels, compressed=True)
    write_bytes(folder / f"rows-{shard:05d}.jsonl", rows.encode("utf-8"))


def _row(clip: Clip) -> dict[str, object]:
    return {
        **clip.row,
        "facts": dataclasses.asdict(clip.facts),
        "captions": list(clip.captions),
    }


def read_audio_shards(folder: Path) -> AudioShards:
    """Read the complete shards of a folder.

    Raises:
        MelismaError: If the folder has no complete shard.
    """
    paths = sorted(folder.glob("rows-*.jsonl"))
    if not paths:
        raise MelismaError(f"{folder} holds no finished shard: render a corpus into it first")
    sound, labels, rows = [], [], []
    for path in paths:
        number = path.stem.removeprefix("rows-")
        sound.append(np.load(folder / f"sound-{number}.npy", mmap_mode="r"))
        with np.load(folder / f"labels-{number}.npz") as stored:
            labels.append({name: stored[name] for name in stored.files})
        rows.extend(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return AudioShards(sound=tuple(sound), labels=tuple(labels), rows=tuple(rows))
