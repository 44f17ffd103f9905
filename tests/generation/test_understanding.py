"""Nothing of a prompt is passed over in silence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_score_model import small_score_composer

from melisma.generation.conditioning.prompt import condition_on_prompt, understanding_of_prompt
from melisma.generation.conditioning.understanding import (
    ARTIST,
    CHANGE,
    CONTRADICTED,
    FOR_SCORES,
    GIVEN,
    LENGTH,
    NO_KNOWN_WORD,
    NO_TEXT,
    OTHER_SCRIPT,
    OUT_OF_RANGE,
    PICTURE,
    WITHOUT,
    Understanding,
    read_by_another_encoder,
)
from melisma.generation.score.prompt_conditioning import (
    condition_on_score_prompt,
    understanding_of_score,
)
from melisma.generation.score.tasks import ScoreTask, accompaniment_task, continuation_task
from melisma.values import Metre, Notes, Prompt, Score, TempoMap, Track
from melisma.values.score_prompt import ScorePrompt


def of_sound(words: str, **exact: object) -> Understanding:
    prompt = Prompt(words=words, **exact)  # type: ignore[arg-type] # exact settings of any type
    generator = torch.Generator().manual_seed(0)
    found = condition_on_prompt(small_score_composer().joint, prompt, generator)
    return understanding_of_prompt(prompt, found, found.shown())


def of_score(words: str, **exact: object) -> Understanding:
    prompt = ScorePrompt(words=words, **exact)  # type: ignore[arg-type] # exact settings of any type
    generator = torch.Generator().manual_seed(0)
    return understanding_of_score(
        condition_on_score_prompt(small_score_composer().joint, prompt, generator)
    )


def test_what_is_stated_is_understood() -> None:
    for found in (of_sound, of_score):
        parts = found("a waltz in F# minor at 90 bpm for piano, no drums")
        assert parts.understood["tempo"] == "90 bpm"
        assert parts.understood["tonality"] == "F# minor"
        assert parts.understood["metre"] == "3/4"
        assert parts.understood["instruments"] == "piano"
        assert parts.understood["without"] == "drums"
        assert parts.not_understood == ()
        assert not set(parts.understood) & set(parts.chosen_freely)


def test_settings_are_understood_as_words_are() -> None:
    parts = of_sound("a tune", tempo_bpm=77.0, tonality="D minor", metre="3/4", without="drums")
    understood = {"tempo": "77 bpm", "tonality": "D minor", "metre": "3/4", "without": "drums"}
    assert parts.understood == understood
    parts = of_score("a tune", tempo_bpm=77.0, style="Chopin", without=("drums",))
    assert parts.understood == {"tempo": "77 bpm", "composer": "Chopin", "without": "drums"}


@pytest.mark.parametrize(
    ("words", "text", "reason"),
    [
        ("忧伤的钢琴曲", "忧伤的钢琴曲", OTHER_SCRIPT),
        ("медленный вальс", "медленный вальс", OTHER_SCRIPT),
        ("slow 🎻 waltz", "🎻", PICTURE),
        ("a song like Taylor Swift", "Taylor Swift", ARTIST),
        ("a song like taylor swift", "taylor swift", ARTIST),
        ("piano in the style of Radiohead", "Radiohead", ARTIST),
        ("drums by Daft Punk", "Daft Punk", ARTIST),
        ("death metal", "death metal", NO_KNOWN_WORD),
        ("reggae", "reggae", NO_KNOWN_WORD),
        ("a calm piece that becomes loud", "that becomes loud", CHANGE),
        ("flute, crescendo towards the end", "crescendo towards the end", CHANGE),
        (" ?! ", "?!", NO_TEXT),
        ("12345", "12345", NO_KNOWN_WORD),
        ("piano, 99999 bpm", "99999 bpm", OUT_OF_RANGE),
        ("organ drone, 12 bpm", "12 bpm", OUT_OF_RANGE),
        ("eight bars of flute", "eight bars", LENGTH),
        ("a 16-bar loop for piano", "16-bar", LENGTH),
        ("piano, 1 minute long", "1 minute long", LENGTH),
        ("harp in G minor, but not in a minor key", "in a minor key", CONTRADICTED),
    ],
)
def test_what_is_not_understood_is_named(words: str, text: str, reason: str) -> None:
    for found in (of_sound, of_score):
        missed = {(one.text, one.reason) for one in found(words).not_understood}
        assert (text, reason) in missed


def test_a_tradition_is_understood_by_the_model_that_knows_it() -> None:
    assert of_score("a tango").understood["tradition"] == "tango"
    [missed] = of_sound("a tango").not_understood
    assert (missed.text, missed.reason) == ("tango", FOR_SCORES)


def test_known_composers_are_no_foreign_artists() -> None:
    assert of_score("a nocturne by Frederic Chopin").understood["composer"] == "Chopin"
    reasons = [one.reason for one in of_score("a nocturne by Chopin").not_understood]
    assert ARTIST not in reasons


def test_a_metre_that_is_not_used_is_named() -> None:
    assert "17/16" in [one.text for one in of_score("a tune in 17/16").not_understood]
    assert "metre" not in of_score("a tune in 17/16").understood


def with_given(words: str, make: Callable[..., ScoreTask], **exact: object) -> Understanding:
    """Of a continuation or an accompaniment of four bars for flute in C major at 90 bpm."""
    notes = Notes(
        start_beats=np.arange(16.0), duration_beats=np.ones(16),
        pitch=np.array([60, 64, 67, 72, 65, 69, 72, 69, 67, 71, 74, 71, 64, 67, 72, 72]),
        velocity=np.full(16, 80),
    )  # fmt: skip
    score = Score(
        tracks=(Track(notes=notes, program=73, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.array([90.0])),
        metres=(Metre(beat=0.0, numerator=4, denominator=4),),
    )
    prompt = ScorePrompt(words=words, has_prefix=True, **exact)  # type: ignore[arg-type] # any type
    generator = torch.Generator().manual_seed(0)
    found = condition_on_score_prompt(small_score_composer().joint, prompt, generator)
    return understanding_of_score(make(found, score).conditioning)


def test_what_a_given_piece_decides_is_not_chosen_freely() -> None:
    parts = with_given("by Chopin, in 3/4", continuation_task)
    taken = dict(parts.from_given_piece)
    assert (taken["tempo"], taken["metre"], taken["instruments"]) == ("90 bpm", "4/4", "flute")
    assert not set(taken) & {*parts.understood, *parts.chosen_freely}
    assert parts.understood["composer"] == "Chopin"
    assert ("3/4", GIVEN) in [(one.text, one.reason) for one in parts.not_understood]
    parts = with_given("a duet in G major", continuation_task)
    assert ("G major", GIVEN) in [(one.text, one.reason) for one in parts.not_understood]
    assert parts.from_given_piece["tonality"] == "C major"
    assert not {"mode", "tonality"} & set(parts.understood)
    parts = with_given("", accompaniment_task, tonality="D minor", style="ragtime")
    assert parts.understood.items() >= {"tonality": "D minor"}.items()
    assert not {"tonality", "style", "tradition"} & set(parts.from_given_piece)
    assert parts.from_given_piece["instruments"] == "flutes"
    assert of_score("a waltz").from_given_piece == {}


def test_a_metre_in_digits_is_requested_though_no_detector_knows_it() -> None:
    prompt = ScorePrompt(words="in 7/8 time, a dance for violin")
    generator = torch.Generator().manual_seed(0)
    found = condition_on_score_prompt(small_score_composer().joint, prompt, generator)
    assert (found.stated.metre, found.metre) == ("7/8", (7, 8))
    assert "metre" not in found.attributes
    assert understanding_of_score(found).understood["metre"] == "7/8"


@pytest.mark.parametrize(
    "words", ["twelve bar blues, 60 beats per minute", "piano, not in a minor key", "two violins"]
)
def test_what_is_no_length_and_no_contradiction_is_not_named_as_one(words: str) -> None:
    for found in (of_sound, of_score):
        reasons = {one.reason for one in found(words).not_understood}
        assert not reasons & {LENGTH, CONTRADICTED}


def test_filling_words_are_not_named() -> None:
    for words in ("I would like you to write a nice piece of music for me, please", "a tune"):
        assert of_sound(words).not_understood == ()


def test_another_text_encoder_reads_every_word_in_latin_script() -> None:
    parts = read_by_another_encoder("reggae 🎻 музыка, no drums", {"text": "3 tokens"})
    assert [one.text for one in parts.not_understood] == ["🎻", "музыка"]
    assert parts.understood["left out of the words"] == "what they exclude"


@settings(max_examples=12, deadline=None)
@given(st.text(min_size=1, max_size=60).filter(lambda text: text.isprintable() and text.strip()))
def test_any_prompt_has_three_parts_fit_for_json(words: str) -> None:
    prompt = Prompt(words=f"tune {words}")
    found = of_sound(prompt.words)
    assert set(found.as_json()) == {
        "understood", "not_understood", "from_given_piece", "chosen_freely",
    }  # fmt: skip
    assert all(one.text in prompt.words for one in found.not_understood)


def test_what_without_excludes_is_said_of_the_words_that_ask_for_it() -> None:
    missed = of_score("a piano piece", without=("piano",)).not_understood
    assert ("piano", WITHOUT) in [(one.text, one.reason) for one in missed]
