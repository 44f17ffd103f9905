"""Cards keep what was measured, and refuse what is none."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_card import small_card, small_protocol

from melisma.evaluate.report.card import CARD_VERSION, embeddings_path, read_card, write_card
from melisma.values.errors import MelismaError


def test_a_card_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(16, 3, 8)).astype(np.float16).astype(np.float32)
    card = dataclasses.replace(
        small_card(rng.integers(0, 2, 16).astype(float), rng.random(16)),
        plots={"bars": {"kind": "bars", "values": [1.0, 2.0]}},
        embeddings={"music": windows},
    )
    write_card(tmp_path / "card.json", card)
    back = read_card(tmp_path / "card.json")
    assert back == card
    assert read_card(tmp_path) == card  # the folder of an evaluation stands for its card
    np.testing.assert_array_equal(back.embeddings["music"], windows)
    assert back.row("tempo") is not None
    assert [row.key for row in back.section("faults")] == ["hiss"]


def test_numbers_that_are_none_stay_so(tmp_path: Path) -> None:
    hiss = np.linspace(0, 1, 16)
    card = small_card(np.ones(16), hiss)
    piece = dataclasses.replace(card.pieces[0], values={"tempo": math.nan})
    card = dataclasses.replace(card, pieces=(piece, *card.pieces[1:]))
    write_card(tmp_path / "card.json", card)
    assert "NaN" not in (tmp_path / "card.json").read_text()
    assert math.isnan(read_card(tmp_path / "card.json").pieces[0].values["tempo"])


def test_goals_are_met_from_the_right_side() -> None:
    card = small_card(np.ones(16), np.ones(16))
    tempo, hiss = card.rows
    assert tempo.met() == {"floor": True}
    assert dataclasses.replace(hiss, goals={"quiet": 0.5}).met() == {"quiet": False}
    assert dataclasses.replace(hiss, goals={"loud": 2.0}).met() == {"loud": True}
    assert dataclasses.replace(tempo, better="").met() == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", "it is not JSON"),
        ("[]", "is no card"),
        ('{"kind": "something else"}', "is no card"),
    ],
)
def test_what_is_no_card_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(MelismaError, match=words):
        read_card(path)


def test_cards_of_another_version_or_without_parts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_card(path, small_card(np.ones(16), np.ones(16)))
    document = json.loads(path.read_text())
    document["protocol"]["version"] = CARD_VERSION + 1
    path.write_text(json.dumps(document))
    with pytest.raises(MelismaError, match=f"version {CARD_VERSION + 1}"):
        read_card(path)
    document["protocol"]["version"] = CARD_VERSION
    del document["rows"]
    path.write_text(json.dumps(document))
    with pytest.raises(MelismaError, match="no whole card"):
        read_card(path)


def test_damaged_embeddings_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_card(path, small_card(np.ones(16), np.ones(16)))
    embeddings_path(path).write_bytes(b"nothing")
    with pytest.raises(MelismaError, match="is damaged"):
        read_card(path)


def test_protocols_say_how_they_differ() -> None:
    mine = small_protocol()
    assert mine.differences(small_protocol(count=8, seed=3)) == []
    differences = mine.differences(small_protocol(judge="dddd", seconds=30.0))
    assert len(differences) == 2
    assert "judge" in differences[0]
    assert "length judged" in differences[1]


def test_cards_of_earlier_versions_are_read() -> None:
    """Those of version 0.5 name findings in words otherwise."""
    folder = Path(__file__).resolve().parents[2] / "docs" / "evaluation"
    for name in ("sound", "score"):
        card = read_card(folder / name / "card.json")
        assert any(piece.texts for piece in card.pieces)
        assert not any("told" in row.figure.details for row in card.rows)
