"""Events of one track of a MIDI file, as columns.

Running status lives on over meta events and system exclusive messages, as most programs expect it
to, and system realtime bytes may stand anywhere, even inside another message. Standard MIDI Files
1.0 (MIDI Manufacturers Association, 1996), "MTrk events"; MIDI 1.0 Detailed Specification, "Running
Status" and "System Real Time Messages".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.values.errors import MelismaError

DATA_BYTES = bytes(
    {0xC: 1, 0xD: 1}.get(status >> 4, 2) if 0x80 <= status < 0xF0 else 0 for status in range(256)
)
"""Data bytes of a channel message by its status."""
COMMON_DATA_BYTES: dict[int, int] = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0}
"""Data bytes of the system common messages, which have no place in a file."""
META_BYTES: dict[int, int] = {0x20: 1, 0x21: 1, 0x51: 3, 0x54: 5, 0x58: 4, 0x59: 2}
"""Fewest bytes of the meta events of fixed length."""
END_OF_TRACK = 0x2F
MAX_NUMBER_BYTES = 4
"""Maximum bytes of a variable-length number."""
MAX_TICKS = 2**38
"""A longer track is damaged: it would last a day at the finest resolution (chosen)."""


@dataclass(frozen=True, kw_only=True)
class MetaEvent:
    """A meta event."""

    tick: int
    kind: int
    """Its type, e.g. 0x51 for a tempo."""
    data: bytes


@dataclass(frozen=True, kw_only=True)
class TrackEvents:
    """The events of a track."""

    ticks: np.ndarray
    """int64 [event], absolute time of the channel messages, ascending."""
    status: np.ndarray
    """uint8 [event], status byte: kind (upper half) and channel (lower half)."""
    first: np.ndarray
    """uint8 [event], first data byte."""
    second: np.ndarray
    """uint8 [event], second data byte; 0 where there is none."""
    metas: tuple[MetaEvent, ...]
    end_tick: int
    """When the track ends."""
    has_end: bool
    """Whether it has an end-of-track event."""
    sysex: int
    """Number of system exclusive messages and packets, which are skipped."""
    skipped: int
    """Number of realtime and system common messages and of meta events of a wrong length."""
    fault: str | None
    """Why reading stopped before the end of the track; None where it did not."""


class _FaultError(Exception):
    """The bytes cannot be events from here on."""


def parse_track(data: bytes, number: int) -> tuple[TrackEvents, int]:
    """Parses a track.

    Args:
        data: Contents of the chunk; bytes after the end-of-track event are left.
        number: Of the track, counted from 1, for messages.

    Returns:
        The events, and how many bytes they take.

    Raises:
        MelismaError: The bytes are damaged in the middle, so that what follows would be guesswork.
    """
    parser = _Parser(data)
    fault = None
    try:
        try:
            parser.run()
        except IndexError:
            fault = "an event runs over the end of its track"
        if parser.tick > MAX_TICKS:
            raise _FaultError("its time overflows")
    except _FaultError as error:
        raise MelismaError(
            f"the MIDI file is damaged ({error} in track {number}): get it again, or export it "
            "again from its program"
        ) from error
    packed = np.array(parser.messages, dtype=np.int64)
    events = TrackEvents(
        ticks=packed >> 24,
        status=(packed >> 16 & 0xFF).astype(np.uint8),
        first=(packed >> 8 & 0xFF).astype(np.uint8),
        second=(packed & 0xFF).astype(np.uint8),
        metas=tuple(parser.metas),
        end_tick=parser.tick,
        has_end=parser.has_end,
        sysex=parser.sysex,
        skipped=parser.skipped,
        fault=fault,
    )
    return events, min(parser.at, len(data))


class _Parser:
    """State of the parser; its fields hold what was read when it stops, by an error too."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.tick = 0
        self.messages: list[int] = []
        """Channel messages, each packed as tick, status and two data bytes."""
        self.metas: list[MetaEvent] = []
        self.has_end = False
        self.sysex = self.skipped = 0

    def run(self) -> None:
        """Reads events to the end of the track.

        Raises:
            IndexError: The data end inside an event.
            _FaultError: The bytes are no events.
        """
        data, size, append = self.data, len(self.data), self.messages.append
        counts = DATA_BYTES
        at, tick, status = 0, 0, 0
        while at < size:
            value = data[at]
            at += 1
            if value > 0x7F:
                value, at = self._number(at - 1)
            tick += value
            lead = data[at]
            if lead > 0xEF:
                self.at, self.tick = at, tick
                at = self._system(lead)
                if self.has_end:
                    self.at = at
                    return
                continue
            if lead > 0x7F:
                status = lead
                at += 1
            elif not status:
                raise _FaultError(f"no message begins with {lead:#04x}")
            first = data[at]
            second = data[at + 1] if counts[status] == 2 else 0
            if (first | second) > 0x7F:
                first, second, at = self._data_bytes(at, counts[status])
            else:
                at += counts[status]
            append(tick << 24 | status << 16 | first << 8 | second)
            self.tick = tick
        self.at, self.tick = at, tick

    def _data_bytes(self, at: int, count: int) -> tuple[int, int, int]:
        """Data bytes among which realtime bytes stand, and the offset after them."""
        found: list[int] = []
        while len(found) < count:
            value = self.data[at]
            at += 1
            if value >= 0xF8 and value != 0xFF:
                self.skipped += 1
            elif value > 0x7F:
                raise _FaultError("a status byte stands among data")
            else:
                found.append(value)
        return found[0], found[1] if count == 2 else 0, at

    def _system(self, lead: int) -> int:
        """Reads a message whose status is 0xF0 or more; returns the offset after it."""
        at = self.at
        if lead == 0xFF:
            return self._meta()
        if lead in (0xF0, 0xF7):
            length, at = self._number(at + 1)
            at += length
            if at > len(self.data):
                raise IndexError
            self.sysex += 1
            return at
        if lead > 0xF7:
            self.skipped += 1
            return at + 1  # an event of its own, after its time
        count = COMMON_DATA_BYTES.get(lead)
        if count is None:
            raise _FaultError(f"no message begins with {lead:#04x}")
        self.skipped += 1
        return at + 1 + count

    def _meta(self) -> int:
        kind = self.data[self.at + 1]
        length, at = self._number(self.at + 2)
        if at + length > len(self.data):
            raise IndexError
        if length < META_BYTES.get(kind, 0):
            self.skipped += 1
        else:
            self.metas.append(
                MetaEvent(tick=self.tick, kind=kind, data=self.data[at : at + length])
            )
        self.has_end = kind == END_OF_TRACK
        return at + length

    def _number(self, at: int) -> tuple[int, int]:
        """(variable-length number, offset after it)."""
        value = 0
        for step in range(MAX_NUMBER_BYTES):
            byte = self.data[at + step]
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                return value, at + step + 1
        raise _FaultError("a number has more than four bytes")
