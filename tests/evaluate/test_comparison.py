"""Two cards side by side: a planted change is found, none is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_card import small_card

from melisma.evaluate.report.comparison import compare_cards
from melisma.values.errors import MelismaError

RNG = np.random.default_rng(5)
TEMPO = (RNG.random(60) < 0.4).astype(float)
HISS = RNG.normal(size=60)


def test_a_card_does_not_differ_from_itself() -> None:
    card = small_card(TEMPO, HISS)
    found = compare_cards(card, card)
    assert {one.verdict for one in found.differences} == {"no difference"}
    assert [one.change.value for one in found.differences] == [0.0, 0.0]
    assert found.pairs == 60


def test_planted_changes_are_found_with_their_sign() -> None:
    better = np.maximum(TEMPO, (np.arange(60) % 3 == 0).astype(float))
    found = compare_cards(small_card(TEMPO, HISS), small_card(better, HISS + 0.3))
    tempo, hiss = found.differences
    assert tempo.verdict == "better"
    assert tempo.change.value == pytest.approx(float((better - TEMPO).mean()))
    assert hiss.verdict == "worse"
    assert hiss.change.value == pytest.approx(0.3)
    # Pairs cancel what the pieces share: the change is sure although the pieces differ far more.
    assert hiss.change.high - hiss.change.low < 1e-6


def test_noise_is_no_difference() -> None:
    other = HISS + RNG.normal(size=60) * 0.5
    other -= (other - HISS).mean()
    found = compare_cards(small_card(TEMPO, HISS), small_card(TEMPO, other))
    assert found.differences[1].verdict == "no difference"


def test_pieces_are_paired_by_name_whatever_their_order() -> None:
    first, second = small_card(TEMPO, HISS), small_card(TEMPO, HISS + 1.0)
    turned = dataclasses.replace(second, pieces=second.pieces[::-1])
    assert compare_cards(first, turned).differences == compare_cards(first, second).differences
    fewer = dataclasses.replace(second, pieces=second.pieces[:40])
    found = compare_cards(first, fewer)
    assert found.pairs == 40
    assert "20 pieces are in one card alone" in found.notes[0]


def test_other_protocols_and_strangers_are_refused() -> None:
    first = small_card(TEMPO, HISS)
    with pytest.raises(MelismaError, match="the reference set differs"):
        compare_cards(first, small_card(TEMPO, HISS, reference_hash="other"))
    strangers = tuple(dataclasses.replace(one, name="x" + one.name) for one in first.pieces)
    with pytest.raises(MelismaError, match="have 0 pieces"):
        compare_cards(first, dataclasses.replace(first, pieces=strangers))


def test_five_pairs_prove_nothing() -> None:
    first = small_card(TEMPO, HISS)
    few = dataclasses.replace(first, pieces=first.pieces[:5])
    with pytest.raises(MelismaError, match="have 5 pieces"):
        compare_cards(first, few)


def test_a_median_is_compared_as_a_median() -> None:
    row = small_card(TEMPO, HISS).rows[0]
    cards = [small_card(TEMPO + shift, HISS) for shift in (0.0, 2.0)]
    cards = [
        dataclasses.replace(card, rows=(dataclasses.replace(row, average="median"),))
        for card in cards
    ]
    found = compare_cards(*cards).differences[0]
    assert found.before == pytest.approx(float(np.median(TEMPO)))
    assert found.after == pytest.approx(float(np.median(TEMPO)) + 2.0)


def test_embeddings_of_one_name_that_differ_are_left_out_with_a_note() -> None:
    card = small_card(TEMPO, HISS)
    row = dataclasses.replace(card.rows[0], key="fad_music")
    other = dataclasses.replace(card.protocol, embeddings={"music": "another"})
    first = dataclasses.replace(card, rows=(*card.rows, row))
    second = dataclasses.replace(card, rows=(*card.rows, row), protocol=other)
    found = compare_cards(first, second)
    assert found.differences
    assert any("different embeddings" in note for note in found.notes)


def test_distances_without_the_reference_are_reported() -> None:
    card = small_card(TEMPO, HISS)
    row = dataclasses.replace(card.rows[0], key="fad_music")
    windows = {"music": RNG.normal(size=(60, 2, 4)).astype(np.float32)}
    card = dataclasses.replace(card, rows=(row,), embeddings=windows)
    found = compare_cards(card, card)
    assert not found.differences
    assert "give --reference" in found.notes[0]
