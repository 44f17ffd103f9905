"""Writing a file whole or not at all.

A temporary file grows beside the wanted one and takes its name in one step when it is complete,
so that neither an error, a full disk nor Ctrl-C leaves half a file under the asked name.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_writable(path: Path) -> None:
    """Raise the sentence a person needs when no file could be written at `path`.

    Raises `FileNotFoundError`, `NotADirectoryError`, `IsADirectoryError` or `PermissionError`.
    """
    folder = path.parent
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} does not exist: create it, or choose another")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file, not a folder: choose another place")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file inside it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {folder} is read-only: choose another")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, otherwise it is gone.

    The temporary name keeps the ending. Raises what `check_writable` does, and an `OSError` with
    the code ENOSPC and one clear sentence when the disk is full.
    """
    path = Path(path)
    check_writable(path)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:80]}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise _spoken(error, path) from error
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
        raise _spoken(error, path) from error
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` at `path`, whole or not at all; errors as `replacing`."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def _spoken(error: OSError, path: Path) -> OSError:
    """The same error with a sentence for a person, where we have one."""
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
    """The permissions a new file must not have (reading it means setting it for a moment)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
