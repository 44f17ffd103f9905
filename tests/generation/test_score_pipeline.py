"""Generation of scores with a small model of random weights: exact settings are obeyed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from small_corpus import line, score
from small_score_model import small_score_composer

from melisma.generation.score.pipeline import ScoreContext, ScorePiece
from melisma.generation.score.prompt_conditioning import condition_on_score_prompt, conditioning_of
from melisma.generation.score.tasks import extract_melody
from melisma.lm.score.conditioning import SCORE_ATTRIBUTES
from melisma.symbolic import read_midi, write_midi
from melisma.values import Score
from melisma.values.errors import MelismaError
from melisma.values.events import DRUM_PROGRAM
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt, felt_beat

MELODY = line([60, 62, 64, 65, 67, 65, 64, 62] * 4, 40, name="melody")
PIANO = line([48, 43, 45, 41] * 4, 0, step=2.0)
PIECE = score(MELODY, PIANO, bpm=93.7)


def composed(prompt: ScorePrompt, context: ScoreContext | None = None, seed: int = 1) -> ScorePiece:
    return small_score_composer().generate_pieces(prompt, context=context, seed=seed, best_of=1)[0]


def conditioning_of_words(words: str, **settings: Any):
    generator = torch.Generator().manual_seed(0)
    return condition_on_score_prompt(
        small_score_composer().joint, ScorePrompt(words=words, **settings), generator
    )


def starts(score: Score, program: int) -> np.ndarray:
    return next(t for t in score.tracks if t.program == program).notes.start_beats


def test_exact_settings_override_the_words() -> None:
    prompt = ScorePrompt(
        words="a fast jig in C major for flute at 180 bpm",
        bars=6, tempo_bpm=71.3, tonality="F# minor", metre=(5, 4), programs=(24, DRUM_PROGRAM),
    )  # fmt: skip
    piece = composed(prompt)
    assert piece.score.tempo.bpm.tolist() == [71.3]
    assert [(m.numerator, m.denominator) for m in piece.score.metres] == [(5, 4)]
    assert piece.score.end_beats <= 30.0
    assert {(t.program, t.is_drum) for t in piece.score.tracks} <= {(24, False), (0, True)}
    assert piece.conditions["tonality"] == "F# minor"


def test_the_felt_beat_of_six_eight_is_the_dotted_quarter() -> None:
    piece = composed(ScorePrompt(words="a jig", metre=(6, 8), tempo_bpm=60.0, bars=4))
    assert piece.score.tempo.bpm.tolist() == [90.0]
    assert [felt_beat(m) for m in ((6, 8), (3, 8), (2, 2), (4, 4))] == [1.5, 0.5, 2.0, 1.0]


def test_length_in_seconds_becomes_bars() -> None:
    conditioning = conditioning_of_words(
        "a march", tempo_bpm=120.0, metre=(4, 4), duration_seconds=16.0
    )
    assert conditioning.bars == 8
    other = conditioning_of_words("a slow air", tempo_bpm=60.0, metre=(6, 8), duration_seconds=20.0)
    assert other.bars == 10


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("a piano piece in the style of Chopin", "composer", "Chopin"),
        ("something chopin-ish, real slow", "style", "romantic"),
        ("a slow mazurka", "tradition", "Polish mazurka"),
        ("Palestrina type motet for choir", "style", "renaissance"),
        ("a string quartet something like Onslow or Spohr", "style", "classical"),
        ("120BPM / Dm / 3/4 / string quartet", "tonality", "D minor"),
        ("funk drumming", "tradition", "funk drumming"),
    ],
)
def test_attributes_are_read_from_the_words(words: str, name: str, value: str) -> None:
    conditioning = conditioning_of_words(words)
    assert conditioning.attributes[name] == value
    place = [attribute for attribute, _ in SCORE_ATTRIBUTES].index(name)
    size = dict(SCORE_ATTRIBUTES)[name]
    assert conditioning_of([conditioning]).attributes[0, place] < size


def test_a_mode_alone_gets_a_sampled_tonic() -> None:
    conditioning = conditioning_of_words("a sad tune in a minor key")
    assert conditioning.mode == "minor"
    assert conditioning.tonality is not None
    assert conditioning.tonality.endswith("minor")


def test_a_style_overrides_the_words() -> None:
    assert conditioning_of_words("like Bach", style="Joplin").attributes["composer"] == "Joplin"
    assert conditioning_of_words("like Bach", style="swing").attributes["style"] == "swing"


def test_the_same_seed_gives_the_same_score() -> None:
    prompt = ScorePrompt(words="a guitar piece", bars=3)
    one, same, other = composed(prompt), composed(prompt), composed(prompt, seed=2)
    assert write_midi(one.score) == write_midi(same.score)
    assert write_midi(one.score) != write_midi(other.score)


def test_the_best_candidate_is_selected() -> None:
    piece = small_score_composer().generate_pieces("a quick march for brass", seed=3, best_of=4)[0]
    assert len(piece.candidates) == 4
    assert piece.adherence.total == pytest.approx(max(piece.candidates))


def test_a_continuation_keeps_every_note() -> None:
    more = composed(ScorePrompt(words="more", bars=3), ScoreContext(continue_from=PIECE)).score
    for before, after in zip(PIECE.tracks, more.tracks, strict=True):
        given = after.notes.start_beats < PIECE.end_beats
        assert np.array_equal(after.notes.start_beats[given], before.notes.start_beats)
        assert np.array_equal(after.notes.pitch[given], before.notes.pitch)
        assert np.array_equal(after.notes.velocity[given], before.notes.velocity)
    assert PIECE.end_beats < more.end_beats <= PIECE.end_beats + 12.0
    assert more.tempo.bpm.tolist() == [93.7]


def test_infilling_changes_only_its_bars() -> None:
    context = ScoreContext(continue_from=PIECE, infill_bars=(3, 4))
    filled = composed(ScorePrompt(words="fill it"), context).score
    assert filled.end_beats == PIECE.end_beats
    for before, after in zip(PIECE.tracks, filled.tracks, strict=True):
        for notes in (before.notes, after.notes):
            assert len(notes.pitch)
        outside = [
            (n.start_beats < 8.0) | (n.start_beats >= 16.0) for n in (before.notes, after.notes)
        ]
        assert np.array_equal(before.notes.pitch[outside[0]], after.notes.pitch[outside[1]])
    assert write_midi(filled) != write_midi(PIECE)


def test_an_accompaniment_keeps_the_melody() -> None:
    prompt = ScorePrompt(words="a bossa nova with guitar and drums")
    piece = composed(prompt, ScoreContext(melody=PIECE)).score
    assert np.array_equal(piece.tracks[0].notes.pitch, MELODY.notes.pitch)
    assert np.array_equal(piece.tracks[0].notes.start_beats, MELODY.notes.start_beats)
    assert {(t.program, t.is_drum) for t in piece.tracks[1:]} <= {(24, False), (0, True)}
    assert piece.end_beats <= 32.0


def test_an_accompaniment_keeps_the_key_of_the_whole_score() -> None:
    melody = line([64, 62, 60, 64, 62, 60] * 4, 40, name="melody")
    minor = line([45, 52, 57, 60, 64, 57, 56, 52] * 3, 0)
    context = ScoreContext(melody=score(melody, minor))
    task = context.task(conditioning_of_words("a cheerful rock band in a major key"))
    assert task.conditioning.tonality == "A minor"
    stated = context.task(conditioning_of_words("a rock band", tonality="C major"))
    assert stated.conditioning.tonality == "C major"


def test_the_melody_is_the_named_or_the_highest_track() -> None:
    low = dataclasses.replace(PIANO, name="Voice")
    assert extract_melody(score(MELODY, low)).tracks[0].name == "melody"
    plain = dataclasses.replace(MELODY, name="")
    assert extract_melody(score(plain, low)).tracks[0].name == "Voice"
    highest = extract_melody(score(plain, PIANO)).tracks[0]
    assert np.array_equal(highest.notes.pitch, MELODY.notes.pitch)
    with pytest.raises(MelismaError, match="drums alone"):
        extract_melody(score(line([36, 38], 0, is_drum=True)))


def test_a_score_survives_writing_and_reading() -> None:
    piece = composed(ScorePrompt(words="oboe and cello", bars=4)).score
    back = read_midi(write_midi(piece))
    assert [t.program for t in back.tracks] == [t.program for t in piece.tracks]
    assert [t.name for t in back.tracks] == [t.name for t in piece.tracks]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"infill_bars": (1, 2)}, "give it, too"),
        ({"melody": PIECE, "continue_from": PIECE}, "exclude each other"),
    ],
)
def test_contradictory_contexts_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(MelismaError, match=words):
        ScoreContext(**wrong)


def test_bars_beyond_the_piece_cannot_be_infilled() -> None:
    with pytest.raises(MelismaError, match="the piece has 8 bars"):
        composed(ScorePrompt(words="x"), ScoreContext(continue_from=PIECE, infill_bars=(7, 12)))


def test_a_literal_contradiction_of_metres_is_refused() -> None:
    with pytest.raises(MelismaError, match="the words say 4/4 and the setting 3/4"):
        conditioning_of_words("a march in four", metre=(3, 4))
    assert conditioning_of_words("in four movements", metre=(3, 4)).metre == (3, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"words": "x", "bars": 0},
        {"words": "x", "metre": (4, 5)},
        {"words": "x", "tempo_bpm": 500.0},
        {"words": "x", "tonality": "H dur"},
        {"words": "x", "programs": (0,) * 25},
        {"words": "x", "programs": (129,)},
        {"words": "x", "style": "dubstep"},
        {"words": "x" * 3_000},
    ],
)
def test_prompts_beyond_the_limits_are_refused(wrong: dict) -> None:
    with pytest.raises(MelismaError, match=r"\w"):
        ScorePrompt(**wrong)


def test_sampling_parameters_have_limits() -> None:
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"guidance": 99.0}):
        with pytest.raises(MelismaError, match=r"\w"):
            SamplingParams(**wrong)  # pyright: ignore[reportArgumentType]
