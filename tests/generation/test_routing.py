"""Which engine takes a prompt, where `generate --engine auto` may choose."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from melisma.generation.catalogue import facts_of
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.spoken import spoken
from melisma.generation.requests.abilities import check_request, engine_of
from melisma.generation.requests.request import GenerationRequest
from melisma.generation.requests.routing import as_score_request, favoured_engine
from melisma.values import Prompt, Waveform
from melisma.values.errors import MelismaError


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


def test_auto_goes_where_the_model_or_the_options_leave_one_choice() -> None:
    both = facts_of("default")
    scores = dataclasses.replace(both, sound=False)
    sound = dataclasses.replace(both, scores=False)
    assert engine_of(both, "auto", []) == (None, "")
    assert engine_of(both, "score", ["rank"]) == ("score", "")
    assert engine_of(scores, "auto", []) == ("score", "the model makes scores alone")
    assert engine_of(sound, "auto", []) == ("sound", "the model makes audio alone")
    engine, why = engine_of(both, "auto", ["bpm", "rank"])
    assert engine == "sound"
    assert "--rank" in why
    with pytest.raises(MelismaError, match='unknown engine "drums"'):
        check_request(both, "drums", [])
    with pytest.raises(MelismaError, match="--temperature applies to the audio models only"):
        check_request(both, "score", ["bpm", "temperature"])
    with pytest.raises(MelismaError, match="there is one: add --best-of"):
        check_request(both, "sound", ["rank"], best_of=1)


def test_recordings_are_not_dropped_on_the_way_to_a_score() -> None:
    sound = Waveform(samples=np.zeros((1, 100), np.float32), rate_hz=24_000)
    request = GenerationRequest(
        prompts=(Prompt(words="a waltz"),), context=AudioConditions(melody=sound)
    )
    with pytest.raises(MelismaError, match='choose the engine "sound"'):
        as_score_request(request)
    plain = dataclasses.replace(request, context=AudioConditions())
    assert as_score_request(plain).prompts[0].words == "a waltz"


def test_settings_without_a_condition_are_said_in_words() -> None:
    prompt = Prompt(words="a song", tempo_bpm=90, tonality="A minor", metre="3/4")
    assert spoken(prompt) == "a song, 90 bpm, A minor, 3/4 time"
