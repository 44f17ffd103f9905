"""Provenance tags in Standard MIDI files, as meta events that any program may skip.

Input and output are the bytes of a file. The tags are one text event (FF 01) at the beginning of
the first track, `melisma: ` and a JSON object; a copyright event (FF 02) says what may be done
with the music. Standard MIDI Files 1.0 (MIDI Manufacturers Association, 1996), "Meta Events".
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

from melisma.files.typed_json import parse_json
from melisma.symbolic.midi.container import HEADER, unwrapped
from melisma.symbolic.midi.text import MARK, NOTICE_MARKS
from melisma.symbolic.midi.writing import meta_event
from melisma.values.errors import MelismaError

TEXT, COPYRIGHT = 0x01, 0x02
_MAX_TRACK_BYTES = 2**28


def write_midi_tags(data: bytes, fields: Mapping[str, str], *, notice: bool = True) -> bytes:
    """Adds tags to a file, replacing existing ones.

    Args:
        data: Contents of the file.
        fields: Tags by name.
        notice: Whether "rights" is also written as a copyright event: not over music that is
            somebody else's, even in part.

    Returns:
        Contents of the new file.

    Raises:
        MelismaError: The bytes are no MIDI file with a track.
    """
    head, track, rest = _first_track(data)
    words = MARK + json.dumps(dict(fields), ensure_ascii=False)
    events = _at_start(TEXT, words)
    if notice and fields.get("rights"):
        events += _at_start(COPYRIGHT, f"{NOTICE_MARKS[0]}{fields['rights']}")
    body = events + _without_tags(track)
    return head + b"MTrk" + len(body).to_bytes(4, "big") + body + rest


def read_midi_tags(data: bytes) -> dict[str, str] | None:
    """Reads the tags written by `write_midi_tags`, None where the file has none."""
    try:
        _, track, _ = _first_track(data)
    except ValueError:
        return None
    for kind, text, _, _ in _leading_texts(track):
        if kind == TEXT and text.startswith(MARK):
            try:
                fields = parse_json(text.removeprefix(MARK), "the tag")
            except ValueError:
                return None
            if isinstance(fields, dict):
                return {str(name): str(word) for name, word in fields.items()}
    return None


def _first_track(data: bytes) -> tuple[bytes, bytes, bytes]:
    """(bytes before the first track, its events, bytes after it)."""
    with contextlib.suppress(MelismaError):  # without a header there is no track
        data, _ = unwrapped(data)
    at = 8 + int.from_bytes(data[4:8], "big")
    while data[:4] == HEADER and at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        stop = at + 8 + size
        if stop > len(data) or size > _MAX_TRACK_BYTES:
            break
        if data[at : at + 4] == b"MTrk":
            return data[:at], data[at + 8 : stop], data[stop:]
        at = stop
    raise MelismaError("these bytes are no MIDI file with a whole track: give a Standard MIDI file")


def _leading_texts(track: bytes) -> list[tuple[int, str, int, int]]:
    """(kind, text, first byte, byte after) of the text events at the beginning of a track."""
    found: list[tuple[int, str, int, int]] = []
    at = 0
    while track[at : at + 2] == b"\x00\xff" and len(track) > at + 3 and track[at + 2] <= 0x0F:
        size, begin = _number(track, at + 3)
        stop = begin + size
        if stop > len(track):
            break
        words = track[begin:stop].decode("utf-8", errors="replace")
        found.append((track[at + 2], words, at, stop))
        at = stop
    return found


def _without_tags(track: bytes) -> bytes:
    """The events of a track without Melisma's tags."""
    for kind, words, first, stop in reversed(_leading_texts(track)):
        ours = kind == TEXT and words.startswith(MARK)
        if ours or (kind == COPYRIGHT and words.startswith(NOTICE_MARKS)):
            track = track[:first] + track[stop:]
    return track


def _number(data: bytes, at: int) -> tuple[int, int]:
    """(variable-length number, offset after it)."""
    value = 0
    while at < len(data):
        value = value << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            break
    return value, at


def _at_start(kind: int, words: str) -> bytes:
    """A text event at the beginning of a track."""
    return b"\0" + meta_event(kind, words.encode("utf-8"))
