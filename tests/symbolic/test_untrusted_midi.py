"""Files that somebody made by hand, by mistake or by malice: a sentence, never a crash."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from midi_bytes import END, number

from melisma.symbolic import read_midi, write_midi
from melisma.symbolic.midi import midi_bytes, reading
from melisma.symbolic.midi.notes import MAX_HANGING_BEATS
from melisma.symbolic.midi.reading import MAX_NOTE_BEATS
from melisma.values import Metre, Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError

ON, OFF = b"\x90\x3c\x50", b"\x80\x3c\0"
FAR = 0x0FFFFFFF
"""The longest time that one number of a MIDI file can hold."""


def file(*events: tuple[int, bytes], kind: int = 1, tracks: int = 1, ticks: int = 480) -> bytes:
    """A MIDI file whose tracks all hold these events, each after so many ticks."""
    body = b"".join(number(after) + event for after, event in events)
    track = b"MTrk" + len(body).to_bytes(4, "big") + body
    head = kind.to_bytes(2, "big") + tracks.to_bytes(2, "big") + ticks.to_bytes(2, "big")
    return b"MThd\0\0\0\6" + head + track * tracks


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (file((0, ON), (480, OFF), END, kind=2, tracks=2), "type 2, several pieces in one"),
        (file((0, ON), (480, OFF), END, kind=7), "there is no type 7"),
        (file((0, ON), (480, OFF), END, ticks=0), "no ticks per quarter note"),
        (file((0, OFF), (480, END[1])), "holds no note"),
        (file((FAR, ON), (480, OFF), (FAR, ON), (480, OFF), END), "hours, and at most 6 are read"),
        (file(*[(FAR, ON), (480, OFF)] * 12, END), "hours, and at most 6 are read"),
        (file(*[(FAR, ON), (480, OFF)] * 1_200, END), "its time overflows"),
    ],
)
def test_files_that_are_no_single_piece_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(MelismaError, match=says):
        read_midi(data)


def test_notes_that_are_never_let_go_do_not_sound_for_ever() -> None:
    stuck = file((0, ON), (480, b"\x90\x40\x50"), (480, b"\x80\x40\0"), END)
    notes = read_midi(stuck).tracks[0].notes
    assert notes.pitch.tolist() == [60, 64]
    assert notes.duration_beats.tolist() == [2.0, 1.0]
    long = read_midi(file((0, ON), (48_000, b"\x90\x40\x50"), (480, b"\x80\x40\0"), END))
    assert long.tracks[0].notes.duration_beats.tolist() == [MAX_HANGING_BEATS, 1.0]
    late = read_midi(file((0, ON), (FAR, OFF), END)).tracks[0].notes
    assert late.duration_beats.tolist() == [MAX_NOTE_BEATS]


def test_a_file_without_tempo_and_one_with_odd_tempi() -> None:
    assert read_midi(file((0, ON), (480, OFF), END)).tempo.bpm.tolist() == [120.0]
    for micros, bpm in ((b"\0\0\0", 120.0), (b"\xff\xff\xff", 60e6 / 0xFFFFFF)):
        odd = read_midi(file((0, b"\xff\x51\x03" + micros), (0, ON), (480, OFF), END))
        assert odd.tempo.bpm[0] == pytest.approx(bpm)
    changes = [(4, b"\xff\x51\x03" + (300_000 + 100 * i).to_bytes(3, "big")) for i in range(5_000)]
    many = read_midi(file(*changes, (0, ON), (480, OFF), END))
    assert len(many.tempo.bpm) >= 5_000
    assert 0 < many.seconds < 60


def test_too_many_notes_and_too_many_bytes_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = file((0, ON), (480, OFF), (0, ON), (480, OFF), END)
    monkeypatch.setattr(reading, "MAX_NOTES", 1)
    with pytest.raises(MelismaError, match="holds 2 notes, and at most 1 are read"):
        read_midi(data)
    monkeypatch.setattr(reading, "MAX_BYTES", len(data) - 1)
    with pytest.raises(MelismaError, match="has 0 MB, and at most"):
        read_midi(data)
    (tmp_path / "x.mid").write_bytes(data)
    with pytest.raises(MelismaError, match="has 0 MB, and at most"):
        midi_bytes(tmp_path / "x.mid")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nix\.mid"):
        midi_bytes(tmp_path / "nix.mid")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        midi_bytes(tmp_path)
    with pytest.raises(MelismaError, match="is no ordinary file"):
        midi_bytes(Path("/dev/zero"))


def piece() -> Score:
    """Three parts with pedals' worth of overlaps, tempo changes and two metres."""
    rng = np.random.default_rng(0)
    tracks = []
    for index in range(3):
        start = np.sort(rng.integers(0, 64, 40)) / 4
        notes = Notes(
            start_beats=start,
            duration_beats=rng.integers(1, 12, 40) / 4,
            pitch=rng.integers(30, 100, 40),
            velocity=rng.integers(1, 128, 40),
        )
        tracks.append(Track(notes=notes, program=40 * index, is_drum=index == 2, name="part"))
    return Score(
        tracks=tuple(tracks),
        tempo=TempoMap(beats=np.arange(8.0), bpm=np.linspace(60, 130, 8)),
        metres=(
            Metre(beat=0.0, numerator=4, denominator=4),
            Metre(beat=8.0, numerator=3, denominator=8),
        ),
    )


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with a few of them changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 4, 16]))):
        at = int(rng.integers(len(changed)))
        way = rng.random()
        if way < 0.6:
            changed[at] = int(rng.integers(256))
        elif way < 0.75:
            del changed[at : at + int(rng.integers(1, 12))]
        elif way < 0.9:
            changed[at:at] = rng.bytes(int(rng.integers(1, 8)))
        else:
            changed[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(changed)


def test_mutated_files_are_read_or_refused() -> None:
    rng = np.random.default_rng(1)
    data = write_midi(piece())
    read = 0
    for _ in range(2_000):
        with contextlib.suppress(ValueError):
            again = read_midi(mutated(data, rng))
            read += 1
            for track in again.tracks:
                assert (track.notes.start_beats >= 0).all()
                assert (track.notes.duration_beats > 0).all()
                assert (track.notes.duration_beats <= MAX_NOTE_BEATS + 8).all()
                assert (track.notes.pitch <= 127).all()
            assert np.isfinite(again.seconds)
    assert read > 100
