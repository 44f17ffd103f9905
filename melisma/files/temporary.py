"""Temporary files and folders beside what they will become.

They are called `.melisma-` and twelve hexadecimal digits, and are locked as long as their process
lives. What is not locked was left behind by a process that was killed, and is removed at the next
write into that folder. The first four digits stand for the machine: the locks of another one that
shares the folder may be invisible here, so that age decides there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from melisma.files.names import destination

try:
    import fcntl
except ImportError:  # a system without POSIX locks: leftovers are never removed there
    fcntl = None

_NOT_REPLACEABLE = {errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES}
"""Errors of renaming onto a file that is a mount point of its own (as in containers), or another's
in a folder with a sticky bit: such a file is written in place."""
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_OURS = re.compile(r"\.melisma-([0-9a-f]{4})[0-9a-f]{8}(\..*)?")
_LONGEST_SUFFIX_BYTES = 32
_MACHINE = hashlib.blake2s(platform.node().encode()).hexdigest()[:4]
"""The first digits of names of this machine."""
_LEFTOVER_SECONDS = 5.0
"""Time since the last change from which an unlocked temporary file of this machine is a leftover
(chosen: far longer than from its creation to its lock)."""
_FOREIGN_SECONDS = 24 * 3600.0
"""The same for one of another machine (chosen: longer than a file takes)."""
_ACCESS_LIST = "system.posix_acl_access"
"""Extended attribute of Linux that holds the access control list of a file."""

_temporaries: dict[Path, int] = {}
"""Temporary files and folders that exist now, with the process that made them."""
_swept: set[Path] = set()
"""Folders in which leftovers have been looked for."""


class TemporaryFile:
    """A temporary file beside its target: locked, private, and with the permissions that the
    target will have."""

    def __init__(self, path: Path, handle: int, replaced: os.stat_result | None) -> None:
        """
        Args:
            path: Of the file.
            handle: Its descriptor, which keeps the lock.
            replaced: The status of the file that it will replace; None for none.
        """
        self.path = path
        self._handle = handle
        self._replaced = replaced
        mode = os.fstat(handle).st_mode if replaced is None else replaced.st_mode
        self._mode = stat.S_IMODE(mode) & 0o777
        _lock(handle)
        _set_mode(self.path, 0o600)

    def open(self) -> BinaryIO:
        """The file, open for reading and writing; the caller closes it."""
        return os.fdopen(os.dup(self._handle), "w+b")

    def commit(self, target: Path, *, replace: bool = True) -> None:
        """Moves the file to its target in one step, after it is on the disk.

        Raises:
            FileExistsError: The target exists and is not to be replaced.
            OSError: Of the system.
        """
        if self._replaced is not None:
            _keep_owner(self.path, target, self._replaced)
        _set_mode(self.path, self._mode)
        with self.path.open("rb") as stream:
            os.fsync(stream.fileno())
        if replace:
            try:
                os.replace(self.path, target)
            except OSError as error:
                if error.errno not in _NOT_REPLACEABLE:
                    raise
                shutil.copyfile(self.path, target)
            return
        try:
            os.link(self.path, target)
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "it exists already", str(target)) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if target.exists():
                raise FileExistsError(errno.EEXIST, "it exists already", str(target)) from None
            os.replace(self.path, target)  # the moment in between is accepted


@contextmanager
def temporary_file(
    folder: Path, suffix: str, replaced: Path | None = None
) -> Iterator[TemporaryFile]:
    """A temporary file, which is gone in the end unless it was moved to its target.

    Args:
        folder: Where it is made. Leftovers of killed processes in there are removed.
        suffix: Its ending, with the dot.
        replaced: The file that it may replace, whose permissions it takes over.

    Raises:
        OSError: Of the system.
    """
    _remove_leftovers_once(folder)
    status = None
    if replaced is not None:
        with suppress(FileNotFoundError):
            status = replaced.stat()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    path = _temporary_path(folder, suffix)
    handle = None
    try:
        # A new file is made with what the umask and the folder leave; setting the umask to read it
        # would change it for all threads.
        handle = os.open(path, flags, 0o666 if status is None else 0o600)
        yield TemporaryFile(path, handle, status)
    finally:
        with suppress(OSError):
            path.unlink()
        if handle is not None:
            os.close(handle)
        _forget(path)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder inside `parent`, locked like a temporary file; gone in the end."""
    _remove_leftovers_once(parent)
    path = _temporary_path(parent, "")
    handle = None
    try:
        path.mkdir(mode=0o700)
        if fcntl is not None:
            handle = os.open(path, os.O_RDONLY)
            _lock(handle)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)
        _forget(path)


