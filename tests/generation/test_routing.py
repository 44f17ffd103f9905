"""Which engine takes a prompt, where `generate --engine auto` may choose."""

from __future__ import annotations

import pytest

from melisma.generation.requests.routing import favoured_engine


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        ("a waltz for clarinet in D minor", "score"),
        ("a dark ambient drone in A minor", "score"),
        ("a dark ambient drone", "sound"),
        ("something like Chopin", "score"),
        ("a slow mazurka", "score"),
        ("a dance in 6/8", "score"),
        ("flute, harp and drums", "score"),
        ("a quiet evening with a guitar", "sound"),
        ("a rainy Sunday in a small café, 90 bpm", "sound"),
    ],
)
def test_the_words_decide(words: str, engine: str) -> None:
    assert favoured_engine(words, False)[0] == engine


def test_exact_settings_ask_for_a_score_and_every_choice_has_a_reason() -> None:
    engine, why = favoured_engine("a dark ambient drone", True)
    assert engine == "score"
    assert "exact settings" in why
    assert len(favoured_engine("", False)[1]) > 10
