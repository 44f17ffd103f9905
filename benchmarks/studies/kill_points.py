"""Small jobs that write shards and train, and processes that kill themselves in the middle of them.

A kill point lies before and after every call that changes a folder (rename, link, remove, flush to
the disk, cut, new folder), in the middle of every line that is appended to an index or a log, and
between clips and updates.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from small_corpus import groove, quartet, song, write_corpus
from toy_task import ToyTask, loop

from melisma.analysis.labels.frame_labels import FrameLabels
from melisma.data import audio_shards, score_shards, token_shards
from melisma.data.clips import Clip, ClipRenderer, ClipSettings
from melisma.data.sources.pieces import read_sources
from melisma.files.shards import writer
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.train.log import Log
from melisma.train.loop import Run
from melisma.values import Facts

CLIPS = 10
SECONDS = 0.4
HOURS = CLIPS * SECONDS / 3600
_CALLS = ("replace", "rename", "link", "unlink", "fsync", "ftruncate", "mkdir")


class KillPoints:
    """Counts the kill points of a process, and kills it at one of them."""

    def __init__(self, fatal: int | None) -> None:
        """
        Args:
            fatal: The number of the point at which the process is killed; None: nowhere.
        """
        self._fatal = fatal
        self.passed = 0

    def point(self) -> None:
        """Passes a kill point."""
        self.passed += 1
        if self.passed == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def is_next_fatal(self) -> bool:
        """Whether the next point is the one at which the process is killed."""
        return self.passed + 1 == self._fatal

    def install(self) -> None:
        """Puts kill points into this process, for ever."""
        for name in _CALLS:
            setattr(os, name, self._around(getattr(os, name)))
        writer._append = self._torn_append(writer._append)  # pyright: ignore[reportPrivateUsage]
        Log.write = self._torn_log(Log.write)
        Run.update = self._before(Run.update)
        StubRenderer.clip = self._before(StubRenderer.clip)

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any, **named: Any) -> Any:
            self.point()
            result = call(*arguments, **named)
            self.point()
            return result

        return killed

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any, **named: Any) -> Any:
            self.point()
            return call(*arguments, **named)

        return killed

    def _torn_append(self, append: Callable[[Path, str], None]) -> Callable[[Path, str], None]:
        def torn(path: Path, text: str) -> None:
            if self.is_next_fatal:
                append(path, text[: len(text) // 2])
            self.point()
            append(path, text)

        return torn

    def _torn_log(self, write: Callable[..., None]) -> Callable[..., None]:
        def torn(log: Log, number: int, figures: Mapping[str, float]) -> None:
            if self.is_next_fatal:
                with log._path.open("ab") as file:  # pyright: ignore[reportPrivateUsage]
                    file.write(f'{{"update": {number}, "ti'.encode())
            self.point()
            write(log, number, figures)

        return torn


class StubRenderer:
    """Makes clips of noise, by number, as quickly as a test needs."""

    settings = ClipSettings(seed=1, seconds=SECONDS)

    def description(self) -> dict[str, Any]:
        """What decides the clips."""
        return dataclasses.asdict(self.settings)

    def restart(self) -> None:
        """Nothing is kept."""

    def clip(self, index: int) -> Clip:
        """Clip number `index`."""
        rng = np.random.default_rng(index)
        frames = round(SECONDS * 25)
        narrow = np.zeros(frames, np.int8)
        labels = dict.fromkeys(("bass", "top", "chord"), narrow)
        phases = rng.random((2, frames)).astype(np.float16)
        extra = {
            field.name: narrow
            for field in dataclasses.fields(FrameLabels)
            if field.name
            not in {*labels, "pitch_class", "onset", "drum", "beat_phase", "bar_phase"}
        }
        return Clip(
            sound=rng.integers(-9000, 9000, round(SECONDS * 24_000)).astype(np.int16),
            labels=FrameLabels(
                **labels, **extra, pitch_class=np.zeros((frames, 12), np.uint8),
                onset=np.zeros((frames, 12), np.uint8), drum=np.zeros((frames, 3), np.uint8),
                beat_phase=phases[0], bar_phase=phases[1],
            ),
            facts=Facts(),
            captions=(f"clip {index}",),
            row={"identity": f"noise/{index}", "group": str(index)},
        )  # fmt: skip


class StubTokenizers:
    """Makes tokens of sound without any network."""

    fingerprints: Mapping[str, str] = {"codec": "c", "semantic": "s", "joint": "j"}

    def encode(self, sound: torch.Tensor) -> list[dict[str, np.ndarray]]:
        """A few numbers of each clip."""
        return [
            {"acoustic": (one[None, :32].numpy() * 100).astype(np.int16).view(np.uint16)}
            for one in sound
        ]


def write_pieces(folder: Path) -> None:
    """Writes a folder of corpora."""
    pieces = {"a.mid": song(), **{f"q{i}.mid": quartet(i) for i in range(4)}}
    write_corpus(folder / "corpora", "songs", pieces)
    write_corpus(folder / "corpora", "groove", {"g.mid": groove()})


def prepare_inputs(folder: Path) -> None:
    """Writes what the jobs read: corpora, clips and files of tokenizers."""
    write_pieces(folder)
    make_small()
    audio_job(folder, folder / "clips")
    for name in ("codec", "semantic", "joint"):
        (folder / f"{name}.safetensors").write_text(name)


def make_small() -> None:
    """Makes shards and pieces of shards so small that a small job has several."""
    audio_shards.CLIPS_PER_PIECE = 2
    token_shards.CLIPS_PER_SHARD = 4
    token_shards.ENCODED_PER_SHARD = 4
    score_shards.ROWS_PER_SHARD = 4
    stub = SimpleNamespace(read=lambda _paths: StubTokenizers())
    token_shards.AudioTokenizers = cast(type[AudioTokenizers], stub)
    sys.modules["torch.utils.tensorboard"] = cast(Any, None)  # its files hold the time


def audio_job(_inputs: Path, folder: Path, workers: int = 1) -> None:
    """`melisma prepare`."""
    renderer = cast(ClipRenderer, StubRenderer())
    audio_shards.write_audio_shards(folder, renderer, HOURS, workers, clips_per_shard=4)


def token_job(inputs: Path, folder: Path, workers: int = 1) -> None:
    """`melisma prepare --tokens`."""
    renderer = cast(ClipRenderer, StubRenderer())
    token_shards.write_token_shards(folder, renderer, TokenizerPaths.of(inputs), HOURS, workers)


def encode_job(inputs: Path, folder: Path) -> None:
    """`melisma train tokens`."""
    clips = audio_shards.read_audio_shards(inputs / "clips")
    token_shards.encode_clips(folder, clips, cast(AudioTokenizers, StubTokenizers()))


def score_job(inputs: Path, folder: Path, workers: int = 1) -> None:
    """The shards of `melisma train score`."""
    sources = read_sources(inputs / "corpora")
    splits = {source.identity: "train" for source in sources}
    settings = score_shards.ScoreSettings(window_events=80, arranged=4)
    rows = score_shards.ScoreRows(sources, splits, settings)
    score_shards.write_score_shards(folder, rows, workers)


def training_job(_inputs: Path, folder: Path) -> None:
    """`melisma train --resume`, of a network of a few numbers."""
    run = Run(ToyTask(), loop(10, log_updates=1), folder)
    run.resume()
    run.run(lambda _: None)


JOBS: dict[str, Callable[[Path, Path], None]] = {
    "prepare": audio_job,
    "prepare --tokens": token_job,
    "train tokens": encode_job,
    "train score (shards)": score_job,
    "train": training_job,
}


def snapshot(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name; of a log without what depends on the clock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    for name in found:
        if name.endswith("log.jsonl"):
            lines = [json.loads(line) for line in found[name].splitlines()]
            for line in lines:
                line.pop("time")
                line.pop("seconds_per_update", None)
            found[name] = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return found
