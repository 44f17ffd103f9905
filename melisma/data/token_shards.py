"""The corpus of the tongue: clips as tokens alone, with the conditions of the language model.

Enters: sound, and the frozen ears (codec, semantic, joint). Leaves: token shards; the sound is
thrown away. Style is what the *music* tower hears in windows of 10 s, never the captions (MusicLM,
2301.11325, section 3.3): at inference the text tower speaks in its place. Attributes are kept
twice: as heard, and as known from the score where the clip was rendered from one. So is the rhythm,
the place in the beat and in the bar.

A row has the arrays
`acoustic` uint16 [level, frame], `semantic` uint16 [level, frame],
`style` uint8 [window, level], `attributes` uint8 [window, attribute] (a table's size where unsure),
`families` uint8 [window, family], `rhythm` float16 [frame, 2], `melody` uint8 [frame],
and of a rendered clip `known_attributes` uint8 [attribute], `known_families` uint8 [family]. Its
facts say by the fingerprints of which `ears` it was heard (`hearing.expect_tokenizers`).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melisma.data.audio_shards import AudioShards
from melisma.data.clips import Clip, ClipRenderer
from melisma.files.shards import Row, ShardWriter
from melisma.joint.attributes import BLOCKS, NAMES, target_row
from melisma.tokenizers import CONDITION_ATTRIBUTES, AudioTokenizers, TokenizerPaths
from melisma.values import Facts

BATCH = 4
"""Clips heard side by side."""


def known_conditions(facts: Facts) -> dict[str, np.ndarray]:
    """What is true of a rendered clip, as arrays of a row."""
    row, known = target_row(facts)
    attributes = []
    for name in CONDITION_ATTRIBUTES:
        block = row[BLOCKS[name]]
        attributes.append(int(block.argmax()) if known[NAMES.index(name)] else len(block))
    return {
        "known_attributes": np.array(attributes, dtype=np.uint8),
        "known_families": (row[BLOCKS["families"]] > 0).astype(np.uint8),
    }


def clip_row(
    clip: Clip, arrays: dict[str, np.ndarray], key: str, fingerprints: Mapping[str, str]
) -> Row:
    """The row of a clip: what was heard, and by which ears, the rhythm of its score, its truth and
    provenance."""
    rhythm = np.stack([clip.labels.beat_phase, clip.labels.bar_phase], axis=1)
    facts = {name: value for name, value in vars(clip.facts).items() if value not in (None, ())}
    return Row(
        key=key,
        arrays=arrays | {"rhythm": rhythm.astype(np.float16)} | known_conditions(clip.facts),
        facts={
            **clip.row,
            "facts": facts,
            "captions": list(clip.captions),
            "ears": dict(fingerprints),
        },
    )


def encode_clips(folder: Path, corpus: AudioShards, ears: AudioTokenizers) -> None:
    """The clips of a corpus of the ears as token rows; rows already in whole shards are kept."""
    with ShardWriter(folder, rows_per_shard=256) as writer:
        for start in range(0, len(corpus), BATCH):
            numbers = range(start, min(start + BATCH, len(corpus)))
            keys = [f"ears-{number:07d}" for number in numbers]
            if all(key in writer.finished for key in keys):
                continue
            places = [corpus.locate(number) for number in numbers]
            stretch = np.stack([corpus.sound[shard][place] for shard, place in places])
            sound = torch.from_numpy(stretch.astype(np.float32) / 32768)
            for number, key, arrays in zip(numbers, keys, ears.encode(sound), strict=True):
                shard, place = corpus.locate(number)
                phases = [corpus.labels[shard][name][place] for name in ("beat_phase", "bar_phase")]
                arrays["rhythm"] = np.stack(phases, axis=1).astype(np.float16)
                arrays |= known_conditions(corpus.facts(number))
                if key not in writer.finished:
                    facts = {**corpus.rows[number], "ears": ears.fingerprints}
                    writer.write(Row(key=key, arrays=arrays, facts=facts))


def write_token_shards(
    folder: Path, maker: ClipRenderer, paths: TokenizerPaths, hours: float, workers: int = 1
) -> None:
    """Renders, hears and writes about `hours` of clips; rows already in whole shards are kept.

    Worker w makes the clips w, w + workers, ...: the rows are the same for any number of workers,
    only their order in the shards differs.
    """
    clips = max(round(hours * 3600 / maker.settings.seconds), 1)
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    counter = context.Value("q", 0)
    jobs = [
        context.Process(
            target=_work, args=(folder, maker, paths, range(w, clips, workers), w, counter)
        )
        for w in range(workers)
    ]
    columns = (
        *Progress.get_default_columns()[:2],
        TextColumn("{task.completed}/{task.total} clips"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("tokens", total=clips)
        for job in jobs:
            job.start()
        for job in jobs:
            while job.is_alive():
                job.join(1.0)
                progress.update(task, completed=counter.value)
        progress.update(task, completed=counter.value)
    if any(job.exitcode for job in jobs):
        raise RuntimeError("a worker ended early; its message is above: run the command again")


def _work(
    folder: Path,
    maker: ClipRenderer,
    paths: TokenizerPaths,
    indices: Sequence[int],
    worker: int,
    counter: object,
) -> None:
    """Runs in a process of its own: loads the ears there, so that no thread is forked."""
    torch.set_num_threads(1)
    ears = AudioTokenizers.read(paths)
    with ShardWriter(folder, rows_per_shard=256, prefix=f"tokens-{worker}") as writer:
        keys = {i: f"{maker.settings.seed}-{i:07d}" for i in indices}
        waiting = [i for i in indices if keys[i] not in writer.finished]
        with counter.get_lock():  # type: ignore[attr-defined] # a Synchronized has no public type
            counter.value += len(indices) - len(waiting)  # type: ignore[attr-defined]
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            clips = [maker.clip(i) for i in batch]
            sound = torch.from_numpy(np.stack([c.sound for c in clips]).astype(np.float32) / 32768)
            for i, clip, arrays in zip(batch, clips, ears.encode(sound), strict=True):
                writer.write(clip_row(clip, arrays, keys[i], ears.fingerprints))
            with counter.get_lock():  # type: ignore[attr-defined]
                counter.value += len(batch)  # type: ignore[attr-defined]
