"""Atomic file writing.

A temporary file is written in the same folder and renamed in one step when it is complete, so that
neither an error, a full disk nor Ctrl-C leaves a partial file under the requested name.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_writable(path: Path) -> None:
    """Checks that a file could be written at `path`; the errors say what to do.

    Raises:
        FileNotFoundError: Its folder does not exist.
        NotADirectoryError: Its folder is a file.
        IsADirectoryError: `path` is a folder.
        PermissionError: Its folder is read-only.
    """
    folder = path.parent
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} does not exist: create it, or choose another")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, not a folder: choose another path")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file inside it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {folder} is read-only: choose another")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path and on success moves that file to `path`.

    The temporary file is in the same folder and has the same suffix; on an error it is deleted.

    Raises:
        OSError: As `check_writable`; with the code ENOSPC where the disk is full.
    """
    path = Path(path)
    check_writable(path)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:80]}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise _explained(error, path) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise _explained(error, path) from error
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` at `path` atomically; errors as `atomic_write`."""
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(data)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Writes named arrays at `path` in the `.npz` format atomically; errors as `atomic_write`."""
    save = np.savez_compressed if compressed else np.savez
    with atomic_write(Path(path)) as temporary, temporary.open("wb") as file:
        save(file, **arrays)  # type: ignore[arg-type] # its options share its keywords


def _explained(error: OSError, path: Path) -> OSError:
    """The same error with a message for the user, for the known cases."""
    if error.errno in _DISK_FULL:
        return OSError(
            errno.ENOSPC, f"the disk that holds {path.parent} is full: nothing was written"
        )
    if error.errno == errno.EROFS:
        return PermissionError(f"the folder {path.parent} is read-only: choose another")
    return error


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _umask() -> int:
    """The process's umask (it can only be read by setting it for a moment)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
