"""Atomic file writing.

A temporary file is written in the folder of the target and renamed in one step when it is complete,
so that neither an error, a full disk, Ctrl-C nor a kill leaves a partial file under the requested
name: there is the old file or the new one, whole. Symbolic links are followed, and a file that is
replaced keeps its permissions. What cannot be replaced (a pipe, a device, /dev/stdout) is written
into, when everything is complete.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from melisma.files.names import descriptor_of, destination, is_special, name_limit
from melisma.files.temporary import (
    in_temporary_folder,
    is_temporary,
    move_file,
    temporary_file,
    temporary_folder,
)
from melisma.values.errors import MelismaError

try:
    import fcntl
except ImportError:  # a system without POSIX descriptors
    fcntl = None

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_record: list[Path] | None = None
"""Files that were finished since `record_writes`; None while nothing is recorded."""


def check_writable(path: Path) -> None:
    """Checks that a file could be written at `path`; the errors say what to do.

    Raises:
        FileNotFoundError: Its folder does not exist.
        NotADirectoryError: Its folder is a file.
        IsADirectoryError: `path` is a folder.
        PermissionError: The file that exists is write-protected; where there is none, its folder.
        MelismaError: The name is too long or holds what a name cannot.
        OSError: The name is a symbolic link that leads to itself.
    """
    path = Path(path)
    _check_name(path)
    if is_special(path):
        _check_special(path)
        return
    target = destination(path)
    folder = target.parent
    shown = folder if path.is_symlink() else path.parent
    if not folder.exists():
        raise FileNotFoundError(f"the folder {shown} does not exist: create it, or choose another")
    if not folder.is_dir():
        raise NotADirectoryError(f"{shown} is a file, not a folder: choose another path")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file inside it")
    if not target.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {shown} is read-only: choose another")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(
            f"{path} is write-protected: make it writable (chmod u+w), or choose another name"
        )


@contextmanager
def atomic_write(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Context manager that yields a temporary path and on success moves that file to `path`.

    The temporary file is in the same folder and has the same suffix; on an error it is deleted. A
    new file gets the permissions that the umask leaves, one that is replaced keeps its own. What is
    no regular file is written into at the end.

    Args:
        path: Where the file is wanted; symbolic links are followed.
        replace: Whether a file that exists is replaced.

    Raises:
        FileExistsError: A file exists and is not to be replaced.
        OSError: As `check_writable`; with the code ENOSPC where the disk is full.
        MelismaError: As `check_writable`, or the reader of a pipe went away.
    """
    path = Path(path)
    check_writable(path)
    if is_special(path):
        folder = Path(tempfile.gettempdir())
        with temporary_file(folder, path.suffix) as one:
            with explained_errors(folder / path.name):
                yield one.path
            with explained_errors(path):
                _copy_into(one.path, path)
    else:
        target = destination(path)
        folder = workplace(target)
        with explained_errors(path), temporary_file(folder, path.suffix, target) as one:
            yield one.path
            one.commit(target, replace=replace)
    _note(path)


