"""MIDI files as programs write them: every oddity gives the notes that a player would play."""

from __future__ import annotations

import io

import mido
import numpy as np
import pytest
from midi_bytes import END, Event, number
from studies.mido_reading import mido_notes

from melisma.symbolic import read_midi, write_midi
from melisma.symbolic.tags import read_midi_tags, write_midi_tags
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.score import PITCH_BEND, Controls, KeySignature, ScoreText

ROUNDS = 60


def chunk(*events: Event, extra: int = 0) -> bytes:
    """A track of (delta, message) whose stated length is `extra` bytes off."""
    body = b"".join(number(after) + message for after, message in events)
    return b"MTrk" + (len(body) + extra).to_bytes(4, "big") + body


def midi(*tracks: bytes, kind: int = 1, division: int = 480, more: bytes = b"") -> bytes:
    header = kind.to_bytes(2, "big") + len(tracks).to_bytes(2, "big") + division.to_bytes(2, "big")
    return b"MThd" + (6 + len(more)).to_bytes(4, "big") + header + more + b"".join(tracks)


def tune(rng: np.random.Generator, channel: int = 0, count: int = 12) -> list[Event]:
    """Notes one after another, now and then with a gap between them."""
    events: list[Event] = []
    for _ in range(count):
        pitch, velocity = int(rng.integers(30, 90)), int(rng.integers(1, 128))
        gap = int(rng.choice([0, 0, 100, 480]))
        events.append((gap, bytes([0x90 | channel, pitch, velocity])))
        events.append((int(rng.integers(1, 700)), bytes([0x80 | channel, pitch, 0])))
    return events


def table(score: Score) -> list[tuple]:
    """All notes of a score with their parts."""
    return [
        (t.program, t.is_drum, t.name, *row)
        for t in score.tracks
        for row in zip(
            t.notes.start_beats.tolist(), t.notes.duration_beats.tolist(),
            t.notes.pitch.tolist(), t.notes.velocity.tolist(), strict=True,
        )
    ]  # fmt: skip


def noises(rng: np.random.Generator) -> bytes:
    """A message that plays nothing."""
    choices = (
        b"\xf7\x05\xf3\x01\x02\x03\x04",
        b"\xf0\x05\x7e\x7f\x09\x01\xf7",
        b"\xf7\x01\xf8",
        b"\xff\x01\x04text",
        b"\xff\x7f\x03\x00\x00\x41",
    )
    return choices[int(rng.integers(len(choices)))]


def test_a_sysex_or_text_anywhere_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        events = tune(rng)
        plain = read_midi(midi(chunk(*events, END)))
        at = int(rng.integers(len(events)))
        after = events[at][0]
        before = int(rng.integers(after + 1))  # the message shares the time before its neighbour
        odd = [*events[:at], (before, noises(rng)), (after - before, events[at][1])]
        odd += events[at + 1 :]
        assert table(read_midi(midi(chunk(*odd, END)))) == table(plain)


def test_running_status_goes_on_after_text_and_sysex() -> None:
    for between in (b"\xff\x01\x04text", b"\xf0\x03\x7e\x7f\xf7", b"\xf7\x01\x09"):
        events = [(0, b"\x90\x3c\x50"), (480, between), (0, b"\x3c\0"), (0, b"\x40\x50")]
        notes = read_midi(midi(chunk(*events, (240, b"\x40\0"), END))).tracks[0].notes
        assert notes.pitch.tolist() == [60, 64]
        assert notes.duration_beats.tolist() == [1.0, 0.5]


def test_files_are_read_as_mido_reads_them() -> None:
    rng = np.random.default_rng(1)
    for _ in range(ROUNDS):
        channels = rng.permutation(16)[: int(rng.integers(1, 6))].tolist()
        settings = [(0, bytes([0xC0 | c, int(rng.integers(128))])) for c in channels]
        tracks = [chunk(*settings, END)]
        for channel in channels:
            events = tune(rng, channel)
            if rng.random() < 0.5:  # a change of its own in the middle
                at = 2 * int(rng.integers(1, 10))
                events.insert(at, (0, bytes([0xC0 | channel, int(rng.integers(128))])))
            tracks.append(chunk(*events, END))
        data = midi(*tracks)
        ours = sorted((p, d, s, e, n, v) for p, d, _, s, e, n, v in table(read_midi(data)))
        theirs = mido_notes(data)
        assert [row[:3] + row[4:] for row in ours] == [row[:3] + row[4:] for row in theirs]
        np.testing.assert_allclose(
            [row[3] for row in ours], [max(row[3], 1 / 64) for row in theirs], atol=1e-9
        )


