"""Parts of MIDI files, byte by byte."""

from __future__ import annotations

Event = tuple[int, bytes]
"""Ticks since the event before, and the message."""
END: Event = (0, b"\xff\x2f\0")
"""The end of a track."""


def number(value: int) -> bytes:
    """A variable-length number."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.insert(0, value & 0x7F | 0x80)
    return bytes(groups)
