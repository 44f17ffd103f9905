"""Frame labels are the truth of rendered sound: they must follow the notes exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.analysis.labels.frame_labels import (
    FrameLabels,
    frame_labels,
    phase,
    stack_labels,
    unstack_labels,
)
from melisma.symbolic.performance import Part, Performance
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError

C_MAJOR, F_MAJOR, G_MAJOR, A_MINOR = 1, 6, 8, 22


def make_part(
    notes: list[tuple[float, float, int]],
    program: int = 0,
    is_drum: bool = False,
    is_lead: bool = False,
) -> Part:
    """A part from (start, duration, pitch), all of velocity 80."""
    columns = np.array(notes, dtype=np.float64).reshape(-1, 3)
    return Part(
        program=program,
        is_drum=is_drum,
        is_lead=is_lead,
        start_seconds=columns[:, 0],
        duration_seconds=columns[:, 1],
        pitch=columns[:, 2].astype(np.int64),
        velocity=np.full(len(columns), 80, dtype=np.int64),
    )


def make_performance(*parts: Part, beats: float = 0.5, seconds: float = 20.0) -> Performance:
    marks = np.arange(0, seconds, beats)
    return Performance(parts=parts, beat_seconds=marks, bar_seconds=marks[::4], metre="4/4")


def triads(*pitches: tuple[int, ...], seconds: float = 1.0) -> list[tuple[float, float, int]]:
    return [
        (index * seconds, seconds, pitch) for index, chord in enumerate(pitches) for pitch in chord
    ]


def test_a_note_sounds_in_its_half_open_interval() -> None:
    labels = frame_labels(make_performance(make_part([(1.0, 0.4, 64)])), 0.6, 50)
    sounding = np.flatnonzero(labels.pitch_class[:, 4])
    assert sounding.tolist() == list(range(10, 20))
    assert (labels.bass[10:20] == 5).all()
    assert (labels.top[10:20] == 64).all()
    assert labels.bass[20] == 0
    assert labels.top[20] == 0
    assert np.argwhere(labels.onset).tolist() == [[10, 4]]


def test_a_note_held_over_the_start_sounds_without_an_onset() -> None:
    labels = frame_labels(make_performance(make_part([(0.0, 5.0, 60)])), 2.0, 25)
    assert labels.pitch_class[:, 0].all()
    assert not labels.onset.any()


def test_the_lead_is_the_top_even_below_the_accompaniment() -> None:
    lead = make_part([(0.0, 1.0, 55), (1.1, 0.9, 57)], program=42, is_lead=True)
    high = make_part([(0.0, 4.0, 79)])
    labels = frame_labels(make_performance(lead, high), 0.0, 100)
    assert set(labels.top[:25]) == {55}
    assert set(labels.top[25:27]) == {55}, "a breath is no rest"
    assert set(labels.top[28:49]) == {57}
    assert set(labels.top[55:]) == {79}


def test_drums_have_no_pitch_and_three_classes() -> None:
    drums = make_part([(0.0, 0.1, 36), (0.4, 0.1, 38), (0.8, 0.1, 42)], is_drum=True)
    labels = frame_labels(make_performance(drums), 0.0, 50)
    assert not labels.pitch_class.any()
    assert np.argwhere(labels.drum).tolist() == [[0, 0], [10, 1], [20, 2]]
    assert labels.family[:26, FAMILIES.index("drums")].sum() == 18
    assert not labels.chord.any()


def test_chords_follow_the_harmony_and_ignore_passing_tones() -> None:
    harmony = triads((48, 64, 67), (53, 65, 69), (43, 62, 71), (45, 60, 64))
    melody = [(0.25 * i, 0.25, p) for i, p in enumerate((72, 74, 76, 72, 77, 76, 74, 72))]
    labels = frame_labels(make_performance(make_part(harmony), make_part(melody)), 0.0, 100)
    found = [int(np.bincount(labels.chord[i * 25 : (i + 1) * 25]).argmax()) for i in range(4)]
    assert found == [C_MAJOR, F_MAJOR, G_MAJOR, A_MINOR]


def test_a_seventh_does_not_change_the_triad() -> None:
    chord = make_part(triads((43, 59, 62, 65), (48, 60, 64, 67), seconds=2.0))
    labels = frame_labels(make_performance(chord), 0.0, 100)
    assert set(labels.chord[:48]) == {G_MAJOR}
    assert set(labels.chord[52:]) == {C_MAJOR}


def test_a_bare_note_and_a_cluster_are_no_chord() -> None:
    bare = frame_labels(make_performance(make_part([(0.0, 4.0, 60)])), 0.0, 100)
    cluster = make_part([(0.0, 4.0, 60 + i) for i in range(6)])
    assert not bare.chord.any()
    assert not frame_labels(make_performance(cluster), 0.0, 100).chord.any()


def test_phases_are_linear_and_unknown_beyond_the_marks() -> None:
    labels = frame_labels(make_performance(seconds=4.0), 0.0, 125)
    assert labels.beat_phase[0] == pytest.approx(0.04, abs=1e-3)
    assert labels.bar_phase[25] == pytest.approx(0.51, abs=1e-3)
    assert np.isnan(labels.beat_phase[88:]).all()
    assert np.isnan(phase(np.array([1.0]), np.array([1.0]))).all()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-5, 15), st.floats(0.001, 8), st.integers(0, 127), st.booleans()),
        max_size=20,
    ),
    st.floats(0, 10),
    st.integers(1, 60),
)
def test_any_notes_give_labels_in_range(
    notes: list[tuple[float, float, int, bool]], start: float, frames: int
) -> None:
    parts = [make_part([(s, d, p)], program=p, is_drum=drum) for s, d, p, drum in notes]
    labels = frame_labels(make_performance(*parts), start, frames)
    assert len(labels) == frames
    assert labels.chord.min() >= 0
    assert labels.chord.max() <= 24
    for name in ("beat_phase", "bar_phase"):
        values = getattr(labels, name)
        known = values[~np.isnan(values)]
        assert ((known >= 0) & (known < 1)).all()
    silent = ~labels.pitch_class.any(axis=1)
    assert (labels.bass[silent] == 0).all()
    assert (labels.top[silent] == 0).all()
    assert (labels.bass[~silent] > 0).all()


def test_stacked_labels_come_back() -> None:
    performance = make_performance(make_part([(0.0, 4.0, 60)]))
    labels = [frame_labels(performance, start, 25) for start in (0.0, 3.5)]
    back = unstack_labels(stack_labels(labels))
    for before, after in zip(labels, back, strict=True):
        assert isinstance(after, FrameLabels)
        np.testing.assert_array_equal(before.pitch_class, after.pitch_class)
        np.testing.assert_array_equal(before.beat_phase, after.beat_phase)


def test_invalid_inputs_are_refused() -> None:
    performance = make_performance()
    with pytest.raises(MelismaError, match="at least one frame"):
        frame_labels(performance, 0.0, 0)
    with pytest.raises(MelismaError, match="equal length"):
        stack_labels([frame_labels(performance, 0.0, 3), frame_labels(performance, 0.0, 4)])
    with pytest.raises(MelismaError, match="lack"):
        unstack_labels({"top": np.zeros((1, 3))})
