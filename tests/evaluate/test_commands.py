"""The benchmark commands on tiny clips, with a composer and a codec made by hand."""

import dataclasses
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from melisma.data.audio_shards import AudioShards
from melisma.evaluate.models.judge import Judge, JudgeNetwork, JudgeSettings
from melisma.values import Facts, Prompt, TokenGrid, Waveform
from melisma.values.sampling import SamplingParams

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RATE_HZ = 24_000
LEADS = ("piano", "organ", "flutes")


class FakePiece(NamedTuple):
    """What a composer returns, as far as a benchmark looks at it."""

    waveform: Waveform


def plucks(seed: int, seconds: float = 3.0) -> Waveform:
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    frequency_hz = 200.0 * 2.0 ** (seed % 12 / 12)
    samples = 0.3 * np.sin(2 * np.pi * frequency_hz * time) * np.exp(-5.0 * (time % 0.5))
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ)


class FakeComposer:
    """Generates plucked notes for any prompt."""

    def generate_pieces(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int = 0,
        best_of: int = 1,
        sampling: SamplingParams,
        rank: str,
    ) -> list[FakePiece]:
        assert best_of >= 1
        assert (sampling.flat(), rank) == ({"guidance_semantic": 1.5}, "words")
        return [FakePiece(plucks(seed + index)) for index in range(len(prompts))]


class FakeCodec:
    """Keeps the sound rounded to as many bits as levels; the tokens are only counted."""

    def encode(self, waveform: Waveform, levels: int | None = None) -> TokenGrid:
        self.last, self.levels = waveform, levels or 4
        tokens = np.zeros((self.levels, round(waveform.seconds * 25)), dtype=np.int64)
        return TokenGrid(tokens=tokens, vocabulary=1024, frame_rate_hz=25.0, fingerprint="fake")

    def decode(self, grid: TokenGrid) -> Waveform:
        steps = 2.0 ** len(grid.tokens)
        return Waveform(samples=np.round(self.last.samples * steps) / steps, rate_hz=RATE_HZ)


def fake_shards(clips: int = 6) -> AudioShards:
    sound = np.concatenate([plucks(i).samples for i in range(clips)])
    frames = 75
    rows: list[dict[str, object]] = []
    onset = np.zeros((clips, frames, 12), dtype=np.uint8)
    onset[:, ::13, 0] = 1
    for index in range(clips):
        facts = Facts(lead=LEADS[index % 3], tempo_bpm=120.0, tonality="A minor")
        row: dict[str, object] = {"group": f"work {index}", "captions": [f"a {facts.lead} tune"]}
        rows.append({**row, "facts": dataclasses.asdict(facts)})
    return AudioShards(
        sound=((sound * 32767).astype(np.int16),),
        labels=({"onset": onset, "drum": np.zeros((clips, frames, 3), dtype=np.uint8)},),
        rows=tuple(rows),
    )


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("benchmarks")
def test_clips_are_balanced_and_one_per_work() -> None:
    held_clips = importlib.import_module("held_clips")
    balanced_clips = held_clips.balanced_clips
    one_clip_per_piece = held_clips.one_clip_per_piece
    shards = fake_shards()
    assert balanced_clips(shards, LEADS[:2], 3) == [0, 1, 3]
    assert balanced_clips(shards, LEADS[:2], 99) == [0, 1, 3, 4]
    assert one_clip_per_piece(shards, 4) == [0, 1, 2, 3]


@pytest.mark.usefixtures("benchmarks")
def test_adherence_from_prompts_to_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adherence = importlib.import_module("adherence")

    torch.manual_seed(0)
    Judge(JudgeNetwork(JudgeSettings(moment=8, trunk=8, pulse=4, words=8))).write(
        tmp_path / "judges", {}
    )
    monkeypatch.setattr(adherence, "load", lambda *_: FakeComposer())
    monkeypatch.setattr(adherence, "load_codec", lambda _: FakeCodec())
    monkeypatch.setattr(adherence, "read_audio_shards", lambda _: fake_shards())
    arguments = ["--held", "x", "--judges", str(tmp_path / "judges"), "--best-of", "1"]
    arguments += ["--count", "5", "--batch", "2", "--results", str(tmp_path)]
    arguments += ["--sampling", "guidance_semantic=1.5"]
    monkeypatch.setattr(sys, "argv", ["adherence.py", *arguments])
    adherence.main()
    printed = capsys.readouterr().out
    assert "lead instrument's family recognised (best of 1)" in printed
    figures = json.loads((tmp_path / "adherence.json").read_text())
    assert all(figure["command"].startswith("python benchmarks/adherence.py") for figure in figures)
    clean = [f for f in figures if f["what"].startswith("free of clicks")]
    assert [f["count"] for f in clean] == [4, 5]


@pytest.mark.usefixtures("benchmarks")
def test_codec_rows_for_every_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = importlib.import_module("codec")

    monkeypatch.setattr(codec, "load_codec", lambda _: FakeCodec())
    monkeypatch.setattr(codec, "read_audio_shards", lambda _: fake_shards())
    monkeypatch.setattr(codec, "code_with_opus", lambda sound, _: (sound, 13.3))
    monkeypatch.setattr(codec, "visqol_scorer", lambda: lambda a, b: 5.0 - abs(a - b).max())
    arguments = ["--held", "x", "--levels", "1", "4", "--count", "3", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["codec.py", *arguments, "--embedding", "signal"])
    codec.main()
    figures = json.loads((tmp_path / "codec.json").read_text())
    by_name = {figure["what"]: figure["value"] for figure in figures}
    assert len(figures) == 3 * 4 + 2 * 4 + 1 + 3
    assert {"SI-SDR, median, 4 levels, 1.00 kbit/s", "codebook used, level 4"} <= by_name.keys()
    assert by_name["log-mel distance, Opus hard-cbr 12, 13.30 kbit/s"] == 0.0
    assert by_name["entropy of level 4"] == 0.0
    assert by_name["bitrate after entropy coding, 4 levels"] == 0.0
    floor = by_name["Fréchet distance, signal, clips (F)"]
    coded = [by_name[f"Fréchet distance, signal, {levels} levels (C)"] for levels in (1, 4)]
    assert 0.0 < floor < coded[1] < coded[0]
    assert by_name["ViSQOL, 1 levels, 0.25 kbit/s"] < by_name["ViSQOL, 4 levels, 1.00 kbit/s"]
    assert by_name["onset F1 ratio, Opus hard-cbr 12, 13.30 kbit/s"] == 1.0
