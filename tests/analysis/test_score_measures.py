"""Tempo, key, metre, instruments and structure of scores with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from melisma.analysis.score.instruments import (
    DRUMS,
    family_shares,
    match_instruments,
    playing_families,
    playing_programs,
    program_shares,
)
from melisma.analysis.score.key import measure_score_tonality
from melisma.analysis.score.metre import full_bar_share, measure_score_metre
from melisma.analysis.score.structure import bar_similarity, measure_score_structure
from melisma.analysis.score.tempo import measure_score_tempo, rank_score_tempi, tempo_probability
from melisma.values import Metre, Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError

Row = tuple[float, float, int, int]
"""Start and duration in beats, pitch, velocity."""
CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))
MINOR_CHORDS = ((0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7))


def track(rows: list[Row], program: int = 0, is_drum: bool = False) -> Track:
    rows = sorted(rows, key=lambda row: (row[0], row[2]))
    start, duration, pitch, velocity = (np.array(column) for column in zip(*rows, strict=True))
    notes = Notes(
        start_beats=start.astype(np.float64),
        duration_beats=duration.astype(np.float64),
        pitch=pitch.astype(np.int64),
        velocity=velocity.astype(np.int64),
    )
    return Track(notes=notes, program=program, is_drum=is_drum)


def score_of(*tracks: Track, bpm: float = 120.0) -> Score:
    return Score(tracks=tracks, tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, bpm)))


def song(
    bpm: float = 100.0,
    notes_a_beat: int = 2,
    bar_beats: int = 4,
    bars: int = 12,
    tonic: int = 0,
    minor: bool = False,
    upbeat: float = 0.0,
) -> Score:
    """A tune of chord notes over a bass (on one, in four also on three) and chords, the fullest on
    the downbeat."""
    chords = MINOR_CHORDS if minor else CHORDS
    tune: list[Row] = []
    backing: list[Row] = []
    for bar in range(bars):
        chord = chords[bar % len(chords)]
        first = bar * bar_beats + upbeat
        for beat in range(bar_beats):
            if beat == 0 or (beat == 2 and bar_beats == 4):
                root = chord[0 if beat == 0 else 2] - (12 if beat else 0)
                backing.append((first + beat, 1.0, 36 + tonic + root, 90 if beat == 0 else 80))
            if beat:
                backing += [(first + beat, 0.5, 60 + tonic + pitch, 60) for pitch in chord[1:]]
            else:
                backing += [(first, 1.0, 48 + tonic + pitch, 80) for pitch in chord]
        for beat in range(bar_beats):
            for index in range(notes_a_beat):
                pitch = 72 + tonic + chord[(0, 1, 2, 1)[beat]] - 12 * (index % 2)
                at = first + beat + index / notes_a_beat
                tune.append((at, 1.0 / notes_a_beat, pitch, 90 if beat == index == 0 else 75))
    return score_of(track(tune), track(backing), bpm=bpm)


@pytest.mark.parametrize("notes_a_beat", [1, 2, 3, 4])
@pytest.mark.parametrize("bpm", [84.0, 97.0, 113.0, 132.0])
def test_a_planted_tempo_is_found_however_dense_the_tune(bpm: float, notes_a_beat: int) -> None:
    estimate = measure_score_tempo(song(bpm=bpm, notes_a_beat=notes_a_beat))
    found = [estimate.bpm, *estimate.alternatives]
    assert any(value == pytest.approx(bpm, rel=0.01) for value in found)
    # Fast tunes over a bass on every other beat are felt in two.
    if notes_a_beat in (1, 2) and bpm < 110:
        assert estimate.bpm == pytest.approx(bpm, rel=0.01)


def test_the_tempo_is_read_from_seconds_and_not_from_the_tempo_events() -> None:
    fast = song(bpm=100.0)
    # The same sound written in notes twice as long at twice the tempo.
    tracks = tuple(
        replace(
            part,
            notes=replace(
                part.notes,
                start_beats=part.notes.start_beats * 2,
                duration_beats=part.notes.duration_beats * 2,
            ),
        )
        for part in fast.tracks
    )
    other = score_of(*tracks, bpm=200.0)
    assert measure_score_tempo(other).bpm == pytest.approx(measure_score_tempo(fast).bpm, rel=1e-3)


def test_tempo_probabilities_sum_to_one_and_favour_the_tempo() -> None:
    planted = song(bpm=104.0)
    tempi, probability = rank_score_tempi(planted)
    assert len(tempi) == len(probability)
    assert probability.sum() == pytest.approx(1.0)
    assert tempo_probability(planted, 104.0) > 0.5
    assert tempo_probability(planted, 77.0) < 0.1


def test_too_few_notes_have_no_tempo() -> None:
    short = score_of(track([(0.0, 1.0, 60, 80), (1.0, 1.0, 62, 80)]))
    assert measure_score_tempo(short).bpm is None
    assert rank_score_tempi(short)[1].sum() == 0.0
    assert measure_score_tempo(score_of()).bpm is None


@pytest.mark.parametrize(
    ("tonic", "minor", "name"),
    [(0, False, "C major"), (3, False, "Eb major"), (-3, True, "A minor"), (6, True, "F# minor")],
)
def test_a_planted_tonality_is_found(tonic: int, minor: bool, name: str) -> None:
    estimate = measure_score_tonality(song(tonic=tonic, minor=minor))
    assert estimate.tonality == name
    assert estimate.ranking[0] == name
    assert len(estimate.ranking) == 24
    assert estimate.chroma.sum() == pytest.approx(1.0)


def test_drums_have_no_tonality() -> None:
    drums = score_of(track([(float(i), 0.2, 36, 90) for i in range(8)], is_drum=True))
    assert measure_score_tonality(drums).tonality is None


def test_three_differs_from_four() -> None:
    waltz, march = song(bar_beats=3, bars=16), song(bar_beats=4)
    assert measure_score_metre(waltz, "3/4").agrees
    assert not measure_score_metre(waltz, "4/4").agrees
    assert measure_score_metre(march, "4/4").agrees
    assert not measure_score_metre(march, "3/4").agrees
    assert measure_score_metre(waltz, "4/4").kind == "triple"
    # The file's own metre events are not read.
    claimed = replace(waltz, metres=(Metre(beat=0.0, numerator=4, denominator=4),))
    assert not measure_score_metre(claimed, "4/4").agrees


def test_a_jig_is_compound() -> None:
    rows: list[Row] = []
    for bar in range(16):
        chord = CHORDS[bar % 4]
        for half in range(2):
            at = bar * 3 + half * 1.5
            rows.append((at, 1.5, 43 + chord[0 if half == 0 else 2], 85))
            rows += [(at + i * 0.5, 0.5, 67 + chord[(i + half) % 3], 80) for i in range(3)]
    evidence = measure_score_metre(score_of(track(rows)), "6/8")
    assert evidence.kind == "compound"
    assert not measure_score_metre(score_of(track(rows)), "3/4").agrees


def test_bars_that_begin_a_beat_late_do_not_agree() -> None:
    evidence = measure_score_metre(song(upbeat=1.0), "4/4")
    assert evidence.kind == "duple"
    assert not evidence.on_downbeat
    assert not evidence.agrees


def test_empty_bars_are_not_full() -> None:
    whole = song(bars=8)
    assert full_bar_share(whole, 4.0) == 1.0
    gap = tuple(replace(part, notes=_without(part.notes, 8.0, 16.0)) for part in whole.tracks)
    assert full_bar_share(replace(whole, tracks=gap), 4.0) == pytest.approx(6 / 8)
    assert full_bar_share(score_of(), 4.0) == 0.0


def _without(notes: Notes, first: float, last: float) -> Notes:
    kept = (notes.start_beats < first) | (notes.start_beats >= last)
    return Notes(
        start_beats=notes.start_beats[kept],
        duration_beats=notes.duration_beats[kept],
        pitch=notes.pitch[kept],
        velocity=notes.velocity[kept],
    )


def test_an_unknown_metre_is_refused() -> None:
    with pytest.raises(MelismaError, match="one of 2/4"):
        measure_score_metre(song(), "5/4")


def test_instruments_count_from_a_tenth_of_the_bars_on() -> None:
    long = track([(float(i), 1.0, 60, 80) for i in range(80)], program=0)
    once = track([(0.0, 1.0, 72, 80)], program=73)
    drums = track([(float(i), 0.2, 36, 80) for i in range(40)], is_drum=True)
    piece = score_of(long, once, drums)
    assert program_shares(piece)[0] == 1.0
    assert program_shares(piece)[73] == pytest.approx(1 / 20)
    assert playing_programs(piece) == (0, DRUMS)
    assert family_shares(piece)["drums"] == pytest.approx(0.5)
    assert playing_families(piece) == ("piano", "drums")
    assert playing_families(score_of()) == ()


def test_a_generator_of_piano_music_scores_nothing_on_other_instruments() -> None:
    playing = playing_families(song())
    assert match_instruments(("flutes", "harp"), playing).f1 == 0.0
    assert match_instruments(("piano",), playing).f1 == 1.0
    both = match_instruments(("piano", "flutes"), playing)
    assert (both.precision, both.recall) == (1.0, 0.5)
    assert both.f1 == pytest.approx(2 / 3)
    with pytest.raises(MelismaError, match="no instrument"):
        match_instruments((), playing)


def test_a_held_note_sounds_in_the_bars_that_it_reaches() -> None:
    held = score_of(
        track([(0.0, 8.0, 48, 80)], program=19),
        track([(float(i), 1.0, 60, 80) for i in range(16)]),
    )
    assert program_shares(held)[19] == pytest.approx(0.5)


def test_repetition_raises_similarity_and_a_random_piece_has_little() -> None:
    rng = np.random.default_rng(0)
    wild = score_of(
        track([(i / 2, 0.5, int(p), 80) for i, p in enumerate(rng.integers(48, 84, 128))])
    )
    repeated = measure_score_structure(song(bars=16))
    random = measure_score_structure(wild)
    assert repeated.near_duplicate_share > 0.5 > random.near_duplicate_share
    assert repeated.repetition > 0.5 > random.repetition
    assert repeated.scale_consistency > 0.95 > random.scale_consistency
    assert repeated.pitch_entropy_1 < random.pitch_entropy_1
    assert repeated.groove_similarity == 1.0
    assert repeated.empty_share == 0.0
    assert random.polyphony == pytest.approx(1.0)
    assert random.notes_a_bar == pytest.approx(8.0)


def test_one_pitch_class_has_no_entropy_and_twelve_have_the_most() -> None:
    one = score_of(track([(float(i), 1.0, 60, 80) for i in range(16)]))
    every = score_of(track([(i / 3, 0.3, 60 + i % 12, 80) for i in range(48)]))
    assert measure_score_structure(one).pitch_entropy_1 == pytest.approx(0.0, abs=1e-9)
    assert measure_score_structure(every).pitch_entropy_1 == pytest.approx(np.log2(12), abs=1e-6)


def test_an_empty_bar_counts_and_a_score_without_notes_gives_zeros() -> None:
    gap = score_of(track([(0.0, 1.0, 60, 80), (9.0, 1.0, 62, 80), (10.0, 1.0, 64, 80)]))
    assert measure_score_structure(gap).empty_share == pytest.approx(1 / 3)
    assert bar_similarity(gap, 4.0).shape == (3, 3)
    nothing = measure_score_structure(score_of())
    assert nothing.notes_a_bar == nothing.polyphony == nothing.repetition == 0.0
