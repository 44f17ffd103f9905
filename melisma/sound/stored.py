"""Sound of any length: in memory while it is short, else in an unnamed temporary file.

A piece of an hour then needs as much memory as one of a minute. It is written once, block by block,
and read as often as is wanted. The file lies in the system's folder for temporary files (set by
TMPDIR) and is gone with the object, also after a crash.
"""

from __future__ import annotations

import errno
import tempfile
import weakref
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from melisma.values.waveform import Waveform

MEMORY_BYTES = 16 << 20
"""Sound that stays in memory (chosen: three minutes in mono at 24 kHz)."""
WHOLE_SAMPLES = 2_000_000
"""Sound of up to as many samples, all channels together, is measured and mastered in memory
(chosen: 31 s of stereo at 32 kHz, 83 s of mono at 24 kHz)."""
BLOCK_SECONDS = 10.0
"""Length of the blocks that sound is read in (chosen: a megabyte in mono at 24 kHz)."""
_SAMPLE_BYTES = 4


class StoredSound:
    """Samples of one piece, float32 [channel, sample], that are appended and read in blocks."""

    def __init__(self, *, rate_hz: int, channels: int) -> None:
        """Sound of length 0.

        Args:
            rate_hz: Sample rate.
            channels: Number of channels, 1 or 2.
        """
        self.rate_hz, self.channels, self.length = rate_hz, channels, 0
        # Closed with the object, not at the end of a block.
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    @classmethod
    def of(cls, waveform: Waveform) -> StoredSound:
        """The sound of a waveform."""
        sound = cls(rate_hz=waveform.rate_hz, channels=waveform.samples.shape[0])
        sound.append(waveform.samples)
        return sound

    @classmethod
    def of_blocks(cls, blocks: Iterable[Waveform]) -> StoredSound:
        """The sound of consecutive blocks, of which there is at least one."""
        sound = None
        for block in blocks:
            sound = sound or cls(rate_hz=block.rate_hz, channels=block.samples.shape[0])
            sound.append(block.samples)
        assert sound is not None
        return sound

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.length / self.rate_hz

    @property
    def waveform(self) -> Waveform:
        """The whole sound in memory."""
        return Waveform(samples=self.read(0, self.length), rate_hz=self.rate_hz)

    def append(self, samples: np.ndarray) -> None:
        """Appends samples [channel, sample].

        Raises:
            OSError: Of the system; with the code ENOSPC where the disk is full.
        """
        assert samples.shape[0] == self.channels
        try:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(samples.T, np.float32).tobytes())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(
                errno.ENOSPC,
                f"the disk that holds {tempfile.gettempdir()} is full, where long pieces lie while "
                "they are made: free some space, or set TMPDIR to another folder",
            ) from error
        self.length += samples.shape[1]

    def cut(self, length: int) -> None:
        """Drops what lies after `length` samples."""
        if length < self.length:
            self._file.truncate(length * self.channels * _SAMPLE_BYTES)
            self.length = length

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples `start` to before `stop`, as far as they exist, float32 [channel, sample]."""
        start, stop = max(start, 0), min(stop, self.length)
        count = max(stop - start, 0)
        self._file.seek(start * self.channels * _SAMPLE_BYTES)
        data = self._file.read(count * self.channels * _SAMPLE_BYTES)
        return np.ascontiguousarray(np.frombuffer(data, np.float32).reshape(-1, self.channels).T)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Waveform]:
        """Consecutive blocks of `BLOCK_SECONDS`.

        Args:
            start: First sample.
            stop: The sample after the last; all by default.
        """
        end, size = self.length if stop is None else stop, round(BLOCK_SECONDS * self.rate_hz)
        for first in range(start, end, size):
            yield Waveform(samples=self.read(first, min(first + size, end)), rate_hz=self.rate_hz)


def resampled_blocks(
    blocks: Iterable[Waveform], rate_hz: int, channels: int
) -> Iterator[np.ndarray]:
    """Consecutive blocks at another rate and with another number of channels, as `resample` makes
    them of the whole sound.

    Args:
        blocks: Of one rate.
        rate_hz: Sample rate of the result.
        channels: Channels of the result.

    Yields:
        float32 [channel, sample], of any length.
    """
    stream = None
    for block in blocks:
        samples = block.samples
        if samples.shape[0] != channels:
            samples = np.repeat(samples.mean(axis=0, keepdims=True), channels, axis=0)
        if block.rate_hz == rate_hz:
            yield samples
            continue
        stream = stream or soxr.ResampleStream(
            block.rate_hz, rate_hz, channels, dtype="float32", quality="HQ"
        )
        yield stream.resample_chunk(np.ascontiguousarray(samples.T)).reshape(-1, channels).T
    if stream is not None:
        last = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)
        yield last.reshape(-1, channels).T


def mono_parts(sound: StoredSound, rate_hz: int, seconds: float) -> Iterator[np.ndarray]:
    """The sound mixed to mono at another rate, in parts of one length, of which the last may be
    shorter.

    Args:
        sound: Of any rate.
        rate_hz: Sample rate of the result.
        seconds: Length of the parts.

    Yields:
        float32 [1, sample].
    """
    size, waiting, empty = round(seconds * rate_hz), np.zeros((1, 0), np.float32), True
    for block in resampled_blocks(sound.blocks(), rate_hz, 1):
        waiting = np.concatenate([waiting, block], axis=1)
        while waiting.shape[1] >= size:
            yield np.ascontiguousarray(waiting[:, :size])
            waiting, empty = waiting[:, size:], False
    if waiting.shape[1] or empty:
        yield np.ascontiguousarray(waiting)
