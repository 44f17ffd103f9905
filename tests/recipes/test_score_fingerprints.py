"""Fingerprints of training pieces, and limits measured on held-out pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_corpus import write_corpus
from small_tunes import piece, tune, with_copy

from melisma.analysis.similarity.melody_fingerprints import GUARANTEED_STEPS, MelodyFingerprints
from melisma.data.sources.pieces import Source
from melisma.generation.originality import TUNE_INDEX_FILE
from melisma.recipes import run_recipe
from melisma.recipes.score_fingerprints import (
    FingerprintSettings,
    first_seconds,
    measure_limits,
    title_of,
)
from melisma.symbolic import read_midi, write_midi
from melisma.values.errors import MelismaError

FEW = {"fingerprints.seconds": "(20.0, 30.0, 9000.0)", "fingerprints.fewest_pieces": "3"}


def test_the_recipe_takes_fingerprints_of_training_pieces_only(tmp_path: Path) -> None:
    pieces = {f"{seed}.mid": piece(*tune(seed, 150)) for seed in range(60)}
    write_corpus(tmp_path / "corpora", "songs", pieces)
    run_recipe("fingerprints", data=tmp_path / "corpora", output=tmp_path / "run", changes=FEW)
    fingerprints = MelodyFingerprints.read(tmp_path / "run" / "model" / TUNE_INDEX_FILE)
    assert 30 < len(fingerprints) < 60
    assert fingerprints.limits is not None
    assert fingerprints.limits.seconds == (20.0, 30.0)
    assert fingerprints.limits.quantile == FingerprintSettings().quantile
    assert fingerprints.limits.notes[0] < GUARANTEED_STEPS
    near = [read_midi(write_midi(with_copy(tune(seed, 150), 40, 60))) for seed in range(60)]
    found = [fingerprints.nearest(score) for score in near]
    assert sum(one.notes > 0 for one in found) == len(fingerprints)
    assert sum(fingerprints.limits.excess(one, 30.0) > 1 for one in found) == len(fingerprints)


def test_limits_leave_a_piece_out_of_its_own_and_need_enough_pieces() -> None:
    pieces = [(str(seed), piece(*tune(seed, 200))) for seed in range(6)]
    fingerprints = MelodyFingerprints.build(pieces)
    settings = FingerprintSettings(seconds=(20.0, 60.0), fewest_pieces=6, quantile=1.0)
    assert measure_limits(fingerprints, pieces, settings).notes == (0.0, 0.0)
    with pytest.raises(MelismaError, match="limits need 7 pieces"):
        measure_limits(fingerprints, pieces, FingerprintSettings(fewest_pieces=7))


def test_an_opening_begins_with_the_first_note() -> None:
    waits = np.append(np.full(4, 1.0), np.full(96, 0.5))
    score = piece(waits, np.full(100, 60))
    cut = first_seconds(score, 12.0)
    assert cut is not None
    assert 11.0 < cut.seconds < 13.0
    assert first_seconds(score, 60.0) is None


def test_titles_of_pieces() -> None:
    known = {
        "identity": "songs/a.mid", "corpus": "songs", "group": "a", "licence": "CC0",
        "source_repo": "", "attribution": "", "midi_bytes": b"",
    }  # fmt: skip
    assert title_of(Source(**known)) == "songs/a.mid (songs)"
    named = Source(**known, title="Erlkönig", composer="Schubert")
    assert title_of(named) == "Erlkönig, Schubert (songs)"
