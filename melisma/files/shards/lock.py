"""Lock of a folder that a run fills: one process at a time.

The lock is `flock` on the file `.lock` in the folder, whose text names its holder. It dies with the
process: no kill leaves a lock behind. Workers may inherit it, so that a folder is locked as long as
anybody still writes into it. Where a file system has no locks, the holder's name alone decides.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from melisma.files.atomic import explained_errors
from melisma.files.temporary import remove_leftovers
from melisma.values.errors import MelismaError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_NAME = ".lock"
_WAIT_SECONDS = 60.0
"""How long the workers of a killed process may take to end (chosen: far longer than they do, on a
machine with thirty processes for each core too)."""
_POLL_SECONDS = 0.05
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_FORMER_TEMPORARY = re.compile(
    r"\.[A-Za-z0-9_-]+-[a-z0-9_]{8}\.(safetensors|tar|npz|npy|jsonl?)"
    r"|(sound|labels|rows)-\d{5}\.(npy|npz|jsonl)\.\d+\.part"
)
"""Temporary files of versions up to 0.5."""


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Context manager in which no other process fills a folder; creates it where it is missing.

    What killed processes left in the folder, temporary files of ours, is removed first.

    Args:
        folder: The folder.

    Yields:
        File descriptor that holds the lock, which workers may inherit; None where the file system
        has no locks.

    Raises:
        MelismaError: Another process fills the folder; the message names it.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    handle, is_locked = _acquired(folder, path)
    try:
        with explained_errors(path):
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, _own_record().encode())
        remove_all_leftovers(folder)
        yield handle if is_locked else None
    finally:
        # Removed while it is still locked: who has opened it meanwhile sees that its name is gone.
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def remove_all_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed processes left in a folder that this one has locked,
    or that lies in such a folder."""
    _remove_former_temporaries(folder)
    remove_leftovers(folder, 0)


def _acquired(folder: Path, path: Path) -> tuple[int, bool]:
    """The lock file, open, and whether it is locked; `MelismaError` where another holds it."""
    give_up = time.monotonic() + _WAIT_SECONDS
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            state = _try_lock(handle)
            if state is None and not _is_alive(_record(path)):
                return handle, False
            if state and _is_at(handle, path):
                return handle, True
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if state:  # its last holder has just removed it
            continue
        record = _record(path)
        # The lock of a process that is gone is held by its workers, which are about to end.
        if _is_alive(record) or time.monotonic() > give_up:
            raise MelismaError(_refusal(folder, record, path))
        time.sleep(_POLL_SECONDS)


def _try_lock(handle: int) -> bool | None:
    """Whether the lock was taken; None where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _own_record() -> str:
    """What the lock file says about this process."""
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "process_started": psutil.Process().create_time(),
        }
    )


def _record(path: Path) -> dict[str, Any]:
    """What a lock file says; empty where it says nothing yet."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_alive(record: dict[str, Any]) -> bool:
    """Whether the process of a record lives, as far as can be known from here."""
    pid, started = record.get("pid"), record.get("process_started")
    if record.get("host") != socket.gethostname():
        return bool(record)
    if not isinstance(pid, int) or not isinstance(started, float):
        return False
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1.0
    except psutil.Error:
        return False


def _refusal(folder: Path, record: dict[str, Any], path: Path) -> str:
    holder = "another process"
    if record:
        holder = f"process {record.get('pid')} on {record.get('host')} since {record.get('since')}"
    elsewhere = record.get("host", socket.gethostname()) != socket.gethostname()
    ended = f" (if it has ended, delete {path})" if elsewhere else ""
    return (
        f"{folder} is in use by {holder}: wait until it has finished, or choose another folder"
        f"{ended}"
    )


def _remove_former_temporaries(folder: Path) -> None:
    for path in folder.iterdir():
        if _FORMER_TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()
