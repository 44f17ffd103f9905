"""Writing of shards: plain tar files that WebDataset reads, with an index for random access.

A shard is written atomically and added to the index afterwards, so an interrupted run resumes after
its last complete shard. `ShardWriter` is for one writer that fills shards one after another;
`NumberedShards` for shards whose rows are known beforehand, which several workers write in any
order and the index lists in the order of their numbers.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from melisma.files.atomic import atomic_write, explained_errors, write_bytes
from melisma.files.shards.rows import (
    INDEX,
    Facts,
    IndexLine,
    Row,
    all_index_lines,
    read_index,
)
from melisma.values.errors import MelismaError

_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_NAME = re.compile(r"[a-z0-9_]{1,30}")


class ShardWriter:
    """Writes rows into numbered shards; use it in a `with` statement.

    On an error, rows that are not yet in a complete shard are dropped; `finished` has the keys that
    are stored already, so that a resumed run skips them. One writer may fill a folder at a time
    (`lock.locked`), unless each has its own prefix.
    """

    def __init__(self, folder: Path, *, rows_per_shard: int = 512, prefix: str = "shard") -> None:
        """Opens a folder for writing and creates it where it is missing.

        Args:
            folder: Folder of the shards.
            rows_per_shard: Rows of a full shard.
            prefix: Prefix of the shards' file names: letters, digits, "_" and "-".
        """
        if rows_per_shard < 1:
            raise MelismaError(f"a shard holds one row or more, not {rows_per_shard}")
        if not _KEY.fullmatch(prefix):
            raise MelismaError(f'a prefix has letters, digits, "_" and "-", unlike "{prefix}"')
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows_per_shard = rows_per_shard
        self.prefix = prefix
        self._number = self._restored()
        indexed = (self.folder / INDEX).exists()
        self.finished: set[str] = {x.key for x in read_index(self.folder)} if indexed else set()
        """Keys of all rows in complete shards."""
        self._rows: list[Row] = []
        self._pending: set[str] = set()

    def _restored(self) -> int:
        """Completes the index where a run was interrupted in writing its lines; returns the number
        of the next shard."""
        if not (self.folder / INDEX).exists():
            return 0
        own = re.compile(rf"{re.escape(self.prefix)}-(\d+)\.tar")
        lines = all_index_lines(self.folder)
        shards = {line.shard for line in lines}
        numbers = [int(match[1]) for shard in shards if (match := own.fullmatch(shard))]
        last = self._path(max(numbers, default=-1))
        if last.is_file():
            missing = _missing_text(last, lines)
            if missing:
                _append(self.folder / INDEX, missing)
        return max(numbers, default=-1) + 1

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.prefix}-{number:06d}.tar"

    def write(self, row: Row) -> None:
        """Adds a row; a full shard is written at once.

        Raises:
            MelismaError: The key is malformed or taken, or an array's name or dtype is not allowed.
        """
        _check_row(row)
        if row.key in self.finished or row.key in self._pending:
            raise MelismaError(f'the key "{row.key}" is taken: keys are unique in a folder')
        self._rows.append(row)
        self._pending.add(row.key)
        if len(self._rows) >= self.rows_per_shard:
            self.flush()

    def flush(self) -> None:
        """Writes the pending rows as a shard and adds them to the index."""
        if not self._rows:
            return
        path = self._path(self._number)
        write_shard(path, self._rows)
        _append(self.folder / INDEX, _index_text(path))
        self._number += 1
        self.finished |= self._pending
        self._rows = []
        self._pending = set()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()


class NumberedShards:
    """Shards whose rows are known beforehand, by number; a shard may have no rows.

    Any worker writes any shard with `write_shard`, once; afterwards one process calls `add`. Index
    lines of shards that were written under other names come first and are kept.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        """Opens a folder, and repairs its index where a run was interrupted.

        Args:
            folder: Folder of the shards.
            prefix: Prefix of the shards' file names.
        """
        self.folder = folder
        self._name = re.compile(rf"{re.escape(prefix)}-(\d{{6}})\.tar")
        self._prefix = prefix
        self._next = self._restored()

    def path(self, number: int) -> Path:
        """Where shard `number` is written."""
        return self.folder / f"{self._prefix}-{number:06d}.tar"

    def missing(self, count: int) -> list[int]:
        """The numbers below `count` whose shards are not written yet."""
        return [number for number in range(count) if not self.path(number).is_file()]

    def add(self, number: int) -> None:
        """Takes note that shard `number` is written.

        The index is extended by all shards that follow it without a gap.
        """
        if number != self._next:
            return
        text = ""
        while self.path(self._next).is_file():
            text += _index_text(self.path(self._next))
            self._next += 1
        if text or not (self.folder / INDEX).exists():
            _append(self.folder / INDEX, text)

    def remove(self, number: int) -> None:
        """Removes shard `number` and those after it from the index, and the shard itself."""
        if number < self._next:
            self._rewrite(number)
        self.path(number).unlink(missing_ok=True)

    def other_keys(self) -> set[str]:
        """Keys of indexed rows in shards of other names."""
        if not (self.folder / INDEX).exists():
            return set()
        lines = read_index(self.folder)
        return {line.key for line in lines if not self._name.fullmatch(line.shard)}

    def _restored(self) -> int:
        """Makes the index list the shards in order; returns the first number that it lacks."""
        if not (self.folder / INDEX).exists():
            first = 0
        else:
            lines = all_index_lines(self.folder)
            names = list(dict.fromkeys(line.shard for line in lines))
            own = [name for name in names if self._name.fullmatch(name)]
            others = [name for name in names if not self._name.fullmatch(name)]
            first = int(own[-1][-10:-4]) + 1 if own else 0
            is_whole = names == others + sorted(own) and not self.missing(first)
            if not is_whole or (own and _missing_text(self.folder / own[-1], lines)):
                first = self._rewrite(first)
        self._next = first
        self.add(first)
        return self._next

    def _rewrite(self, stop: int) -> int:
        """Writes the index anew, of shards without a gap and below `stop`; returns the next."""
        lines = [
            json.dumps(vars(line), ensure_ascii=False) + "\n"
            for line in all_index_lines(self.folder)
            if not self._name.fullmatch(line.shard)
        ]
        number = 0
        while number < stop and self.path(number).is_file():
            lines.append(_index_text(self.path(number)))
            number += 1
        write_bytes(self.folder / INDEX, "".join(lines).encode())
        self._next = number
        return number


