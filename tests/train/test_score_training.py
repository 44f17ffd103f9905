"""The score model's corpus and training, at their smallest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import groove, quartet, score, song, write_corpus

from melisma.analysis.labels.chords import chord_marks
from melisma.data.score_shards import ScoreRows, ScoreSettings, write_score_shards
from melisma.data.sources.pieces import read_sources
from melisma.files.shards.lock import locked
from melisma.generation.loading import load_scores
from melisma.generation.resolve import model_folder
from melisma.joint import JointEmbedding
from melisma.lm.score.conditioning import SCORE_ATTRIBUTES
from melisma.lm.score.model import ScoreModelSettings
from melisma.lm.score.rows import home_shift, transposed
from melisma.recipes import run_recipe
from melisma.symbolic import write_midi
from melisma.symbolic.events import decode_score, encode_score
from melisma.train.datasets.score import ScoreCorpus, read_score_corpus
from melisma.train.log import LOG_NAME, read_log
from melisma.train.loop import LoopSettings, Run
from melisma.train.score import (
    ScoreObjective,
    ScoreTraining,
    conditions_of,
    example_of,
    moved_rows,
    similar_lengths,
)
from melisma.values import Notes, Score, Track
from melisma.values.errors import MelismaError
from melisma.values.events import BAR, END, FIELD_SIZES, FIRST_DRUM, PART, PITCH, POSITION

SMALL = ScoreTraining(
    model=ScoreModelSettings(width=40, layers=2, heads=2),
    loop=LoopSettings(updates=4, warmup_updates=1, learning_rate=3e-3),
    batch=4,
    longest=128,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pieces as events."""
    folder = tmp_path_factory.mktemp("scores")
    pieces = {"a.mid": song(), **{f"q{i}.mid": quartet(i) for i in range(4)}}
    write_corpus(folder / "corpora", "songs", pieces)
    write_corpus(folder / "corpora", "groove", {"g.mid": groove()})
    sources = read_sources(folder / "corpora")
    splits = {source.identity: "train" for source in sources}
    settings = ScoreSettings(window_events=80, recast_share=1.0)
    write_score_shards(folder / "train", ScoreRows(sources, splits, settings), 2)
    return folder


@pytest.fixture(scope="module")
def joint() -> JointEmbedding:
    return JointEmbedding.read(model_folder("default") / "joint.safetensors")


@pytest.fixture(scope="module")
def corpus(folder: Path, joint: JointEmbedding) -> ScoreCorpus:
    return read_score_corpus(folder / "train", joint)


def test_windows_are_whole_bars_with_the_parts_that_play(corpus: ScoreCorpus) -> None:
    assert len(corpus) > 10
    assert corpus.weight.sum() == pytest.approx(1.0)
    for window in range(len(corpus)):
        rows = corpus.events[slice(*corpus.spans[window])]
        head = rows[rows[:, POSITION] == PART]
        assert (rows[: len(head), POSITION] == PART).all()
        assert rows[len(head), POSITION] == BAR
        assert len(decode_score(rows).tracks) == len(head)
        bars = int((rows[:, POSITION] == BAR).sum())
        ended = rows[-1, POSITION] == END
        assert (corpus.bars_left[window] == bars) == ended


def test_facts_are_told_in_classes(corpus: ScoreCorpus) -> None:
    sizes = np.array([size for _, size in SCORE_ATTRIBUTES])
    assert (corpus.attributes <= sizes).all()
    assert all((corpus.attributes[:, place] < sizes[place]).any() for place in range(3))
    assert np.allclose(np.linalg.norm(corpus.words.astype(float), axis=-1), 1.0, atol=0.01)


def test_the_words_are_embedded_once(
    corpus: ScoreCorpus, folder: Path, joint: JointEmbedding
) -> None:
    kept = list((folder / "train").glob("words-*.npz"))
    assert len(kept) == 1
    again = read_score_corpus(folder / "train", joint)
    assert np.array_equal(again.words, corpus.words)


def test_every_window_is_told_on_c(corpus: ScoreCorpus) -> None:
    place = [name for name, _ in SCORE_ATTRIBUTES].index("tonality")
    rng = np.random.default_rng(0)
    for window in np.flatnonzero(corpus.attributes[:, place] < 24)[:10]:
        tonality = int(corpus.attributes[window, place])
        before = corpus.events[slice(*corpus.spans[window])].astype(np.int64)
        rows, attributes, moved = moved_rows(corpus, int(window), rng, 0.0, True)
        assert not moved
        assert attributes[place] == tonality // 12 * 12
        pitched = (before[:, POSITION] < BAR) & (before[:, PITCH] < FIRST_DRUM)
        shifts = set((rows[pitched, PITCH] - before[pitched, PITCH]).tolist())
        assert shifts == {home_shift(tonality)}
        assert (tonality + home_shift(tonality)) % 12 == 0
        assert np.array_equal(transposed(rows, -home_shift(tonality)), before)


def triads(*roots: tuple[int, int]) -> Score:
    """A bar of a triad on each (root, third)."""
    rows = [(4.0 * i, root + up) for i, (root, third) in enumerate(roots) for up in (0, third, 7)]
    notes = Notes(
        start_beats=np.array([beat for beat, _ in rows]),
        duration_beats=np.full(len(rows), 4.0),
        pitch=np.array([pitch for _, pitch in rows]),
        velocity=np.full(len(rows), 80),
    )
    return score(Track(notes=notes, program=0, is_drum=False))


def test_chords_are_read_from_the_notes_and_move_with_them() -> None:
    piece = triads((48, 4), (57, 3), (53, 4))
    marks = chord_marks(piece)
    assert [mark.name for mark in marks] == ["C", "Am", "F"]
    assert [mark.beat for mark in marks] == [0.0, 4.0, 8.0]
    assert chord_marks(groove()) == ()
    rows = encode_score(dataclasses.replace(piece, chords=marks)).astype(np.int64)
    moved = decode_score(transposed(rows, 5))
    assert [mark.name for mark in moved.chords] == ["F", "Dm", "Bb"]


