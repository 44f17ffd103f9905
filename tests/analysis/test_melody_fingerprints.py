"""Fingerprints find what the index finds at a hundredth of its size, and never overstate it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tunes import piece, tune, with_copy

from melisma.analysis.similarity.compression import compress
from melisma.analysis.similarity.melody_fingerprints import (
    GUARANTEED_STEPS,
    MAX_EXTENSION_STEPS,
    WINDOW,
    FingerprintLimits,
    MelodyFingerprints,
)
from melisma.analysis.similarity.melody_index import MelodyIndex, SharedRun, melodic_steps
from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.values import Score
from melisma.values.errors import MelismaError

Tune = tuple[np.ndarray, np.ndarray]
LIMITS = FingerprintLimits(
    seconds=(30.0, 60.0),
    notes=(20.0, 30.0),
    share=(0.1, 0.3),
    quantile=0.99,
    pieces=(50, 40),
    seed=3,
)


@pytest.fixture(scope="module")
def fingerprints() -> MelodyFingerprints:
    return MelodyFingerprints.build(
        ((f"piece {seed}", piece(*tune(seed, 300))) for seed in range(50)),
        titles={"piece 7": "The seventh, by somebody"},
    )


@pytest.mark.parametrize(("length", "shift", "slower"), [(24, 5, 2.0), (24, -5, 1.0), (60, 7, 2.0)])
@pytest.mark.parametrize("begin", range(100, 100 + WINDOW, 2))
def test_a_planted_copy_is_found_wherever_it_begins(
    fingerprints: MelodyFingerprints, begin: int, length: int, shift: int, slower: float
) -> None:
    copy = with_copy(tune(7, 300), begin, length, shift=shift, slower=slower)
    found = fingerprints.nearest(copy)
    assert found.piece == "piece 7"
    assert fingerprints.title(found.piece) == "The seventh, by somebody"
    # A run loses the wait before it, and a new note may happen to fit.
    assert length - 1 - MAX_EXTENSION_STEPS <= found.notes <= length + 1


def test_an_inverted_or_shuffled_copy_is_none(fingerprints: MelodyFingerprints) -> None:
    waits, pitch = tune(7, 300)
    assert fingerprints.nearest(with_copy((waits, 130 - pitch), 100, 24)).notes == 0
    order = np.random.default_rng(1).permutation(300)
    assert fingerprints.nearest(with_copy((waits[order], pitch[order]), 100, 24)).notes == 0
    nothing = SharedRun(notes=0, piece=None, share=0.0)
    assert fingerprints.nearest(piece(*tune(5, 6))) == nothing
    assert fingerprints.nearest(piece(*tune(3, 300), drum=True)) == nothing
    assert MelodyFingerprints.build([]).nearest(piece(*tune(3, 300))) == nothing


def test_a_whole_piece_is_all_copy_unless_it_is_left_out(fingerprints: MelodyFingerprints) -> None:
    whole = fingerprints.nearest(piece(*tune(3, 300), shift=4))
    assert whole.piece == "piece 3"
    assert whole.notes >= 299 - MAX_EXTENSION_STEPS
    assert whole.share > 0.95
    assert fingerprints.nearest(piece(*tune(3, 300)), without="piece 3").notes == 0


def test_scales_and_repeated_notes_raise_no_alarm() -> None:
    waits = np.full(90, 0.5)
    scale, drone = 40 + np.arange(90) % 24, np.full(90, 60)
    fingerprints = MelodyFingerprints.build(
        [("scale", piece(waits, scale)), ("drone", piece(waits, drone))]
    )
    assert fingerprints.nearest(piece(waits, scale + 2)).notes == 0
    assert fingerprints.nearest(piece(waits, drone + 5)).notes == 0
    # A scale that another tune leads into shares nothing but the scale.
    other = tune(4, 40)
    led = piece(np.concatenate([other[0], waits]), np.concatenate([other[1], scale]))
    assert fingerprints.nearest(led).notes == 0


def test_repeats_are_stored_once_and_still_found() -> None:
    verse, bridge = tune(1, 150), tune(2, 60)
    song: Tune = tuple(np.concatenate([v, v, b, v, v]) for v, b in zip(verse, bridge, strict=True))  # pyright: ignore
    single = MelodyFingerprints.build([("verse", piece(*verse)), ("bridge", piece(*bridge))])
    fingerprints = MelodyFingerprints.build([("song", piece(*song))])
    assert fingerprints.fingerprints < 1.5 * single.fingerprints
    for begin in range(0, 660 - 40, 7):
        found = fingerprints.nearest(with_copy(song, begin, 40))
        assert found.piece == "song"


def passage(rng: np.random.Generator) -> Tune:
    """A passage of a tune: free, of few intervals, a scale or a drone."""
    notes = int(rng.integers(3, 60))
    even = np.full(notes, 0.5)
    kind = int(rng.integers(4))
    if kind == 0:
        return rng.choice([0.25, 0.5, 1.0], notes), rng.integers(50, 90, notes)
    if kind == 1:
        return even, 60 + rng.choice([0, 2], notes)
    return even, 60 + (np.arange(notes) % 12 if kind == 2 else np.zeros(notes, dtype=np.int64))


def random_score(rng: np.random.Generator, passages: list[Tune]) -> Score:
    """Passages in any order, also again, as pieces have them."""
    chosen = [passages[i] for i in rng.integers(len(passages), size=int(rng.integers(1, 8)))]
    return piece(np.concatenate([c[0] for c in chosen]), np.concatenate([c[1] for c in chosen]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_run_of_the_guaranteed_length_is_found_and_none_is_overstated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    passages = [passage(rng) for _ in range(6)]
    pieces = [(str(number), random_score(rng, passages)) for number in range(4)]
    index, fingerprints = MelodyIndex(pieces), MelodyFingerprints.build(pieces)
    for score in (random_score(rng, passages), random_score(rng, [*passages, passage(rng)])):
        exact, found = index.longest_run(score), fingerprints.nearest(score)
        assert found.notes <= exact.notes
        assert found.share <= exact.share + 1e-9
        if exact.notes - 1 >= GUARANTEED_STEPS:
            assert found.notes > 0


def test_writing_and_reading_give_equal_answers(
    fingerprints: MelodyFingerprints, tmp_path: Path
) -> None:
    path = tmp_path / "score_prints.safetensors"
    fingerprints.limits = LIMITS
    fingerprints.write(path)
    again = MelodyFingerprints.read(path)
    assert (len(again), again.fingerprints, again.limits) == (50, fingerprints.fingerprints, LIMITS)
    assert again.title("piece 7") == "The seventh, by somebody"
    for begin in (20, 90):
        copy = with_copy(tune(11, 300), begin, 45, shift=5)
        assert again.nearest(copy) == fingerprints.nearest(copy)
        assert again.nearest(copy, without="piece 11").notes == 0
    steps = sum(len(melodic_steps(piece(*tune(seed, 300)))) for seed in range(50))
    assert path.stat().st_size < 2 * steps


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_a_damaged_file_is_reported_in_one_sentence(
    fingerprints: MelodyFingerprints, tmp_path: Path, fraction: float
) -> None:
    path = tmp_path / "score_prints.safetensors"
    fingerprints.write(path)
    data = bytearray(path.read_bytes())
    data[int(fraction * len(data))] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(MelismaError, match="damaged"):
        MelodyFingerprints.read(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MelismaError, match="truncated, damaged"):
        MelodyFingerprints.read(path)


def test_a_file_that_expands_beyond_what_it_counts_is_refused(
    fingerprints: MelodyFingerprints, tmp_path: Path
) -> None:
    path = tmp_path / "score_prints.safetensors"
    fingerprints.write(path)
    whole = read_checkpoint(path)
    for name in ("hashes", "gaps"):
        path.unlink()
        tensors = whole.tensors | {name: compress(bytes(2**22))}
        write_checkpoint(path, replace(whole, tensors=tensors))
        with pytest.raises(MelismaError, match="damaged") as refused:
            MelodyFingerprints.read(path)
        assert "expand to more than" in str(refused.value.__cause__)


def test_limits_grow_with_the_duration() -> None:
    assert LIMITS.at(10.0) == (20.0, 0.1)
    assert LIMITS.at(45.0) == (25.0, pytest.approx(0.2))
    assert LIMITS.at(600.0) == (30.0, 0.3)
    assert LIMITS.excess(SharedRun(notes=26, piece="piece 1", share=0.0), 45.0) > 1
    assert LIMITS.excess(SharedRun(notes=25, piece="piece 1", share=0.2), 45.0) <= 1
    assert LIMITS.excess(SharedRun(notes=16, piece="piece 1", share=0.5), 45.0) > 1
    with pytest.raises(MelismaError, match="ascend"):
        FingerprintLimits(
            seconds=(60.0, 30.0), notes=(1, 2), share=(0, 0), quantile=0.9, pieces=(1, 1), seed=0
        )


def test_two_pieces_of_one_name_are_refused() -> None:
    with pytest.raises(MelismaError, match="same name"):
        MelodyFingerprints.build([("one", piece(*tune(1, 30))), ("one", piece(*tune(2, 30)))])
