"""Faults of recordings are said, and change nothing of the judgement."""

from __future__ import annotations

import numpy as np
import pytest
from small_world import RUN, Bands, given, judge, judges, piece

from melisma.evaluate.assess import assess_sound
from melisma.evaluate.measured import judged_part, measure_piece
from melisma.values import Waveform
from melisma.values.errors import MelismaError


def raised(waveform: Waveform, offset: float) -> Waveform:
    centred = waveform.samples - waveform.samples.mean(axis=1, keepdims=True)
    return Waveform(samples=centred + np.float32(offset), rate_hz=waveform.rate_hz)


def test_a_dc_offset_changes_no_measurement() -> None:
    clean = measure_piece(raised(piece(3), 0.0), judge(), [Bands()])
    found = measure_piece(raised(piece(3), 0.3), judge(), [Bands()])
    np.testing.assert_allclose(found.vector, clean.vector, atol=1e-4)
    np.testing.assert_allclose(found.windows["bands"], clean.windows["bands"], atol=1e-3)
    assert found.values["loudness_lufs"] == pytest.approx(clean.values["loudness_lufs"], abs=0.01)
    assert found.values["tempo_signal"] == pytest.approx(clean.values["tempo_signal"], nan_ok=True)
    assert found.texts == clean.texts


def test_an_offset_alone_is_silence() -> None:
    constant = Waveform(samples=np.full((1, 48_000), 0.2, np.float32), rate_hz=24_000)
    with pytest.raises(MelismaError, match="it is silent"):
        judged_part(constant, 2.0)


def test_what_is_amiss_stands_in_the_card() -> None:
    pieces = [given(number, lambda n=number: raised(piece(n), 0.2 * n)) for number in range(3)]
    card, problems = assess_sound(pieces, [], judges(), RUN)
    assert problems == []
    notes = [note for note in card.notes if "DC offset" in note]
    assert [note.split(" ")[0] for note in notes] == ["001.flac", "002.flac"]
