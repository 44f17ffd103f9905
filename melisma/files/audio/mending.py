"""Files whose headers are wrong or missing in a known way, with a header that decoders accept.

Three are common: WAV whose recorder stopped before it wrote the length, CAF that was cut short, and
MP3 without a tag, or of variable bit rate without its first frame, which states the length (of
which libsndfile would decode as much as the first bit rate lets it expect). Nothing is written: the
right beginning is put before the rest of the file while it is read.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from melisma.files.audio.formats import HEAD_BYTES, format_of, id3_bytes
from melisma.files.audio.mpeg import HEADER_BYTES, Frame, find_frames, frame_of, next_frame

_MOST_CHUNKS = 1_000
"""Chunks before the sound that are looked at (chosen: editors write some ten)."""
_STATED = (b"Xing", b"Info", b"VBRI")
"""What stands in a first frame that states the length."""
_TAG = b"ID3\x03\0\0\0\0\0\x20" + bytes(32)
"""An ID3v2.3 tag with nothing but padding."""


class AudioBytes:
    """The bytes of an audio file as a decoder reads them."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.size = os.fstat(self.descriptor).st_size
        self.source: int | BinaryIO = self.descriptor
        """What soundfile opens."""
        self.remark = ""
        """What was wrong with the header, as a sentence."""
        self.cut_short = False
        """Whether the header states more than there is."""

    def head(self, count: int) -> bytes:
        """The first bytes of the file, at most `count`."""
        return self.at(0, count)

    def tail(self, count: int) -> bytes:
        """The last bytes of the file, at most `count`."""
        first = max(0, self.size - count)
        return self.at(first, self.size - first)

    def at(self, place: int, count: int) -> bytes:
        """Up to `count` bytes from a place."""
        return os.pread(self.descriptor, count, place)

    @property
    def at_end(self) -> bool:
        """Whether the decoder has read all bytes, if that is known."""
        return os.lseek(self.descriptor, 0, os.SEEK_CUR) in (0, self.size)

    def close(self) -> None:
        """Closes the file."""
        os.close(self.descriptor)


class _Replaced(io.RawIOBase):
    """A file whose first bytes are replaced by others."""

    def __init__(self, file: AudioBytes, beginning: bytes, replaced_bytes: int) -> None:
        self._file, self._beginning, self._replaced = file, beginning, replaced_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = self._file.size + len(self._beginning) - self._replaced
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: size}[whence]
        self._place = max(0, origin + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        count, place = len(buffer), self._place
        found = self._beginning[place : place + count]
        if len(found) < count:
            behind = place + len(found) - len(self._beginning) + self._replaced
            found += self._file.at(behind, count - len(found))
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


def _replaced(file: AudioBytes, beginning: bytes, replaced_bytes: int) -> BinaryIO:
    return cast(BinaryIO, _Replaced(file, beginning, replaced_bytes))


def mended_file(path: Path) -> AudioBytes:
    """Opens an audio file, with a mended header where it has one of the known faults.

    Args:
        path: A file that exists.

    Raises:
        OSError: It cannot be opened.
    """
    file = AudioBytes(path)
    try:
        head = file.head(HEAD_BYTES)
        found = format_of(head)
        name = "" if found is None else found.name
        if name == "WAV" and head[:4] == b"RIFF":
            _mend_wav(file, path.name)
        elif name == "CAF":
            _mend_caf(file)
        elif name.startswith("MP"):
            _mend_mpeg(file, head)
    except BaseException:
        file.close()
        raise
    return file


def _mend_wav(file: AudioBytes, name: str) -> None:
    """Where the length of the sound is 0 and sound follows, the length becomes "to the end"."""
    for kind, place, length in _riff_chunks(file, 12):
        if kind == b"data":
            after = file.size - place
            if length == 0 and after > 0 and not _chunks_to_end(file, place):
                head = bytearray(file.head(place))
                head[4:8] = head[-4:] = b"\xff\xff\xff\xff"
                file.source = _replaced(file, bytes(head), place)
                file.remark = f"the header of {name} states no length: it was read to its end"
            return


def _riff_chunks(file: AudioBytes, first: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, place of its content, length) of the chunks of a RIFF file."""
    place = first
    for _ in range(_MOST_CHUNKS):
        header = file.at(place, 8)
        if len(header) < 8:
            return
        (length,) = struct.unpack("<I", header[4:])
        yield header[:4], place + 8, length
        place += 8 + length + length % 2


def _chunks_to_end(file: AudioBytes, first: int) -> bool:
    """Whether nothing but chunks lies between a place and the end of the file."""
    end = first
    for kind, place, length in _riff_chunks(file, first):
        if not all(32 <= letter < 127 for letter in kind):
            return False
        end = place + length
    return end in (file.size, file.size - 1) and end > first


def _mend_caf(file: AudioBytes) -> None:
    """A length of the sound beyond the end of the file becomes that of what is there.

    Apple Core Audio Format Specification 1.0, "Audio Data Chunk".
    """
    place = 8
    for _ in range(_MOST_CHUNKS):
        header = file.at(place, 12)
        if len(header) < 12:
            return
        (length,) = struct.unpack(">q", header[4:])
        if header[:4] == b"data":
            left = file.size - place - 12
            if length > left:
                head = file.head(place + 4) + struct.pack(">q", left)
                file.source, file.cut_short = _replaced(file, head, len(head)), True
            return
        if length < 0:
            return
        place += 12 + length


def _mend_mpeg(file: AudioBytes, head: bytes) -> None:
    """Puts a tag before the frames, without which libsndfile does not recognise them, and a frame
    that states the length before those of different bit rates without one."""
    tag = id3_bytes(head) if head[:3] == b"ID3" else 0
    first = tag
    if frame_of(file.at(tag, HEADER_BYTES)) is None:
        first = tag + (find_frames(file.at(tag, HEAD_BYTES)) or 0)
    stating = _stating_frame(file, first)
    if stating or first > tag or tag < len(_TAG):
        file.source = _replaced(file, _TAG + stating, first)


def _stating_frame(file: AudioBytes, first: int) -> bytes:
    """A frame that states how many frames there are; empty where there is one, or need be none."""
    header = file.at(first, HEADER_BYTES)
    if frame_of(header) is None or any(word in file.at(first, 200) for word in _STATED):
        return b""
    rates: set[int] = set()
    count = 0
    for frame in _frames(file, first, header):
        rates.add(frame.kbit_rate)
        count += 1
    if len(rates) < 2:
        return b""
    # 128 kbit/s (MPEG 2: 80), no padding and no checksum: long enough for what it states.
    stating = bytes([header[0], header[1] | 1, 0x90 | header[2] & 0x0C, header[3]])
    length = frame_of(stating)
    assert length is not None
    body = bytes(length.side_bytes) + b"Xing" + struct.pack(">II", 1, count)
    return (stating + body).ljust(length.bytes, b"\0")


def _frames(file: AudioBytes, first: int, header: bytes) -> Iterator[Frame]:
    """The frames from a place, up to the first that does not follow its predecessor."""
    size = 1 << 20
    place, start, data = first, first, file.at(first, size)
    while True:
        if place - start + HEADER_BYTES > len(data):
            start, data = place, file.at(place, size)
        frame = next_frame(data[place - start : place - start + HEADER_BYTES], header)
        if frame is None:
            return
        yield frame
        place += frame.bytes
