"""A planted copy is found with its length, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from small_tunes import piece, tune, with_copy

from melisma.analysis.similarity.melody_index import (
    LONG_NOTES,
    RUN_STEPS,
    MelodyIndex,
    distinctive_runs,
    melodic_steps,
)
from melisma.values import Score


@pytest.fixture(scope="module")
def index() -> MelodyIndex:
    return MelodyIndex((f"piece {seed}", piece(*tune(seed, 300))) for seed in range(50))


@pytest.mark.parametrize(("length", "shift", "slower"), [(14, 0, 1.0), (30, 5, 1.0), (40, -3, 2.0)])
def test_a_planted_copy_is_found_with_its_length(
    index: MelodyIndex, length: int, shift: int, slower: float
) -> None:
    found = index.longest_run(with_copy(tune(7, 300), 100, length, shift=shift, slower=slower))
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
    assert len(steps) > RUN_STEPS


def test_a_run_is_telling_with_three_intervals() -> None:
    few = np.array([1, 2] * 5, dtype=np.uint16) << 8
    assert not distinctive_runs(few).any()
    few[9] = 3 << 8
    assert distinctive_runs(few).tolist() == [False, False, True]
    assert len(distinctive_runs(few[:7])) == 0


def test_drums_are_not_searched() -> None:
    assert len(melodic_steps(piece(*tune(1, 40), drum=True))) == 0
