"""Recordings on the command line: pipes are read, and what was amiss reaches the person."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melisma.cli import arguments
from melisma.cli.errors import run
from melisma.cli.program import program

RATE_HZ = 16_000


@pytest.fixture(autouse=True)
def no_pipes_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "_copies", {})


def tone(offset: float = 0.0) -> np.ndarray:
    return 0.1 * np.sin(np.arange(2 * RATE_HZ) * 0.1) + offset


def flac(sound: np.ndarray) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, sound, RATE_HZ, format="FLAC")
    return data.getvalue()


def test_inspect_says_what_is_amiss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = flac(tone(0.2))
    (tmp_path / "cut.bin").write_bytes(data[: 2 * len(data) // 3])
    assert run(program, ["inspect", str(tmp_path / "cut.bin"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [remark.split(":")[0] for remark in facts["remarks"]] == [
        "cut.bin is damaged or cut short",
        "cut.bin has a DC offset of 0.2, which was removed",
    ]
    assert facts["true_peak_db"] == pytest.approx(-20.0, abs=0.05)
    assert run(program, ["inspect", str(tmp_path / "cut.bin")]) == 0
    assert "remarks" in capsys.readouterr().out


def test_encode_says_what_is_amiss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = np.stack([tone(), -tone()], axis=1)
    soundfile.write(tmp_path / "x.wav", sides, RATE_HZ)
    assert run(program, ["encode", str(tmp_path / "x.wav"), str(tmp_path / "x.mlt")]) == 0
    assert "melisma: note: the two channels of x.wav cancel" in capsys.readouterr().err
    assert run(program, ["decode", str(tmp_path / "x.mlt"), str(tmp_path / "back.wav"), "-q"]) == 0
    back, _ = soundfile.read(tmp_path / "back.wav")
    assert np.sqrt(np.mean(back**2)) > 0.01  # of the mean of the sides nothing would be left


class _Input:
    """Standard input."""

    def __init__(self, data: bytes, *, terminal: bool = False) -> None:
        self.buffer, self._terminal = io.BytesIO(data), terminal

    def isatty(self) -> bool:
        return self._terminal


def test_standard_input_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Input(flac(tone())))
    assert run(program, ["inspect", "-", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["path"], facts["seconds"]) == ("-", 2.0)


def test_what_is_amiss_with_a_pipe_is_said_of_the_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Input(bytes(range(1, 200)) * 20))
    assert run(program, ["inspect", "-"]) == 2
    assert "melisma: standard input is not an audio file" in capsys.readouterr().err
    monkeypatch.setattr(arguments, "_copies", {})
    monkeypatch.setattr(sys, "stdin", _Input(b"", terminal=True))
    assert run(program, ["inspect", "-"]) == 2
    assert "standard input is a terminal" in capsys.readouterr().err


def test_a_named_pipe_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(flac(tone()),))
    writer.start()
    assert run(program, ["inspect", str(pipe), "--json"]) == 0
    writer.join()
    assert json.loads(capsys.readouterr().out)["seconds"] == 2.0


def test_a_pipe_is_not_read_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Input(flac(tone())))
    words = ["generate", "a waltz", "--melody", "-", "--continue-from", "-", "-o", "x.wav"]
    assert run(program, words) == 2
    assert "- is given twice, but a pipe can be read only once" in capsys.readouterr().err