def write_shard(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows as a shard, atomically and reproducibly: the same rows give the same bytes.

    Raises:
        MelismaError: A key is malformed or taken, or an array's name or dtype is not allowed.
        OSError: As `atomic_write`.
    """
    keys: set[str] = set()
    for row in rows:
        _check_row(row)
        if row.key in keys:
            raise MelismaError(f'the key "{row.key}" is taken: keys are unique in a folder')
        keys.add(row.key)
    with (
        atomic_write(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for row in rows:
            for name, array in row.arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                _add(tar, f"{row.key}.{name}.npy", buffer.getvalue())
            _add(tar, f"{row.key}.json", json.dumps(dict(row.facts), ensure_ascii=False).encode())


def _check_row(row: Row) -> None:
    if not _KEY.fullmatch(row.key):
        raise MelismaError(f'a key has letters, digits, "_" and "-", unlike "{row.key}"')
    for name, array in row.arrays.items():
        if not _NAME.fullmatch(name):
            raise MelismaError(f'an array has a name like "semantic", not "{name}"')
        if array.dtype.hasobject:
            raise MelismaError(f'the array "{name}" holds objects: shards hold numbers only')


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _index_text(path: Path) -> str:
    """The lines of the index for the rows of a shard, which is read for them."""
    members: dict[str, dict[str, tuple[int, int]]] = {}
    facts: dict[str, Facts] = {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                members.setdefault(key, {})[name] = (member.offset_data, member.size)
                if name == "json":
                    content = tar.extractfile(member)
                    facts[key] = json.loads(b"" if content is None else content.read())
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise MelismaError(f"{path} is damaged: delete it, and write the shards again") from error
    return "".join(
        json.dumps(
            {"key": key, "shard": path.name, "members": members[key], "facts": facts.get(key, {})},
            ensure_ascii=False,
        )
        + "\n"
        for key in members
    )


def _missing_text(path: Path, lines: Sequence[IndexLine]) -> str:
    """The lines of a shard that the index lacks, because writing them was interrupted."""
    present = sum(line.shard == path.name for line in lines)
    return "".join(f"{text}\n" for text in _index_text(path).split("\n")[present:-1])


def _append(path: Path, text: str) -> None:
    """Appends in one write, after removing a last line that an interrupted run truncated."""
    with explained_errors(path), path.open("ab+") as stream:
        end = stream.seek(0, os.SEEK_END)
        if end:
            stream.seek(end - 1)
            if stream.read(1) != b"\n":
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())
