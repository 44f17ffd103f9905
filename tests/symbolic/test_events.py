"""Scores as event rows and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.symbolic.events import bars_of, decode_score, encode_score, join_parts
from melisma.values import ChordMark, Metre, Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError
from melisma.values.events import (
    BAR,
    BAR_METRES,
    CHORD_NAMES,
    DURATION_TICKS,
    END,
    FIELD_SIZES,
    FIELDS,
    MAX_PARTS,
    METRE_TICKS,
    PART,
    POSITION,
    TEMPI,
    TICKS_PER_BEAT,
    duration_class,
    tempo_class,
    tempo_class_bpm,
)


@st.composite
def notes(draw: st.DrawFn, end_ticks: int) -> Notes:
    """Notes on the grid, no two of one pitch beginning together."""
    keys = draw(st.sets(st.tuples(st.integers(0, end_ticks - 1), st.integers(0, 127)), max_size=24))
    rows = sorted(keys)
    ticks = [draw(st.sampled_from(DURATION_TICKS)) for _ in rows]
    force = [4 * draw(st.integers(0, 31)) + 2 for _ in rows]
    return Notes(
        start_beats=np.array([r[0] for r in rows], float) / TICKS_PER_BEAT,
        duration_beats=np.array(ticks, float) / TICKS_PER_BEAT,
        pitch=np.array([r[1] for r in rows], int),
        velocity=np.array(force, int),
    )


@st.composite
def grid_scores(draw: st.DrawFn) -> Score:
    """Scores on the grid: whole bars of any metre and tempo, any parts."""
    metres, tempi, at = [], [], 0
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(BAR_METRES) - 1))
        top, bottom = BAR_METRES[index]
        metres.append(Metre(beat=at / TICKS_PER_BEAT, numerator=top, denominator=bottom))
        tempi.append((at / TICKS_PER_BEAT, tempo_class_bpm(draw(st.integers(0, TEMPI - 1)))))
        at += int(METRE_TICKS[index]) * draw(st.integers(1, 3))
    tracks = []
    for _ in range(draw(st.integers(1, 4))):
        drum = draw(st.booleans())
        program = 0 if drum else draw(st.integers(0, 127))
        tracks.append(Track(notes=draw(notes(at)), program=program, is_drum=drum))
    tracks = [track for track in tracks if len(track.notes)]
    if not tracks:
        first = Notes(
            start_beats=np.zeros(1), duration_beats=np.ones(1),
            pitch=np.array([60]), velocity=np.array([66]),
        )  # fmt: skip
        tracks = [Track(notes=first, program=0, is_drum=False)]
    beats = np.array([beat for beat, _ in tempi])
    chords = {
        draw(st.integers(0, at - 1)): draw(st.sampled_from(CHORD_NAMES))
        for _ in range(draw(st.integers(0, 4)))
    }
    return Score(
        tracks=tuple(tracks),
        tempo=TempoMap(beats=beats, bpm=np.array([bpm for _, bpm in tempi])),
        metres=tuple(metres),
        chords=tuple(
            ChordMark(beat=tick / TICKS_PER_BEAT, name=name)
            for tick, name in sorted(chords.items())
        ),
    )


@settings(max_examples=150, deadline=None)
@given(grid_scores())
def test_nothing_on_the_grid_is_lost(score: Score) -> None:
    back = decode_score(encode_score(score))
    assert len(back.tracks) == len(score.tracks)
    for one, other in zip(score.tracks, back.tracks, strict=True):
        assert (one.program, one.is_drum) == (other.program, other.is_drum)
        assert np.array_equal(one.notes.pitch, other.notes.pitch)
        assert np.array_equal(one.notes.velocity, other.notes.velocity)
        assert np.allclose(one.notes.start_beats, other.notes.start_beats)
        assert np.allclose(one.notes.duration_beats, other.notes.duration_beats)
    starts, metres = bars_of(score)
    again, same = bars_of(back)
    assert np.array_equal(starts, again)
    assert np.array_equal(metres, same)
    middles = (starts + 1) / TICKS_PER_BEAT
    where = [np.searchsorted(s.tempo.beats, middles, side="right") - 1 for s in (score, back)]
    assert np.allclose(score.tempo.bpm[where[0]], back.tempo.bpm[where[1]])
    end = starts[-1] + METRE_TICKS[metres[-1]]
    kept = [c for c in score.chords if c.beat * TICKS_PER_BEAT < end]
    assert [(c.beat, c.name) for c in back.chords] == [(c.beat, c.name) for c in kept]


@settings(max_examples=60, deadline=None)
@given(grid_scores(), st.floats(0.0, 0.02))
def test_rounding_happens_once(score: Score, slip: float) -> None:
    """What is off the grid lands on it, and then stays."""
    tracks = tuple(
        Track(
            notes=Notes(
                start_beats=track.notes.start_beats + slip,
                duration_beats=track.notes.duration_beats * (1 + slip),
                pitch=track.notes.pitch,
                velocity=track.notes.velocity,
            ),
            program=track.program,
            is_drum=track.is_drum,
        )
        for track in score.tracks
    )
    once = encode_score(Score(tracks=tracks, tempo=score.tempo, metres=score.metres))
    assert np.array_equal(encode_score(decode_score(once)), once)


def test_events_stand_in_order_and_inside_their_vocabularies() -> None:
    notes = Notes(
        start_beats=np.array([0.0, 0.0, 1.5, 4.0]), duration_beats=np.ones(4),
        pitch=np.array([60, 64, 67, 72]), velocity=np.full(4, 80),
    )  # fmt: skip
    track = Track(notes=notes, program=40, is_drum=False)
    score = Score(tracks=(track,), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 120.0)))
    rows = encode_score(score)
    assert rows[:, POSITION].tolist() == [PART, BAR, 0, 0, 36, BAR, 0, END]
    assert (rows <= np.array(FIELD_SIZES)).all()
    assert rows.shape[1] == FIELDS


def test_of_two_equal_notes_the_longer_stays() -> None:
    notes = Notes(
        start_beats=np.zeros(2), duration_beats=np.array([1.0, 2.0]),
        pitch=np.array([60, 60]), velocity=np.array([80, 90]),
    )  # fmt: skip
    track = Track(notes=notes, program=0, is_drum=False)
    score = Score(tracks=(track,), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)))
    back = decode_score(encode_score(score)).tracks[0].notes
    assert back.duration_beats.tolist() == [2.0]


def test_a_bar_cut_short_takes_the_metre_of_its_length() -> None:
    notes = Notes(
        start_beats=np.array([0.0, 1.0, 5.0]), duration_beats=np.ones(3),
        pitch=np.array([60, 62, 64]), velocity=np.full(3, 80),
    )  # fmt: skip
    score = Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
        metres=(
            Metre(beat=0.0, numerator=4, denominator=4),
            Metre(beat=1.0, numerator=4, denominator=4),
        ),
    )
    starts, metres = bars_of(score)
    assert starts.tolist() == [0, 24, 120]
    assert BAR_METRES[metres[0]] == (1, 4)


@pytest.mark.parametrize(
    ("start_ticks", "duration_ticks", "bars"),
    [
        (88, 104, 2),  # ends on the bar line, its class is 108
        (88, 105, 3),  # one tick of it lies in the next bar
        (143, 49, 2),  # ends on the bar line, its class is 48
        (144, 49, 2),  # its class ends on the bar line
    ],
)
def test_no_bar_is_opened_by_rounding_alone(
    start_ticks: int, duration_ticks: int, bars: int
) -> None:
    notes = Notes(
        start_beats=np.array([0.0, start_ticks / TICKS_PER_BEAT]),
        duration_beats=np.array([1.0, duration_ticks / TICKS_PER_BEAT]),
        pitch=np.array([60, 62]),
        velocity=np.full(2, 82),
    )
    track = Track(notes=notes, program=0, is_drum=False)
    score = Score(tracks=(track,), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)))
    assert len(bars_of(score)[0]) == bars
    rows = encode_score(score)
    back = decode_score(rows)
    assert len(bars_of(back)[0]) == bars
    assert np.array_equal(encode_score(back), rows)


def test_long_bars_are_split() -> None:
    notes = Notes(
        start_beats=np.array([0.0, 11.0]), duration_beats=np.ones(2),
        pitch=np.array([60, 62]), velocity=np.full(2, 80),
    )  # fmt: skip
    score = Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)),
        metres=(Metre(beat=0.0, numerator=12, denominator=4),),
    )
    starts, metres = bars_of(score)
    assert METRE_TICKS[metres].sum() == 12 * TICKS_PER_BEAT
    assert starts.tolist() == [0, 144]


@pytest.mark.parametrize("bpm", [20.0, 61.3, 93.7, 120.0, 319.0])
def test_tempo_classes_are_within_a_hundredth_and_a_bit(bpm: float) -> None:
    assert abs(tempo_class_bpm(tempo_class(bpm)) / bpm - 1) < 0.0125


def test_durations_take_the_nearest_class() -> None:
    ticks = np.array([1, 24, 49, 51, 97, 5_000])
    nearest = np.array(DURATION_TICKS)[duration_class(ticks)]
    assert nearest.tolist() == [1, 24, 48, 52, 96, 768]


def _many(count: int) -> Score:
    tracks = tuple(
        Track(
            notes=Notes(
                start_beats=np.arange(i + 1.0), duration_beats=np.ones(i + 1),
                pitch=np.full(i + 1, 60), velocity=np.full(i + 1, 80),
            ),
            program=40 if i < 10 else i,
            is_drum=False,
        )
        for i in range(count)
    )  # fmt: skip
    return Score(tracks=tracks, tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)))


def test_too_many_parts_are_refused_and_can_be_joined() -> None:
    score = _many(MAX_PARTS + 6)
    with pytest.raises(MelismaError, match="at most"):
        encode_score(score)
    joined = join_parts(score)
    assert len(joined.tracks) == MAX_PARTS
    assert {track.program for track in joined.tracks} == {t.program for t in score.tracks}
    assert sum(len(t.notes) for t in joined.tracks) == sum(len(t.notes) for t in score.tracks)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((3, 4), int), np.full((3, 5), -1), np.full((3, 5), 10_000), np.zeros((0, 5), int)],
)
def test_what_are_no_events_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(MelismaError, match=r"event|field|bar"):
        decode_score(rows)
