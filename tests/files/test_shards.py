"""Shards: rows come back by number and by WebDataset; interrupted runs resume."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from melisma.files.shards import (
    INDEX,
    NumberedShards,
    Row,
    ShardReader,
    ShardWriter,
    read_index,
    write_shard,
)
from melisma.values.errors import MelismaError


def row(number: int) -> Row:
    rng = np.random.default_rng(number)
    return Row(
        key=f"{number:06d}",
        arrays={
            "semantic": rng.integers(0, 1024, 500).astype(np.int16),
            "acoustic": rng.integers(0, 1024, (8, 500)).astype(np.int16),
        },
        facts={"title": f"Étude {number}", "licence": "CC0-1.0", "tempo_bpm": None},
    )


def fill(folder: Path, numbers: range, rows_per_shard: int = 3) -> None:
    with ShardWriter(folder, rows_per_shard=rows_per_shard) as writer:
        for number in numbers:
            writer.write(row(number))


def same(one: Row, other: Row) -> None:
    assert one.key == other.key
    assert dict(one.facts) == dict(other.facts)
    assert set(one.arrays) == set(other.arrays)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
        assert array.dtype == other.arrays[name].dtype


def test_a_shard_of_deeply_nested_facts_is_refused(tmp_path: Path) -> None:
    facts = b"[" * 200_000
    with tarfile.open(tmp_path / "tokens-000000.tar", "w") as tar:
        member = tarfile.TarInfo("0.json")
        member.size = len(facts)
        tar.addfile(member, io.BytesIO(facts))
    with pytest.raises(MelismaError, match="is damaged"):
        NumberedShards(tmp_path, "tokens")


def test_rows_come_back(tmp_path: Path) -> None:
    fill(tmp_path, range(8))
    assert sorted(p.name for p in tmp_path.glob("*.tar")) == [
        f"shard-{i:06d}.tar" for i in range(3)
    ]
    reader = ShardReader(tmp_path)
    assert len(reader) == 8
    for number, back in enumerate(reader):
        same(back, row(number))
    assert reader.facts(5)["title"] == "Étude 5"


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    fill(tmp_path, range(4))
    rows = []
    for path in sorted(tmp_path.glob("*.tar")):
        with path.open("rb") as stream:
            # Its annotation says TarFile, but it opens a stream itself.
            found = tar_file_iterator(stream)  # pyright: ignore[reportArgumentType]
            members = ({**member, "__url__": path.name} for member in found)
            rows += list(group_by_keys(members))
    assert [r["__key__"] for r in rows] == [f"{i:06d}" for i in range(4)]
    acoustic = np.load(io.BytesIO(rows[2]["acoustic.npy"]), allow_pickle=False)
    np.testing.assert_array_equal(acoustic, row(2).arrays["acoustic"])
    assert json.loads(rows[3]["json"])["title"] == "Étude 3"


def test_shards_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    fill(tmp_path / "a", range(4))
    fill(tmp_path / "b", range(4))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_an_interrupted_run_resumes_after_its_last_whole_shard(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ShardWriter(tmp_path / "cut", rows_per_shard=3) as writer:
            for number in range(5):
                writer.write(row(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    # The next line of the index was being written, and the next shard was just in place.
    with (tmp_path / "cut" / INDEX).open("a") as stream:
        stream.write('{"key": "0000')
    (tmp_path / "cut" / "shard-000001.tar").write_bytes(b"not yet indexed")

    with ShardWriter(tmp_path / "cut", rows_per_shard=3) as writer:
        assert writer.finished == {f"{i:06d}" for i in range(3)}
        for number in range(8):
            if row(number).key not in writer.finished:
                writer.write(row(number))
    fill(tmp_path / "whole", range(8))
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes()


def test_an_index_that_was_cut_anywhere_is_completed(tmp_path: Path) -> None:
    """Its shard is in place: no row of it is written again or lost."""
    fill(tmp_path / "whole", range(6))
    for prefix in ("shard", "other"):
        NumberedShards(tmp_path / "whole", prefix)  # which changes nothing
    index = (tmp_path / "whole" / INDEX).read_bytes()
    third = index.index(b"\n", index.index(b"000003")) + 1
    for cut in (*range(third - 3, third + 3), len(index) - 1):
        folder = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "whole", folder)
        (folder / INDEX).write_bytes(index[:cut])
        if cut % 2:
            fill(folder, range(0))
        else:
            NumberedShards(folder, "shard")
        assert len(read_index(folder)) in (3, 6)
        if len(read_index(folder)) == 3:  # not one line of the second shard was whole
            fill(folder, range(3, 6))
        assert (folder / INDEX).read_bytes() == index


def test_lines_of_other_separators_are_no_lines(tmp_path: Path) -> None:
    strange = {"title": "one\u2028two\x85three\x0cfour"}
    with ShardWriter(tmp_path, rows_per_shard=2) as writer:
        for number in range(2):
            writer.write(Row(key=str(number), arrays={}, facts=strange))
    index = (tmp_path / INDEX).read_bytes()
    (tmp_path / INDEX).write_bytes(index[:-9])
    assert ShardWriter(tmp_path).finished == {"0", "1"}
    assert (tmp_path / INDEX).read_bytes() == index
    assert ShardReader(tmp_path).facts(1) == strange


def test_a_key_of_two_rows_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, range(4))
    index = (tmp_path / INDEX).read_text()
    (tmp_path / INDEX).write_text(index + index)
    with pytest.raises(MelismaError, match=r'line 5 of .* has the key "000000" of line 1 again'):
        read_index(tmp_path)
    with pytest.raises(MelismaError, match="two runs have written into the folder at once"):
        ShardWriter(tmp_path)


def test_numbered_shards_are_indexed_in_order(tmp_path: Path) -> None:
    shards = NumberedShards(tmp_path, "scores")
    for number in (2, 0, 3, 1):
        write_shard(shards.path(number), [row(2 * number), row(2 * number + 1)])
        shards.add(number)
    assert [line.key for line in read_index(tmp_path)] == [f"{i:06d}" for i in range(8)]
    assert NumberedShards(tmp_path, "scores").missing(6) == [4, 5]
    shards.remove(2)
    assert [line.key for line in read_index(tmp_path)] == [f"{i:06d}" for i in range(4)]
    write_shard(shards.path(2), [row(4)])
    again = NumberedShards(tmp_path, "scores")  # after a kill before `add`
    assert again.missing(4) == []
    assert [line.key for line in read_index(tmp_path)] == [
        f"{i:06d}" for i in (0, 1, 2, 3, 4, 6, 7)
    ]


def test_rows_of_a_lost_shard_are_left_out_and_its_number_is_not_reused(tmp_path: Path) -> None:
    fill(tmp_path, range(6))
    (tmp_path / "shard-000001.tar").unlink()
    assert [line.key for line in read_index(tmp_path)] == ["000000", "000001", "000002"]
    fill(tmp_path, range(3, 6))
    assert not (tmp_path / "shard-000001.tar").exists()
    for number, back in enumerate(ShardReader(tmp_path)):
        same(back, row(number))


def test_two_writers_share_a_folder(tmp_path: Path) -> None:
    with (
        ShardWriter(tmp_path, prefix="a", rows_per_shard=2) as one,
        ShardWriter(tmp_path, prefix="b", rows_per_shard=2) as other,
    ):
        for number in range(4):
            (one if number % 2 else other).write(row(number))
    assert sorted(r.key for r in ShardReader(tmp_path)) == [f"{i:06d}" for i in range(4)]


def test_wrong_rows_are_refused(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.write(row(0))
        with pytest.raises(MelismaError, match="is taken"):
            writer.write(row(0))
        with pytest.raises(MelismaError, match="unlike"):
            writer.write(Row(key="a.b", arrays={}))
        with pytest.raises(MelismaError, match="holds objects"):
            writer.write(Row(key="a", arrays={"x": np.array([{}], dtype=object)}))
        with pytest.raises(MelismaError, match="a name like"):
            writer.write(Row(key="a", arrays={"x.y": np.zeros(1)}))
    with pytest.raises(MelismaError, match="one row or more"):
        ShardWriter(tmp_path, rows_per_shard=0)


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no index\.jsonl"):
        read_index(tmp_path)
    fill(tmp_path, range(3))
    shard = tmp_path / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(MelismaError, match="is damaged: write the shard again"):
        ShardReader(tmp_path).row(2)
    (tmp_path / INDEX).write_text(json.dumps({"key": 1}) + "\n")
    with pytest.raises(MelismaError, match="line 1 of"):
        read_index(tmp_path)
