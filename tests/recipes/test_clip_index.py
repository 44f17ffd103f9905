"""The recipe `index`: from token shards to the index in a model's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melisma.files import Row, ShardWriter
from melisma.joint import JointEmbedding
from melisma.recipes.clip_index import build_index, clip_name, read_indexed_clips
from melisma.values.errors import MelismaError

FINGERPRINTS = {"semantic": "s0", "joint": "j0"}


class FakeJoint(JointEmbedding):
    """Style tokens become vectors of their own."""

    def __init__(self) -> None:
        self.table = np.random.default_rng(7).normal(size=(256, 32)).astype(np.float32)

    def dequantise(self, tokens: np.ndarray) -> np.ndarray:
        return self.table[tokens].sum(axis=1)


def write_shards(folder: Path, works: int, seed: int) -> Path:
    """Two clips of each work, of which the second repeats a second of the first."""
    rng = np.random.default_rng(seed)
    with ShardWriter(folder) as writer:
        for work in range(works):
            tokens = np.repeat(rng.integers(0, 1024, (2, 100)), 2, axis=1)
            tokens[1, 20:45] = tokens[0, 50:75]
            for clip in range(2):
                arrays = {
                    "semantic": tokens[[clip, clip]].astype(np.uint16),
                    "style": rng.integers(0, 256, (3, 2)).astype(np.uint8),
                }
                facts = {"identity": f"songs/{work}.mid", "group": f"Composer/Work {work}"}
                writer.write(Row(key=f"{seed}-{work}-{clip}", arrays=arrays, facts=facts))
    return folder


def test_a_clip_has_the_name_of_its_corpus_and_its_work() -> None:
    facts = {"identity": "mutopia/midi/a.mid", "group": "Bach/BWV 1"}
    assert clip_name("3-0000001", facts) == "mutopia/Bach/BWV 1/3-0000001"
    assert clip_name("tokens-1", {}) == "tokens-1"
    assert clip_name("1", {"group": "two\nlines"}) == "two lines/1"


def test_limits_come_from_held_out_clips(tmp_path: Path) -> None:
    joint = FakeJoint()
    train = read_indexed_clips(write_shards(tmp_path / "train", 6, 0), joint, {})
    held = read_indexed_clips(write_shards(tmp_path / "held", 5, 1), joint, {})
    index = build_index(train, held, FINGERPRINTS, 0.1)
    assert len(index) == 12
    assert index.names[3] == "songs/Composer/Work 1/0-1-1"
    assert [limit.piece_seconds for limit in index.limits] == [5.0, 8.0, 16.0, 32.0]
    assert {limit.pieces for limit in index.limits} == {10}
    assert max(limit.run_seconds for limit in index.limits) < 0.5
    index.write(tmp_path / "originality.safetensors")
    found = index.nearest(train.tokens[4], train.vectors[4])
    assert found.too_similar
    assert found.run is not None
    assert found.run.clip == index.names[4] == found.similar_clip


def test_without_any_works_are_left_out_while_limits_are_measured(tmp_path: Path) -> None:
    train = read_indexed_clips(write_shards(tmp_path, 6, 0), FakeJoint(), {})
    index = build_index(train, None, FINGERPRINTS, 0.34)
    assert len(index) == 12
    # Two clips of each of two works: four in a row would have two of one.
    assert [limit.piece_seconds for limit in index.limits] == [5.0, 8.0, 16.0]
    assert {limit.pieces for limit in index.limits} == {4}
    # A second of each work's first clip is in its second: of one work, so no limit knows it.
    assert max(limit.run_seconds for limit in index.limits) < 0.5
    with pytest.raises(MelismaError, match="two works"):
        build_index(train.part(np.arange(2)), None, FINGERPRINTS, 0.34)


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.jsonl").write_text("")
    with pytest.raises(MelismaError, match="holds no tokens"):
        read_indexed_clips(tmp_path, FakeJoint(), {})
