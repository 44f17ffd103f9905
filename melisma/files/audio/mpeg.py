"""Frames of MPEG audio, the parts of which MP3 files consist.

A frame begins with a header of 4 bytes, from which its length follows (ISO 11172-3 and 13818-3,
section 2.4.2.3). Files may begin with a tag (ID3v2), or in the middle of a frame, as parts of a
stream do.
"""

from __future__ import annotations

from dataclasses import dataclass

_BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Layer III of MPEG 1 and of MPEG 2, kbit/s."""
_MPEG1_RATES_HZ = (44_100, 48_000, 32_000)
_CONSECUTIVE = 3
"""Frames that follow each other are no accident from this number on."""
HEADER_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Header of a frame of MPEG audio, layer III."""

    bytes: int
    kbit_rate: int
    side_bytes: int
    """Length of what lies between the header and the data."""


def frame_of(header: bytes) -> Frame | None:
    """A frame of layer III by its header of 4 bytes; None where it is none."""
    if len(header) < HEADER_BYTES or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, index, rate_index = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or index in (0, 15) or rate_index == 3:
        return None
    kbit_rate = _BIT_RATES[1 if version == 3 else 2][index]
    rate_hz = _MPEG1_RATES_HZ[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    padding, mono = header[2] >> 1 & 1, header[3] >> 6 == 3
    slots = 144 if version == 3 else 72
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return Frame(
        bytes=slots * kbit_rate * 1_000 // rate_hz + padding, kbit_rate=kbit_rate, side_bytes=side
    )


def next_frame(one: bytes, header: bytes) -> Frame | None:
    """A frame of the same stream.

    Args:
        one: Its header.
        header: That of the first frame.
    """
    same = one[:1] == header[:1] and len(one) >= HEADER_BYTES and one[1] & 0xFE == header[1] & 0xFE
    return frame_of(one) if same and one[2] & 0x0C == header[2] & 0x0C else None


def find_frames(data: bytes) -> int | None:
    """Where the first of several consecutive frames of layer III begins; None where there are none.

    Args:
        data: Bytes of a file, 4 kB for the longest frames.
    """
    place = data.find(b"\xff")
    while place >= 0:
        if _follow(data, place):
            return place
        place = data.find(b"\xff", place + 1)
    return None


def _follow(data: bytes, first: int) -> bool:
    """Whether consecutive frames begin at a place."""
    header, place = data[first : first + HEADER_BYTES], first
    for _ in range(_CONSECUTIVE):
        frame = next_frame(data[place : place + HEADER_BYTES], header)
        if frame is None:
            return False
        place += frame.bytes
    return True
