"""Files that are written whole or not at all, and what is no regular file."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from melisma.files import temporary
from melisma.files.atomic import (
    atomic_folder,
    atomic_write,
    check_writable,
    record_writes,
    recorded_writes,
    write_arrays,
    write_bytes,
)
from melisma.values.errors import MelismaError

OLD, NEW = b"old" * 5, b"new content" * 1000
CALLS = ("open", "fsync", "replace", "link", "chmod", "mkdir", "unlink")
"""Calls of the system at which a write is interrupted."""

Work = Callable[[Path], None]


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_read_back(tmp_path: Path, compressed: bool) -> None:
    arrays = {"onset": np.arange(5, dtype=np.int16), "pitch": np.ones((2, 3), np.float16)}
    write_arrays(tmp_path / "notes.npz", arrays, compressed=compressed)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.npz"]
    with np.load(tmp_path / "notes.npz", allow_pickle=False) as stored:
        assert stored.files == ["onset", "pitch"]
        for name, array in arrays.items():
            assert stored[name].dtype == array.dtype
            assert np.array_equal(stored[name], array)


def test_a_failed_write_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.npz"
    write_arrays(path, {"pitch": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_arrays(path, {"file": np.arange(3)})  # a name that NumPy's writer keeps for itself
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["notes.npz"]


def replaced(folder: Path) -> None:
    write_bytes(folder / "old.bin", NEW)


def fresh(folder: Path) -> None:
    write_bytes(folder / "new.bin", NEW)


def kept(folder: Path) -> None:
    write_bytes(folder / "new.bin", NEW, replace=False)


def linked(folder: Path) -> None:
    write_bytes(folder / "link.bin", NEW)


def filled(folder: Path) -> None:
    with atomic_folder(folder / "parts") as parts:
        write_bytes(parts / "1.bin", NEW)
        write_bytes(parts / "2.bin", NEW)


WORKS = [replaced, fresh, kept, linked, filled]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepared(tmp_path / "folder")


def prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "old.bin").write_bytes(OLD)
    (folder / "target.bin").write_bytes(OLD)
    (folder / "link.bin").symlink_to("target.bin")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All regular files; none of them may be partial, whatever happened."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    whole = {name: data for name, data in found.items() if ".melisma-" not in name}
    assert set(whole.values()) <= {OLD, NEW}
    assert (folder / "link.bin").is_symlink()
    return found


@contextmanager
def acting_at(number: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Acts at a call of the system, counted from 0; yields the list of calls."""
    calls: list[str] = []
    patch = pytest.MonkeyPatch()

    def wrapped(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **keywords: object) -> object:
            calls.append(name)
            if len(calls) == number + 1:
                act()
            return call(*arguments, **keywords)

        return counted

    for name in CALLS:
        patch.setattr(os, name, wrapped(name, getattr(os, name)))
    try:
        yield calls
    finally:
        patch.undo()


def aged(path: Path, seconds: float) -> None:
    changed = time.time() - seconds
    os.utime(path, (changed, changed))


def calls_of(work: Work, folder: Path) -> int:
    with acting_at(-2, lambda: None) as calls:
        work(folder)
    return len(calls)


@pytest.mark.parametrize("work", WORKS)
def test_a_kill_leaves_the_old_file_or_the_new_one_and_the_next_write_clears_up(
    work: Work, tmp_path: Path
) -> None:
    count = calls_of(work, prepared(tmp_path / "whole"))
    assert count >= 4
    for number in range(count):
        folder = prepared(tmp_path / str(number))
        process = os.fork()
        if process == 0:
            with acting_at(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                work(folder)
            os._exit(0)
        assert os.waitpid(process, 0)[1] == signal.SIGKILL
        contents(folder)
        for path in folder.rglob(".melisma-*"):
            aged(path, 60.0)
        if work is kept:
            (folder / "new.bin").unlink(missing_ok=True)
        work(folder)
        assert not [name for name in contents(folder) if ".melisma-" in name]


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left"), OSError(5, "I/O error")]
)
def test_an_interruption_or_an_error_leaves_nothing_behind(
    work: Work, error: BaseException, tmp_path: Path
) -> None:
    for number in range(calls_of(work, prepared(tmp_path / "whole"))):
        folder = prepared(tmp_path / str(number))

        def fail() -> None:
            raise error

        failed: BaseException | None = None
        with acting_at(number, fail) as calls:
            try:
                work(folder)
            except BaseException as raised:
                failed = raised
        temporary.discard_temporaries()  # as the program does after an interruption
        assert not [name for name in contents(folder) if ".melisma-" in name], calls[number]
        if isinstance(failed, OSError) and failed.errno == errno.ENOSPC:
            assert "is full" in str(failed), calls[number]
        elif failed is not None:
            assert isinstance(failed, type(error)), calls[number]


