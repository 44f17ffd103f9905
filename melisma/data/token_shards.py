"""Token shards: encoded clips and their conditioning, for training the token language models.

Inputs: audio and the frozen tokenizers (codec, semantic, joint). Output: token shards without the
audio. Style tokens come from the *music* tower in windows of 10 s, never from the captions
(MusicLM, 2301.11325, section 3.3); at inference the text tower replaces it. Attributes are stored
twice: as predicted by the music tower and, for a clip rendered from a score, as known from it. The
rhythm, i.e. the phase in the beat and in the bar, is known from the score.

A row has the arrays
`acoustic` uint16 [level, frame], `semantic` uint16 [level, frame],
`style` uint8 [window, level], `attributes` uint8 [window, attribute] (number of values: unknown),
`families` uint8 [window, family], `rhythm` float16 [frame, 2], `melody` uint8 [frame],
and, for a rendered clip, `known_attributes` uint8 [attribute], `known_families` uint8 [family]. Its
facts record the fingerprints of the tokenizers under `TOKENIZERS_KEY`, which
`tokenizers.check_tokenizer_fingerprints` checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from melisma.data.audio_shards import AudioShards
from melisma.data.clips import Clip, ClipRenderer
from melisma.data.workers import Advance, progress_bar, run_jobs
from melisma.files.legacy_names import TOKENIZERS_KEY
from melisma.files.shards import Row, ShardWriter
from melisma.joint.attributes import BLOCKS, NAMES, target_row
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.values import Facts
from melisma.values.attributes import CONDITION_ATTRIBUTES

BATCH_CLIPS = 4
"""Clips encoded together."""


def known_conditions(facts: Facts) -> dict[str, np.ndarray]:
    """Known attributes of a rendered clip as arrays of a row.

    Args:
        facts: What is known about the clip.

    Returns:
        `known_attributes` uint8 [attribute], the number of values where unknown, and
        `known_families` uint8 [family], 1 for each family that plays.
    """
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
    """Build the row of a rendered clip.

    Args:
        clip: The clip.
        arrays: Its tokens and predicted conditioning.
        key: Key of the row.
        fingerprints: Fingerprint of each tokenizer that encoded it.

    Returns:
        The row: tokens, rhythm of the score, known attributes, facts and provenance.
    """
    rhythm = np.stack([clip.labels.beat_phase, clip.labels.bar_phase], axis=1)
    facts = {name: value for name, value in vars(clip.facts).items() if value not in (None, ())}
    return Row(
        key=key,
        arrays=arrays | {"rhythm": rhythm.astype(np.float16)} | known_conditions(clip.facts),
        facts={
            **clip.row,
            "facts": facts,
            "captions": list(clip.captions),
            TOKENIZERS_KEY: dict(fingerprints),
        },
    )


def encode_clips(folder: Path, corpus: AudioShards, tokenizers: AudioTokenizers) -> None:
    """Encode audio shards as token shards; rows in complete shards are not encoded again.

    Args:
        folder: Folder of the token shards.
        corpus: Audio shards.
        tokenizers: Frozen tokenizers.
    """
    with ShardWriter(folder, rows_per_shard=256) as writer:
        for start in range(0, len(corpus), BATCH_CLIPS):
            numbers = range(start, min(start + BATCH_CLIPS, len(corpus)))
            keys = [f"{TOKENIZERS_KEY}-{number:07d}" for number in numbers]
            if all(key in writer.finished for key in keys):
                continue
            locations = [corpus.locate(number) for number in numbers]
            batch_sound = np.stack([corpus.sound[shard][row] for shard, row in locations])
            sound = torch.from_numpy(batch_sound.astype(np.float32) / 32768)
            for number, key, arrays in zip(numbers, keys, tokenizers.encode(sound), strict=True):
                shard, row = corpus.locate(number)
                phases = [corpus.labels[shard][name][row] for name in ("beat_phase", "bar_phase")]
                arrays["rhythm"] = np.stack(phases, axis=1).astype(np.float16)
                arrays |= known_conditions(corpus.facts(number))
                if key not in writer.finished:
                    facts = {**corpus.rows[number], TOKENIZERS_KEY: tokenizers.fingerprints}
                    writer.write(Row(key=key, arrays=arrays, facts=facts))


def write_token_shards(
    folder: Path, renderer: ClipRenderer, paths: TokenizerPaths, hours: float, workers: int = 1
) -> None:
    """Render and encode clips, and write them; rows in complete shards are not written again.

    Worker w renders the clips w, w + workers, ...: the rows are the same for any number of workers;
    only their order in the shards differs.

    Args:
        folder: Folder of the token shards; created if missing.
        renderer: Renders the clips.
        paths: Checkpoints of the tokenizers.
        hours: Total length of the clips in hours, rounded to whole clips.
        workers: Number of processes.

    Raises:
        ChildProcessError: If a worker process failed; other errors as `workers.run_jobs`.
    """
    clips = max(round(hours * 3600 / renderer.settings.seconds), 1)
    folder.mkdir(parents=True, exist_ok=True)

    def write(worker: int, advance: Advance) -> None:
        _write_part(folder, renderer, paths, range(worker, clips, workers), worker, advance)

    with progress_bar("tokens", clips, "clips") as report:
        run_jobs(write, workers, workers, report)


def _write_part(
    folder: Path,
    renderer: ClipRenderer,
    paths: TokenizerPaths,
    indices: Sequence[int],
    worker: int,
    advance: Advance,
) -> None:
    """The job of one worker; it loads the tokenizers itself, so that no running thread is
    forked."""
    torch.set_num_threads(1)
    tokenizers = AudioTokenizers.read(paths)
    with ShardWriter(folder, rows_per_shard=256, prefix=f"tokens-{worker}") as writer:
        keys = {i: f"{renderer.settings.seed}-{i:07d}" for i in indices}
        pending = [i for i in indices if keys[i] not in writer.finished]
        advance(len(indices) - len(pending))
        for start in range(0, len(pending), BATCH_CLIPS):
            batch = pending[start : start + BATCH_CLIPS]
            clips = [renderer.clip(i) for i in batch]
            sound = torch.from_numpy(np.stack([c.sound for c in clips]).astype(np.float32) / 32768)
            for i, clip, arrays in zip(batch, clips, tokenizers.encode(sound), strict=True):
                writer.write(clip_row(clip, arrays, keys[i], tokenizers.fingerprints))
            advance(len(batch))
