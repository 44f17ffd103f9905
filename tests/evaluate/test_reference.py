"""Reference sets: what is measured comes back from the file, and fits one judge only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_world import PIECES, Bands, dulled, judge, piece, reference

from melisma.evaluate.measured import judged_part
from melisma.evaluate.references.audio import (
    TruePiece,
    measure_reference,
    read_reference,
    split_windows,
    stack_windows,
    write_reference,
)
from melisma.values import Facts, Waveform
from melisma.values.errors import MelismaError


def test_a_reference_comes_back_from_its_file(tmp_path: Path) -> None:
    known = reference()
    write_reference(tmp_path / "reference.safetensors", known)
    back = read_reference(tmp_path / "reference.safetensors")
    assert back.prompts == known.prompts
    assert back.groups == known.groups
    assert back.facts == known.facts
    assert back.digest == known.digest
    assert back.real_pieces(decoded=True) == back.coded
    assert back.real_pieces(decoded=False) == back.raw
    assert len(back) == PIECES
    for mine, theirs in zip(known.coded, back.coded, strict=True):
        assert mine.texts == theirs.texts
        np.testing.assert_allclose(
            [mine.values[k] for k in sorted(mine.values)],
            [theirs.values[k] for k in sorted(theirs.values)],
        )
        np.testing.assert_allclose(
            mine.windows["bands"], theirs.windows["bands"], rtol=2e-3, atol=2e-3
        )
    assert back.coded[0].values["codec_log_mel"] == pytest.approx(2.0)


def test_only_what_was_measured_by_these_judges_is_used() -> None:
    known = reference()
    same, problems = known.fit(judge().fingerprint, {"bands": Bands().fingerprint})
    assert same is not None
    assert not problems
    fewer, problems = known.fit(judge().fingerprint, {"bands": "another"})
    assert fewer is not None
    assert not fewer.raw[0].windows
    assert fewer.digest == known.digest
    assert "embedding bands" in problems[0]
    none, problems = known.fit("another judge", {})
    assert none is None
    assert "another judge" in problems[0]


def test_windows_of_unlike_number_are_stacked_and_split_again() -> None:
    rng = np.random.default_rng(0)
    pieces = [rng.normal(size=(n, 4)).astype(np.float32) for n in (3, 1, 2)]
    for before, after in zip(pieces, split_windows(stack_windows(pieces)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_one_piece_is_no_reference() -> None:
    alone = TruePiece(sound=piece(0), words="a tune", facts=Facts(), group="work")
    with pytest.raises(MelismaError, match="two pieces or more"):
        measure_reference(
            "one", [alone], dulled, judge(), [Bands()], codec_fingerprint="", levels=4
        )


def test_only_the_beginning_is_judged_and_silence_is_not() -> None:
    assert judged_part(piece(0), 1.5).seconds == pytest.approx(1.5)
    with pytest.raises(MelismaError, match=r"lasts 0\.50 s"):
        judged_part(piece(0, seconds=0.5), 2.0)
    silence = Waveform(samples=np.zeros((1, 48_000), dtype=np.float32), rate_hz=24_000)
    with pytest.raises(MelismaError, match="it is silent"):
        judged_part(silence, 2.0)
