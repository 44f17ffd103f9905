"""A planted copy is found with its length, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from melisma.evaluate.memorisation import (
    LONG_NOTES,
    STEPS,
    MelodyIndex,
    melodic_steps,
)
from melisma.values import Notes, Score, TempoMap, Track


def tune(seed: int, notes: int) -> tuple[np.ndarray, np.ndarray]:
    """Waits in beats and pitches of a random melody."""
    rng = np.random.default_rng(seed)
    return rng.choice([0.25, 0.5, 0.75, 1.0, 1.5], notes), rng.integers(55, 80, notes)


def piece(waits: np.ndarray, pitch: np.ndarray, *, shift: int = 0, slower: float = 1.0) -> Score:
    start = np.concatenate([[0.0], np.cumsum(waits[:-1])]) * slower
    notes = Notes(
        start_beats=start,
        duration_beats=waits * slower,
        pitch=pitch + shift,
        velocity=np.full(len(pitch), 80),
    )
    return Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
    )


@pytest.fixture(scope="module")
def index() -> MelodyIndex:
    return MelodyIndex((f"piece {seed}", piece(*tune(seed, 300))) for seed in range(50))


def with_copy(length: int, shift: int, slower: float) -> Score:
    """A new melody with `length` notes of piece 7 in its middle."""
    waits, pitch = tune(999, 120)
    theirs_waits, theirs = tune(7, 300)
    copied = slice(100, 100 + length)
    return piece(
        np.concatenate([waits[:60], theirs_waits[copied] * slower, waits[60:]]),
        np.concatenate([pitch[:60], theirs[copied] + shift, pitch[60:]]),
    )


@pytest.mark.parametrize(("length", "shift", "slower"), [(14, 0, 1.0), (30, 5, 1.0), (40, -3, 2.0)])
def test_a_planted_copy_is_found_with_its_length(
    index: MelodyIndex, length: int, shift: int, slower: float
) -> None:
    found = index.longest_run(with_copy(length, shift, slower))
    assert found.piece == "piece 7"
    # The wait before the first copied interval is not copied, so a run loses up to two notes; the
    # first new note may happen to fit.
    assert length - 2 <= found.notes <= length + 1
    assert (found.share > 0) == (found.notes >= LONG_NOTES)


def test_nothing_is_found_where_there_is_no_copy(index: MelodyIndex) -> None:
    found = index.longest_run(piece(*tune(999, 300)))
    assert (found.notes, found.piece, found.share) == (0, None, 0.0)
    assert index.longest_run(piece(*tune(5, 4))).notes == 0


def test_a_whole_piece_is_all_copy_unless_it_is_left_out(index: MelodyIndex) -> None:
    whole = index.longest_run(piece(*tune(3, 300)))
    assert whole.piece == "piece 3"
    assert whole.notes == 299
    assert whole.share == pytest.approx(1.0)
    assert index.longest_run(piece(*tune(3, 300)), without="piece 3").notes == 0


def test_scales_and_repeated_notes_are_no_copies() -> None:
    waits = np.full(60, 0.5)
    scale = 48 + np.arange(60) % 24
    index = MelodyIndex([("scale", piece(waits, scale)), ("drone", piece(waits, np.full(60, 60)))])
    assert index.longest_run(piece(waits, scale + 2)).notes == 0
    assert index.longest_run(piece(waits, np.full(60, 65))).notes == 0


def test_lines_of_a_piece_stay_apart() -> None:
    single = piece(*tune(1, 20))
    assert np.count_nonzero(melodic_steps(single)) == 18
    both = Score(tracks=(*single.tracks, *piece(*tune(2, 20)).tracks), tempo=single.tempo)
    steps = melodic_steps(both)
    assert (steps == 0).sum() >= 3
    assert len(steps) > STEPS


def test_drums_are_not_searched() -> None:
    notes = piece(*tune(1, 40)).tracks[0].notes
    drums = Score(
        tracks=(Track(notes=notes, program=0, is_drum=True),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
    )
    assert len(melodic_steps(drums)) == 0
