"""A WAV file that grows while somebody listens: to a file, or to a pipe that nobody can rewind.

Enters: blocks of sound. Leaves: 16-bit PCM after a header. In a file the header is put right after
every block, so that the file is whole at any time; in a pipe the sizes are the largest that there
are, which players take for "until it ends". A note says that the sound was made by a machine.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from melisma.files.provenance import Provenance
from melisma.values.waveform import Waveform

_UNKNOWN = 0xFFFFFFFF


class WavStream:
    """Sound into an open file of bytes."""

    def __init__(
        self,
        file: BinaryIO,
        *,
        rate_hz: int,
        channels: int,
        provenance: Provenance | None = None,
        rewinds: bool,
    ) -> None:
        """`rewinds`: whether the file can go back to its header. Errors are those of the file,
        among them `BrokenPipeError` when the listener has gone."""
        self._file, self._channels, self._rewinds = file, channels, rewinds
        self._data_bytes = 0
        note = b"" if provenance is None else _note(provenance)
        frame = 2 * channels
        form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame, frame, 16)
        self._before = 4 + 8 + len(form) + len(note)
        sizes = _UNKNOWN, _UNKNOWN
        if rewinds:
            sizes = self._before + 8, 0
        self._data_at = 8 + self._before + 4
        file.write(b"RIFF" + struct.pack("<I", sizes[0]) + b"WAVE")
        file.write(b"fmt " + struct.pack("<I", len(form)) + form + note)
        file.write(b"data" + struct.pack("<I", sizes[1]))
        file.flush()

    def write(self, block: Waveform) -> None:
        """Adds a block, amplitudes beyond 1 clipped, and hands it on at once."""
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


def _note(provenance: Provenance) -> bytes:
    """A LIST chunk of INFO: title, comment, software."""
    fields = {b"INAM": provenance.title, b"ICMT": provenance.comment, b"ISFT": "Melisma"}
    body = b"INFO"
    for name, text in fields.items():
        data = text.encode("utf-8") + b"\0"
        data += b"\0" * (len(data) % 2)
        body += name + struct.pack("<I", len(data)) + data
    return b"LIST" + struct.pack("<I", len(body)) + body
