"""Whether the events of a MIDI track hold together, before a parser in C++ trusts them.

symusic (0.5.9) reads past the end of a track whose events lie about their lengths, and takes the
process down with it: each of four runs of up to 40,000 random tracks crashed. Standard MIDI Files
1.0 (MIDI Manufacturers Association, 1996), "MTrk events".
"""

from __future__ import annotations

DATA_BYTES: dict[int, int] = {8: 2, 9: 2, 10: 2, 11: 2, 12: 1, 13: 1, 14: 2}
"""Data bytes of a channel message by the upper half of its status."""
META_BYTES: dict[int, int] = {0x20: 1, 0x21: 1, 0x2F: 0, 0x51: 3, 0x54: 5, 0x58: 4, 0x59: 2}
"""Lengths of the meta events that have one length only."""
END_OF_TRACK = 0x2F
LONGEST_NUMBER = 4
"""Bytes of a variable-length number."""


def check_events(events: bytes) -> None:
    """Raises `ValueError` where an event runs over the end, lacks a status or has a wrong length.

    `events`: a track chunk's contents. What stands behind the end of the track is not looked at.
    """
    at, status = 0, 0
    while at < len(events):
        _, at = _number(events, at)
        lead = _byte(events, at)
        if lead == 0xFF:
            kind = _byte(events, at + 1)
            length, at = _number(events, at + 2)
            if META_BYTES.get(kind, length) != length:
                raise ValueError(f"a meta event {kind:#04x} has {length} bytes")
            if kind == END_OF_TRACK:
                return
            at, status = at + length, 0
        elif lead in (0xF0, 0xF7):
            length, at = _number(events, at + 1)
            at, status = at + length, 0
        else:
            if lead & 0x80:
                status, at = lead, at + 1
            count = DATA_BYTES.get(status >> 4)
            if count is None:
                raise ValueError(f"no message begins with {lead:#04x}")
            if any(_byte(events, at + i) & 0x80 for i in range(count)):
                raise ValueError("a status byte stands among data")
            at += count
        if at > len(events):
            raise ValueError("an event runs over the end of its track")


def _byte(events: bytes, at: int) -> int:
    if at >= len(events):
        raise ValueError("an event runs over the end of its track")
    return events[at]


def _number(events: bytes, at: int) -> tuple[int, int]:
    """A variable-length number and where it ends."""
    value = 0
    for step in range(LONGEST_NUMBER):
        byte = _byte(events, at + step)
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            return value, at + step + 1
    raise ValueError("a number has more than four bytes")
