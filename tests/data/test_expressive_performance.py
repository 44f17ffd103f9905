"""Performances keep the music: order, ranges, tempo limits, beats and the lead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import TUNE, groove, line, quartet, score, song

from melisma.data.render.expressive_performance import (
    PerformanceSettings,
    perform,
    sample_speed,
)
from melisma.data.render.orchestration import (
    OrchestrationSettings,
    core_program,
    is_voice,
    orchestrate,
    split_top_line,
)
from melisma.data.sources.excerpts import choose_window, correct_downbeats, cut_score
from melisma.symbolic.beats import beat_grid, felt_bpm
from melisma.symbolic.instruments import RANGES
from melisma.values import Score
from melisma.values.attributes import FAMILIES, program_family


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), which=st.sampled_from(["song", "quartet", "groove"]))
def test_a_performance_is_well_formed(seed: int, which: str) -> None:
    piece = {"song": song(), "quartet": quartet(seed % 5), "groove": groove()}[which]
    performance = perform(piece, np.random.default_rng(seed), speed=1.2)
    assert sum(part.is_lead for part in performance.parts) == (0 if which == "groove" else 1)
    for part in performance.parts:
        assert (np.diff(part.start_seconds) >= 0).all()
        assert (part.duration_seconds > 0).all()
        assert 1 <= part.velocity.min() <= part.velocity.max() <= 127
        assert 0 <= part.pitch.min() <= part.pitch.max() <= 127
        for pitch in np.unique(part.pitch):
            same = part.pitch == pitch
            ends = (part.start_seconds + part.duration_seconds)[same]
            assert (ends[:-1] <= part.start_seconds[same][1:] + 0.011).all()
    assert performance.metre == "4/4"
    assert len(performance.bar_seconds) >= 4
    assert np.isin(performance.bar_seconds, performance.beat_seconds).all()
    beat = float(np.median(np.diff(performance.beat_seconds)))
    assert 60 / beat == pytest.approx(120, rel=0.12)


def test_the_same_generator_gives_the_same_performance() -> None:
    first, second = (perform(song(), np.random.default_rng(3)) for _ in range(2))
    for a, b in zip(first.parts, second.parts, strict=True):
        assert a.program == b.program
        np.testing.assert_array_equal(a.start_seconds, b.start_seconds)
        np.testing.assert_array_equal(a.velocity, b.velocity)


def test_flat_notation_gets_dynamics_and_drums_are_not_transposed() -> None:
    performance = perform(groove(), np.random.default_rng(1))
    assert set(np.unique(performance.parts[0].pitch)) == {36, 38, 42}
    played = perform(song(), np.random.default_rng(1)).parts[0]
    assert len(np.unique(played.velocity)) >= 6


def test_plain_settings_perform_as_notated() -> None:
    plain = PerformanceSettings(
        orchestration=None, lead_track=0, transpose=False, humanize=False, rubato=False
    )
    performance = perform(song(), np.random.default_rng(0), plain)
    np.testing.assert_allclose(performance.parts[0].start_seconds, np.arange(48) * 0.6, atol=1e-9)
    np.testing.assert_array_equal(performance.parts[1].pitch, np.array(TUNE) - 12)


@pytest.mark.parametrize(
    ("numerator", "denominator", "bpm", "metre", "felt"),
    [
        (4, 4, 100, "4/4", 100),
        (3, 4, 100, "3/4", 100),
        (6, 8, 150, "6/8", 100),
        (2, 2, 160, "2/4", 80),
        (2, 2, 70, "4/4", 70),
        (5, 4, 90, None, 90),
        (3, 8, 60, "3/4", 120),
    ],
)
def test_the_felt_beat(
    numerator: int, denominator: int, bpm: float, metre: str | None, felt: float
) -> None:
    piece = score(line(TUNE, 0), bpm=bpm, numerator=numerator, denominator=denominator)
    assert beat_grid(piece).metre == metre
    assert felt_bpm(piece) == pytest.approx(felt)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1_000), bpm=st.floats(30, 280))
def test_tempo_stays_within_limits(seed: int, bpm: float) -> None:
    piece = score(line(TUNE, 0), bpm=bpm)
    speed = sample_speed(piece, np.random.default_rng(seed))
    assert 49.9 <= bpm * speed <= 200.1
    assert 0.5 <= speed <= 2.0


def test_voices_get_lead_instruments_from_every_family() -> None:
    families: set[str] = set()
    for seed in range(150):
        orchestrated, lead = orchestrate(
            song(), np.random.default_rng(seed), OrchestrationSettings()
        )
        track = orchestrated.tracks[lead]
        low, high = RANGES[track.program]
        inside = (track.notes.pitch >= low) & (track.notes.pitch <= high)
        assert inside.mean() > 0.9
        families.add(program_family(track.program, track.is_drum))
    assert families == set(FAMILIES) - {"bass", "drums"}
    assert is_voice(song().tracks[0])


def test_core_programs_keep_the_family() -> None:
    for program in range(128):
        core = core_program(program)
        assert core_program(core) == core
        assert program_family(core, False) == program_family(program, False)


def test_the_top_line_is_one_voice() -> None:
    chords = score(line([60, 64, 67, 72], 0), line([48, 52, 55, 60], 0))
    both = chords.tracks[0].notes
    melody, rest = split_top_line(chords.tracks[0])
    np.testing.assert_array_equal(melody.notes.pitch, both.pitch)
    assert len(rest.notes) == 0


def _with_pickup() -> Score:
    """Low notes on the second of three beats: the first beat is a pickup."""
    return score(line([67] + [36, 67, 67] * 12, 0), numerator=3)


def test_a_lost_pickup_is_found() -> None:
    corrected = correct_downbeats(_with_pickup())
    assert [metre.beat for metre in corrected.metres] == [0.0, 1.0]
    assert beat_grid(corrected).bars[0] == 1.0
    assert correct_downbeats(song()).metres == song().metres


def test_a_cut_keeps_time_and_tempo() -> None:
    cut = cut_score(song(), 8.0, 24.0)
    assert cut.tracks[0].notes.pitch[0] == TUNE[8] + 7
    assert cut.tracks[0].notes.start_beats[0] == 0.0
    assert cut.end_beats == 16.0


@pytest.mark.parametrize("seed", range(8))
def test_a_window_fills_the_clip(seed: int) -> None:
    for piece in (song(), groove()):  # the groove is shorter than the clip and repeats
        rng = np.random.default_rng(seed)
        window = choose_window(piece, 10.0, rng, 0.7, 1.45)
        performance = perform(window.score, rng, PerformanceSettings(rubato=False), window.speed)
        start = float(window.score.tempo.seconds(np.array(window.clip_beat))) / window.speed
        onsets = np.concatenate([part.start_seconds for part in performance.parts])
        inside = np.sort(onsets[(onsets >= start) & (onsets < start + 10.0)])
        assert len(inside) >= 8
        assert inside[-1] > start + 6.5
