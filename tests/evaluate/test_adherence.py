"""Requested against measured attributes, with verdicts made by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from melisma.analysis.audio.tempo import meets_tempo
from melisma.evaluate.metrics.adherence import (
    MeasuredAttributes,
    RequestedAttributes,
    adherence_figures,
    compare,
    contrast,
    measure_attributes,
    read_requests,
    requested_of,
    stated_attributes,
    tempo_chance,
)
from melisma.evaluate.models.judge import Judge, JudgeNetwork, JudgeSettings
from melisma.values import Facts, Waveform

PROMPTS = Path(__file__).parents[2] / "benchmarks" / "prompts" / "stated_prompts.jsonl"


def a_judge() -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeNetwork(JudgeSettings(moment=8, trunk=8, pulse=4, words=8)))


def measured(
    lead: str, bpm: float, tonality: str, clean: bool = True, axis: int = 0
) -> MeasuredAttributes:
    return MeasuredAttributes(
        lead=lead,
        tempo_bpm=bpm,
        tonality=tonality,
        signal_tempo_bpm=bpm,
        signal_tonality=tonality,
        clean=clean,
        embedding=np.eye(128, dtype=np.float32)[axis],
    )


def test_half_and_double_tempo_do_not_count() -> None:
    assert meets_tempo(104.9, 100.0)
    assert not meets_tempo(105.5, 100.0)
    assert not meets_tempo(50.0, 100.0)
    assert not meets_tempo(None, 100.0)


def test_contrast_is_one_for_perfect_pairs_and_nothing_for_equal_ones() -> None:
    perfect = np.eye(4)
    np.testing.assert_allclose(contrast(perfect, perfect), 1.0)
    np.testing.assert_allclose(contrast(perfect, np.full((4, 4), 0.5)), 0.0)


def test_only_what_was_requested_is_counted() -> None:
    requests = [
        RequestedAttributes(words="piano at 100 bpm in C major", lead="piano", tempo_bpm=100.0,
             tonality="C major"),
        RequestedAttributes(words="flute", lead="flutes"),
    ]  # fmt: skip
    found = compare(
        requests,
        [
            measured("piano", 103.0, "A minor"),
            measured("reeds", 90.0, "C major", clean=False, axis=1),
        ],
        a_judge(),
    )
    assert found.lead.tolist() == [True, False]
    assert found.tempo.tolist() == [True]
    assert found.tonality.tolist() == [False]
    assert found.clean.tolist() == [True, False]


def test_the_table_has_every_row_with_chance_and_ceiling() -> None:
    requests = [
        RequestedAttributes(
            words=f"{lead} at {bpm} bpm", lead=lead, tempo_bpm=bpm, tonality="C major"
        )
        for lead, bpm in (("piano", 80.0), ("flutes", 120.0), ("organ", 160.0))
    ]
    right = [measured(w.lead or "", w.tempo_bpm or 0.0, "C major", axis=i)
             for i, w in enumerate(requests)]  # fmt: skip
    truth = compare(requests, right, a_judge())
    wrong = compare(requests, [measured("choir", 10.0, "D minor")] * 3, a_judge())
    figures = adherence_figures(requests, wrong, truth, "command", "best of 1")
    by_name = {figure.what: figure for figure in figures}
    lead = by_name["lead instrument's family recognised (best of 1)"]
    assert (lead.value, lead.ceiling, lead.chance) == (0.0, 1.0, pytest.approx(1 / 3))
    tempo = by_name["stated tempo within 5 %, judge (best of 1)"]
    assert (tempo.value, tempo.ceiling) == (0.0, 1.0)
    assert len(figures) == 7


def test_chance_of_a_tempo_is_the_best_constant() -> None:
    requests = [
        RequestedAttributes(words="x", tempo_bpm=bpm) for bpm in (100.0, 102.0, 150.0, 60.0)
    ]
    assert tempo_chance(requests) == 0.5
    assert tempo_chance([RequestedAttributes(words="x")]) == 0.0


def test_the_stated_prompts_ask_for_many_families_and_tonalities() -> None:
    requests = read_requests(PROMPTS)
    assert len(requests) >= 200
    assert len({request.lead for request in requests}) >= 8
    assert len({request.tonality for request in requests}) == 24
    tempi = [request.tempo_bpm for request in requests if request.tempo_bpm is not None]
    assert all(60 <= tempo <= 180 for tempo in tempi)


def test_a_piece_is_measured_by_every_judge() -> None:
    time = np.arange(3 * 24_000) / 24_000
    triad = sum(np.sin(2 * np.pi * hz * time) for hz in (130.8, 261.6, 329.6, 392.0))
    samples = (0.1 * np.asarray(triad)).astype(np.float32)[None]
    found = measure_attributes(Waveform(samples=samples, rate_hz=24_000), a_judge())
    assert found.clean
    assert found.signal_tonality == "C major"
    assert found.embedding.shape == (128,)


def test_facts_become_a_request() -> None:
    request = requested_of(Facts(lead="organ", tempo_bpm=70.0, tonality="G minor"), "an organ")
    assert request == RequestedAttributes(
        words="an organ", lead="organ", tempo_bpm=70.0, tonality="G minor"
    )


def test_only_what_the_words_state_is_requested() -> None:
    facts = Facts(
        lead="organ", tempo_bpm=71.3, tonality="G minor", families=("organ", "choir", "brass")
    )
    stated = stated_attributes("a hymn for organ with drums in G minor at 71 bpm", facts)
    assert stated.lead == "organ"
    assert stated.tempo_bpm == 71.3
    assert stated.tonality == "G minor"
    assert stated.families == ("organ",)
    vague = stated_attributes("a slow hymn for organ and choir", facts)
    assert (vague.lead, vague.tempo_bpm, vague.tonality) == (None, None, None)
    assert set(vague.families) == {"organ", "choir"}
    assert stated_attributes("fast piano and drums at 150 bpm").lead == "piano"