@pytest.mark.parametrize("limit", [0, 1, 100, 4096, len(NEW) - 1])
def test_a_write_that_the_system_cuts_is_an_error(folder: Path, limit: int) -> None:
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = contents(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
    try:
        for work in WORKS:
            with pytest.raises(OSError, match="larger than its file system or limit allows"):
                work(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert contents(folder) == before


def test_a_full_disk_is_named_with_what_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"folder is full: old\.bin was not written") as caught:
        replaced(folder)
    assert caught.value.errno == errno.ENOSPC


def test_finished_files_are_recorded(folder: Path) -> None:
    record_writes()
    replaced(folder)
    filled(folder)
    with pytest.raises(FileNotFoundError):
        write_bytes(folder / "none" / "x", NEW)
    assert recorded_writes() == [folder / "old.bin", folder / "parts"]


def test_a_file_that_exists_can_be_kept(folder: Path) -> None:
    with pytest.raises(FileExistsError) as caught:
        write_bytes(folder / "old.bin", NEW, replace=False)
    assert caught.value.filename == str(folder / "old.bin")
    assert set(contents(folder).values()) == {OLD}


def test_links_lead_where_opening_them_would(tmp_path: Path) -> None:
    """Random chains of links, absolute and relative, through folders, dangling and circular."""
    rng = random.Random(5)
    for number in range(60):
        base = tmp_path / str(number)
        (base / "a" / "b").mkdir(parents=True)
        places = [base, base / "a", base / "a" / "b"]
        (base / "door").symlink_to(rng.choice(places[1:]), target_is_directory=True)
        target = rng.choice(places) / "target"
        if rng.random() < 0.5:
            target.write_bytes(OLD)
        for link in range(4):
            name = rng.choice([*places, base / "door"]) / f"link{link}"
            there = os.path.relpath(target, name.parent.resolve())
            name.symlink_to(there if rng.random() < 0.7 else target)
            target = name
        write_bytes(target, NEW)
        expected = Path(os.path.realpath(target))
        assert expected.read_bytes() == target.read_bytes() == NEW
        assert target.is_symlink()
        assert not expected.is_symlink()
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    with pytest.raises(OSError, match="leads back to itself"):
        write_bytes(tmp_path / "x", NEW)


def test_permissions_are_those_of_an_ordinary_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(_: int) -> int:
        raise AssertionError("the umask belongs to the caller")

    former = os.umask(0o022)
    try:
        for mask in (0o000, 0o002, 0o022, 0o027, 0o077):
            os.umask(mask)
            plain, ours = tmp_path / f"plain{mask}", tmp_path / f"ours{mask}"
            plain.write_bytes(NEW)
            with monkeypatch.context() as patch:
                patch.setattr(os, "umask", touched)
                write_bytes(ours, NEW)
                for mode in (0o600, 0o644, 0o660, 0o755, 0o666):
                    replaced = tmp_path / f"replaced{mode}"
                    replaced.write_bytes(OLD)
                    replaced.chmod(mode)
                    write_bytes(replaced, NEW)
                    assert stat.S_IMODE(replaced.stat().st_mode) == mode
            assert ours.stat().st_mode == plain.stat().st_mode
    finally:
        os.umask(former)


def test_what_grows_is_private(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x.bin") as growing:
        assert stat.S_IMODE(growing.stat().st_mode) == 0o600


def read_by(path: Path, read: Callable[[], bytes], work: Callable[[], None]) -> bytes:
    """What a reader in another thread gets while something is written."""
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read()), daemon=True)
    thread.start()
    work()
    thread.join(10)
    assert got, f"the reader of {path} waits"
    return got[0]


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_into(tmp_path: Path, linked: bool) -> None:
    pipe = path = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link.wav"
        path.symlink_to(pipe.name)
    data = os.urandom(300_000)
    assert read_by(path, pipe.read_bytes, lambda: write_bytes(path, data)) == data
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_reader_of_a_pipe_may_go_away(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    read_end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    timer = threading.Timer(0.2, lambda: os.close(read_end))
    timer.start()
    with pytest.raises(MelismaError, match="went away before everything was written"):
        write_bytes(pipe, bytes(1_000_000))


def test_a_socket_is_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = Path("sound.wav")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        with pytest.raises(MelismaError, match="nobody listens at the socket"):
            write_bytes(path, NEW)
        server.listen()

        def received() -> bytes:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as stream:
                return stream.read()

        assert read_by(path, received, lambda: write_bytes(path, NEW)) == NEW
    assert stat.S_ISSOCK(path.stat().st_mode)


def test_devices_and_open_files_are_written_into(tmp_path: Path) -> None:
    write_bytes(Path("/dev/null"), NEW)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with (tmp_path / "open.bin").open("w+b") as file:
        file.write(OLD)
        file.flush()
        number = file.fileno()
        for name in (f"/dev/fd/{number}", f"/proc/self/fd/{number}"):
            write_bytes(Path(name), NEW)
    assert (tmp_path / "open.bin").read_bytes() == OLD + NEW + NEW
    assert len(list(tmp_path.iterdir())) == 1
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match="/dev/full is full"):
            write_bytes(Path("/dev/full"), NEW)
    with pytest.raises(OSError, match="is not open"):
        check_writable(Path("/dev/fd/987"))
    with open(os.devnull, "rb") as reading, pytest.raises(PermissionError, match="for reading"):
        check_writable(Path(f"/dev/fd/{reading.fileno()}"))


