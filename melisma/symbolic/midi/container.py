"""Container of a Standard MIDI file: wrappings, the header chunk and the bytes of every track.

Files are taken as programs write them, not only as the standard has them: wrapped in RIFF (RMID) or
MacBinary, with junk before the header, a header of more than six bytes, lengths of tracks that are
wrong, chunks of other kinds. Standard MIDI Files 1.0 (MIDI Manufacturers Association, 1996),
"Chunks"; RP-029 (RMID).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from melisma.symbolic.midi.track_events import TrackEvents, parse_track
from melisma.values.errors import MelismaError

HEADER, TRACK = b"MThd", b"MTrk"
HEADER_BYTES = 6
"""Length of the header that the standard knows; what a longer one has more is skipped."""
MOST_JUNK_BYTES = 4_096
"""How far from the beginning of a file the header is searched (chosen: MacBinary has 128 bytes,
AppleSingle and the tags of download sites some hundreds)."""
MOST_TRACKS = 4_096
"""A file with more tracks is taken for damaged (chosen: the most of 10,907 real pieces is 42)."""
SMPTE_RATES: dict[int, float] = {24: 24.0, 25: 25.0, 29: 30_000 / 1_001, 30: 30.0}
"""Frames per second by the number in the header (29: 30 drop frame)."""


@dataclass(frozen=True, kw_only=True)
class MidiFile:
    """The tracks of a file and how they count time."""

    kind: int
    """0: one track; 1: tracks that sound together; 2: tracks that are pieces of their own."""
    ticks_per_beat: float
    """Ticks per quarter note; in SMPTE time those of a quarter note at 120 bpm."""
    is_smpte: bool
    """Whether ticks are parts of a second, so that tempi mean nothing."""
    tracks: tuple[TrackEvents, ...]
    remarks: tuple[str, ...]
    """What the file has that is not as the standard wants it, in sentences."""


def split_midi_file(data: bytes) -> MidiFile:
    """Parses the chunks of a file.

    Args:
        data: Contents of the file.

    Raises:
        MelismaError: The data are no MIDI file, or are damaged beyond what can be guessed.
    """
    data, remarks = unwrapped(data)
    size = int.from_bytes(data[4:8], "big")
    if len(data) < 8 + HEADER_BYTES or size < HEADER_BYTES:
        raise MelismaError(
            "the MIDI file is damaged (its header is cut short): get it again, or export it again "
            "from its program"
        )
    kind = int.from_bytes(data[8:10], "big")
    if kind > 2:
        raise MelismaError(f"the MIDI file is damaged (there is no type {kind}): get it again")
    division = int.from_bytes(data[12:14], "big")
    ticks, is_smpte = float(division), bool(division & 0x8000)
    if is_smpte:
        rate = SMPTE_RATES.get(256 - (division >> 8))
        if rate is None:
            raise MelismaError(
                f"the MIDI file counts time in SMPTE frames, {256 - (division >> 8)} of them a "
                "second, and there are 24, 25, 29 or 30: get it again"
            )
        ticks = rate * (division & 0xFF) / 2
        remarks.append("time is in SMPTE frames, without beats: read as quarter notes at 120 bpm")
    if ticks <= 0:
        raise MelismaError("the MIDI file names no ticks per quarter note: export it again")
    count = int.from_bytes(data[10:12], "big")
    tracks = _tracks(data, min(8 + size, _next_track(data, 14)), count, remarks)
    return MidiFile(
        kind=kind,
        ticks_per_beat=ticks,
        is_smpte=is_smpte,
        tracks=tuple(tracks),
        remarks=tuple(remarks),
    )


def unwrapped(data: bytes) -> tuple[bytes, list[str]]:
    """The file from its header on, and remarks on what stood before it.

    Raises:
        MelismaError: There is no header.
    """
    if data[:4] == HEADER:
        return data, []
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        at = 12
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            if data[at : at + 4] == b"data" and data[at + 8 : at + 12] == HEADER:
                stated = at + 8 + size + size % 2
                whole = size > 0 and _is_riff_chunk(data, stated)
                return data[at + 8 : stated if whole else None], []
            at += 8 + size + size % 2
    at = data.find(HEADER, 0, MOST_JUNK_BYTES)
    wave = data[:4] == b"RIFF" and data[8:12] != b"RMID"
    if at < 0 or wave:
        raise MelismaError(
            f"these {len(data)} bytes are no MIDI file (they do not begin with MThd): "
            "give a Standard MIDI file (.mid)"
        )
    mac = 128 <= at <= 129 and data[0] == 0 and 1 <= data[1] <= 63
    return data[at:], [] if mac else [f"{at} bytes before the header were skipped"]


def _tracks(data: bytes, at: int, count: int, remarks: list[str]) -> list[TrackEvents]:
    """The tracks from a place on; of more than the stated `count` those that can be read."""
    tracks: list[TrackEvents] = []
    while at + 8 <= len(data):
        if 0 < count <= len(tracks) and data[at : at + 8] == HEADER + b"\0\0\0\6":
            remarks.append("another MIDI file follows in the same file: the first one was read")
            break
        declared = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if data[at : at + 4] != TRACK:  # a chunk of another kind, or junk
            at = declared if _begins_chunk(data, declared) else _next_track(data, at + 1)
            continue
        if len(tracks) == MOST_TRACKS:
            raise MelismaError(
                f"the MIDI file has more than {MOST_TRACKS} tracks: it is damaged, get it again"
            )
        begin, number = at + 8, len(tracks) + 1
        limit = declared if _begins_chunk(data, declared) else _next_track(data, begin)
        try:
            parsed, read = _parse_up_to(data[begin:limit], declared - begin, number)
        except MelismaError:
            if not 0 < count <= len(tracks):
                raise
            remarks.append(f"what follows the {count} tracks is none: it was left out")
            break
        tracks.append(parsed)
        if begin + read != declared and limit != declared:
            remarks.append(f"the length of track {number} is wrong: it was read to its end")
        at = begin + read if data[begin + read : begin + read + 4] == TRACK else limit
    return tracks


def _parse_up_to(data: bytes, declared: int, number: int) -> tuple[TrackEvents, int]:
    """Parses a track up to its end-of-track event, wherever that is; without one, up to the stated
    length, because what follows is no music.

    Args:
        data: From the beginning of the track on.
        declared: Its stated length.
        number: Of the track, counted from 1.

    Returns:
        The events, and how many bytes they take.
    """
    if declared < len(data):
        with contextlib.suppress(MelismaError):
            found, read = parse_track(data, number)
            if found.has_end:
                return found, read
        data = data[:declared]
    return parse_track(data, number)


def _is_riff_chunk(data: bytes, at: int) -> bool:
    """Whether a chunk of a RIFF file begins at this place, or the file ends about there."""
    name = data[at : at + 4]
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    return at >= len(data) or (
        len(name) == 4
        and all(32 <= letter < 127 for letter in name)
        and at + 8 + size <= len(data) + 1
    )


def _begins_chunk(data: bytes, at: int) -> bool:
    """Whether a chunk begins at this place, or the file ends there."""
    return at == len(data) or data[at : at + 4] == TRACK or _is_foreign_chunk(data, at)


def _is_foreign_chunk(data: bytes, at: int) -> bool:
    name = data[at : at + 4]
    return (
        len(name) == 4
        and name.isalnum()
        and at + 8 + int.from_bytes(data[at + 4 : at + 8], "big") <= len(data)
    )


def _next_track(data: bytes, at: int) -> int:
    """Where the next track begins from here on; the end of the data without one."""
    found = data.find(TRACK, at)
    return len(data) if found < 0 else found
