"""Requested against measured attributes of scores, and the shipped prompts."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melisma.analysis.audio.tempo import meets_tempo
from melisma.analysis.similarity.melody_index import SharedRun
from melisma.evaluate.metrics.score_adherence import (
    TEMPO_TOLERANCE,
    MeasuredScoreAttributes,
    RequestedScoreAttributes,
    adherence_mark,
    instrument_marks,
    measure_score,
    meets_tempo_word,
    read_score_requests,
    score_figures,
    score_prompts_file,
    tradition_rank,
)
from melisma.evaluate.models.tradition_classifier import TRADITION_CLASSES
from melisma.joint.settings_words import read_settings
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROMPTS = score_prompts_file()


def a_score(program: int = 0, bars: int = 12) -> Score:
    """C major chords on every beat, a bass on the first, 100 beats a minute."""
    start, pitch, length = [], [], []
    for beat in range(bars * 4):
        root = (0, 5, 7, 0)[beat // 4 % 4]
        notes = [36 + root, 48 + root] if beat % 4 == 0 else []
        notes += [60 + root, 64 + root, 67 + root]
        start += [float(beat)] * len(notes)
        pitch += notes
        length += [2.0 if beat % 4 == 0 else 0.5] * len(notes)
    notes = Notes(
        start_beats=np.array(start),
        duration_beats=np.array(length),
        pitch=np.array(pitch),
        velocity=np.full(len(pitch), 80),
    )
    return Score(
        tracks=(Track(notes=notes, program=program, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
    )


def requested(**facts: object) -> RequestedScoreAttributes:
    return RequestedScoreAttributes(words="a piece", **facts)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def measured() -> MeasuredScoreAttributes:
    found = measure_score(a_score(), requested(metre="4/4"), None, None)
    traditions = np.full(len(TRADITION_CLASSES), 0.5 / (len(TRADITION_CLASSES) - 1))
    traditions[3] = 0.5
    return replace(found, traditions=traditions, shared=SharedRun(notes=12, piece="x", share=0.1))


def test_attributes_of_a_piece(measured: MeasuredScoreAttributes) -> None:
    assert measured.tonality == "C major"
    assert measured.families == ("piano",)
    assert measured.programs == (0,)
    assert measured.metre is not None
    assert measured.metre.kind == "duple"
    assert meets_tempo(measured.tempo_bpm, 100.0, TEMPO_TOLERANCE, octave=True)
    assert measured.sound_tempo_bpm is None


def test_tempi_as_numbers_and_as_words() -> None:
    assert meets_tempo(107.0, 100.0, TEMPO_TOLERANCE)
    assert not meets_tempo(109.0, 100.0, TEMPO_TOLERANCE)
    assert not meets_tempo(51.0, 100.0, TEMPO_TOLERANCE)
    assert meets_tempo(51.0, 100.0, TEMPO_TOLERANCE, octave=True)
    assert meets_tempo(196.0, 100.0, TEMPO_TOLERANCE, octave=True)
    assert not meets_tempo(150.0, 100.0, TEMPO_TOLERANCE, octave=True)
    assert not meets_tempo(None, 100.0, TEMPO_TOLERANCE, octave=True)
    assert meets_tempo_word(78.0, "slow")
    assert meets_tempo_word(78.0, "moderate")
    assert not meets_tempo_word(100.0, "slow")
    assert meets_tempo_word(100.0, "slow", octave=True)
    assert not meets_tempo_word(None, "fast")


def test_a_generator_of_piano_music_scores_nothing_on_others_instruments(
    measured: MeasuredScoreAttributes,
) -> None:
    flute = requested(families=("flutes",), programs=(73,))
    assert instrument_marks(measured, flute) == (0.0, 0.0)
    assert instrument_marks(measured, requested(families=("piano",))) == (1.0, None)
    duo = requested(families=("piano", "flutes"), programs=(0, 73))
    assert instrument_marks(measured, duo) == pytest.approx((2 / 3, 2 / 3))
    band = replace(measured, families=("piano", "bass", "drums"))
    assert instrument_marks(band, requested(families=("piano",)))[0] == pytest.approx(0.5)
    assert instrument_marks(band, requested(families=("piano",), complete=False))[0] == 1.0


def test_traditions_are_ranked(measured: MeasuredScoreAttributes) -> None:
    assert tradition_rank(measured, TRADITION_CLASSES[3]) == 0
    assert tradition_rank(measured, TRADITION_CLASSES[0]) == 1
    silent = replace(measured, traditions=np.zeros(len(TRADITION_CLASSES)))
    assert tradition_rank(silent, TRADITION_CLASSES[3]) == len(TRADITION_CLASSES)
    prompt = requested(tradition=TRADITION_CLASSES[3])
    assert adherence_mark((prompt, silent)) == 0.0
    assert adherence_mark((prompt, replace(measured, traditions=None))) is None


def test_only_stated_requests_count(measured: MeasuredScoreAttributes) -> None:
    assert adherence_mark((requested(), measured)) is None
    assert adherence_mark((requested(mode="major"), measured)) == 1.0
    both = requested(mode="minor", families=("piano",), tradition=TRADITION_CLASSES[3])
    assert adherence_mark((both, measured)) == pytest.approx(2 / 3)


def test_the_table_has_outputs_beside_real_pieces(measured: MeasuredScoreAttributes) -> None:
    prompt = requested(
        tempo_bpm=100.0,
        tonality="C major",
        mode="major",
        metre="4/4",
        tradition=TRADITION_CLASSES[3],
    )
    wrong = replace(measured, tonality="A minor", shared=SharedRun(notes=40, piece="x", share=0.9))
    outputs = [(prompt, measured), (prompt, wrong)]
    figures = score_figures(outputs, [(prompt, measured)], "command", "made")
    rows = {figure.what: figure for figure in figures}
    tonality = rows["stated key, notes (made)"]
    assert (tonality.value, tonality.ceiling, tonality.count) == (0.5, 1.0, 2)
    assert rows["tradition recognised (made)"].value == 1.0
    assert rows["stated tempo within 8 %, notes (made)"].chance == 1.0
    assert rows["pieces with a longer shared run than 95% of real ones (made)"].value == 0.5
    assert rows["scale consistency (made)"].ceiling == measured.structure.scale_consistency
    assert "instrument families, F1 (made)" not in rows
    alone = score_figures(outputs, [], "command", "made")
    assert all(figure.ceiling is None for figure in alone)


def test_half_of_the_prompts_are_in_foreign_wordings() -> None:
    prompts = read_score_requests(PROMPTS)
    assert Counter(prompt.wording for prompt in prompts) == {"own": 60, "grammar": 60}
    assert len({prompt.words for prompt in prompts}) == 120
    assert sum(prompt.tempo_bpm is not None for prompt in prompts) >= 40
    assert sum(prompt.tradition is not None for prompt in prompts) >= 30
    assert {prompt.tradition for prompt in prompts} >= set(TRADITION_CLASSES)
    assert len({family for prompt in prompts for family in prompt.families}) >= 15
    for prompt in prompts:
        assert prompt.tempo_bpm is None or prompt.tempo_word is None, prompt.words
        assert prompt.tonality is None or prompt.tonality.endswith(str(prompt.mode)), prompt.words


def test_prompts_of_the_grammar_say_their_facts_and_come_again() -> None:
    spec = importlib.util.spec_from_file_location("w", BENCHMARKS / "write_score_prompts.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["w"] = script
    spec.loader.exec_module(script)
    rows = script.rows(seed=3, count=10)
    assert rows == script.rows(seed=3, count=10)
    for row in rows:
        read = read_settings(row["prompt"])
        assert read.tempo_bpm == row["tempo_bpm"]
        assert set(row["families"]) <= set(read.families)


def test_an_unknown_fact_is_refused(tmp_path: Path) -> None:
    row = json.loads(PROMPTS.read_text(encoding="utf-8").splitlines()[0])
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row | {"metre": "7/8"}), encoding="utf-8")
    with pytest.raises(MelismaError, match="line 1"):
        read_score_requests(path)
