"""The shell commands of a page run in their order, in an empty folder outside the checkout."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.document.test_readme import REPOSITORY, blocks

NEEDS_DOWNLOAD = re.compile(r"musicgen|hub:", re.IGNORECASE)
"""Weights that do not come with the package."""
INSTALLS = re.compile(r"(^|&& )(\S*python -m venv|\S*pip install)\b[^&]*(&& )?")


def table_commands(page: Path) -> list[str]:
    """The commands in the first column of a table."""
    return re.findall(r"^\| `(melisma [^`]+)` \|", page.read_text("utf-8"), re.MULTILINE)


def block_commands(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def shell_commands(page: str) -> list[str]:
    """The commands of a page in their order, without those that install.

    Of the page on training, only the chain at toy size: the others take hours and real corpora.
    """
    path = REPOSITORY / page
    found = blocks(path, "bash")
    lines = [line for block in found for line in block_commands(block)]
    if page == "README.md":
        lines += ["melisma demo .", *table_commands(path)]
    if page == "docs/training.md":
        lines = block_commands(found[0])
    kept = []
    for line in lines:
        command = line
        while (shorter := INSTALLS.sub("", command)) != command:
            command = shorter
        if command and not NEEDS_DOWNLOAD.search(command):
            kept.append(command.replace(".venv/bin/", ""))
    return kept


PAGES = {
    "README.md": ("waltz.wav", "quartet.wav", "piece.mid", "dance.flac", "judged/card.json"),
    "docs/usage.md": ("quartet.wav", "bossa.mid", "compared/comparison.html", "hymn.mid"),
    "docs/training.md": ("hymn.wav", "mazurka.mid"),
}
"""Some of what the commands of each page write."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs_in_order(page: str, tmp_path: Path) -> None:
    commands = shell_commands(page)
    assert len(commands) > 10
    program, folder = tmp_path / "bin" / "melisma", tmp_path / "empty"
    program.parent.mkdir()
    folder.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m melisma "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }
    failed = []
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            failed.append((command, done.returncode, done.stderr[-400:]))
    assert not failed
    for name in PAGES[page]:
        assert (folder / name).stat().st_size > 100, name
