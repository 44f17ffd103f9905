"""A package that only preparing and training need is asked for in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from melisma.cli import prepare
from melisma.cli.errors import USER_ERROR, run, spoken
from melisma.cli.program import program


def test_a_missing_package_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(_: object) -> None:
        raise ModuleNotFoundError("No module named 'zstandard'", name="zstandard")

    monkeypatch.setattr(prepare, "_soundfonts", absent)
    assert run(program, ["prepare", str(tmp_path), str(tmp_path / "clips")]) == USER_ERROR
    said = capsys.readouterr().err
    assert "zstandard is missing" in said
    assert "[train]" in said
    assert said.count("\n") == 1


def test_a_module_of_our_own_that_is_missing_is_our_fault() -> None:
    assert spoken(ModuleNotFoundError("No module named 'melisma.x'", name="melisma.x")) is None
