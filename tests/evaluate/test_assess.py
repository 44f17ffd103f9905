"""From pieces to a card: real music scores as real music, one piece for all prompts does not."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_world import PIECES, RUN, dulled, given, judges, piece

from melisma.evaluate.assess import assess_sound
from melisma.evaluate.report.card import Card, read_card, write_card
from melisma.evaluate.report.comparison import compare_cards
from melisma.evaluate.report.plots import render_plot
from melisma.values import Waveform
from melisma.values.errors import MelismaError


def card_of(make: list[Waveform], *, decoded: bool = True) -> Card:
    pieces = [given(n, partial(make.__getitem__, n)) for n in range(len(make))]
    return assess_sound(pieces, [], judges(), replace(RUN, decoded=decoded))[0]


@pytest.fixture(scope="module")
def real() -> Card:
    return card_of([piece(n) for n in range(PIECES)])


@pytest.fixture(scope="module")
def always_the_same() -> Card:
    return card_of([piece(0)] * PIECES)


def value(card: Card, key: str) -> float:
    row = card.row(key)
    assert row is not None, key
    return row.figure.value


def test_the_true_pieces_themselves_reach_the_ceilings(real: Card) -> None:
    assert value(real, "kld") == pytest.approx(0.0, abs=1e-9)
    codec = real.row("fad_bands")
    assert codec is not None
    assert codec.figure.ceiling is not None
    assert codec.figure.value <= codec.figure.ceiling * 1.2
    wins = real.row("wins_outputs_true")
    assert wins is not None
    assert wins.figure.details["ties"] == PIECES


def test_one_piece_for_every_prompt_must_not_score_well(real: Card, always_the_same: Card) -> None:
    assert value(always_the_same, "fad_bands") > 2.0 * value(real, "fad_bands")
    assert value(always_the_same, "kld") > value(real, "kld")
    found = compare_cards(real, always_the_same, judges().reference)
    verdicts = {one.key: one.verdict for one in found.differences}
    assert verdicts["fad_bands"] == "worse"
    assert verdicts["kld"] == "worse"


def test_the_distribution_of_faults_is_plotted_beside_real_music(real: Card) -> None:
    plot = real.plots["hiss_db"]
    assert plot["section"] == "faults"
    assert len(plot["edges"]) == len(plot["counts"]) + 1
    assert sum(plot["counts"]) == sum(math.isfinite(row.values["hiss_db"]) for row in real.pieces)
    assert sum(plot["reference"]) > 0
    assert "<svg" in render_plot(plot)


def test_a_card_compared_with_itself_has_no_difference(real: Card, tmp_path: Path) -> None:
    write_card(tmp_path / "card.json", real)
    back = read_card(tmp_path / "card.json")
    found = compare_cards(real, back, judges().reference)
    assert {one.verdict for one in found.differences} == {"no difference"}
    assert "fad_bands" in {one.key for one in found.differences}


def test_the_protocol_says_what_was_compared(real: Card) -> None:
    assert real.protocol.count == PIECES
    assert real.protocol.reference == "small tunes"
    assert set(real.protocol.embeddings) == {"bands"}
    assert real.made_by["command"] == "by hand"
    notes = " ".join(real.notes)
    assert "no index of its training clips" in notes
    assert "Bias was not measured" in notes


def test_pieces_that_cannot_be_judged_are_reported_and_left_out() -> None:
    silence = Waveform(samples=np.zeros((1, 48_000), dtype=np.float32), rate_hz=24_000)

    def broken() -> Waveform:
        raise MelismaError("this is no sound file")

    pieces = [given(n, partial(piece, n), in_reference=False) for n in range(3)]
    pieces += [
        given(3, lambda: silence),
        given(4, broken),
        given(5, partial(piece, 5, rate_hz=44_100)),
    ]
    card, problems = assess_sound(pieces, [], judges(with_reference=False), RUN)
    assert len(card.pieces) == 4
    assert len(problems) == 2
    assert "003.flac was left out: it is silent" in problems[0]
    assert "no sound file" in problems[1]
    notes = " ".join(card.notes)
    assert "several sampling rates (24000 Hz, 44100 Hz)" in notes
    assert "no reference set" in notes
    with pytest.raises(MelismaError, match="nothing to judge"):
        assess_sound([given(0, lambda: silence)], [], judges(), RUN)


def test_outputs_that_no_codec_decoded_are_held_against_music_that_none_did() -> None:
    make = [piece(n) for n in range(PIECES)]
    figures = {}
    for decoded in (True, False):
        row = card_of(make, decoded=decoded).row("fad_bands")
        assert row is not None
        figures[decoded] = row.figure
    assert figures[True].ceiling == figures[True].details["C"]
    assert figures[False].ceiling == figures[False].details["F"]
    assert figures[True].value == figures[False].value


def test_a_section_that_cannot_speak_leaves_a_note_and_the_rest() -> None:
    known = judges()
    assert known.reference is not None
    pieces = [given(n, partial(piece, n), in_reference=False) for n in range(8)]
    opened = [replace(given(8, partial(piece, 8), in_reference=False), name="open.flac")]
    few = replace(known, reference=known.reference.first(9))
    card, problems = assess_sound(pieces, opened, few, replace(RUN, seconds=1.0))
    assert not problems
    notes = " ".join(card.notes)
    assert "too few" in notes
    assert "1 outputs cannot be compared" in notes
    assert "judged over 1 s, the reference set over 2 s" in notes
    assert card.row("faultless") is not None


def test_a_coded_set_lies_where_the_codec_lies() -> None:
    card = card_of([dulled(piece(n)) for n in range(PIECES)])
    row = card.row("fad_bands")
    assert row is not None
    assert row.figure.ceiling is not None
    # The same works stand on both sides here, so it comes out below the codec's own distance.
    assert row.figure.value <= row.figure.ceiling * 1.2
    assert value(card, "codec_log_mel") == pytest.approx(2.0)
