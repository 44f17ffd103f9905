"""The corpus of the tongue: clips as tokens alone, with the conditions that the language model learns by.

Enters: sound, and the frozen ears (codec, semantic, joint). Leaves: token shards. The sound is thrown away.
Style and attributes are what the *music* tower hears in windows of 10 s, not what the captions say
(MusicLM, 2301.11325, section 3.3): at inference the text tower speaks in their place. Only the rhythm,
the place in the beat and in the bar, comes from the score that was rendered.

A row has the arrays
`acoustic` uint16 [level, frame], `semantic` uint16 [level, frame],
`style` uint8 [window, level], `attributes` uint8 [window, attribute] (a table's size where unsure),
`families` uint8 [window, family], `rhythm` float16 [frame, 2], `melody` uint8 [frame].
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from melisma.codec import AcousticCodec
from melisma.corpus.clips import Clip, ClipMaker
from melisma.files.checkpoint import expect_fingerprints
from melisma.files.shards import Row, ShardWriter
from melisma.joint import Joint, summarise
from melisma.joint.attributes import BLOCKS
from melisma.semantic import SemanticTokenizer
from melisma.semantic.model import LOWEST_TOP_PITCH
from melisma.semantic.tokenizer import Heard
from melisma.values.tokens import SAMPLE_RATE_HZ

WINDOW_SECONDS = 10
WINDOW_HOP_SECONDS = 5
"""The joint embedding hears windows of 10 s; they overlap by half."""
TRUNK_POOL_FRAMES = 10
"""Frames of hidden state that are averaged into one step for the music tower."""
CONDITION_ATTRIBUTES = (
    "tempo", "tonality", "metre", "lead", "style", "density", "dynamics", "register",
)  # fmt: skip
"""Attributes that condition the language model, in the order of its tables."""
SURE = 0.35
"""An attribute heard with less probability is left absent (chosen; chance is .02 to .33)."""
BATCH = 4


@dataclass(frozen=True, kw_only=True)
class EarPaths:
    """Where the frozen ears lie."""

    codec: Path
    semantic: Path
    joint: Path


class FrozenEars:
    """Codec, semantic tokenizer and joint embedding together: everything that hears."""

    def __init__(self, codec: AcousticCodec, semantic: SemanticTokenizer, joint: Joint) -> None:
        self.codec, self.semantic, self.joint = codec, semantic, joint

    @classmethod
    def read(cls, paths: EarPaths, device: str = "cpu") -> FrozenEars:
        """Loads all three; `ValueError` where the joint embedding was trained on another encoder."""
        ears = cls(
            AcousticCodec.read(paths.codec, device),
            SemanticTokenizer.read(paths.semantic, device),
            Joint.read(paths.joint),
        )
        if ears.joint.semantic_fingerprint:
            expect_fingerprints(
                paths.joint,
                {"semantic": ears.joint.semantic_fingerprint},
                {"semantic": ears.semantic.fingerprint},
            )
        return ears

    @property
    def fingerprints(self) -> dict[str, str]:
        """What the tokens of a corpus depend on."""
        return {
            "codec": self.codec.fingerprint,
            "semantic": self.semantic.fingerprint,
            "joint": self.joint.fingerprint,
        }

    @torch.no_grad()
    def hear(self, sound: Tensor) -> list[dict[str, np.ndarray]]:
        """Equally long sounds float32 [batch, sample] -> arrays of each, without `rhythm`."""
        acoustic = self.codec.encode_sound(sound).cpu().numpy().astype(np.uint16)
        heard = self.semantic.hear(sound)
        semantic = heard.tokens.cpu().numpy().astype(np.uint16)
        top = heard.heads["top"].argmax(-1).cpu().numpy()
        melody = np.where(top > 0, (top - 1 + LOWEST_TOP_PITCH) % 12 + 1, 0).astype(np.uint8)
        vectors, logits = self._windows(sound, heard)
        rows = []
        for i in range(len(sound)):
            rows.append(
                {
                    "acoustic": acoustic[i],
                    "semantic": semantic[i],
                    "melody": melody[i],
                    "style": self.joint.quantise(vectors[i]).astype(np.uint8),
                    "attributes": np.stack([heard_attributes(row) for row in logits[i]]),
                    "families": (logits[i][:, BLOCKS["families"]] >= 0.5).astype(np.uint8),
                }
            )
        return rows

    def _windows(self, sound: Tensor, heard: Heard) -> tuple[np.ndarray, np.ndarray]:
        """(joint vectors [batch, window, 128], attribute rows [batch, window, 150])."""
        starts = window_starts(sound.shape[1])
        vectors, rows = [], []
        for start in starts:
            stop = start + WINDOW_SECONDS * SAMPLE_RATE_HZ
            summary = summarise(sound[:, start:stop]).numpy()
            trunk = trunk_states(heard, start * 25 // SAMPLE_RATE_HZ, stop * 25 // SAMPLE_RATE_HZ)
            vectors.append(self.joint.embed_music(summary, trunk))
            rows.append([r.row for r in self.joint.hear_attributes(summary, trunk)])
        return np.stack(vectors, axis=1), np.stack(rows, axis=1)


def window_starts(samples: int) -> list[int]:
    """First samples of the 10 s windows that fit; one at 0 where the sound is no longer."""
    hop, length = WINDOW_HOP_SECONDS * SAMPLE_RATE_HZ, WINDOW_SECONDS * SAMPLE_RATE_HZ
    return list(range(0, max(samples - length, 0) + 1, hop))


def trunk_states(heard: Heard, first: int, last: int) -> np.ndarray:
    """Hidden states of frames [first, last), averaged over ten: float32 [batch, step, 2 * width]."""
    both = torch.cat([heard.middle[:, first:last], heard.last[:, first:last]], dim=-1)
    batch, frames, width = both.shape
    steps = both[:, : frames - frames % TRUNK_POOL_FRAMES]
    pooled = steps.reshape(batch, -1, TRUNK_POOL_FRAMES, width).mean(dim=2)
    return pooled.cpu().numpy()


def heard_attributes(row: np.ndarray) -> np.ndarray:
    """A row of probabilities -> uint8 [attribute]: the class heard, a table's size where unsure."""
    out = []
    for name in CONDITION_ATTRIBUTES:
        block = row[BLOCKS[name]]
        peak = int(block.argmax())
        near = block[max(peak - 1, 0) : peak + 2].sum() if name == "tempo" else block[peak]
        out.append(peak if near >= SURE else len(block))
    return np.array(out, dtype=np.uint8)


