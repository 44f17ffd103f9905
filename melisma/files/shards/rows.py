"""Rows of shards: the index, and random access to the arrays of a row.

A row has a key, named integer or float arrays, and facts (JSON). It becomes the members
`KEY.NAME.npy` and `KEY.json` of a shard. `index.jsonl` beside the shards has one line per row: key,
shard, byte offset and size of every member, and the facts.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from melisma.files.shards.arrays import ARRAY_ERRORS
from melisma.values.errors import MelismaError

INDEX = "index.jsonl"
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}\.tar")

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
        MelismaError: The index is damaged, or has two rows of one key.
    """
    lines = all_index_lines(Path(folder))
    present = {shard for shard in {x.shard for x in lines} if (Path(folder) / shard).is_file()}
    numbers: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.shard not in present:
            continue
        if line.key in numbers:
            raise MelismaError(
                f'line {number} of {Path(folder) / INDEX} has the key "{line.key}" of line '
                f"{numbers[line.key]} again: two runs have written into the folder at once; delete "
                "the folder, and write it again"
            )
        numbers[line.key] = number
    return [line for line in lines if line.shard in present]


def all_index_lines(folder: Path) -> list[IndexLine]:
    """Every complete line of the index, including those of missing shards.

    Raises:
        FileNotFoundError: The folder has no index.
        MelismaError: The index is damaged.
    """
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"there is no {INDEX} in {folder}: write shards there first")
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    lines: list[IndexLine] = []
    for number, text in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            line = _parsed(json.loads(text.decode("utf-8")))
        # Digits beyond the limit of `int` are a plain ValueError, deep nesting a RecursionError.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MelismaError(
                f"line {number} of {path} is damaged: delete it or {path}"
            ) from error
        lines.append(line)
    return lines


def _parsed(row: Any) -> IndexLine:
    """One line of the index; raises ValueError, KeyError, TypeError or AttributeError."""
    members = {name: (at, size) for name, (at, size) in row["members"].items()}
    line = IndexLine(key=row["key"], shard=row["shard"], members=members, facts=row["facts"])
    if not (isinstance(line.key, str) and isinstance(line.facts, dict)):
        raise ValueError("a key is a text, and facts are an object")
    if not (isinstance(line.shard, str) and _FILE_NAME.fullmatch(line.shard)):
        raise ValueError("a shard is a tar file in the folder itself")
    for place in members.values():
        if not all(type(number) is int and 0 <= number < 2**63 for number in place):
            raise ValueError("a place is two whole numbers")
    return line


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
        """A row with its arrays.

        Raises:
            MelismaError: The shard is damaged.
        """
        line = self.index[number]
        path = self.folder / line.shard
        arrays = {}
        with path.open("rb") as stream:
            length = stream.seek(0, io.SEEK_END)
            for name, (at, size) in line.members.items():
                if not name.endswith(".npy"):
                    continue
                try:
                    if at + size > length:
                        raise ValueError("the shard is shorter than the index says")
                    stream.seek(at)
                    array = np.load(io.BytesIO(stream.read(size)), allow_pickle=False)
                except ARRAY_ERRORS as error:
                    raise MelismaError(
                        f'the row "{line.key}" of {path} is damaged: write the shard again'
                    ) from error
                arrays[name.removesuffix(".npy")] = array
        return Row(key=line.key, arrays=arrays, facts=line.facts)

    def __iter__(self) -> Iterator[Row]:
        return (self.row(number) for number in range(len(self)))
