"""Archives of corpora: tar files compressed by Zstandard, read with limits.

An archive may be damaged, or made to fill the memory: a member, and what tar stores about it, has a
limit of size that is asked before it is read.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from melisma.values.errors import MelismaError

_MAX_HEADER_BYTES = 1 << 20
"""Most bytes of headers of a member (chosen: names are at most some kilobytes long)."""
_MAX_TOTAL_BYTES = 1_000_000_000
"""Most bytes of the members that are read (chosen: thirty times those of 10,000 pieces)."""
_FOREIGN_ERRORS = (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError)
"""What tarfile raises for damaged archives, by kind of damage."""


def read_archive(path: Path, names: Collection[str], max_bytes: int) -> dict[str, bytes]:
    """Reads some members of an archive into memory.

    Args:
        path: A `.tar.zst` file.
        names: Names of the members; others are skipped, and those that are missing are left out.
        max_bytes: Largest size of a member.

    Returns:
        Name -> contents.

    Raises:
        MelismaError: The archive is damaged, or one of the members is too large or no file.
        OSError: It cannot be read.
    """
    import zstandard  # part of the extra "train"; composing imports this module too

    try:
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as stream,
        ):
            return _read_members(_LimitedReader(stream, path), names, max_bytes)
    except MelismaError:
        raise
    except (zstandard.ZstdError, *_FOREIGN_ERRORS) as error:
        raise MelismaError(
            f"{path} is damaged or cut short ({error}): fetch the corpus again"
        ) from error


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""
        ...


class _LimitedReader:
    """A stream that may be read up to a limit, which grows from member to member."""

    def __init__(self, stream: _Readable, path: Path) -> None:
        self._stream, self.path = stream, path
        self._position = 0
        self._limit = _MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        data = self._stream.read(size)
        self._position += len(data)
        if self._position > self._limit:
            raise MelismaError(
                f"{self.path} is damaged: a member has a header of over {_MAX_HEADER_BYTES:,} bytes"
            )
        return data

    def allow(self, size: int) -> None:
        """Allows to read a member of a size, and the header of the next one."""
        self._limit = self._position + size + _MAX_HEADER_BYTES


def _read_members(
    stream: _LimitedReader, names: Collection[str], max_bytes: int
) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    total = 0
    with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[arg-type]
        for member in archive:
            stream.allow(member.size)
            name = member.name.removeprefix("./")
            if name not in names:
                continue
            if not member.isreg():
                raise MelismaError(
                    f"{name} in {stream.path} is a link or no file: pack the file itself"
                )
            if member.size > max_bytes:
                raise MelismaError(
                    f"{name} in {stream.path} has {member.size / 1e6:,.0f} MB, at most "
                    f"{max_bytes / 1e6:.0f} are read"
                )
            content = archive.extractfile(member)
            assert content is not None
            files[name] = content.read()
            if len(files[name]) != member.size:
                raise MelismaError(f"{stream.path} is cut short in {name}: fetch the corpus again")
            total += member.size
            if total > _MAX_TOTAL_BYTES:
                raise MelismaError(
                    f"{stream.path} holds over {_MAX_TOTAL_BYTES / 1e6:,.0f} MB of pieces: split "
                    "the corpus"
                )
    return files