def clip_row(clip: Clip, arrays: dict[str, np.ndarray], key: str) -> Row:
    """The row of a clip: what was heard, the rhythm of its score, its truth and provenance."""
    rhythm = np.stack([clip.labels.beat_phase, clip.labels.bar_phase], axis=1)
    facts = {
        name: value
        for name, value in vars(clip.facts).items()
        if value not in (None, ())
    }
    return Row(
        key=key,
        arrays=arrays | {"rhythm": rhythm.astype(np.float16)},
        facts={**clip.row, "facts": facts, "captions": list(clip.captions)},
    )


def write_tongue(
    folder: Path, maker: ClipMaker, paths: EarPaths, hours: float, workers: int = 1
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
        context.Process(target=_work, args=(folder, maker, paths, range(w, clips, workers), w, counter))
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
    maker: ClipMaker,
    paths: EarPaths,
    indices: Sequence[int],
    worker: int,
    counter: object,
) -> None:
    """Runs in a process of its own: loads the ears there, so that no thread is forked."""
    torch.set_num_threads(1)
    ears = FrozenEars.read(paths)
    with ShardWriter(folder, rows_per_shard=256, prefix=f"tokens-{worker}") as writer:
        keys = {i: f"{maker.settings.seed}-{i:07d}" for i in indices}
        waiting = [i for i in indices if keys[i] not in writer.finished]
        with counter.get_lock():  # type: ignore[attr-defined] # a Synchronized has no public type
            counter.value += len(indices) - len(waiting)  # type: ignore[attr-defined]
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            clips = [maker.clip(i) for i in batch]
            sound = torch.from_numpy(np.stack([c.sound for c in clips]).astype(np.float32) / 32768)
            for i, clip, arrays in zip(batch, clips, ears.hear(sound), strict=True):
                writer.write(clip_row(clip, arrays, keys[i]))
            with counter.get_lock():  # type: ignore[attr-defined]
                counter.value += len(batch)  # type: ignore[attr-defined]
