"""Corpora are read with their licences, and near-duplicates share a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_corpus import groove, line, quartet, score, song, write_corpus

from melisma.data.sources.pieces import read_score, read_sources
from melisma.data.sources.splits import assign_splits, hashed_split, spread_over_works
from melisma.values import Score
from melisma.values.errors import MelismaError


def _random_melody(seed: int) -> Score:
    """A different melody for every seed."""
    rng = np.random.default_rng(seed)
    return score(line([int(pitch) for pitch in rng.integers(48, 80, 60)], 0))


def test_sources_come_from_archives_and_from_files(tmp_path: Path) -> None:
    write_corpus(tmp_path, "songs", {"a.mid": song(), "z.mid": quartet(1)})
    write_corpus(tmp_path, "groove", {"g_1.mid": groove()}, archive=False)
    sources = read_sources(tmp_path)
    assert [source.identity for source in sources] == [
        "groove/g_1.mid",
        "songs/a.mid",
        "songs/z.mid",
    ]
    assert sources[0].bpm == 100.0
    assert sources[1].bpm is None
    assert sources[1].composer == "Nobody Known"
    assert len(read_score(sources[2]).tracks) == 4


def test_licences_and_corpora_can_be_left_out(tmp_path: Path) -> None:
    write_corpus(tmp_path, "songs", {"a.mid": song(), "z.mid": quartet(1)})
    write_corpus(tmp_path, "pop909", {"p.mid": song()})
    assert [s.identity for s in read_sources(tmp_path, licences=("CC0",))] == ["songs/a.mid"]
    assert len(read_sources(tmp_path, without=())) == 3
    with pytest.raises(MelismaError, match="licences"):
        read_sources(tmp_path, licences=("MIT",))
    with pytest.raises(MelismaError, match="holds no corpus"):
        read_sources(tmp_path, without=("songs", "pop909"))
    with pytest.raises(MelismaError, match="no folder"):
        read_sources(tmp_path / "absent")


def test_a_missing_piece_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path, "songs", {"a.mid": song()}, archive=False)
    (tmp_path / "songs" / "a.mid").unlink()
    with pytest.raises(MelismaError, match=r"lacks a\.mid"):
        read_sources(tmp_path)


def test_near_duplicates_and_works_share_a_split(tmp_path: Path) -> None:
    tunes = {f"w{i:02d}_x.mid": _random_melody(i) for i in range(40)}
    write_corpus(tmp_path, "one", tunes)
    # Transposed and with other names: only the melody is the same.
    again = {
        f"other{i:02d}_y.mid": score(
            line([int(p) + 2 for p in _random_melody(i).tracks[0].notes.pitch], 40)
        )
        for i in range(40)
    }
    write_corpus(tmp_path, "two", again)
    splits = assign_splits(read_sources(tmp_path), tmp_path / "splits.json")
    for i in range(40):
        assert splits[f"one/w{i:02d}_x.mid"] == splits[f"two/other{i:02d}_y.mid"]
    assert {"train", "held"} <= set(splits.values())
    assert assign_splits(read_sources(tmp_path), tmp_path / "splits.json") == splits


def test_every_work_has_a_row_before_any_has_two() -> None:
    groups = ["a"] * 3 + ["b", "c"] + ["b"]
    assert spread_over_works(groups, 10) == [0, 3, 4, 1, 5, 2]
    assert spread_over_works(groups, 2) == [0, 3]
    selections = [spread_over_works(groups, 10, seed) for seed in range(9)]
    assert len({tuple(rows) for rows in selections}) > 1
    for rows in selections:
        assert sorted(rows) == list(range(6))
        assert {groups[row] for row in rows[:3]} == {"a", "b", "c"}


def test_about_eight_percent_are_held() -> None:
    held = sum(hashed_split(f"piece {number}") == "held" for number in range(4_000))
    assert 240 < held < 400