def test_names_that_no_file_can_have_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match="zero byte"):
        check_writable(tmp_path / "a\0b")
    with pytest.raises(MelismaError, match="has 303 bytes, file names have at most 255"):
        check_writable(tmp_path / ("𠀀" * 75 + "abc"))
    check_writable(tmp_path / ("𠀀" * 63))


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    def made(name: str, age_seconds: float, is_folder: bool = False) -> Path:
        path = tmp_path / name
        if is_folder:
            path.mkdir()
            (path / "1.wav").write_bytes(OLD)
        else:
            path.write_bytes(OLD)
        aged(path, age_seconds)
        return path

    here = temporary._MACHINE
    there = "0000" if here != "0000" else "ffff"
    stay = [
        made(f".melisma-{here}00000000.wav", 0.0),  # perhaps not locked yet
        made(f".melisma-{there}00000001.wav", 3600.0),
        made(f".melisma-{here}0000.wav", 1e6),
        made(f"melisma-{here}00000000.wav", 1e6),
        made("song.wav", 1e6),
    ]
    go = [
        made(f".melisma-{here}00000002.wav", 60.0),
        made(f".melisma-{here}00000003", 60.0, is_folder=True),
        made(f".melisma-{there}00000004.wav", 1e6),
    ]
    link = tmp_path / f".melisma-{here}00000005.wav"
    link.symlink_to("song.wav")
    with atomic_write(tmp_path / "x.bin") as growing:  # locked, however old it is
        os.utime(growing, (0, 0))
        temporary.remove_leftovers(tmp_path)
        assert growing.exists()
        growing.write_bytes(NEW)
    assert (tmp_path / "x.bin").read_bytes() == NEW
    assert all(path.exists() for path in [*stay, link])
    assert not any(path.exists() for path in go)


def test_a_file_in_a_read_only_folder_is_written_in_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def access(path: Path, _: int) -> bool:
        return Path(path) != folder.resolve()

    def replace(source: Path, target: Path) -> None:
        if Path(target).parent == folder.resolve():
            raise PermissionError(errno.EACCES, "Permission denied", str(source), None, str(target))
        real(source, target)

    monkeypatch.setattr(os, "access", access)  # root may write anywhere
    monkeypatch.setattr(os, "replace", replace)
    number = (folder / "old.bin").stat().st_ino
    replaced(folder)
    assert (folder / "old.bin").read_bytes() == NEW
    assert (folder / "old.bin").stat().st_ino == number
    with pytest.raises(PermissionError, match="is read-only: choose another"):
        fresh(folder)
