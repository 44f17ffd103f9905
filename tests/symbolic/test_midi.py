"""MIDI survives the way there and back, and junk is refused in a sentence."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.symbolic import read_midi, write_midi
from melisma.values import ChordMark, Metre, Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError


def _score(rows: list[tuple[int, int, int, int]], program: int, is_drum: bool) -> Score:
    """A score from rows of (start, duration) in sixteenths, pitch and velocity."""
    table = np.array(sorted(rows, key=lambda row: (row[0], row[2])), dtype=np.float64)
    notes = Notes(
        start_beats=table[:, 0] / 4,
        duration_beats=table[:, 1] / 4,
        pitch=table[:, 2].astype(np.int64),
        velocity=table[:, 3].astype(np.int64),
    )
    return Score(
        tracks=(Track(notes=notes, program=program, is_drum=is_drum, name="part"),),
        tempo=TempoMap(beats=np.array([0.0, 4.0]), bpm=np.array([90.0, 120.0])),
        metres=(
            Metre(beat=0.0, numerator=3, denominator=4),
            Metre(beat=3.0, numerator=6, denominator=8),
        ),
    )


rows = st.lists(
    st.tuples(st.integers(0, 64), st.integers(1, 16), st.integers(0, 127), st.integers(1, 127)),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row[2],  # equal pitches that overlap are indistinguishable in MIDI
)


@settings(max_examples=40, deadline=None)
@given(rows=rows, program=st.integers(0, 127), is_drum=st.booleans())
def test_a_score_survives_the_file(
    rows: list[tuple[int, int, int, int]], program: int, is_drum: bool
) -> None:
    score = _score(rows, program, is_drum)
    again = read_midi(write_midi(score))
    before, after = score.tracks[0], again.tracks[0]
    assert (after.program, after.is_drum, after.name) == (program, is_drum, "part")
    np.testing.assert_allclose(after.notes.start_beats, before.notes.start_beats, atol=1e-3)
    np.testing.assert_allclose(after.notes.duration_beats, before.notes.duration_beats, atol=2e-3)
    np.testing.assert_array_equal(after.notes.pitch, before.notes.pitch)
    np.testing.assert_array_equal(after.notes.velocity, before.notes.velocity)
    assert again.metres == score.metres
    np.testing.assert_allclose(again.tempo.bpm, score.tempo.bpm, rtol=1e-4)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"RIFF....WAVE", "no MIDI file"),
        (b"MThd\0\0\0\6\0\1\0\1\x01\xe0MTrk\0\0\0\x09\x90", "damaged"),
        (b"MThd\0\0\0\6\0\1\0\1\x80\x28MTrk\0\0\0\4\0\xff\x2f\0", "SMPTE"),
        (b"MThd\0\0\0\4\0\1\0\1\x80\x28MTrk\0\0\0\4\0\xff\x2f\0", "cut short"),
        (b"MThd\0\0\0\6\0\1\0\1\x01\xe0MTrk\0\0\0\4\0\xff\x2f\0", "no note"),
    ],
)
def test_junk_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(MelismaError, match=says):
        read_midi(data)


@settings(max_examples=60, deadline=None)
@given(tail=st.binary(max_size=80))
def test_damage_raises_nothing_but_value_error(tail: bytes) -> None:
    header = b"MThd\0\0\0\6\0\1\0\1\x01\xe0"
    for data in (header + b"MTrk" + tail, header + b"MTrk" + len(tail).to_bytes(4, "big") + tail):
        with contextlib.suppress(ValueError):
            assert len(read_midi(data).tracks) > 0


def test_a_metre_midi_cannot_say_is_refused() -> None:
    score = _score([(0, 4, 60, 80)], 0, False)
    odd = Score(
        tracks=score.tracks,
        tempo=score.tempo,
        metres=(Metre(beat=0.0, numerator=4, denominator=3),),
    )
    with pytest.raises(MelismaError, match="4/3"):
        write_midi(odd)


END = b"\0\xff\x2f\0"


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (b"\0\x90\x40", "over the end"),
        (b"\0\x40\x40" + END, "no message begins"),
        (b"\0\xf4" + END, "no message begins"),
        (b"\0\x90\x40\xff" + END, "among data"),
        (b"\x80\x80\x80\x80\0\x90\x40\x40" + END, "more than four bytes"),
        (b"\0\xff\x03\x7fabc" + END, "over the end"),
        (b"\0\xf0\xff\xff\x7f" + END, "over the end"),
    ],
)
def test_events_that_do_not_hold_together_are_refused(events: bytes, says: str) -> None:
    header = b"MThd\0\0\0\6\0\1\0\1\x01\xe0"
    with pytest.raises(MelismaError, match=f"damaged.*{says}.*get it again"):
        read_midi(header + b"MTrk" + len(events).to_bytes(4, "big") + events)


@pytest.mark.parametrize(
    ("tonality", "sharps", "minor"),
    [("C major", 0, False), ("Eb major", -3, False), ("F# minor", 3, True), ("Bb minor", -5, True),
     ("F# major", 6, False), ("C# major", -5, False), ("Eb minor", 6, True)],
)  # fmt: skip
def test_key_signature_and_chords_are_written(tonality: str, sharps: int, minor: bool) -> None:
    notes = Notes(
        start_beats=np.zeros(1), duration_beats=np.full(1, 8.0),
        pitch=np.array([60]), velocity=np.array([80]),
    )  # fmt: skip
    chords = (ChordMark(beat=0.0, name="C"), ChordMark(beat=4.0, name="F#m"))
    score = Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)),
        chords=chords,
        tonality=tonality,
    )
    data = write_midi(score)
    assert data.count(bytes([0xFF, 0x59, 2, sharps & 0xFF, int(minor)])) == 1
    assert read_midi(data).chords == chords
