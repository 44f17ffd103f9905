"""`melisma doctor`: its findings, remedies and exit code."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from melisma.cli.commands import doctor as doctor_module
from melisma.cli.commands.doctor import UNFIT, within
from melisma.cli.errors import USER_ERROR, run
from melisma.cli.program import program
from melisma.engine.resources import hardware, micro_benchmark
from melisma.files.hub import HubCard
from melisma.generation import catalogue, forecast
from melisma.nn import precision
from melisma.simd.instruction_set import ENVIRONMENT
from melisma.simd.selection import selected
from melisma.symbolic.soundfont import fluidsynth

SMALL = "facebook/musicgen-small"
ROOM = hardware.Memory(total_bytes=16 * 10**9, available_bytes=12 * 10**9)
FORECAST = forecast.Forecast(
    load_seconds=2.0, first_sound_seconds=0.5, whole_seconds=25.0, steps_a_second=70.0,
    bytes_a_step=520_000_000, tried_layers=9, start_seconds=1.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _a_known_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is measured, nothing is cached, 12 GB are free."""
    card = HubCard(licence=None, bytes=None, parameters=None, cached=False)
    monkeypatch.setattr(catalogue, "hub_card", lambda name, offline: card)  # noqa: ARG005
    monkeypatch.setattr(hardware, "memory", lambda: ROOM)
    monkeypatch.setattr(hardware, "read_bandwidth", lambda threads: 4e10)  # noqa: ARG005
    monkeypatch.setattr(forecast, "forecast", lambda *_: FORECAST)
    monkeypatch.setattr(forecast, "score_forecast", lambda *_: FORECAST)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    code = run(program, ["doctor", *words])
    lines = capsys.readouterr().out.splitlines()
    # Only a path may be longer than a line.
    assert all(len(line) <= 80 or line.strip().count(" ") < 6 for line in lines)
    return code, lines


def flat(lines: list[str]) -> str:
    """Without the breaks of lines."""
    return " ".join(" ".join(lines).split())


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = said(capsys, "--model", SMALL)
    assert (code, lines[-1]) == (0, "everything is in order")
    text = flat(lines)
    for words in ("40.0 GB/s", "12.0 GB free", f"{SMALL} in int8, 30 s", "no commercial use"):
        assert words in text
    assert "70 per second, 520 MB each: 1.40 times real time" in text
    assert "measured on 9 of 24 layers" in text
    assert "25 s later: 1.20 times real time" in text
    assert "in all 28 s for 30 s of music" in text
    assert not any(line.startswith("!") for line in lines)


@pytest.mark.parametrize("instruction_set", [None, "portable"])
def test_what_computes_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], instruction_set: str | None
) -> None:
    def decided(_device: str = "cpu") -> precision.ComputeDtype:
        return precision.ComputeDtype(dtype=torch.float32, reason="it is faster here")

    monkeypatch.setattr(precision, "compute_dtype", decided)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    if instruction_set:
        monkeypatch.setenv(ENVIRONMENT, instruction_set)
    text = flat(said(capsys, "--model", SMALL)[1])
    assert "networks compute in float32: it is faster here" in text
    assert f"kernels {selected().name}, " in text
    assert (f"set by {ENVIRONMENT}" in text) == bool(instruction_set)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, ["doctor", "--json", "--precision", "int4", "--duration", "8"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["well"]
    model = document["model"]
    assert (model["name"], model["precision"], model["seconds"]) == ("default", "int4", 8)
    assert model["memory_bytes"] == sum(model["memory_parts"].values())
    assert document["warnings"] == []
    assert model["forecast"]["whole_seconds"] == 25.0
    assert model["forecast"]["total_seconds"] == model["score_forecast"]["total_seconds"] == 28.0
    assert set(document["findings"]) == {"machine", "program", "default in int4, 8 s"}


def test_what_does_not_fit_and_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "forecast", None)  # never called
    large = ("--model", "facebook/musicgen-large", "--precision", "float32")
    code, lines = said(capsys, *large)
    assert code == UNFIT
    assert "do not fit into the 12.0 GB that are free: --precision bfloat16 would" in flat(lines)
    monkeypatch.setattr(
        hardware, "memory", lambda: hardware.Memory(total_bytes=1, available_bytes=1)
    )
    code, lines = said(capsys, *large)
    assert code == UNFIT
    assert "use a smaller model" in flat(lines[-3:])


def test_a_system_that_does_not_report_its_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = hardware.Memory(total_bytes=None, available_bytes=None)
    monkeypatch.setattr(hardware, "memory", lambda: silent)
    code, lines = said(capsys)
    assert code == 0
    assert any("this system does not report it" in line for line in lines)