def _set_mode(path: Path, mode: int) -> None:
    """Sets the permissions of a file, where its file system has any."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS):
            raise


def move_file(source: Path, path: Path) -> None:
    """Moves a finished file in one step to a path of the same file system. A file that is there is
    replaced, where a link leads to too, and its permissions are kept."""
    target = destination(path)
    with suppress(FileNotFoundError):
        _set_mode(source, stat.S_IMODE(target.stat().st_mode) & 0o777)
    os.replace(source, target)


def discard_temporaries() -> None:
    """Removes all temporary files of this process, however it was interrupted."""
    for path, process in list(_temporaries.items()):
        if process == os.getpid():
            with suppress(OSError):
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)
        _temporaries.pop(path, None)


def remove_leftovers(folder: Path, older_than_seconds: float = _LEFTOVER_SECONDS) -> None:
    """Removes temporary files that killed processes left in a folder.

    Only what has the name of a temporary file of ours, belongs to this user, is old enough and is
    locked by no process goes; nothing where the file system has no locks.

    Args:
        folder: The folder.
        older_than_seconds: Time since the last change of what was made on this machine; what was
            made on another one goes after a day.
    """
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _OURS.fullmatch(entry.name)
            if found and not entry.is_symlink():
                age = older_than_seconds if found[1] == _MACHINE else _FOREIGN_SECONDS
                with suppress(OSError):
                    _remove_leftover(Path(entry.path), age)


def _remove_leftovers_once(folder: Path) -> None:
    """Removes leftovers in a folder at this process's first write into it."""
    if folder not in _swept:
        _swept.add(folder)
        remove_leftovers(folder)


def _remove_leftover(path: Path, older_than_seconds: float) -> None:
    assert fcntl is not None
    status = path.lstat()
    is_kind = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    if not is_kind or status.st_uid != os.getuid():
        return
    if time.time() - status.st_mtime < older_than_seconds:
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(handle)


def _temporary_path(folder: Path, suffix: str) -> Path:
    ending = suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX_BYTES else ""
    path = folder / f".melisma-{_MACHINE}{secrets.token_hex(4)}{ending}"
    _temporaries[path] = os.getpid()
    return path


def _forget(path: Path) -> None:
    """Takes a path from the list, unless it could not be removed: then it is tried again later."""
    if not os.path.lexists(path):
        _temporaries.pop(path, None)


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _keep_owner(path: Path, target: Path, replaced: os.stat_result) -> None:
    """Gives a file the owner, group and access control list of the one that it replaces, as far as
    this user may."""
    if (replaced.st_uid, replaced.st_gid) != (os.getuid(), os.getgid()):
        try:
            os.chown(path, replaced.st_uid, replaced.st_gid)
        except OSError:
            with suppress(OSError):
                os.chown(path, -1, replaced.st_gid)
    with suppress(OSError, AttributeError):  # not every system and file system has them
        os.setxattr(path, _ACCESS_LIST, os.getxattr(target, _ACCESS_LIST))


def is_temporary(name: object) -> bool:
    """Whether the name of a file is that of a temporary file, or of one in a temporary folder."""
    return isinstance(name, str) and any(_OURS.fullmatch(part) for part in Path(name).parts)


def in_temporary_folder(path: Path) -> bool:
    """Whether a path lies in a temporary folder of this process."""
    return path.parent in _temporaries
