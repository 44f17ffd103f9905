"""Streaming WAV writer: to a seekable file, or to a pipe.

Input: blocks of audio. Output: 16-bit PCM after a header. In a seekable file the header is updated
after every block, so that the file is valid at any time; in a pipe the sizes are the maximum, which
players read as "until the end of the stream". A LIST chunk marks the audio as AI-generated.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from melisma.files.provenance import Provenance
from melisma.values.waveform import Waveform

_UNKNOWN = 0xFFFFFFFF


class WavStream:
    """Writes blocks of audio into an open binary file."""

    def __init__(
        self,
        file: BinaryIO,
        *,
        rate_hz: int,
        channels: int,
        provenance: Provenance | None = None,
        rewinds: bool,
    ) -> None:
        """Writes the header.

        Args:
            file: Binary file or pipe, open for writing. Its errors are passed on, among them
                `BrokenPipeError` when the reader has closed the pipe.
            rate_hz: Sample rate.
            channels: Number of channels.
            provenance: Written as a LIST chunk; None for none.
            rewinds: Whether the file is seekable.
        """
        self._file, self._channels, self._rewinds = file, channels, rewinds
        self._data_bytes = 0
        info = b"" if provenance is None else _info_chunk(provenance)
        frame = 2 * channels
        form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame, frame, 16)
        self._before = 4 + 8 + len(form) + len(info)
        sizes = _UNKNOWN, _UNKNOWN
        if rewinds:
            sizes = self._before + 8, 0
        self._data_at = 8 + self._before + 4
        file.write(b"RIFF" + struct.pack("<I", sizes[0]) + b"WAVE")
        file.write(b"fmt " + struct.pack("<I", len(form)) + form + info)
        file.write(b"data" + struct.pack("<I", sizes[1]))
        file.flush()

    def write(self, block: Waveform) -> None:
        """Appends a block, with amplitudes beyond 1 clipped, and flushes it."""
        assert block.samples.shape[0] == self._channels
        clipped = np.clip(block.samples.T, -1.0, 1.0)
        data = np.round(clipped * 32767.0).astype("<i2").tobytes()
        self._file.write(data)
        self._data_bytes += len(data)
        if self._rewinds:
            self._file.seek(4)
            self._file.write(struct.pack("<I", self._before + 8 + self._data_bytes))
            self._file.seek(self._data_at)
            self._file.write(struct.pack("<I", self._data_bytes))
            self._file.seek(0, 2)
        self._file.flush()


def _info_chunk(provenance: Provenance) -> bytes:
    """A LIST INFO chunk with title, comment and software."""
    fields = {b"INAM": provenance.title, b"ICMT": provenance.comment, b"ISFT": "Melisma"}
    body = b"INFO"
    for name, text in fields.items():
        data = text.encode("utf-8") + b"\0"
        data += b"\0" * (len(data) % 2)
        body += name + struct.pack("<I", len(data)) + data
    return b"LIST" + struct.pack("<I", len(body)) + body
