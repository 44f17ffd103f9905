"""The log of a training: whole lines, each update once, however often it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from melisma.train.log import LOG_NAME, Log, read_log


def updates(folder: Path) -> list[int]:
    """The updates of every line, all of which are whole."""
    return [json.loads(line)["update"] for line in (folder / LOG_NAME).read_bytes().splitlines()]


def write(folder: Path, numbers: range, done: int) -> None:
    log = Log(folder, done)
    for number in numbers:
        log.write(number, {"loss": 1.0 / number})
    log.close()


@pytest.mark.parametrize("kept_bytes", range(0, 60, 7))
def test_a_cut_line_and_later_updates_are_removed(tmp_path: Path, kept_bytes: int) -> None:
    write(tmp_path, range(1, 9), 0)
    path = tmp_path / LOG_NAME
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: min(last + kept_bytes, len(whole) - 1)])
    write(tmp_path, range(6, 11), 5)
    assert updates(tmp_path) == list(range(1, 11))


def test_a_line_that_was_glued_to_a_cut_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / LOG_NAME
    path.write_text('{"update": 1, "loss": 2}\n{"update": 2, "lo{"update": 3, "loss": 1}\n')
    assert [line["update"] for line in read_log(path)] == [1, 3]
    write(tmp_path, range(4, 5), 3)
    assert updates(tmp_path) == [1, 3, 4]


def test_a_log_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    write(tmp_path, range(1, 4), 0)
    write(tmp_path, range(1, 4), 0)
    assert updates(tmp_path) == [1, 2, 3]
