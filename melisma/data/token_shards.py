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

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from melisma.data.audio_shards import AudioShards, shards_description
from melisma.data.clips import Clip, ClipRenderer
from melisma.data.corpus_settings import begin_corpus, number_of_clips
from melisma.data.workers import Advance, progress_bar, run_jobs
from melisma.files.legacy_names import TOKENIZERS_KEY
from melisma.files.shards import (
    INDEX,
    NumberedShards,
    Row,
    ShardWriter,
    read_index,
    write_shard,
)
from melisma.files.shards.lock import locked
from melisma.joint.attributes import BLOCKS, NAMES, target_row
from melisma.tokenizers import AudioTokenizers, TokenizerPaths, check_tokenizer_fingerprints
from melisma.values import Facts
from melisma.values.attributes import CONDITION_ATTRIBUTES
from melisma.values.errors import MelismaError

BATCH_CLIPS = 4
"""Clips encoded together."""
CLIPS_PER_SHARD = 32
"""Clips of a shard that is rendered and encoded: one or two minutes of work (chosen), which is what
an interrupted worker loses at most."""
ENCODED_PER_SHARD = 64
"""Clips of a shard of encoded audio shards: less than a minute of work (chosen)."""


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


def is_rendered(folder: Path) -> bool:
    """Whether a folder has tokens that `write_token_shards` wrote, not those of `encode_clips`."""
    if not (folder / INDEX).is_file():
        return False
    return any(not line.key.startswith(f"{TOKENIZERS_KEY}-") for line in read_index(folder))


def encode_clips(folder: Path, corpus: AudioShards, tokenizers: AudioTokenizers) -> None:
    """Encode audio shards as token shards; rows in complete shards are not encoded again.

    Args:
        folder: Folder of the token shards.
        corpus: Audio shards.
        tokenizers: Frozen tokenizers.

    Raises:
        MelismaError: Another process writes into the folder, or it has tokens of other tokenizers
            or other clips.
    """
    with locked(folder), ShardWriter(folder, rows_per_shard=ENCODED_PER_SHARD) as writer:
        keys = [f"{TOKENIZERS_KEY}-{number:07d}" for number in range(len(corpus))]
        begin_corpus(folder, "encoded audio shards", {"clips": shards_description(corpus)})
        for line in read_index(folder) if writer.finished else ():
            check_tokenizer_fingerprints(folder, line.facts, tokenizers.fingerprints)
        for start in range(0, len(corpus), BATCH_CLIPS):
            numbers = range(start, min(start + BATCH_CLIPS, len(corpus)))
            if all(keys[number] in writer.finished for number in numbers):
                continue
            locations = [corpus.locate(number) for number in numbers]
            batch_sound = np.stack([corpus.sound[shard][row] for shard, row in locations])
            sound = torch.from_numpy(batch_sound.astype(np.float32) / 32768)
            for number, arrays in zip(numbers, tokenizers.encode(sound), strict=True):
                shard, row = corpus.locate(number)
                phases = [corpus.labels[shard][name][row] for name in ("beat_phase", "bar_phase")]
                arrays["rhythm"] = np.stack(phases, axis=1).astype(np.float16)
                arrays |= known_conditions(corpus.facts(number))
                if keys[number] not in writer.finished:
                    facts = {**corpus.rows[number], TOKENIZERS_KEY: tokenizers.fingerprints}
                    writer.write(Row(key=keys[number], arrays=arrays, facts=facts))


def write_token_shards(
    folder: Path, renderer: ClipRenderer, paths: TokenizerPaths, hours: float, workers: int = 1
) -> None:
    """Render and encode clips, and write them; shards that exist already are not written again.

    Shard s has the clips from `s * CLIPS_PER_SHARD` on. The same seed writes the same bytes with
    any number of workers, however often it was interrupted.

    Args:
        folder: Folder of the token shards; created if missing.
        renderer: Renders the clips.
        paths: Checkpoints of the tokenizers.
        hours: Total length of the clips in hours, rounded to whole clips. More hours than were
            written into the folder before extend it.
        workers: Number of processes.

    Raises:
        MelismaError: Another process writes into the folder, or it was begun with other settings or
            more hours.
        ChildProcessError: If a worker process failed; other errors as `workers.run_jobs`.
    """
    if workers < 1:
        raise MelismaError(f"workers ({workers}) must be positive")
    clips = number_of_clips(hours, renderer.settings.seconds)
    with locked(folder) as lock:
        settings = {**renderer.description(), "tokenizers": _files_description(paths)}
        begin_corpus(folder, "token shards", settings, clips, finished="*.tar")
        shards = NumberedShards(folder, "tokens")
        _remove_short_shard(folder, shards, clips)
        missing = shards.missing(-(-clips // CLIPS_PER_SHARD))
        batches = [
            range(shard * CLIPS_PER_SHARD, min((shard + 1) * CLIPS_PER_SHARD, clips))
            for shard in missing
        ]
        job = _ShardJob(renderer, paths, [shards.path(shard) for shard in missing], batches)
        done = clips - sum(map(len, batches))
        with progress_bar("tokens", clips, "clips") as report:
            run_jobs(
                job, len(missing), workers, lambda completed: report(done + completed),
                lambda number: shards.add(missing[number]), lock,
            )  # fmt: skip
            report(clips)


def _remove_short_shard(folder: Path, shards: NumberedShards, clips: int) -> None:
    """Removes the last shard of a corpus that is extended, where it is to have more clips."""
    if not (folder / INDEX).exists():
        return
    sizes = Counter(line.shard for line in read_index(folder))
    for number in range(-(-clips // CLIPS_PER_SHARD)):
        wanted = min(CLIPS_PER_SHARD, clips - number * CLIPS_PER_SHARD)
        if 0 < sizes[shards.path(number).name] < wanted:
            shards.remove(number)
            return


def _files_description(paths: TokenizerPaths) -> dict[str, str]:
    """Hashes of the tokenizers' files."""
    files = {name: path for name, path in vars(paths).items() if isinstance(path, Path)}
    hashes = {}
    for name, path in files.items():
        with path.open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return hashes


@dataclass
class _ShardJob:
    """Renders, encodes and writes shards; runs in a worker."""

    renderer: ClipRenderer
    paths: TokenizerPaths
    files: list[Path]
    batches: list[range]
    tokenizers: AudioTokenizers | None = None
    """Read for the first shard."""

    def __call__(self, number: int, advance: Advance) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the processes share the cores
        try:
            if self.tokenizers is None:
                self.tokenizers = AudioTokenizers.read(self.paths)
            write_shard(self.files[number], list(self._rows(self.batches[number], advance)))
        finally:
            torch.set_num_threads(threads)

    def _rows(self, clips: range, advance: Advance) -> Iterator[Row]:
        assert self.tokenizers is not None
        self.renderer.restart()
        fingerprints = self.tokenizers.fingerprints
        for start in range(0, len(clips), BATCH_CLIPS):
            batch = clips[start : start + BATCH_CLIPS]
            rendered = [self.renderer.clip(i) for i in batch]
            sound = np.stack([clip.sound for clip in rendered]).astype(np.float32) / 32768
            encoded = self.tokenizers.encode(torch.from_numpy(sound))
            for i, clip, arrays in zip(batch, rendered, encoded, strict=True):
                yield clip_row(clip, arrays, f"{self.renderer.settings.seed}-{i:07d}", fingerprints)
            advance(len(batch))
