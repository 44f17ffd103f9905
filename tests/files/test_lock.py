"""The lock of a folder: one process at a time, no kill leaves one behind, leftovers go."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from melisma.files.shards import lock
from melisma.files.shards.lock import LOCK_NAME, locked
from melisma.files.temporary import temporary_file
from melisma.values.errors import MelismaError


def test_a_second_run_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with locked(folder):
        said = rf"{folder} is in use by process {os.getpid()} on {socket.gethostname()} since 2"
        with pytest.raises(MelismaError, match=said), locked(folder):
            pass
        assert (folder / LOCK_NAME).is_file()  # the refused one has not removed it
    assert not list(folder.iterdir())
    with locked(folder):
        pass


def test_the_lock_of_a_process_that_has_ended_holds_nobody_up(tmp_path: Path) -> None:
    words = (
        "import os, sys, pathlib, melisma.files.shards.lock as lock\n"
        "with lock.locked(pathlib.Path(sys.argv[1])): os._exit(9)"
    )
    arguments = [sys.executable, "-c", words, str(tmp_path)]
    assert subprocess.run(arguments, check=False).returncode == 9
    assert (tmp_path / LOCK_NAME).is_file()
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\xff", '{"pid": 0, "host": 3}'])
def test_a_lock_file_of_nonsense_holds_nobody_up(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_NAME).write_bytes(text.encode("latin-1"))
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_bytes())["pid"] == os.getpid()


def test_without_locks_of_the_system_the_name_of_the_holder_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    record = {
        "pid": os.getpid(), "host": socket.gethostname(), "since": "now",
        "process_started": psutil.Process().create_time(),
    }  # fmt: skip
    (tmp_path / LOCK_NAME).write_text(json.dumps(record))
    with pytest.raises(MelismaError, match=f"process {os.getpid()} "), locked(tmp_path):
        pass
    other = record | {"process_started": 1.0}  # its number belongs to another process by now
    (tmp_path / LOCK_NAME).write_text(json.dumps(other))
    with locked(tmp_path) as descriptor:
        assert descriptor is None
    elsewhere = record | {"host": "another-machine"}
    (tmp_path / LOCK_NAME).write_text(json.dumps(elsewhere))
    with pytest.raises(MelismaError, match=r"if it has ended, delete"), locked(tmp_path):
        pass


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with temporary_file(tmp_path, ".npy") as one:
        name = one.path.name
    ours = [
        name, name.removesuffix(".npy"), ".state-ab12cd_3.safetensors",
        ".weights-abcdefgh.safetensors", "sound-00000.npy.4711.part", "rows-00001.jsonl.12.part",
    ]  # fmt: skip
    others = [
        "state.safetensors", ".melisma-notes", "sound-00000.npy", "my.npy.4711.part", ".hidden",
        ".state-short.safetensors", "precious.part",
    ]  # fmt: skip
    for name in (*ours, *others):
        (tmp_path / name).write_text(name)
    (tmp_path / ".melisma-ba9876543210").symlink_to("precious.part")
    with locked(tmp_path):
        pass
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, ".melisma-ba9876543210"}


def test_a_lock_is_no_way_to_write_into_other_files(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK_NAME).symlink_to(precious)
    with pytest.raises(OSError), locked(folder):  # noqa: PT011 - of the system
        pass
    assert precious.read_text() == "precious"