def test_notes_without_a_note_off_are_ended() -> None:
    strokes = [(240, b"\x99\x24\x50"), (240, b"\x99\x26\x50")] * 4
    score = read_midi(midi(chunk(*strokes, (240, b"\xb9\x7b\0"), END)))
    notes = score.tracks[0].notes
    assert notes.start_beats.tolist() == [0.5 * i for i in range(1, 9)]
    assert notes.duration_beats.tolist() == [1.0] * 7 + [0.5]
    assert score.remarks[0].startswith("8 notes have no end")
    events = [(0, b"\x90\x3c\x50"), (480, b"\x90\x3c\x40"), (480, b"\x80\x3c\0")]
    one = read_midi(midi(chunk(*events, (0, b"\x90\x40\x50"), (960, END[1]))))
    assert one.tracks[0].notes.duration_beats.tolist() == [1.0, 1.0, 2.0]
    assert one.remarks[0].startswith("2 notes have no end")


@pytest.mark.parametrize("controller", [120, 123])
def test_a_silenced_channel_ends_its_notes_in_every_track(controller: int) -> None:
    other = chunk((480, bytes([0xB3, controller, 0])), END)
    played = chunk((0, b"\x93\x3c\x50"), (0, b"\x94\x40\x50"), (960, b"\x84\x40\0"), END)
    tracks = read_midi(midi(other, played)).tracks
    assert [t.notes.duration_beats.tolist() for t in tracks] == [[1.0], [2.0]]


def test_a_note_off_that_is_sorted_after_the_next_note_on_ends_the_earlier_note() -> None:
    events = [(0, b"\x90\x3c\x50"), (480, b"\x90\x3c\x51"), (0, b"\x80\x3c\0")]
    notes = read_midi(midi(chunk(*events, (240, b"\x80\x3c\0"), END))).tracks[0].notes
    assert notes.duration_beats.tolist() == [1.0, 0.5]
    assert notes.velocity.tolist() == [80, 81]


def test_no_two_notes_of_a_pitch_overlap_by_pedal_alone() -> None:
    rng = np.random.default_rng(2)
    for _ in range(ROUNDS):
        events: list[Event] = []
        for _ in range(20):
            pedal = bytes([0xB0, 64, int(rng.choice([0, 127]))])
            pitch = int(rng.integers(60, 64))
            events.append((int(rng.integers(0, 200)), pedal))
            events.append((int(rng.integers(0, 200)), bytes([0x90, pitch, 80])))
            events.append((int(rng.integers(10, 300)), bytes([0x80, pitch, 0])))
        notes = read_midi(midi(chunk(*events, END))).tracks[0].notes
        for pitch in range(60, 64):
            mine = notes.pitch == pitch
            end = (notes.start_beats + notes.duration_beats)[mine]
            assert (end[:-1] <= notes.start_beats[mine][1:] + 1e-9).all()


def test_programs_and_pedals_belong_to_the_channel() -> None:
    events = [(0, b"\x94\x3c\x50"), (480, b"\x84\x3c\0"), END]
    setup = chunk((0, b"\xc4\x49"), (0, b"\xb4\x40\x7f"), (1_920, b"\xb4\x40\0"), END)
    assert [t.program for t in read_midi(midi(setup, chunk(*events))).tracks] == [73]
    own = chunk((0, b"\xc4\x28"), *events)
    assert [t.program for t in read_midi(midi(setup, own)).tracks] == [40]
    port = chunk((0, b"\xff\x21\x01\x01"), *events)
    assert [t.program for t in read_midi(midi(setup, port)).tracks] == [0]
    piano = setup.replace(b"\xc4\x49", b"\xc4\x00")
    held = read_midi(midi(piano, chunk(*events))).tracks[0]
    assert held.notes.duration_beats.tolist() == [4.0]


def test_wrong_containers_are_read_and_said() -> None:
    rng = np.random.default_rng(3)
    one, two = [*tune(rng), END], [*tune(rng, 1), END]
    right = table(read_midi(midi(chunk(*one), chunk(*two))))
    for extra in (-40, -9, -1, 1, 6, 90_000):
        for odd in (
            midi(chunk(*one, extra=extra), chunk(*two)),
            midi(chunk(*one), chunk(*two, extra=extra)),
        ):
            score = read_midi(odd)
            assert table(score) == right
            assert any("length of track" in remark for remark in score.remarks)
    assert table(read_midi(midi(chunk(*one), chunk(*two), more=b"\0\0\0"))) == right
    endless = midi(chunk(*one), chunk(*two[:-1]))
    for tail in (b"", bytes(40), b"\xf5" * 9):
        score = read_midi(endless + tail)
        assert table(score) == right
        assert score.remarks == ()
    data = midi(chunk(*one), chunk(*two))
    riff = b"RMIDdata" + len(data).to_bytes(4, "little") + data
    for wrapped in (
        b"RIFF" + len(riff).to_bytes(4, "little") + riff,
        b"\0\4tune" + bytes(122) + data,
        data + bytes(40),
        data + b"\r\n",
        midi(b"XFIH\0\0\0\2ab", chunk(*one), b"JUNK\0\0\0\1a", chunk(*two)),
    ):
        assert table(read_midi(wrapped)) == right
    tags = {"prompt": "x"}
    assert read_midi_tags(b"\0\4tune" + bytes(122) + write_midi_tags(data, tags)) == tags


