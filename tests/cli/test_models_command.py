"""`melisma models`: tables within eighty columns, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from melisma.cli.errors import USER_ERROR, run
from melisma.cli.program import program
from melisma.engine.resources import hardware, micro_benchmark
from melisma.engine.resources.memory import Rates
from melisma.files.hub import PUBLISHED, HubCard
from melisma.generation import catalogue
from melisma.values.model_ref import PRECISIONS


@pytest.fixture(autouse=True)
def _a_known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing cached, 12 GB free, memory read at 40 GB/s."""
    card = HubCard(licence=None, bytes=None, parameters=None, cached=False)
    monkeypatch.setattr(catalogue, "hub_card", lambda name, offline: card)  # noqa: ARG005
    room = hardware.Memory(total_bytes=16 * 10**9, available_bytes=12 * 10**9)
    monkeypatch.setattr(hardware, "memory", lambda: room)
    rates = Rates(
        threads=3,
        read_bandwidth=4e10,
        matmul_bandwidth=dict.fromkeys(PRECISIONS, 4e10),
        operation_seconds=1e-6,
    )
    monkeypatch.setattr(micro_benchmark, "measure_rates", lambda threads: rates)  # noqa: ARG005


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, ["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["model", "kind", "size", "disk", "licence"]
    for name in PUBLISHED:
        (line,) = [line for line in lines if line.split("@")[0].split(" ")[0] == name]
        assert line.endswith("CC BY-NC 4.0")
    assert any("no commercial use" in line for line in lines)
    (small,) = [line for line in lines if line.startswith("musicgen-small ")]
    assert small.count("x") == 4
    assert small.count("*") == 1
    (large,) = [line for line in lines if line.startswith("musicgen-large ")]
    assert "no" in large.split()


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, ["models", "--json", "--duration", "10"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["machine"] == {"threads": 3, "available_bytes": 12 * 10**9, "seconds": 10}
    models = {row["name"]: row for row in document["models"]}
    small, own = models["facebook/musicgen-small"], models["default"]
    assert (small["commercial_use"], own["commercial_use"]) == (False, True)
    assert small["folder"] is None
    assert own["recommended"] == "float32"
    assert set(small["precisions"]) == set(PRECISIONS)
    speeds = [small["precisions"][name]["times_real_time"] for name in PRECISIONS]
    assert speeds == sorted(speeds)
    assert not models["facebook/musicgen-large@refs/pr/18"]["precisions"]["float32"]["fits"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nix"], 'no model "nix": there is no such folder'),
        (["."], "holds no model: it lacks codec.safetensors"),
        (["--duration", "0"], "--duration must be a number from 1 to 600, not 0"),
        (["--threads", "0"], "--threads must be a whole number from 1"),
    ],
)
def test_bad_arguments(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(program, ["models", *words]) == USER_ERROR
    assert said in capsys.readouterr().err