def test_given_and_later_events_are_not_counted(corpus: ScoreCorpus) -> None:
    task = ScoreObjective(SMALL, corpus, corpus)
    rng = np.random.default_rng(0)
    tunes = dataclasses.replace(SMALL, melody=1.0, infill=0.0)
    windows = similar_lengths(corpus, 8, rng)
    examples = [example_of(corpus, int(w), rng, tunes) for w in windows]
    assert any((e.sequence.roles == 1).any() for e in examples)
    by_field, notes = task.negative_log_likelihood(
        examples, conditions_of(corpus, windows, examples), 0.0
    )
    counted = sum(int((e.sequence.roles == 0).sum()) for e in examples)
    assert len(by_field) == counted
    assert 0 < notes < counted
    assert torch.isfinite(by_field).all()


def test_batches_without_anything_to_learn_are_passed_over(
    corpus: ScoreCorpus, tmp_path: Path
) -> None:
    """Whatever the settings leave of a window, a training goes on."""
    for longest in (1, 2, 5, 9):
        settings = dataclasses.replace(
            SMALL, longest=longest, piece_start_events=longest, batch=2, melody=1.0, infill=0.0
        )
        run = Run(ScoreObjective(settings, corpus, corpus), SMALL.loop, tmp_path / str(longest))
        run.run(lambda _: None)
        assert run.number == SMALL.loop.updates
        if longest == 1:  # the declaration of a part, and no note
            assert read_log(run.folder / LOG_NAME)[0]["nats_a_note"] is None
        assert all(torch.isfinite(tensor).all() for tensor in run.average.values())


def test_a_batch_of_given_events_alone_changes_nothing(
    corpus: ScoreCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(ScoreObjective(SMALL, corpus, corpus), SMALL.loop, tmp_path)
    before = [tensor.clone() for tensor in run.average.values()]
    monkeypatch.setattr(
        run.task, "negative_log_likelihood", lambda *_: (torch.zeros(0, len(FIELD_SIZES)), 0)
    )
    assert run.update()["empty_batch"] == 1.0
    assert run.number == 1
    for one, other in zip(before, run.average.values(), strict=True):
        assert torch.allclose(one, other)


def test_learning_lowers_the_loss_and_resumes_exactly(corpus: ScoreCorpus, tmp_path: Path) -> None:
    def run_of(folder: Path, updates: int) -> Run:
        settings = dataclasses.replace(
            SMALL, loop=dataclasses.replace(SMALL.loop, updates=updates, checkpoint_updates=2)
        )
        return Run(ScoreObjective(settings, corpus, corpus), settings.loop, folder)

    whole = run_of(tmp_path / "whole", 4)
    figures = [whole.update() for _ in range(4)]
    assert figures[-1]["nats"] < figures[0]["nats"]
    half = run_of(tmp_path / "half", 4)
    half.update()
    half.update()
    (tmp_path / "half").mkdir()
    half.save()
    resumed = run_of(tmp_path / "half", 4)
    assert resumed.resume()
    resumed.update()
    resumed.update()
    for name, tensor in whole.average.items():
        assert torch.equal(tensor, resumed.average[name]), name


@pytest.mark.slow
def test_a_folder_of_midi_files_becomes_a_composer(tmp_path: Path) -> None:
    data = tmp_path / "mine"
    data.mkdir()
    for i in range(3):
        (data / f"{i}.mid").write_bytes(write_midi(quartet(i)))
    (data / "broken.mid").write_bytes(b"MThd nothing")
    changes = {
        "size": "toy", "score.loop.updates": "3", "score.loop.warmup_updates": "1",
        "score.loop.sample_updates": "3",
    }  # fmt: skip
    run_recipe("score", data=data, output=tmp_path / "run", changes=changes, device="cpu")
    composer = load_scores(str(tmp_path / "run" / "model"))
    piece = composer.generate_pieces("a string quartet", best_of=1)[0]
    assert {track.program for track in piece.score.tracks} <= {40, 41, 42}
    weights = (tmp_path / "run" / "score" / "weights.safetensors").read_bytes()
    again = {"data": data, "output": tmp_path / "run", "device": "cpu"}
    with pytest.raises(MelismaError, match=r"score holds a training already: add --resume"):
        run_recipe("score", changes=changes, **again)
    for name, value, said in (
        ("score.loop.seed", "77", r"loop\.seed was 1, now 77"),
        ("score.batch", "2", r"batch was \d+, now 2"),
        ("score_rows.window_events", "99", r"settings\.window_events was \d+, now 99"),
    ):
        with pytest.raises(MelismaError, match=said):
            run_recipe("score", changes={**changes, name: value}, resume=True, **again)
    with locked(tmp_path / "run"), pytest.raises(MelismaError, match="is in use by process"):
        run_recipe("score", changes=changes, resume=True, **again)
    leftover = tmp_path / "run" / "model" / ".score_lm-abcdefgh.safetensors"
    leftover.touch()
    run_recipe("score", changes=changes, resume=True, **again)
    assert not leftover.exists()
    assert (tmp_path / "run" / "score" / "weights.safetensors").read_bytes() == weights
    (data / "0.mid").unlink()
    with pytest.raises(MelismaError, match=r"settings\.sources\.pieces was \d, now \d"):
        run_recipe("score", changes=changes, resume=True, **again)
    with pytest.raises(MelismaError, match="holds no MIDI file"):
        run_recipe("score", data=tmp_path / "run" / "model", output=tmp_path / "other")
