"""Traditions are learnt from notes only: not from instruments, loudness, tempo or key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melisma.data.sources.pieces import Source
from melisma.evaluate.models.tradition_classifier import (
    CHECKPOINT_NAME,
    TRADITION_CLASSES,
    TraditionClassifier,
    TraditionSettings,
    class_of_composer,
    class_of_source,
    piece_features,
    train_classifier,
)
from melisma.evaluate.models.tradition_features import WIDTH, score_windows, window_features
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError

SMALL = TraditionSettings(hidden=16, members=2, updates=60, batch=32)


def piece(seed: int, leaps: bool, beats: int = 64) -> Score:
    """Stepwise quarters over a drone, or leaping triplets over chords."""
    rng = np.random.default_rng(seed)
    wait = 1 / 3 if leaps else 0.5
    count = int(beats / wait)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19])
    step = rng.integers(-4, 5, count) if leaps else rng.integers(-1, 2, count)
    tune = 60 + scale[np.clip(np.abs(np.cumsum(step)) % 22 - 11, -11, 11)]
    bass_start = np.arange(0, beats, 1.0 if leaps else 4.0)
    bass = 36 + scale[rng.integers(0, 5, len(bass_start))]
    start = np.concatenate([np.arange(count) * wait, bass_start])
    pitch = np.concatenate([tune, bass])
    order = np.lexsort((pitch, start))
    notes = Notes(
        start_beats=start[order],
        duration_beats=np.full(len(start), wait),
        pitch=pitch[order],
        velocity=np.full(len(start), 80),
    )
    return Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
    )


def a_source(**columns: str) -> Source:
    return Source(
        identity="corpus/x.mid",
        group="x",
        licence="CC0",
        source_repo="",
        attribution="",
        midi_bytes=b"",
        corpus=columns.get("corpus", "mutopia"),
        composer=columns.get("composer"),
        title=columns.get("title"),
        style=columns.get("style"),
    )


@pytest.fixture(scope="module")
def judge() -> TraditionClassifier:
    rows = [(piece_features(piece(seed, seed % 2 == 1)), seed) for seed in range(24)]
    features = np.concatenate([row for row, _ in rows])
    classes = np.array([3 * (seed % 2) for row, seed in rows for _ in row])
    pieces = np.array([seed for row, seed in rows for _ in row])
    return train_classifier(features, classes, pieces, 0, SMALL)


def test_figures_ignore_instrument_loudness_tempo_and_tonality() -> None:
    score = piece(1, True)
    found = window_features(score_windows(score)[0])
    assert found is not None
    assert found.shape == (WIDTH,)
    assert np.isfinite(found).all()
    notes = score.tracks[0].notes
    half = len(notes) // 2
    parts = [
        Track(
            notes=Notes(
                start_beats=notes.start_beats[kept],
                duration_beats=notes.duration_beats[kept],
                pitch=notes.pitch[kept],
                velocity=np.full(int(kept.sum()), 30),
            ),
            program=program,
            is_drum=False,
        )
        for program, kept in (
            (40, np.arange(len(notes)) < half),
            (19, np.arange(len(notes)) >= half),
        )
    ]
    drums = Track(notes=notes, program=0, is_drum=True)
    other = replace(
        score, tracks=(*parts, drums), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 53.0))
    )
    again = window_features(score_windows(other)[0])
    assert again is not None
    np.testing.assert_allclose(again, found, atol=1e-6)


def test_transposition_moves_only_the_register() -> None:
    score = piece(2, False)
    track = score.tracks[0]
    higher = replace(track.notes, pitch=track.notes.pitch + 2)
    moved = replace(score, tracks=(replace(track, notes=higher),))
    found, again = (window_features(score_windows(s)[0]) for s in (score, moved))
    assert found is not None
    assert again is not None
    assert (np.abs(found - again) > 1e-4).sum() < 40


def test_long_pieces_have_several_windows_and_empty_ones_none() -> None:
    assert len(score_windows(piece(3, True, beats=200))) == 3
    assert piece_features(piece(3, True, beats=200), most=2).shape == (2, WIDTH)
    silent = Score(tracks=(), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)))
    assert score_windows(silent) == []
    assert piece_features(silent).shape == (0, WIDTH)


def test_two_styles_are_distinguished(judge: TraditionClassifier) -> None:
    right = 0
    for seed in range(100, 110):
        probability = judge.judge(piece(seed, seed % 2 == 1))
        assert probability is not None
        assert probability.sum() == pytest.approx(1.0)
        right += int(np.argmax(probability) == 3 * (seed % 2))
    assert right >= 9


def test_a_judge_comes_back_from_its_file(judge: TraditionClassifier, tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT_NAME
    judge.write(path)
    features = piece_features(piece(5, True))
    again = TraditionClassifier.read(path).probabilities(features)
    np.testing.assert_allclose(again, judge.probabilities(features), atol=1e-6)


def test_nothing_to_judge_or_to_learn(judge: TraditionClassifier) -> None:
    silent = Score(tracks=(), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)))
    assert judge.judge(silent) is None
    nothing = np.zeros(0, dtype=np.int64)
    with pytest.raises(MelismaError, match="no window"):
        train_classifier(np.zeros((0, WIDTH), dtype=np.float32), nothing, nothing, 0)


def test_traditions_of_sources() -> None:
    assert class_of_composer("Mozart") == "Viennese classics"
    assert class_of_composer("Nobody") is None
    assert class_of_source(a_source(composer="J. S. Bach (1685-1750)")) == "baroque"
    assert class_of_source(a_source(composer="ChopinFF", title="Nocturne")) == "Chopin"
    assert class_of_source(a_source(composer="Traditional", style="Folk")) == "folk tunes"
    assert class_of_source(a_source(composer="Tom Turpin", title="The Harlem Rag")) == "ragtime"
    assert class_of_source(a_source(corpus="freedoom", composer="Somebody")) == "game music"
    assert class_of_source(a_source(corpus="groove")) is None
    polish = a_source(corpus="polish_scores", composer="Dankowski, Adalbert", style="Sacred; Mass")
    assert class_of_source(polish) == "Polish church music"
    assert len(set(TRADITION_CLASSES)) == len(TRADITION_CLASSES) >= 8
