"""Rows of attributes: facts in, readings out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.joint.attributes import (
    ATTRIBUTES,
    BLOCKS,
    NAMES,
    ROW_WIDTH,
    AttributePrediction,
    attribute_loss,
    probabilities,
    target_row,
)
from melisma.values import Facts


def even_reading() -> AttributePrediction:
    return AttributePrediction(row=probabilities(torch.zeros(1, ROW_WIDTH))[0].numpy())


@settings(deadline=None)
@given(st.floats(min_value=42.0, max_value=210.0))
def test_a_tempo_survives_the_row(tempo_bpm: float) -> None:
    row, known = target_row(Facts(tempo_bpm=tempo_bpm))
    assert known.tolist() == [name == "tempo" for name in NAMES]
    assert AttributePrediction(row=row).tempo_bpm == pytest.approx(tempo_bpm, rel=0.012)


def test_facts_fill_their_blocks_and_nothing_else() -> None:
    row, known = target_row(
        Facts(tonality="F# minor", lead="reeds", families=("reeds", "piano"), moods=("calm",))
    )
    reading = AttributePrediction(row=row)
    assert reading.best("tonality") == ("F# minor", 1.0)
    assert set(reading.classes_above("families")) == {"reeds", "piano"}
    assert {n for n, k in zip(NAMES, known, strict=True) if k} == {
        "tonality", "lead", "families", "moods",
    }  # fmt: skip
    assert row.sum() == 5


def test_blocks_cover_the_row_once() -> None:
    covered = np.concatenate([np.arange(ROW_WIDTH)[BLOCKS[n]] for n in NAMES])
    assert covered.tolist() == list(range(ROW_WIDTH))


def test_stated_settings_override_and_absent_families_vanish() -> None:
    stated = Facts(tempo_bpm=93.0, families=("reeds", "piano"))
    reading = even_reading().overridden(stated, absent=("drums", "reeds"))
    assert reading.tempo_bpm == 93.0
    assert reading.best("lead")[0] == "piano"
    assert reading.best("lead")[1] == pytest.approx(1.0, abs=1e-3)
    assert reading.probabilities("families")["drums"] == 0.0
    assert reading.probabilities("tonality")["C major"] == pytest.approx(1 / 24)


def test_loss_counts_known_rows_only() -> None:
    targets = torch.zeros(2, ROW_WIDTH)
    targets[0, BLOCKS["metre"].start] = 1.0
    known = torch.zeros(2, len(ATTRIBUTES))
    known[0, NAMES.index("metre")] = 1.0
    logits = torch.zeros(2, ROW_WIDTH)
    losses = attribute_loss(logits, targets, known)
    assert losses[NAMES.index("metre")].item() == pytest.approx(np.log(4))
    assert losses.sum().item() == pytest.approx(np.log(4))
    logits[1] = 50.0 * torch.randn(ROW_WIDTH)
    assert attribute_loss(logits, targets, known).sum().item() == pytest.approx(np.log(4))
