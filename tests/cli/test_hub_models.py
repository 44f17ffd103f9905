"""`melisma generate --model FOLDER` with checkpoints in the layout of transformers, good and
bad."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_musicgen import written

from melisma.cli.errors import run
from melisma.cli.program import program
from melisma.files import read_audio, read_provenance, write_audio
from melisma.values import Waveform

TENSORS = "model.safetensors"


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mono") / "musicgen-tiny"
    written(folder)
    return folder


@pytest.fixture(scope="module")
def melody(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("melody") / "musicgen-tiny-melody"
    written(folder, melody=True, stereo=True)
    return folder


def generate(folder: Path, place: Path, *words: str) -> int:
    command = ["generate", "a slow piano waltz", "--duration", "1", "--seed", "1", "--quiet"]
    return run(program, [*command, "--model", str(folder), "--output", str(place), *words])


def sound(samples: np.ndarray, rate_hz: int = 24_000) -> Waveform:
    return Waveform(samples=samples.astype(np.float32)[None], rate_hz=rate_hz)


def two_notes() -> Waveform:
    time = np.arange(48_000) / 24_000
    phase = 2 * np.pi * np.cumsum(np.where(time < 1, 220.0, 330.0)) / 24_000
    harmonics = [np.sin(n * phase) / n**1.5 for n in range(1, 8)]
    return sound(0.2 * np.sum(harmonics, axis=0))


def test_one_command_makes_sound_and_says_whose_weights_it_uses(
    mono: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(mono, tmp_path / "a.wav") == 0
    assert "CC BY-NC 4.0: no commercial use" in capsys.readouterr().err
    made, sign = read_audio(tmp_path / "a.wav"), read_provenance(tmp_path / "a.wav")
    assert (made.rate_hz, made.samples.shape) == (32_000, (1, 32_000))
    assert sign is not None
    assert (sign.model, sign.licence) == ("musicgen-tiny", "CC BY-NC 4.0")
    assert json.loads(sign.settings)["sampling"]["guidance"] == 3.0
    assert generate(mono, tmp_path / "b.flac", "--best-of", "2", "--receipt", "--top-p", "0.9") == 0
    assert generate(mono, tmp_path / "c.wav", "--stream", "--precision", "int4") == 0
    assert read_audio(tmp_path / "c.wav").samples.shape == (1, 32_000)


def test_a_melody_and_a_beginning_are_conditioning(melody: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "tune.wav", two_notes())
    given = ["--melody", str(tmp_path / "tune.wav")]
    assert generate(melody, tmp_path / "a.wav", *given, "--precision", "float32") == 0
    assert generate(melody, tmp_path / "b.wav", "--precision", "float32") == 0
    first, second = read_audio(tmp_path / "a.wav"), read_audio(tmp_path / "b.wav")
    assert first.samples.shape == (2, 32_000)
    assert not np.array_equal(first.samples, second.samples)
    begin = ["--continue-from", str(tmp_path / "tune.wav"), "--keep-seconds", "1.5"]
    assert generate(melody, tmp_path / "c.wav", *begin, *given) == 0
    assert read_audio(tmp_path / "c.wav").seconds == 2.5


@pytest.mark.parametrize("kind", ["silence", "noise", "short", "nothing learned"])
def test_what_is_no_melody_is_refused(
    kind: str, mono: Path, melody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    sounds = {
        "silence": (sound(np.zeros(48_000)), "silent"),
        "noise": (sound(0.1 * rng.standard_normal(48_000)), "no tune was detected"),
        "short": (sound(two_notes().samples[0, :6_000]), "half a second|0.5"),
        "nothing learned": (two_notes(), "never learned to follow a tune"),
    }
    tune, said = sounds[kind]
    write_audio(tmp_path / "tune.wav", tune)
    folder = mono if kind == "nothing learned" else melody
    assert generate(folder, tmp_path / "a.wav", "--melody", str(tmp_path / "tune.wav")) == 2
    err = capsys.readouterr().err
    assert any(part in err for part in said.split("|")), err
    assert not (tmp_path / "a.wav").exists()


def damaged(mono: Path, folder: Path, kind: str) -> None:
    """A copy of the checkpoint with one thing wrong."""
    shutil.copytree(mono, folder)
    tensors = load_file(folder / TENSORS)
    if kind == "another family":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    elif kind == "missing":
        del tensors["decoder.model.decoder.layers.1.self_attn.v_proj.weight"]
        save_file(tensors, folder / TENSORS, {"format": "pt"})
    elif kind == "extra":
        tensors["decoder.model.decoder.layers.7.fc1.weight"] = torch.zeros(2, 2)
        save_file(tensors, folder / TENSORS, {"format": "pt"})
    elif kind == "truncated":
        data = (folder / TENSORS).read_bytes()
        (folder / TENSORS).write_bytes(data[: len(data) // 2])
    elif kind == "pickle":
        (folder / TENSORS).unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif kind == "no words":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("another family", "gpt2"),
        ("missing", "layers.1.self_attn.v_proj.weight"),
        ("extra", "layers.7.fc1.weight"),
        ("truncated", "model.safetensors"),
        ("pickle", "save_pretrained"),
        ("no words", "tokenizer.json"),
        ("no settings", "folder"),
    ],
)
def test_a_wrong_checkpoint_is_named_and_nothing_is_written(
    kind: str, said: str, mono: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(mono, tmp_path / "model", kind)
    assert generate(tmp_path / "model", tmp_path / "a.wav") == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "a.wav").exists()


def test_too_little_memory_is_said_before(
    mono: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from melisma.engine.resources import hardware

    little = hardware.Memory(total_bytes=2**27, available_bytes=2**26)
    monkeypatch.setattr(hardware, "memory", lambda: little)
    assert generate(mono, tmp_path / "a.wav") == 2
    assert "67 MB are available" in capsys.readouterr().err
    assert not (tmp_path / "a.wav").exists()
