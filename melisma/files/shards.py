"""Token shards: plain tar files that WebDataset reads, with an index for random access.

A row has a key, named integer or float arrays, and facts (JSON). It becomes the members
`KEY.NAME.npy` and `KEY.json` of a shard. `index.jsonl` beside the shards has one line per row: key,
shard, byte offset and size of every member, and the facts. A shard is written atomically and added
to the index afterwards, so an interrupted run resumes after its last complete shard.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from melisma.files.atomic import atomic_write
from melisma.values.errors import MelismaError

INDEX = "index.jsonl"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_NAME = re.compile(r"[a-z0-9_]{1,30}")

Facts = Mapping[str, object]
"""A JSON object: ground truth, source and licence of a row."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a shard."""

    key: str
    """Unique in the folder: letters, digits, `_` and `-` (WebDataset splits names at dots)."""
    arrays: Mapping[str, np.ndarray]
    """By name, any shape; numeric dtypes only."""
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class IndexLine:
    """Location of a row, and its facts."""

    key: str
    shard: str
    """File name of the shard."""
    members: Mapping[str, tuple[int, int]]
    """Byte offset and size of each member, by its name after the key, e.g. `tokens.npy`."""
    facts: Facts


def read_index(folder: Path) -> list[IndexLine]:
    """Reads the index of a folder of shards, in writing order.

    A truncated last line is skipped, as are rows whose shard is missing.

    Raises:
        FileNotFoundError: The folder has no index.
        MelismaError: The index is damaged.
    """
    lines = _all_lines(Path(folder))
    present = {shard for shard in {x.shard for x in lines} if (Path(folder) / shard).exists()}
    return [line for line in lines if line.shard in present]


def _all_lines(folder: Path) -> list[IndexLine]:
    """Every complete line of the index, including those of missing shards."""
    path = folder / INDEX
    if not path.exists():
        raise FileNotFoundError(f"there is no {INDEX} in {folder}: write shards there first")
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    lines = []
    for number, text in enumerate(whole.split("\n") if whole else [], start=1):
        try:
            row = json.loads(text)
            line = IndexLine(
                key=row["key"],
                shard=row["shard"],
                members={name: (int(at), int(size)) for name, (at, size) in row["members"].items()},
                facts=row["facts"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MelismaError(
                f"line {number} of {path} is damaged: delete it or {path}"
            ) from error
        lines.append(line)
    return lines


class ShardWriter:
    """Writes rows into numbered shards; use it in a `with` statement.

    Several writers may fill one folder concurrently if each has its own prefix. On an error, rows
    that are not yet in a complete shard are dropped; `finished` has the keys that are stored
    already, so that a resumed run skips them.
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
        indexed = (self.folder / INDEX).exists()
        self.finished: set[str] = {x.key for x in read_index(self.folder)} if indexed else set()
        """Keys of all rows in complete shards."""
        own = re.compile(rf"{re.escape(prefix)}-(\d+)\.tar")
        shards = {line.shard for line in _all_lines(self.folder)} if indexed else set()
        numbers = [int(match[1]) for shard in shards if (match := own.fullmatch(shard))]
        self._number = max(numbers, default=-1) + 1
        self._rows: list[Row] = []
        self._pending: set[str] = set()

    def write(self, row: Row) -> None:
        """Adds a row; a full shard is written at once.

        Raises:
            MelismaError: The key is malformed or taken, or an array's name or dtype is not allowed.
        """
        if not _KEY.fullmatch(row.key):
            raise MelismaError(f'a key has letters, digits, "_" and "-", unlike "{row.key}"')
        if row.key in self.finished or row.key in self._pending:
            raise MelismaError(f'the key "{row.key}" is taken: keys are unique in a folder')
        for name, array in row.arrays.items():
            if not _NAME.fullmatch(name):
                raise MelismaError(f'an array has a name like "semantic", not "{name}"')
            if array.dtype.hasobject:
                raise MelismaError(f'the array "{name}" holds objects: shards hold numbers only')
        self._rows.append(row)
        self._pending.add(row.key)
        if len(self._rows) >= self.rows_per_shard:
            self.flush()

    def flush(self) -> None:
        """Writes the pending rows as a shard and adds them to the index."""
        if not self._rows:
            return
        shard = f"{self.prefix}-{self._number:06d}.tar"
        with atomic_write(self.folder / shard) as temporary:
            _write_tar(temporary, self._rows)
            members = _members(temporary)
        lines = [
            json.dumps(
                {
                    "key": row.key,
                    "shard": shard,
                    "members": members[row.key],
                    "facts": dict(row.facts),
                },
                ensure_ascii=False,
            )
            + "\n"
            for row in self._rows
        ]
        _append(self.folder / INDEX, "".join(lines))
        self._number += 1
        self.finished |= self._pending
        self._rows = []
        self._pending = set()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()


class ShardReader:
    """Random access to the rows of a folder of shards, read at their offsets in the tar files."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.index = read_index(self.folder)

    def __len__(self) -> int:
        return len(self.index)

    def facts(self, number: int) -> Facts:
        """Facts of a row, without opening its shard."""
        return self.index[number].facts

    def row(self, number: int) -> Row:
        """A row with its arrays; `MelismaError` where the shard is damaged."""
        line = self.index[number]
        arrays = {}
        path = self.folder / line.shard
        with path.open("rb") as stream:
            for name, (at, size) in line.members.items():
                if not name.endswith(".npy"):
                    continue
                stream.seek(at)
                try:
                    array = np.load(io.BytesIO(stream.read(size)), allow_pickle=False)
                except (ValueError, EOFError, OSError) as error:
                    raise MelismaError(
                        f'the row "{line.key}" of {path} is damaged: write the shard again'
                    ) from error
                arrays[name.removesuffix(".npy")] = array
        return Row(key=line.key, arrays=arrays, facts=line.facts)

    def __iter__(self) -> Iterator[Row]:
        return (self.row(number) for number in range(len(self)))


def _write_tar(path: Path, rows: list[Row]) -> None:
    """Writes a reproducible tar file: the same rows give the same bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            for name, array in row.arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                _add(tar, f"{row.key}.{name}.npy", buffer.getvalue())
            _add(tar, f"{row.key}.json", json.dumps(dict(row.facts), ensure_ascii=False).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _members(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Byte offset and size of the members of a shard, by key and by the name after it."""
    spans: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, name = member.name.partition(".")
            spans.setdefault(key, {})[name] = (member.offset_data, member.size)
    return spans


def _append(path: Path, text: str) -> None:
    """Appends in one write, after removing a last line that an interrupted run truncated."""
    with path.open("ab+") as stream:
        end = stream.seek(0, os.SEEK_END)
        if end:
            stream.seek(end - 1)
            if stream.read(1) != b"\n":
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())
