"""Folders of shards: extended, continued with the same settings only, whole on a full disk."""

from __future__ import annotations

import errno
import os
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from studies import kill_points
from studies.kill_points import HOURS, StubRenderer, StubTokenizers, snapshot

from melisma.data import audio_shards, token_shards
from melisma.data.audio_shards import read_audio_shards, write_audio_shards
from melisma.data.clips import ClipRenderer
from melisma.data.corpus_settings import number_of_clips
from melisma.data.score_shards import ScoreRows, ScoreSettings, write_score_shards
from melisma.data.sources.pieces import read_sources
from melisma.data.token_shards import encode_clips, write_token_shards
from melisma.files.shards import ShardReader, ShardWriter
from melisma.files.shards.lock import locked
from melisma.files.shards.stored_settings import SETTINGS_NAME
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.values.errors import MelismaError

Write = Callable[..., None]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small shards, and stubs instead of networks."""
    monkeypatch.setattr(audio_shards, "CLIPS_PER_PIECE", 2)
    monkeypatch.setattr(token_shards, "CLIPS_PER_SHARD", 4)
    monkeypatch.setattr(token_shards.AudioTokenizers, "read", lambda _paths: StubTokenizers())


class OtherRenderer(StubRenderer):
    """Another seed."""

    settings = replace(StubRenderer.settings, seed=77)


def write_audio(folder: Path, hours: float, renderer: StubRenderer | None = None) -> None:
    given = cast(ClipRenderer, renderer or StubRenderer())
    write_audio_shards(folder, given, hours, clips_per_shard=4)


def write_tokens(folder: Path, hours: float, renderer: StubRenderer | None = None) -> None:
    paths = TokenizerPaths.of(folder.parent)
    for path in vars(paths).values():
        path.write_text(path.name)
    write_token_shards(folder, cast(ClipRenderer, renderer or StubRenderer()), paths, hours)


BOTH = pytest.mark.parametrize("write", [write_audio, write_tokens])


@BOTH
@pytest.mark.parametrize("clips", [1, 3, 4, 7])
def test_more_hours_extend_a_corpus(tmp_path: Path, write: Write, clips: int) -> None:
    write(tmp_path / "grown", HOURS * clips / 10)
    write(tmp_path / "grown", HOURS)
    write(tmp_path / "whole", HOURS)
    assert snapshot(tmp_path / "grown") == snapshot(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grown").iterdir()}
    write(tmp_path / "grown", HOURS)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "grown").iterdir()} == before


@BOTH
def test_other_settings_and_fewer_hours_are_refused(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a", HOURS)
    before = snapshot(tmp_path / "a")
    with pytest.raises(MelismaError, match=r"other settings \(settings\.seed was 1, now 77\)"):
        write(tmp_path / "a", HOURS, OtherRenderer())
    with pytest.raises(MelismaError, match="was begun with 10 clips, more than the 5 "):
        write(tmp_path / "a", HOURS / 2)
    assert snapshot(tmp_path / "a") == before


@BOTH
def test_one_process_at_a_time_writes_into_a_folder(tmp_path: Path, write: Write) -> None:
    with (
        locked(tmp_path / "a"),
        pytest.raises(MelismaError, match=f"is in use by process {os.getpid()}"),
    ):
        write(tmp_path / "a", HOURS)


@BOTH
def test_a_full_disk_is_named_and_leaves_no_part(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for working in (0, 1, 4):
        folder = tmp_path / str(working)
        left, real = working, os.fsync

        def full(handle: int, real: Callable[[int], None] = real) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the words follow
                write(folder, HOURS)
        said = caught.value.strerror or str(caught.value)
        assert re.search(rf"the disk that holds {folder} is full: \S+ was not written", said), said
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
        write(folder, HOURS)
        write(tmp_path / "whole", HOURS)
        assert snapshot(folder) == snapshot(tmp_path / "whole")


def test_folders_of_earlier_versions_are_read_but_not_continued(tmp_path: Path) -> None:
    for write, name in ((write_audio, "audio"), (write_tokens, "tokens")):
        write(tmp_path / name, HOURS)
        (tmp_path / name / SETTINGS_NAME).unlink()
        with pytest.raises(MelismaError, match="can be trained on, but not be continued"):
            write(tmp_path / name, HOURS)
    assert len(read_audio_shards(tmp_path / "audio")) == 10
    assert len(ShardReader(tmp_path / "tokens")) == 10


def test_clips_that_are_encoded_again_are_the_same(tmp_path: Path) -> None:
    write_audio(tmp_path / "clips", HOURS)
    clips = read_audio_shards(tmp_path / "clips")
    tokenizers = cast(AudioTokenizers, StubTokenizers())
    encode_clips(tmp_path / "tokens", clips, tokenizers)
    encode_clips(tmp_path / "tokens", clips, tokenizers)
    assert len(ShardReader(tmp_path / "tokens")) == 10
    other = replace(clips, rows=tuple({**row, "identity": "another"} for row in clips.rows))
    with pytest.raises(MelismaError, match=r"settings\.clips\.hash was "):
        encode_clips(tmp_path / "tokens", other, tokenizers)
    (tmp_path / "tokens" / SETTINGS_NAME).unlink()  # as earlier versions left it
    encode_clips(tmp_path / "tokens", clips, tokenizers)
    retrained = StubTokenizers()
    retrained.fingerprints = {"codec": "other"}
    with pytest.raises(MelismaError, match="holds tokens of the codec c, but the codec here is"):
        encode_clips(tmp_path / "tokens", clips, cast(AudioTokenizers, retrained))


def test_scores_of_other_settings_or_pieces_are_refused(tmp_path: Path) -> None:
    kill_points.write_pieces(tmp_path)
    sources = read_sources(tmp_path / "corpora")
    splits = {source.identity: "train" for source in sources}
    settings = ScoreSettings(window_events=80, arranged=0)
    write_score_shards(tmp_path / "rows", ScoreRows(sources, splits, settings))
    write_score_shards(tmp_path / "rows", ScoreRows(sources, splits, settings))
    wide = replace(settings, window_events=90)
    with pytest.raises(MelismaError, match="window_events was 80, now 90"):
        write_score_shards(tmp_path / "rows", ScoreRows(sources, splits, wide))
    with pytest.raises(MelismaError, match=r"sources\.pieces was \d, now \d"):
        write_score_shards(tmp_path / "rows", ScoreRows(sources[1:], splits, settings))


def test_scores_of_earlier_versions_are_completed(tmp_path: Path) -> None:
    """They have one writer for each worker, other names of shards, and no settings."""
    kill_points.write_pieces(tmp_path)
    sources = read_sources(tmp_path / "corpora")
    splits = {source.identity: "train" for source in sources}
    rows = ScoreRows(sources, splits, ScoreSettings(window_events=80, arranged=0))
    write_score_shards(tmp_path / "new", rows)
    expected = {row.key: row for row in ShardReader(tmp_path / "new")}
    (tmp_path / "old").mkdir()
    for worker, keys in enumerate((list(expected)[3:1:-1], list(expected)[5:6])):
        with ShardWriter(tmp_path / "old", prefix=f"scores-{worker}") as writer:
            for key in keys:
                writer.write(expected[key])
    old = {path: path.read_bytes() for path in (tmp_path / "old").glob("*.tar")}
    write_score_shards(tmp_path / "old", rows)
    found = list(ShardReader(tmp_path / "old"))
    assert sorted(row.key for row in found) == sorted(expected)
    for row in found:
        np.testing.assert_array_equal(row.arrays["events"], expected[row.key].arrays["events"])
    assert all(path.read_bytes() == data for path, data in old.items())


def test_no_damage_of_audio_shards_is_a_traceback(tmp_path: Path) -> None:
    write_audio(tmp_path, HOURS / 5)
    rng = random.Random(0)
    said = []
    for number in range(200):
        paths = ("sound-00000.npy", "labels-00000.npz", "rows-00000.jsonl")
        path = tmp_path / paths[number % 3]
        whole = path.read_bytes()
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
        del data[rng.choice((len(data), rng.randrange(len(data)))) :]
        path.write_bytes(data)
        try:
            shards = read_audio_shards(tmp_path)
            np.asarray(shards.sound[0]).sum()
        except MelismaError as error:
            said.append(str(error))
        path.write_bytes(whole)
    assert len(said) > 50
    assert all(str(tmp_path) in words for words in said)
    (tmp_path / "rows-00000.jsonl").unlink()
    with pytest.raises(MelismaError, match="holds no finished shard"):
        read_audio_shards(tmp_path)


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_hours_of_no_corpus_are_refused(hours: float) -> None:
    with pytest.raises(MelismaError, match="a corpus has up to 100,000 hours"):
        number_of_clips(hours, 10.0)