def test_what_stands_behind_a_file_changes_nothing() -> None:
    rng = np.random.default_rng(11)
    data, other = midi(chunk(*tune(rng), END)), midi(chunk(*tune(rng, channel=1), END))
    wanted = table(read_midi(data))
    for behind, said in (
        (other, "another MIDI file"),
        (b"MTrk garbage here", "is none"),
        (b"x", ""),
    ):
        score = read_midi(data + behind)
        assert table(score) == wanted
        assert said in " ".join(score.remarks)


@pytest.mark.parametrize("stated", [0, 14, 40, 10**9])
def test_a_wrapper_that_states_a_wrong_length_loses_nothing(stated: int) -> None:
    data = midi(chunk(*tune(np.random.default_rng(12)), END))
    wrapped = b"RIFF\0\0\0\0RMIDdata" + stated.to_bytes(4, "little") + data
    assert table(read_midi(wrapped)) == table(read_midi(data))
    inside = b"RIFF\0\0\0\0RMIDdata" + len(data).to_bytes(4, "little") + data
    assert table(read_midi(inside + b"\0" * (len(data) % 2) + b"LIST\4\0\0\0MThd")) == table(
        read_midi(data)
    )


def test_a_reset_of_all_controllers_lifts_the_pedal() -> None:
    pedal, note, off = b"\xb0\x40\x7f", b"\x90\x3c\x40", b"\x80\x3c\x40"
    events = ((0, pedal), (0, note), (480, off), (480, b"\xb0\x79\0"), (4800, b"\xb0\1\0"), END)
    for tracks in (
        (events,),
        (((960, b"\xb0\x79\0"), END), (*events[:3], (5280, events[4][1]), END)),
    ):
        [track] = read_midi(midi(*(chunk(*one) for one in tracks))).tracks
        assert track.notes.duration_beats.tolist() == [2.0]


def test_realtime_bytes_are_passed_over() -> None:
    rng = np.random.default_rng(4)
    for byte in (0xF8, 0xFA, 0xFB, 0xFC, 0xFE):
        events = tune(rng)
        right = table(read_midi(midi(chunk(*events, END))))
        at = int(rng.integers(len(events)))
        own = [*events[:at], (0, bytes([byte])), *events[at:]]
        message = events[at][1]
        inside = [*events]
        inside[at] = (events[at][0], message[:2] + bytes([byte]) + message[2:])
        for odd in (own, inside):
            score = read_midi(midi(chunk(*odd, END)))
            assert table(score) == right
            assert "1 unusable message" in score.remarks[0]


def test_a_cut_file_is_read_as_far_as_it_goes_and_says_so() -> None:
    data = midi(chunk(*tune(np.random.default_rng(5)), END))
    whole = table(read_midi(data))
    score = read_midi(data[:-30])
    assert table(score)[:6] == whole[:6]
    assert any("cut short" in remark for remark in score.remarks) or len(score.remarks) == 1


def test_smpte_time_is_read_in_seconds() -> None:
    data = midi(chunk((0, b"\x90\x3c\x50"), (1_000, b"\x80\x3c\0"), END), division=0xE728)
    score = read_midi(data)
    assert score.seconds == pytest.approx(1.0)
    assert "SMPTE" in score.remarks[0]


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("Stück für Flöte", "latin-1"), ("Pièce en ré – «Été»", "cp1252"), ("Flöte", "utf-8"),
     ("ピアノ", "cp932"), ("第一バイオリン", "cp932"), ("钢琴独奏", "gbk"), ("Скрипка", "cp1251"),
     ("Größe", "latin-1"), ("Niño", "latin-1"), ("I don’t, you can’t", "cp1252"),
     ("Scène d’été", "cp1252"), ("第一楽章 Allegro", "cp932"), ("ﾋﾟｱﾉ", "cp932"),
     ("КАЛИНКА", "cp1251"), ("МУЗЫКА", "cp1251"), ("ÄÖÜ", "latin-1"),
     ("Waltz", "utf-16"), ("Wälzer", "utf-8-sig")],
)  # fmt: skip
def test_names_of_all_encodings_are_read_and_written_as_utf8(name: str, encoding: str) -> None:
    raw = name.encode(encoding)
    events = ((0, b"\xff\x03" + number(len(raw)) + raw), *tune(np.random.default_rng(6)), END)
    score = read_midi(midi(chunk(*events)))
    assert score.tracks[0].name == name
    assert name.encode() in write_midi(score)