def test_what_is_broken_is_named_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))  # noqa: ARG005
    monkeypatch.setenv("MELISMA_SOUNDFONT", str(tmp_path / "none.sf2"))
    monkeypatch.setattr(fluidsynth, "has_fluidsynth", lambda: False)

    def broken(*_: object) -> None:
        raise RuntimeError("no\ncompiler")

    monkeypatch.setattr(micro_benchmark, "run_once", broken)
    code, lines = said(capsys, "--output", str(tmp_path))
    assert code == UNFIT
    text = flat(lines)
    marked = [line.split("  ")[0] for line in lines if line.startswith("! ")]
    assert marked == ["! native code", "! soundfont", "! output folder", "! hub cache"]
    last = text[text.index("native code: reinstall numba") :]
    assert last.index("none.sf2") < last.index("hub cache: free some space")
    assert "does not run: no compiler" in text
    assert "not installed, and not needed: Melisma's own synthesizer renders scores" in text


def test_a_run_of_minutes_is_no_fault_but_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = dataclasses.replace(FORECAST, whole_seconds=455.0)
    monkeypatch.setattr(forecast, "forecast", lambda *_: slow)
    code, lines = said(capsys, "--model", SMALL)
    text = flat(lines)
    assert code == 0
    assert "everything is in order" not in text
    assert "? in all 8 minutes for 30 s of music" in text
    assert text.endswith(
        "nothing is broken, but: in all: a piece of 30 s will take about 8 minutes; a smaller "
        "model or a shorter --duration is faster"
    )
    assert run(program, ["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["well"]
    assert "--best-of 1, a smaller model" in document["warnings"][0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.94, "0.9 s"), (25.4, "25 s"), (119.0, "119 s"), (300, "5 minutes"), (9000, "2.5 hours")],
)
def test_times_are_as_exact_as_a_forecast(seconds: float, words: str) -> None:
    assert forecast.in_words(seconds) == words


def test_an_output_folder_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, lines = said(capsys, "--output", str(tmp_path / "new"))
    assert code == UNFIT
    assert "output folder: create it: mkdir -p " in flat(lines[-3:])


@pytest.mark.parametrize(
    ("busy", "known"), [((0.0, 0.0, 0.0), False), ((9.0, 0.0, 0.0), True)], ids=["idle", "busy"]
)
def test_load_by_other_programs_is_reported(
    busy: tuple[float, float, float], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware.psutil, "getloadavg", lambda: busy)
    monkeypatch.setattr(hardware.psutil, "cpu_count", lambda: 4)
    assert bool(doctor_module._other_programs()) is known


def test_packages_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "torch<2.0,>=1.0", "no-such-package>=3", "numpy>=1.0", 'ray>=99; extra == "cluster"',
        'old>=1; python_version < "3"',
    ]  # fmt: skip
    monkeypatch.setattr(doctor_module.metadata, "requires", lambda name: wanted)  # noqa: ARG005
    found = doctor_module._packages()
    assert found.remedy is not None
    assert "is not <2.0,>=1.0; no-such-package is missing" in found.words
    assert "ray" not in found.words
    assert "old" not in found.words


def test_a_python_that_was_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "_tested_python", lambda: ">=4.0")
    assert doctor_module._python().remedy == "install Melisma with Python >=4.0"


@pytest.mark.parametrize(
    ("version", "bounds", "holds"),
    [
        ("2.13.0+cpu", ">=2.6,<2.14", True),
        ("2.14.0", ">=2.6,<2.14", False),
        ("2.6", ">=2.6.0", True),
        ("0.6.0", ">=0.5.9,!=0.6.0", False),
        ("0.10.1", ">=0.9", True),
        ("1.0", "==1.0.0", True),
        ("1.0", "<=0.9", False),
        ("1.0", ">1.0", False),
        ("3.0rc1", "~=2.0", False),
        ("2.14.0rc1", ">=2.6,<2.15", True),
        ("5", "", True),
        ("of my own", ">=0", False),
    ],
)
def test_versions_within_bounds(version: str, bounds: str, holds: bool) -> None:
    assert within(version, bounds) is holds


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--model", "nope"], 'no model "nope": there is no such folder'),
        (["--precision", "int2"], "int2"),
        (["--duration", "601"], "--duration must be a number from 1 to 600, not 601"),
        (["--threads", "0"], "--threads must be a whole number from 1"),
    ],
)
def test_bad_arguments(words: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, ["doctor", *words]) == USER_ERROR
    assert what in capsys.readouterr().err
