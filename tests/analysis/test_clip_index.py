"""The index of clips: planted copies are found where they are, chance and monotony are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melisma.analysis.similarity import clip_index
from melisma.analysis.similarity.clip_index import HELD_FRAMES, ClipIndex, Limit, Resemblance
from melisma.analysis.similarity.clip_limits import measure_limits
from melisma.analysis.similarity.compression import compress
from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.values.errors import MelismaError

CLIPS, FRAMES, WIDTH = 12, 200, 32
FINGERPRINTS = {"semantic": "s0", "joint": "j0"}
WINDOWS = {"window_seconds": 10.0, "hop_seconds": 5.0}
LIMIT = Limit(piece_seconds=20.0, run_seconds=0.6, agreement=0.3, similarity=0.9, pieces=50)


def melody(rng: np.random.Generator, clips: int = CLIPS, frames: int = FRAMES) -> np.ndarray:
    """Tokens that are held for one to six frames, uint16 [clip, frame]."""
    rows = [np.repeat(rng.integers(0, 1024, 400), rng.integers(1, 7, 400)) for _ in range(clips)]
    return np.stack([row[:frames] for row in rows]).astype(np.uint16)


def directions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=(*shape, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def small_index(seed: int = 0) -> ClipIndex:
    rng = np.random.default_rng(seed)
    names = [f"corpus/work {clip}/{clip}" for clip in range(CLIPS)]
    return ClipIndex(names, melody(rng), directions(rng, CLIPS, 3), FINGERPRINTS, [LIMIT])


def longest_by_trying(tokens: np.ndarray, clips: np.ndarray) -> int:
    """Frames of the longest equal run of five different tokens or more, at any alignment."""
    best = 0
    for clip in clips:
        for offset in range(-len(tokens) + 1, len(clip)):
            first, last = max(0, -offset), min(len(tokens), len(clip) - offset)
            same = tokens[first:last] == clip[first + offset : last + offset]
            edges = np.flatnonzero(np.diff(np.concatenate([[0], same, [0]])))
            for begin, end in edges.reshape(-1, 2):
                if len(np.unique(tokens[first + begin : first + end])) >= 5:
                    best = max(best, int(end - begin))
    return best


def test_a_planted_copy_is_found_at_its_place() -> None:
    index = small_index()
    piece = melody(np.random.default_rng(9), 1, 250)[0]
    piece[130:180] = index.tokens[7, 60:110]
    piece[129], piece[180] = 1023 - index.tokens[7, 59], 1023 - index.tokens[7, 110]
    found = index.nearest(piece, directions(np.random.default_rng(3), 4))
    assert found.run is not None
    assert found.run.clip == "corpus/work 7/7"
    assert found.run.whole_seconds == found.run.seconds == pytest.approx(2.0)
    assert found.run.clip_start_seconds == pytest.approx(60 / 25)
    assert found.run.piece_start_seconds == pytest.approx(130 / 25)
    assert found.too_similar


def test_shuffled_tokens_share_nothing() -> None:
    index, rng = small_index(), np.random.default_rng(1)
    for clip in index.tokens:
        assert index.longest_run(rng.permutation(clip)) is None
    found = index.nearest(rng.permutation(index.tokens[0]), directions(rng, 2))
    assert found.run is None
    assert found.run_seconds == 0.0
    assert not found.too_similar
    nothing = np.zeros(0, dtype=np.int64)
    assert index.longest_run(nothing) is index.best_agreement(nothing) is None


@pytest.mark.parametrize("chunk", [3, 4096])
def test_no_run_is_missed(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_index, "_CHUNK", chunk)
    rng = np.random.default_rng(2)
    few = rng.integers(0, 6, size=(5, 90)).astype(np.uint16)
    index = ClipIndex([*"abcde"], few, directions(rng, 5, 1), FINGERPRINTS)
    lengths = []
    for _ in range(5):
        starts, clips = rng.integers(0, 65, size=8), rng.integers(0, 5, size=8)
        cuts = [few[c, s : s + rng.integers(3, 25)] for c, s in zip(clips, starts, strict=True)]
        piece = np.concatenate(cuts)
        run = index.longest_run(piece)
        lengths.append(0 if run is None else round(run.whole_seconds * 25))
        assert lengths[-1] == longest_by_trying(piece, few)
    assert max(lengths) > 15


def test_copies_at_the_edges_of_a_clip_are_found() -> None:
    index = small_index()
    for begin, end in ((0, 60), (FRAMES - 60, FRAMES), (0, FRAMES)):
        run = index.longest_run(index.tokens[4, begin:end])
        assert run is not None
        assert run.clip == "corpus/work 4/4"
        assert run.whole_seconds == pytest.approx((end - begin) / 25)
        assert run.clip_start_seconds == pytest.approx(begin / 25)


def test_held_notes_and_loops_of_few_tokens_do_not_count() -> None:
    rng = np.random.default_rng(0)
    tokens = melody(rng)
    tokens[0] = 5  # a rest
    tokens[1] = np.tile(np.repeat([3, 8, 3, 9], 5), 10)  # a loop of three tokens
    tokens[2, 20:120] = 77  # a note held for four seconds inside a melody
    index = ClipIndex(
        [str(i) for i in range(CLIPS)], tokens, directions(rng, CLIPS, 1), FINGERPRINTS
    )
    assert index.longest_run(tokens[0]) is None
    assert index.longest_run(tokens[1]) is None
    assert index.best_agreement(tokens[0]) is index.best_agreement(tokens[1]) is None
    run = index.longest_run(tokens[2])
    assert run is not None
    assert run.whole_seconds == pytest.approx(FRAMES / 25)
    assert run.seconds == pytest.approx((FRAMES - 100 + HELD_FRAMES) / 25)
    # A run that begins and ends inside held notes counts these from its own ends.
    part = np.concatenate([[1], tokens[2, 100:150], [1]])
    run = index.longest_run(part)
    assert run is not None
    assert run.whole_seconds == pytest.approx(50 / 25)
    assert run.seconds == pytest.approx((30 + HELD_FRAMES) / 25)


def agreement_by_trying(tokens: np.ndarray, clips: np.ndarray) -> int:
    """Most equal frames in five seconds at any alignment, of pieces where nothing is held long."""
    best = 0
    for clip in clips:
        for offset in range(-len(tokens) + 1, len(clip)):
            first, last = max(0, -offset), min(len(tokens), len(clip) - offset)
            same = tokens[first:last] == clip[first + offset : last + offset]
            for begin in range(max(len(same) - 124, 1)):
                window = slice(begin, begin + 125)
                if same[window].sum() > best:
                    kept = tokens[first:last][window][same[window]]
                    best = int(same[window].sum()) if len(np.unique(kept)) >= 5 else best
    return best


@pytest.mark.parametrize("chunk", [5, 4096])
def test_the_best_agreement_is_that_of_all_alignments(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_index, "_CHUNK", chunk)
    rng = np.random.default_rng(6)
    clips = rng.integers(0, 20, size=(3, 150)).astype(np.uint16)
    index = ClipIndex([*"abc"], clips, directions(rng, 3, 1), FINGERPRINTS)
    for length in (40, 180, 180):
        piece = rng.integers(0, 20, size=length)
        found = index.best_agreement(piece)
        assert found is not None
        assert round(found.share * 125) == agreement_by_trying(piece, clips)


def test_a_damaged_copy_is_found_by_its_agreement() -> None:
    index, rng = small_index(), np.random.default_rng(8)
    piece = melody(rng, 1, 1_400)[0]
    piece[1_100:1_230] = index.tokens[3, 40:170]
    damaged = rng.random(1_400) < 0.5
    piece[damaged] = rng.integers(0, 1024, int(damaged.sum()))
    found = index.nearest(piece, directions(rng, 2))
    assert found.run_seconds < 1.0
    assert found.agreement is not None
    assert found.agreement.clip == "corpus/work 3/3"
    assert found.equal_share == pytest.approx(0.5, abs=0.12)
    moved = found.agreement.piece_start_seconds - found.agreement.clip_start_seconds
    assert moved == pytest.approx((1_100 - 40) / 25)
    assert found.too_similar


def test_the_clip_that_sounds_most_like_it() -> None:
    index, rng = small_index(), np.random.default_rng(4)
    vectors = directions(rng, 2)
    vectors[1] = index.vectors[5, 2] + 0.02 * vectors[0]
    found = index.nearest(rng.integers(0, 1024, 100), 3.0 * vectors)
    assert found.similar_clip == "corpus/work 5/5"
    assert found.similarity > 0.99
    assert found.run is None
    assert found.too_similar


def test_limits_are_what_independent_music_reaches() -> None:
    rng = np.random.default_rng(5)
    index = without_limits(small_index())
    with pytest.raises(MelismaError, match="no limits"):
        _ = index.nearest(index.tokens[0], index.vectors[0]).too_similar
    held = list(zip(melody(rng, 60), directions(rng, 60, 1), strict=True))
    works = [str(piece) for piece in range(60)]
    index.limits = tuple(measure_limits(index, held, works, **WINDOWS))
    assert [limit.piece_seconds for limit in index.limits] == [5.0, 8.0, 16.0, 32.0]
    assert {limit.pieces for limit in index.limits} == {60}
    assert index.limits[0].similarity == index.limits[1].similarity < 0.9
    near = [index.nearest(*piece).too_similar for piece in held]
    assert sum(near) <= 2
    assert all(
        index.nearest(*pair).too_similar for pair in zip(index.tokens, index.vectors, strict=True)
    )
    assert index.limit_for(3.0) == index.limits[0]
    assert index.limit_for(6.0) == index.limits[1]
    assert index.limit_for(20.0) == index.limit_for(600.0) == index.limits[3]
    with pytest.raises(MelismaError, match="held-out pieces"):
        measure_limits(index, [], [], **WINDOWS)


def test_limits_of_long_pieces_hold_for_long_pieces() -> None:
    rng = np.random.default_rng(11)
    few = rng.integers(0, 12, size=(40, 150)).astype(np.uint16)
    index = ClipIndex([str(i) for i in range(40)], few, directions(rng, 40, 1), FINGERPRINTS)

    def random_pieces(count: int, times: int) -> list[tuple[np.ndarray, np.ndarray]]:
        tokens = rng.integers(0, 12, size=(count, 150 * times)).astype(np.uint16)
        return list(zip(tokens, directions(rng, count, times), strict=True))

    works = [str(piece // 2) for piece in range(200)]
    index.limits = tuple(measure_limits(index, random_pieces(200, 1), works, **WINDOWS))
    by_length = [(one.run_seconds, one.agreement, one.similarity) for one in index.limits]
    assert by_length == sorted(by_length)
    long = random_pieces(100, 4)
    assert sum(index.nearest(*piece).too_similar for piece in long) <= 8
    index.limits = index.limits[:2]
    assert sum(index.nearest(*piece).too_similar for piece in long) > 8


def test_only_pieces_of_different_works_are_joined() -> None:
    rng = np.random.default_rng(12)
    index, sizes = small_index(), (3, 1, 3, 2, 3)
    works = [name for name, size in zip("cabed", sizes, strict=True) for _ in range(size)]
    held = list(zip(melody(rng, 12), directions(rng, 12, 1), strict=True))
    queried: list[np.ndarray] = []

    class Spied(ClipIndex):
        def nearest(self, tokens: np.ndarray, vectors: np.ndarray) -> Resemblance:
            queried.append(tokens)
            return super().nearest(tokens, vectors)

    spied = Spied(index.names, index.tokens, index.vectors, FINGERPRINTS)
    limits = measure_limits(spied, held, works, **WINDOWS)
    assert [limit.piece_seconds for limit in limits] == [5.0, 8.0, 16.0, 32.0]
    owner = {tokens.tobytes(): work for (tokens, _), work in zip(held, works, strict=True)}
    for tokens in queried[-24:]:
        parts = [owner[part.tobytes()] for part in np.split(tokens, len(tokens) // FRAMES)]
        assert len(set(parts)) == len(parts) > 1
    # One more of a work, and four in a row would have it twice.
    limits = measure_limits(spied, held, ["c", *works[:-1]], **WINDOWS)
    assert [limit.piece_seconds for limit in limits] == [5.0, 8.0, 16.0]


def without_limits(index: ClipIndex) -> ClipIndex:
    """The same without limits."""
    return ClipIndex(index.names, index.tokens, index.vectors, index.fingerprints)


def test_an_index_is_written_and_read(tmp_path: Path) -> None:
    index, path = small_index(), tmp_path / "originality.safetensors"
    index.write(path)
    again = ClipIndex.read(path, {"semantic": "s0", "joint": "j0", "codec": "c7"})
    assert again.names == index.names
    assert np.array_equal(again.tokens, index.tokens)
    np.testing.assert_allclose(again.vectors, index.vectors, atol=5e-3)
    assert again.limits == (LIMIT,)
    assert again.longest_run(index.tokens[3, 50:100]) == index.longest_run(index.tokens[3, 50:100])
    assert [path] == list(tmp_path.iterdir())


def test_an_index_of_other_tokenizers_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "originality.safetensors"
    small_index().write(path)
    with pytest.raises(MelismaError, match=r"was made with the joint j0, but .* is j1: build"):
        ClipIndex.read(path, FINGERPRINTS | {"joint": "j1"})
    whole = read_checkpoint(path)
    for name, most in (("tokens", 2 * CLIPS * FRAMES), ("names", 2_000 * CLIPS)):
        tensors = whole.tensors | {name: compress(bytes(2**22))}
        write_checkpoint(path, replace(whole, tensors=tensors))
        with pytest.raises(MelismaError, match="damaged index") as refused:
            ClipIndex.read(path)
        assert f"expand to more than {most}" in str(refused.value.__cause__)
    settings = {"clips": 2, "frames": 5, "windows": 1}
    write_checkpoint(path, Checkpoint(kind="originality", settings=settings, tensors={}))
    with pytest.raises(MelismaError, match="damaged index"):
        ClipIndex.read(path)
    write_checkpoint(path, Checkpoint(kind="codec", settings={}, tensors={}))
    with pytest.raises(MelismaError, match='holds a "codec"'):
        ClipIndex.read(path)
    with pytest.raises(MelismaError, match="no checkpoint"):
        ClipIndex.read(tmp_path / "none.safetensors")


def test_what_does_not_belong_together_is_refused() -> None:
    index = small_index()
    with pytest.raises(MelismaError, match="11 names, 12 clips"):
        ClipIndex(index.names[:11], index.tokens, index.vectors, FINGERPRINTS)
    with pytest.raises(MelismaError, match="one line"):
        ClipIndex(["a\nb"] * CLIPS, index.tokens, index.vectors, FINGERPRINTS)
    with pytest.raises(MelismaError, match="needs tokens"):
        ClipIndex([], index.tokens[:0], index.vectors[:0], FINGERPRINTS)
    with pytest.raises(MelismaError, match=r"vectors \[window, 32\]"):
        index.nearest(index.tokens[0], index.vectors[0, :, :30])