def test_random_bytes_as_names_never_give_a_replacement_character() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        raw = rng.bytes(int(rng.integers(1, 20)))
        events = ((0, b"\xff\x03" + number(len(raw)) + raw), *tune(rng, count=1), END)
        assert "\ufffd" not in read_midi(midi(chunk(*events))).tracks[0].name or b"\xef" in raw


def random_score(rng: np.random.Generator, parts: int) -> Score:
    """A score on the grid of written files with everything that a score can hold."""
    tracks = []
    for index in range(parts):
        count = int(rng.integers(1, 12))
        start = np.cumsum(rng.integers(1, 900, count)) / 960
        length = np.minimum(
            np.diff(start, append=start[-1] + 1), rng.integers(15, 900, count) / 960
        )
        notes = Notes(
            start_beats=start,
            duration_beats=np.maximum(length, 1 / 64),
            pitch=np.arange(count) + 40,
            velocity=rng.integers(1, 128, count),
        )
        at = np.sort(rng.integers(0, 5_000, 4)) / 960
        controls = Controls(
            beats=at,
            number=np.array([7, 10, PITCH_BEND, 11]),
            value=np.array([30, 64, int(rng.integers(16_384)), 127]),
        )
        lyric = ScoreText(beat=float(start[0]), kind="lyric", text="la-")
        tracks.append(
            Track(
                notes=notes, program=int(rng.integers(128)), is_drum=index % 7 == 3,
                name=f"part {index}", controls=controls, texts=(lyric,),
            )
        )  # fmt: skip
    return Score(
        tracks=tuple(tracks),
        tempo=TempoMap(beats=np.array([0.0, 3.0]), bpm=np.array([60e6 / 500_001, 75.0])),
        keys=(KeySignature(beat=0.0, sharps=-3, is_minor=True),
              KeySignature(beat=4.0, sharps=2, is_minor=False)),
        texts=(ScoreText(beat=0.0, kind="title", text="Ein Stück"),
               ScoreText(beat=0.0, kind="copyright", text="© me"),
               ScoreText(beat=2.0, kind="marker", text="Verse")),
    )  # fmt: skip


@pytest.mark.parametrize("parts", [1, 3, 15, 16, 17, 31, 60])
def test_what_is_written_is_read_again(parts: int) -> None:
    score = random_score(np.random.default_rng(parts), parts)
    data = write_midi(score)
    again = read_midi(data)
    ours, theirs = table(score), table(again)
    assert [row[:4] + row[5:] for row in theirs] == [row[:4] + row[5:] for row in ours]
    np.testing.assert_allclose([r[4] for r in theirs], [r[4] for r in ours], atol=1e-9)
    assert again.keys == score.keys
    assert again.texts == score.texts
    assert again.title == "Ein Stück"
    assert again.tempo.bpm.tolist() == pytest.approx(score.tempo.bpm.tolist())
    assert again.remarks == ()
    for one, other in zip(score.tracks, again.tracks, strict=True):
        assert one.texts == other.texts
        np.testing.assert_array_equal(one.controls.number, other.controls.number)
        np.testing.assert_array_equal(one.controls.value, other.controls.value)
        np.testing.assert_allclose(one.controls.beats, other.controls.beats)
    assert write_midi(again) == data


def test_every_pitched_part_has_a_channel_of_its_own() -> None:
    file = mido.MidiFile(file=io.BytesIO(write_midi(random_score(np.random.default_rng(0), 40))))
    places = []
    for track in file.tracks[1:]:
        port = next(m.port for m in track if m.type == "midi_port")
        (channel,) = {m.channel for m in track if not m.is_meta}
        places += [(port, channel)] if channel != 9 else []
    assert len(set(places)) == len(places) == 34


def test_times_beyond_one_number_are_bridged() -> None:
    notes = Notes(
        start_beats=np.array([0.0, 600_000.0]), duration_beats=np.ones(2),
        pitch=np.array([60, 62]), velocity=np.array([80, 80]),
    )  # fmt: skip
    score = Score(
        tracks=(Track(notes=notes, program=0, is_drum=False),),
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 5_000.0)),
    )
    again = read_midi(write_midi(score)).tracks[0].notes
    assert again.start_beats.tolist() == [0.0, 600_000.0]
