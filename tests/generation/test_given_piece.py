"""A given piece stays what it is, whatever is written after it or into it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from small_corpus import line, score
from small_score_model import small_score_composer

from melisma.generation.score import pipeline as score_pipeline
from melisma.generation.score.given_piece import GivenPiece, restored_controls
from melisma.generation.score.pipeline import ScoreContext
from melisma.generation.score.tasks import (
    ScoreTask,
    compared_notes,
    infilling_task,
    nearly_empty_penalty,
    nearly_empty_remarks,
)
from melisma.lm.score.rows import is_note
from melisma.symbolic import read_midi, write_midi
from melisma.symbolic.events import group_parts, join_parts
from melisma.values import ChordMark, Score
from melisma.values.events import TICKS_PER_BEAT
from melisma.values.score import PITCH_BEND, Controls, KeySignature, ScoreText
from melisma.values.score_prompt import ScorePrompt

TEXTS = (
    ScoreText(beat=0.0, kind="title", text="My Song"),
    ScoreText(beat=0.0, kind="copyright", text="(c) me"),
    ScoreText(beat=4.0, kind="marker", text="Verse"),
)
KEYS = (
    KeySignature(beat=0.0, sharps=-3, is_minor=True),
    KeySignature(beat=8.0, sharps=0, is_minor=False),
)


def controls(*values: tuple[float, int, int]) -> Controls:
    beats, number, value = (list(column) for column in zip(*values, strict=True))
    return Controls(beats=np.array(beats), number=np.array(number), value=np.array(value))


def given(parts: int = 2) -> Score:
    """A piece of some parts with everything that a file can say."""
    tracks = [
        replace(
            line([60 + i % 12, 64, 67, 64] * 4, i, name=f"part {i}"),
            controls=controls((0.0, 7, 30 + i), (0.0, 10, 20)),
            texts=(ScoreText(beat=1.0, kind="lyric", text="la-"),),
        )
        for i in range(parts)
    ]
    return replace(score(*tracks, bpm=96.0), texts=TEXTS, keys=KEYS)


@pytest.mark.parametrize("infill", [None, (2, 3)])
@pytest.mark.parametrize("parts", [2, 30])
def test_everything_that_was_given_stays(infill: tuple[int, int] | None, parts: int) -> None:
    piece = given(parts)
    context = ScoreContext(continue_from=piece, infill_bars=infill)
    prompt = ScorePrompt(words="more", bars=None if infill else 1, has_prefix=True)
    (made,) = small_score_composer().generate_pieces(prompt, context=context, seed=1, best_of=1)
    made = read_midi(write_midi(made.score))
    assert (made.title, made.texts, made.keys) == ("My Song", TEXTS, KEYS)
    assert made.chords == ()
    assert [(t.name, t.program) for t in made.tracks] == [(t.name, t.program) for t in piece.tracks]
    first, stop = (4.0, 12.0) if infill else (16.0, 16.0)
    read = {i for group in group_parts(piece) for i in group}
    for index, (before, after) in enumerate(zip(piece.tracks, made.tracks, strict=True)):
        assert after.texts == before.texts
        assert after.controls.value.tolist() == before.controls.value.tolist()
        start, new = before.notes.start_beats, after.notes.start_beats
        kept = (start < first) | (start >= stop) | (index not in read)
        same = (new < first) | ((new >= stop) & (new < 16.0)) | (index not in read)
        np.testing.assert_array_equal(before.notes.pitch[kept], after.notes.pitch[same])
        np.testing.assert_allclose(
            before.notes.duration_beats[kept], after.notes.duration_beats[same], atol=1e-3
        )


def test_parts_that_the_model_does_not_read_are_named() -> None:
    prompt = ScorePrompt(words="more", bars=1, has_prefix=True)
    context = ScoreContext(continue_from=given(30))
    (made,) = small_score_composer().generate_pieces(prompt, context=context, seed=1, best_of=1)
    assert made.score.remarks[0].startswith("the model reads at most 24 parts: 6 parts with 96")


def test_chord_symbols_go_on_where_there_were_some() -> None:
    piece = replace(given(), chords=(ChordMark(beat=0.0, name="C"),))
    prompt = ScorePrompt(words="more", bars=2, has_prefix=True)
    context = ScoreContext(continue_from=piece)
    (made,) = small_score_composer().generate_pieces(prompt, context=context, seed=1, best_of=1)
    assert made.score.chords[0] == piece.chords[0]
    assert all(chord.beat >= 16.0 for chord in made.score.chords[1:])


def test_another_key_of_the_continuation_is_signed() -> None:
    prompt = ScorePrompt(words="more", bars=1, tonality="D major", has_prefix=True)
    context = ScoreContext(continue_from=given())
    (made,) = small_score_composer().generate_pieces(prompt, context=context, seed=1, best_of=1)
    assert made.score.keys == (*KEYS, KeySignature(beat=16.0, sharps=2, is_minor=False))


def test_new_notes_are_not_silent_after_a_fade_out() -> None:
    faded = controls((0.0, 7, 100), (0.0, PITCH_BEND, 9_000), (8.0, 7, 90), (15.0, 7, 0))
    after = restored_controls(faded, 16.0)
    assert after.number[4:].tolist() == [7, PITCH_BEND]
    assert after.value[4:].tolist() == [90, 8_192]
    assert after.beats[4:].tolist() == [16.0, 16.0]
    steady = controls((0.0, 7, 30), (0.0, 10, 0))
    assert len(restored_controls(steady, 16.0)) == 2


def test_joined_parts_are_those_of_the_groups() -> None:
    tracks = [line([60, 62 + i], i // 2, name=f"part {i}") for i in range(60)]
    piece = score(*tracks)
    groups, joined = group_parts(piece), join_parts(piece)
    assert len(groups) == len(joined.tracks) == 24
    for group, track in zip(groups, joined.tracks, strict=True):
        assert track.name == piece.tracks[group[0]].name
        assert len(track.notes) == sum(len(piece.tracks[i].notes) for i in group)


def test_a_continuation_follows_a_long_last_note_without_a_gap() -> None:
    """The last note ends on the bar line, but its duration class, 108 ticks, does not."""
    last = line([60, 62, 64, 65, 67], 0)
    notes = replace(
        last.notes,
        start_beats=np.array([0.0, 1.0, 2.0, 3.0, 88 / TICKS_PER_BEAT]),
        duration_beats=np.array([1.0, 1.0, 1.0, 0.5, 104 / TICKS_PER_BEAT]),
    )
    piece = score(replace(last, notes=notes))
    encoded = GivenPiece(piece)
    assert encoded.bars == 2
    assert encoded.starts.tolist() == [0, 96, 192]


def test_new_bars_are_compared_with_their_neighbours() -> None:
    piece = score(line([60] * 32, 0), line([48] * 16, 40, step=2.0))
    encoded = GivenPiece(piece)
    compare = partial(compared_notes, encoded, first=2, stop=4)
    assert compare(piece, silent=frozenset()) == (12, 12.0)
    assert compare(piece, silent=frozenset((1,))) == (8, 8.0)
    assert compared_notes(encoded, piece, 0, 8, frozenset()) == (48, 0.0)
    notes = piece.tracks[0].notes
    kept = (notes.start_beats < 8) | (notes.start_beats >= 15)
    rest = type(notes)(**{name: column[kept] for name, column in vars(notes).items()})
    emptied = replace(piece, tracks=(replace(piece.tracks[0], notes=rest), piece.tracks[1]))
    assert compare(emptied, silent=frozenset((1,))) == (1, 8.0)


def test_nearly_empty_bars_rank_last_and_are_remarked_on() -> None:
    assert nearly_empty_penalty(3, 12.0) == 0.0
    assert nearly_empty_penalty(0, 0.0) == 0.0
    assert nearly_empty_penalty(0, 12.0) > nearly_empty_penalty(2, 12.0) > 10.0
    assert nearly_empty_remarks(3, 12.0) == nearly_empty_remarks(5, 0.0) == []
    (remark,) = nearly_empty_remarks(1, 212.4)
    assert "1 note, their neighbours about 212" in remark


def test_the_fuller_candidate_fills_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidates but the third lose the notes of their new bars."""
    made: list[Score] = []

    def thinned(*arguments: Any) -> ScoreTask:
        task = infilling_task(*arguments)

        def finish(rows: np.ndarray) -> Score:
            made.append(task.finish(rows if len(made) == 2 else rows[~is_note(rows)]))
            return made[-1]

        return replace(task, finish=finish)

    monkeypatch.setattr(score_pipeline, "infilling_task", thinned)
    context = ScoreContext(continue_from=given(), infill_bars=(2, 3))
    (piece,) = small_score_composer().generate_pieces("more", context=context, seed=1, best_of=4)
    assert np.argmax(piece.candidates) == 2
    counts = [sum(len(track.notes) for track in one.tracks) for one in made]
    assert sum(len(track.notes) for track in piece.score.tracks) == counts[2] > counts[0]
    assert piece.score.remarks == made[2].remarks == ()
    assert "no notes" in made[0].remarks[-1]
