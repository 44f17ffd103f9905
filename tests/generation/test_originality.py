"""What is too near to training music is drawn again, and the least near is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from melisma.analysis.similarity.melody_fingerprints import FingerprintLimits, MelodyFingerprints
from melisma.generation.originality import (
    MAX_RESAMPLED,
    SEED_STEP,
    SEEDS,
    TUNE_INDEX_FILE,
    ClipOriginality,
    MelodyOriginality,
    OriginalityIndex,
    Similarity,
    check_original,
)
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError


def nearness_of(excess: dict[int, float]) -> list[int]:
    """Seeds in the order in which they were used, and what was selected last."""
    seeds: list[int] = []

    def again(seed: int) -> int:
        seeds.append(seed)
        return seed

    class Index(OriginalityIndex[int]):
        def similarity(self, piece: int) -> Similarity:
            return Similarity(excess=excess[piece], text=f"seed {piece}")

    found = check_original(5, again, 5, Index())
    return [*seeds, found.piece, found.resampled]


@dataclass(frozen=True)
class Piece:
    score: Score


def seed_of(attempt: int) -> int:
    return (5 + attempt * SEED_STEP) % SEEDS


def test_what_is_original_is_not_drawn_again() -> None:
    assert nearness_of({5: 1.0}) == [5, 0]


def test_the_first_that_is_not_too_near_is_kept() -> None:
    excess = {5: 1.5, seed_of(1): 1.2, seed_of(2): 0.4}
    assert nearness_of(excess) == [seed_of(1), seed_of(2), seed_of(2), 2]


def test_the_least_near_is_kept_where_all_are_too_near() -> None:
    excess = {5: 1.5} | {seed_of(n): 2.0 + n for n in range(1, MAX_RESAMPLED + 1)}
    excess[seed_of(2)] = 1.1
    found = nearness_of(excess)
    assert found[-2:] == [seed_of(2), MAX_RESAMPLED]
    assert len(found) == MAX_RESAMPLED + 2


def tune(pitches: np.ndarray, waits: np.ndarray) -> Score:
    start = np.concatenate([[0.0], np.cumsum(waits)[:-1]])
    notes = Notes(
        start_beats=start,
        duration_beats=waits,
        pitch=pitches.astype(np.int64),
        velocity=np.full(len(pitches), 80, dtype=np.int64),
    )
    tempo = TempoMap(beats=np.zeros(1), bpm=np.array([100.0]))
    return Score(tracks=(Track(name="", program=0, is_drum=False, notes=notes),), tempo=tempo)


def test_a_planted_copy_is_too_near_and_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)

    def random_tune(length: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(55, 80, length), rng.choice([0.5, 1.0, 1.5], length)

    pitches, waits = random_tune(120)
    prints = MelodyFingerprints.build([("work", tune(pitches, waits))], {"work": "A Work"})
    limits = FingerprintLimits(
        seconds=(30.0,), notes=(16.0,), share=(0.5,), quantile=0.99, pieces=(100,), seed=0
    )
    prints.limits = limits
    prints.write(tmp_path / TUNE_INDEX_FILE)
    index = MelodyOriginality.read(tmp_path)
    assert index is not None
    other, rhythm = random_tune(40)
    copied = tune(
        np.concatenate([other, pitches[20:70] + 5]), np.concatenate([rhythm, waits[20:70]])
    )
    near = index.similarity(Piece(copied))
    far = index.similarity(Piece(tune(*random_tune(80))))
    assert near.too_similar
    assert "A Work" in near.text
    assert not far.too_similar
    assert "no run of ten notes" in far.text


def test_a_model_without_an_index_says_so(tmp_path: Path) -> None:
    assert MelodyOriginality.read(tmp_path) is None
    assert ClipOriginality.read(tmp_path) is None


def test_prints_without_limits_do_not_judge() -> None:
    rng = np.random.default_rng(0)
    score = tune(rng.integers(55, 80, 60), rng.choice([0.5, 1.0], 60))
    with pytest.raises(MelismaError, match="no limits"):
        MelodyOriginality(MelodyFingerprints.build([("work", score)]))
