"""Tags in MIDI files."""

from __future__ import annotations

import numpy as np
import pytest

from melisma.symbolic import read_midi, write_midi
from melisma.symbolic.tags import read_midi_tags, write_midi_tags
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError

RIGHTS = "The authors of Melisma claim no rights in this music."
FIELDS = {"prompt": "a “slow” waltz – für Elise", "seed": "7", "rights": RIGHTS}


def a_file() -> bytes:
    notes = Notes(
        start_beats=np.array([0.0, 1.0]),
        duration_beats=np.ones(2),
        pitch=np.array([60, 64]),
        velocity=np.array([80, 90]),
    )
    track = Track(notes=notes, program=40, is_drum=False, name="violin")
    return write_midi(
        Score(tracks=(track,), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 90.0)))
    )


def test_tags_come_back_and_the_music_stays() -> None:
    plain = a_file()
    tagged = write_midi_tags(plain, FIELDS)
    assert read_midi_tags(plain) is None
    assert read_midi_tags(tagged) == FIELDS
    one, other = read_midi(plain), read_midi(tagged)
    assert np.array_equal(one.tracks[0].notes.pitch, other.tracks[0].notes.pitch)
    assert other.tracks[0].name == "violin"


def test_the_copyright_event_says_what_may_be_done() -> None:
    tagged = write_midi_tags(a_file(), FIELDS)
    assert (
        f"\xff\x02{chr(27 + len(RIGHTS))}AI-generated with Melisma. {RIGHTS}".encode("latin-1")
        in tagged
    )
    # Over somebody else's music there is none, and an older one of ours goes.
    assert b"\xff\x02" not in write_midi_tags(tagged, FIELDS, notice=False)
    assert not read_midi(tagged).texts


def test_tags_are_replaced_not_piled_up() -> None:
    once = write_midi_tags(a_file(), FIELDS)
    assert write_midi_tags(once, FIELDS) == once
    assert read_midi_tags(write_midi_tags(once, {"seed": "8"})) == {"seed": "8"}


def test_tags_that_are_no_object_are_none() -> None:
    tagged = write_midi_tags(a_file(), {"prompt": "x" * 200_000})
    at = tagged.index(b"melisma: ") + len(b"melisma: ")
    for text in (b"[" * 200_000, b"{]", b"[]"):
        assert read_midi_tags(tagged[:at] + text + tagged[at + len(text) :]) is None


def test_long_words_fit() -> None:
    fields = {"prompt": "x" * 20_000}
    assert read_midi_tags(write_midi_tags(a_file(), fields)) == fields


@pytest.mark.parametrize("data", [b"", b"MThd", b"RIFF" + bytes(40)])
def test_what_is_no_midi_file_is_refused(data: bytes) -> None:
    assert read_midi_tags(data) is None
    with pytest.raises(MelismaError, match="Standard MIDI"):
        write_midi_tags(data, FIELDS)
