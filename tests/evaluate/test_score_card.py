"""Cards of scores: planted facts are met, an all-piano answer is not, and files come back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_world import RUN, judges

from melisma.analysis.similarity.melody_index import SharedRun
from melisma.evaluate.assess import Judges, ScoreToJudge, assess_scores
from melisma.evaluate.metrics.score_adherence import RequestedScoreAttributes, measure_score
from melisma.evaluate.references.score import (
    ScoreReference,
    read_score_reference,
    write_score_reference,
)
from melisma.evaluate.report.card import Card
from melisma.values import Notes, Score, TempoMap, Track, Waveform
from melisma.values.attributes import program_family

BEATS = 64
PROGRAMS = (0, 40, 73, 56)
"""Piano, violin, flute, trumpet."""


def tune(number: int, program: int, *, bpm: float = 100.0) -> Score:
    """A tune in C major in quarters and eighths, accents on the bars, over held fifths."""
    rng = np.random.default_rng(number)
    scale = np.array([60, 62, 64, 65, 67, 69, 71, 72])
    places = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 3.5])
    start = (np.arange(0, BEATS, 4)[:, None] + places).ravel()
    pitch = scale[rng.integers(0, 8, len(start))]
    pitch[start % 4 == 0] = rng.choice([60, 64, 67], BEATS // 4)
    pitch[-1] = 60
    lead = Notes(
        start_beats=start,
        duration_beats=np.full(len(start), 0.45),
        pitch=pitch,
        velocity=np.where(start % 4 == 0, 105, np.where(start % 1 == 0, 80, 65)),
    )
    bars = np.arange(0, BEATS, 4, dtype=np.float64)
    bass = Notes(
        start_beats=np.tile(bars, 2),
        duration_beats=np.full(2 * len(bars), 3.9),
        pitch=np.repeat([48, 55], len(bars)),
        velocity=np.full(2 * len(bars), 90),
    )
    tracks = tuple(
        Track(name="", program=program, is_drum=False, notes=notes) for notes in (lead, bass)
    )
    return Score(tracks=tracks, tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, bpm)))


def request(number: int) -> RequestedScoreAttributes:
    program = PROGRAMS[number % 4]
    return RequestedScoreAttributes(
        words=f"tune {number}",
        tempo_bpm=100.0,
        tonality="C major",
        mode="major",
        metre="4/4",
        families=(program_family(program, is_drum=False),),
        programs=(program,),
    )


def played(score: Score) -> Waveform:
    """Each note a sine: enough sound to be judged."""
    rate_hz, notes = 24_000, score.tracks[0].notes
    seconds = 60.0 / float(score.tempo.bpm[0])
    time = np.arange(round(12.0 * rate_hz)) / rate_hz
    sound = np.zeros(len(time))
    for start, pitch in zip(notes.start_beats * seconds, notes.pitch, strict=True):
        playing = (time >= start) & (time < start + 0.4)
        sound[playing] += 0.2 * np.sin(2 * np.pi * 440.0 * 2 ** ((pitch - 69) / 12) * time[playing])
    return Waveform(samples=sound[None].astype(np.float32), rate_hz=rate_hz)


def card_of(make: list[Score], known: Judges) -> Card:
    given = [
        ScoreToJudge(
            name=f"{number:03d}.mid",
            prompt=f"tune {number}",
            requested=request(number),
            read=partial(make.__getitem__, number),
            render=played,
        )
        for number in range(len(make))
    ]
    return assess_scores(given, known, RUN)[0]


def reference() -> ScoreReference:
    pairs = tuple(
        (request(n), measure_score(tune(n, PROGRAMS[n % 4]), request(n), None, shared))
        for n in range(8)
    )
    return ScoreReference(name="eight tunes", pairs=pairs)


def shared(score: Score) -> SharedRun:
    del score
    return SharedRun(notes=12, piece="a piece", share=0.1)


def value(card: Card, key: str) -> float:
    row = card.row(key)
    assert row is not None, key
    return row.figure.value


@pytest.fixture(scope="module")
def known() -> Judges:
    return replace(judges(with_reference=False), scores=reference(), nearest_tune=shared)


def test_planted_facts_are_met_and_another_tempo_is_not(known: Judges) -> None:
    right = card_of([tune(n, PROGRAMS[n % 4]) for n in range(8)], known)
    assert value(right, "tempo") == 1.0
    assert value(right, "families") == 1.0
    assert value(right, "metre_kind") == 1.0
    assert value(right, "tonality") >= 0.75
    assert value(right, "shared_notes") == 12.0
    row = right.row("tempo")
    assert row is not None
    assert row.figure.ceiling == 1.0
    faster = card_of([tune(n, PROGRAMS[n % 4], bpm=140.0) for n in range(8)], known)
    assert value(faster, "tempo") == 0.0


def test_an_all_piano_answer_does_not_score_well(known: Judges) -> None:
    piano = card_of([tune(n, 0) for n in range(8)], known)
    assert value(piano, "families") == pytest.approx(0.25)
    row = piano.row("families")
    assert row is not None
    assert row.figure.chance is not None
    assert row.figure.value <= row.figure.chance + 1e-9


def test_missing_indexes_and_references_are_reported(known: Judges) -> None:
    card = card_of([tune(0, 0), tune(1, 40)], replace(known, nearest_tune=None))
    notes = " ".join(card.notes)
    assert "melisma train prints" in notes
    assert "no reference set" in notes
    assert card.protocol.subject == "score"


def test_a_reference_of_scores_comes_back_from_its_file(tmp_path: Path) -> None:
    before = reference()
    write_score_reference(tmp_path / "scores.safetensors", before)
    after = read_score_reference(tmp_path / "scores.safetensors")
    assert after == before
    assert after.digest == before.digest