def workplace(target: Path) -> Path:
    """The folder for the temporary file of a target: its own, or where that is read-only, but the
    target is not, that of the system; then the target is written in place."""
    folder = target.parent
    if target.exists() and not os.access(folder, os.W_OK | os.X_OK):
        return Path(tempfile.gettempdir())
    return folder


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Context manager that yields a temporary folder and on success moves its files into `folder`.

    Each file is moved in one step; those of the same names are replaced, others stay. On an error
    nothing is moved. The folder, and the one that it is in, are made where they are missing.

    Raises:
        OSError: Of the system; with the code ENOSPC where the disk is full.
    """
    place = destination(folder)
    with ExitStack() as stack:
        with explained_errors(folder):
            place.parent.mkdir(exist_ok=True)
            temporary = stack.enter_context(temporary_folder(place.parent))
        try:
            yield temporary
        except OSError as error:
            if temporary.name not in f"{error} {error.filename}":  # of a file elsewhere
                raise
            raise _error_at(error, folder) from error
        with explained_errors(folder):
            place.mkdir(exist_ok=True)
            for path in sorted(temporary.iterdir()):
                move_file(path, place / path.name)
    _note(folder)


def write_bytes(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Writes `data` at `path` atomically; arguments and errors as `atomic_write`."""
    with atomic_write(Path(path), replace=replace) as temporary:
        temporary.write_bytes(data)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Writes named arrays at `path` in the `.npz` format atomically; errors as `atomic_write`."""
    save = np.savez_compressed if compressed else np.savez
    with atomic_write(Path(path)) as temporary, temporary.open("wb") as file:
        save(file, **arrays)  # type: ignore[arg-type] # its options share its keywords


def open_special(path: Path) -> BinaryIO:
    """A pipe, a device, a stream socket or an open file of this process, open for writing.

    Raises:
        OSError: Of the system.
    """
    number = descriptor_of(path)
    if number is None and stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            return connection.makefile("wb")
    handle = os.open(path, os.O_WRONLY) if number is None else os.dup(number)
    return os.fdopen(handle, "wb")


def record_writes() -> None:
    """Begins a list of the files that are finished from now on."""
    global _record
    _record = []


def forget_writes() -> None:
    """Ends and empties the list of `record_writes`."""
    global _record
    _record = None


def recorded_writes() -> list[Path]:
    """The files that were finished since `record_writes` was last called; none without it."""
    return list(_record or [])


def _note(path: Path) -> None:
    if _record is not None and not in_temporary_folder(path):
        _record.append(path)


def _check_name(path: Path) -> None:
    """Raises `MelismaError` for a name that no file can have."""
    if "\0" in str(path):
        raise MelismaError("a file name cannot hold a zero byte: choose another name")
    try:
        size = len(os.fsencode(path.name))
    except UnicodeEncodeError as error:
        raise MelismaError(
            f"the name {path.name!r} holds letters that file names of this system "
            f"({error.encoding}) cannot hold: choose another name"
        ) from error
    if size > (most := name_limit(path.parent)):
        raise MelismaError(
            f"the name {path.name[:40]}... has {size} bytes, file names have at most {most}: "
            "choose a shorter one"
        )


def _check_special(path: Path) -> None:
    """Raises unless one can write into what is no regular file."""
    number = descriptor_of(path)
    if number is not None:
        try:
            os.fstat(number)
        except OSError as error:
            raise OSError(f"{path} is not open: choose a file") from error
        if fcntl is not None:
            access = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
            if access == os.O_RDONLY:
                raise PermissionError(f"{path} is open for reading alone: choose a file")
        return
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path} is write-protected: choose another")


def _copy_into(source: Path, path: Path) -> None:
    """Writes the bytes of a finished file into what is no regular file."""
    with source.open("rb") as stream, open_special(path) as into:
        shutil.copyfileobj(stream, into)


@contextmanager
def explained_errors(path: Path) -> Iterator[None]:
    """Turns errors of the system into such as say what happened to `path`.

    Raises:
        MelismaError: The reader of a pipe went away.
        OSError: The error, with a message for the user or the name of the file.
    """
    try:
        yield
    except FileExistsError:
        raise
    except ConnectionRefusedError as error:
        raise MelismaError(
            f"nobody listens at the socket {path}: start its reader first"
        ) from error
    except (BrokenPipeError, ConnectionResetError) as error:
        raise MelismaError(
            f"the reader of {path} went away before everything was written"
        ) from error
    except OSError as error:
        raise _error_at(error, path) from error


def _error_at(error: OSError, path: Path) -> OSError:
    """The same error with a message for the user, for the known cases."""
    if error.errno in _DISK_FULL:
        if is_special(path):
            return OSError(errno.ENOSPC, f"{path} is full: not everything was written into it")
        return OSError(
            errno.ENOSPC, f"the disk that holds {path.parent} is full: {path.name} was not written"
        )
    if error.errno == errno.EROFS:
        return PermissionError(f"the folder {path.parent} is read-only: choose another")
    if error.errno == errno.EFBIG:
        return OSError(errno.EFBIG, f"{path} would be larger than its file system or limit allows")
    if error.errno is None and "written" in str(error):  # NumPy's words for a short write
        return OSError(
            errno.ENOSPC,
            f"{path} was not written, the disk that holds {path.parent} is probably full ({error})",
        )
    if error.errno is not None and (error.filename is None or is_temporary(error.filename)):
        return type(error)(error.errno, error.strerror, str(path))
    return error
