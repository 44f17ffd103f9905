"""Token shards: plain tar files that WebDataset reads, with an index for random access.

A row has a key, named integer or float arrays, and facts (JSON). It becomes the members
`KEY.NAME.npy` and `KEY.json` of a shard. `index.jsonl` beside the shards has a line for each row:
key, shard, the place of every member in bytes, and the facts. A shard is written whole or not at
all and only then enters the index, so an interrupted run resumes after its last whole shard.
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

from melisma.files.atomic import replacing

INDEX = "index.jsonl"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_NAME = re.compile(r"[a-z0-9_]{1,30}")

Facts = Mapping[str, object]
"""A JSON object: the truth about a row, its source and licence."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a shard."""

    key: str
    """Unique in the folder: letters, digits, `_` and `-` (WebDataset splits names at dots)."""
    arrays: Mapping[str, np.ndarray]
    """By name, any shape; numbers only, never objects."""
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class IndexLine:
    """Where a row lies."""

    key: str
    shard: str
    """File name of the shard."""
    members: Mapping[str, tuple[int, int]]
    """First byte and length of each member, by its name after the key, e.g. `tokens.npy`."""
    facts: Facts


def read_index(folder: Path) -> list[IndexLine]:
    """The rows of a folder of shards, in their order of writing.

    A last line that was cut short is left out, as are rows whose shard is gone. Raises
    `FileNotFoundError` for a folder without an index, `ValueError` for a damaged one.
    """
    lines = _all_lines(Path(folder))
    present = {shard for shard in {x.shard for x in lines} if (Path(folder) / shard).exists()}
    return [line for line in lines if line.shard in present]


def _all_lines(folder: Path) -> list[IndexLine]:
    """Every whole line of the index, also those of shards that are gone."""
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
            raise ValueError(f"line {number} of {path} is damaged: delete it or {path}") from error
        lines.append(line)
    return lines


class ShardWriter:
    """Writes rows into numbered shards; use it in a `with` statement.

    Several writers may fill one folder at once when each has a prefix of its own. Rows that were
    not yet in a whole shard when an error struck are dropped; `finished` tells which keys are
    there already, so that a resumed run skips them.
    """

    def __init__(self, folder: Path, *, rows_per_shard: int = 512, prefix: str = "shard") -> None:
        if rows_per_shard < 1:
            raise ValueError(f"a shard holds one row or more, not {rows_per_shard}")
        if not _KEY.fullmatch(prefix):
            raise ValueError(f'a prefix has letters, digits, "_" and "-", unlike "{prefix}"')
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows_per_shard = rows_per_shard
        self.prefix = prefix
        indexed = (self.folder / INDEX).exists()
        self.finished: set[str] = {x.key for x in read_index(self.folder)} if indexed else set()
        """Keys of all rows in whole shards."""
        own = re.compile(rf"{re.escape(prefix)}-(\d+)\.tar")
        shards = {line.shard for line in _all_lines(self.folder)} if indexed else set()
        numbers = [int(match[1]) for shard in shards if (match := own.fullmatch(shard))]
        self._number = max(numbers, default=-1) + 1
        self._rows: list[Row] = []
        self._waiting: set[str] = set()

    def write(self, row: Row) -> None:
        """Add a row; a full shard goes to disk at once."""
        if not _KEY.fullmatch(row.key):
            raise ValueError(f'a key has letters, digits, "_" and "-", unlike "{row.key}"')
        if row.key in self.finished or row.key in self._waiting:
            raise ValueError(f'the key "{row.key}" is taken: keys are unique in a folder')
        for name, array in row.arrays.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f'an array has a name like "semantic", not "{name}"')
            if array.dtype.hasobject:
                raise ValueError(f'the array "{name}" holds objects: shards hold numbers only')
        self._rows.append(row)
        self._waiting.add(row.key)
        if len(self._rows) >= self.rows_per_shard:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows as a shard and enter them into the index."""
        if not self._rows:
            return
        shard = f"{self.prefix}-{self._number:06d}.tar"
        with replacing(self.folder / shard) as temporary:
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
        self.finished |= self._waiting
        self._rows = []
        self._waiting = set()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()


class ShardReader:
    """Rows of a folder of shards by number, read straight from their place in the tar file."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.index = read_index(self.folder)

    def __len__(self) -> int:
        return len(self.index)

    def facts(self, number: int) -> Facts:
        """The facts of a row, without opening its shard."""
        return self.index[number].facts

    def row(self, number: int) -> Row:
        """A whole row; `ValueError` where the shard is damaged."""
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
                    raise ValueError(
                        f'the row "{line.key}" of {path} is damaged: write the shard again'
                    ) from error
                arrays[name.removesuffix(".npy")] = array
        return Row(key=line.key, arrays=arrays, facts=line.facts)

    def __iter__(self) -> Iterator[Row]:
        return (self.row(number) for number in range(len(self)))


def _write_tar(path: Path, rows: list[Row]) -> None:
    """A tar file with the same bytes for the same rows, whoever writes it and when."""
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
    """Places of the members of a shard by key and by the name after it."""
    places: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, name = member.name.partition(".")
            places.setdefault(key, {})[name] = (member.offset_data, member.size)
    return places


def _append(path: Path, text: str) -> None:
    """Append in one write, after mending a last line that an interrupted run cut short."""
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
