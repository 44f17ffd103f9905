"""Reading audio files as the world writes them: by content, in blocks, as far as they go.

Output: `Waveform`, float32 [channel, sample], at the file's own sample rate, with remarks on what
was amiss. Decoding is libsndfile's (soundfile). Its errors, and those of the decoders inside, end
here: they become a `MelismaError` that says what the file is and what to do, or a remark where a
part of the file could be read.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import stat
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import soundfile

from melisma.files.audio.formats import HEAD_BYTES, FileFormat, format_of, missing_bytes, what_to_do
from melisma.files.audio.mending import mended_file
from melisma.files.names import expect_file
from melisma.values.errors import MelismaError
from melisma.values.waveform import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, Waveform, sides_cancel

_BLOCK_VALUES = 131_072
"""Amplitudes of all channels that are decoded at a time (chosen: half a megabyte)."""
_MOST_VALUES = 2**30
"""Amplitudes that are read into memory at once: 4 GiB, three hours of stereo at 48 kHz (chosen)."""
_LEAD_SECONDS = 1.0
"""Sound that is decoded before a place that was sought: lossy decoders need up to .1 s to arrive at
what they would have decoded there (Opus: 80 ms, RFC 7845, section 4.6)."""
_TOLERANCE_SECONDS = 0.1
"""Headers of whole MP3 files are off by a frame or two."""
_COMPARED_SECONDS = 600
"""How much of a recording of several channels is searched for channels that cancel (chosen)."""
_TAIL_BYTES = 66_000
"""More than the largest Ogg page (RFC 3533, section 6)."""
_PAGE_HEADER_BYTES = 27
_MPEG_SAMPLES_PER_BYTE = 48
"""Of the least bit rate of MPEG audio at its highest sample rate: 8 kbit/s at 48 kHz."""
_UNKNOWN_SAMPLES = 2**62
"""libsndfile gives its largest number where a header does not state the length."""
_UNIMPLEMENTED = (4, 18)
"""libsndfile's errors for a coding that it does not have, in a container that it has."""

# What soundfile and libsndfile raise on files that they cannot read.
_DECODER_ERRORS = (soundfile.SoundFileError, TypeError, ValueError, RuntimeError, OverflowError)

_PRINTING = ("", "CAF")
"""Formats, among them the unknown ones, of whose damages libsndfile prints messages on standard
output; MPEG's decoder writes to standard error."""

_streams_lock = threading.RLock()


@dataclass(frozen=True, kw_only=True)
class DecodedAudio:
    """What was read of an audio file."""

    waveform: Waveform
    remarks: tuple[str, ...]
    """A sentence on each thing that is amiss with the file."""


class AudioReader:
    """An audio file that is read in blocks; a context manager."""

    def __init__(self, path: Path | str) -> None:
        """Opens a file.

        Args:
            path: The file, of any name.

        Raises:
            FileNotFoundError: There is no such file.
            IsADirectoryError: The path is a folder.
            MelismaError: The file is empty, no sound that can be read, or damaged at its beginning.
        """
        self.path = existing_file(Path(path))
        self._stream = mended_file(self.path)
        try:
            self._open()
        except BaseException:
            self._stream.close()
            raise

    def _open(self) -> None:
        head = self._stream.head(HEAD_BYTES)
        self.format = format_of(head)
        """None for formats without a signature."""
        if self.format is not None and self.format.group != "readable":
            raise MelismaError(what_to_do(self.path, self.format))
        name = "" if self.format is None else self.format.name
        self._is_mpeg = name.startswith("MP")
        self._coding = _wav_coding(head) if name == "WAV" else None
        is_noisy = self._is_mpeg or self._coding == _MPEG_IN_WAV
        self._noisy = (2,) if is_noisy else (1, 2) if name in _PRINTING else ()
        try:
            with _without_messages(self._noisy):
                self._file = soundfile.SoundFile(self._stream.source, closefd=False)
        except _DECODER_ERRORS as error:
            raise MelismaError(self._refusal(error)) from error
        self.rate_hz, self.channels = int(self._file.samplerate), int(self._file.channels)
        if not LOWEST_RATE_HZ <= self.rate_hz <= HIGHEST_RATE_HZ:
            raise MelismaError(
                f"{self.path} states a sample rate of {self.rate_hz} Hz: sound of {LOWEST_RATE_HZ} "
                f"to {HIGHEST_RATE_HZ} Hz can be read"
            )
        samples = int(self._file.frames)
        self.stated_samples = samples if 0 <= samples < _UNKNOWN_SAMPLES else None
        """Length by the header; None where it does not say."""
        self.read_samples = 0
        """How many were read so far, or passed over."""
        self._damaged = self._ended = False
        self._loudest: int | None = None
        """See `_loudest_if_cancelling`; None before it was asked."""
        self._incomplete = (
            self._stream.cut_short
            or missing_bytes(head, self._stream.size) > 0
            or self._ogg_without_end(head)
        )

    def _refusal(self, error: Exception) -> str:
        found = self.format
        if found is None:
            return what_to_do(self.path, None)
        is_foreign = self._coding is not None and self._coding not in _WAV_CODINGS
        if is_foreign or (
            getattr(error, "code", None) in _UNIMPLEMENTED and found.name in _CONTAINERS
        ):
            return what_to_do(self.path, replace(found, name=f"{found.name} with a rare coding"))
        return _unreadable(self.path, found)

    def _ogg_without_end(self, head: bytes) -> bool:
        """Whether the last page of an Ogg file is cut, or does not end its stream (RFC 3533,
        section 6)."""
        if head[:4] != b"OggS":
            return False
        tail = self._stream.tail(_TAIL_BYTES)
        page = tail[max(tail.rfind(b"OggS"), 0) :]
        if len(page) < _PAGE_HEADER_BYTES or page[:4] != b"OggS":
            return True
        segments = page[_PAGE_HEADER_BYTES : _PAGE_HEADER_BYTES + page[26]]
        length = _PAGE_HEADER_BYTES + page[26] + sum(segments)
        return not page[5] & 4 or len(page) < length

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        with _without_messages(self._noisy), contextlib.suppress(*_DECODER_ERRORS):
            self._file.close()
        self._stream.close()

    def blocks(self, samples: int | None = None, size: int | None = None) -> Iterator[np.ndarray]:
        """Reads on, up to the end or to the first damage; more than two channels are averaged.

        Args:
            samples: How many to read; None for all.
            size: How many at a time.

        Yields:
            Amplitudes, float32 [channel, sample] with one or two channels.

        Raises:
            MelismaError: There is an amplitude that is no finite number.
        """
        size = max(1, _BLOCK_VALUES // self.channels) if size is None else size
        left = samples
        while left is None or left > 0:
            wanted = size if left is None else min(size, left)
            block = self._read(wanted)
            if len(block):
                self.read_samples += len(block)
                yield self._checked(block.T)
            if self._damaged or len(block) < wanted:
                self._ended = True
                return
            left = None if left is None else left - len(block)

    def _checked(self, block: np.ndarray) -> np.ndarray:
        """A block as it is handed out, float32 [channel, sample]."""
        if not np.isfinite(block).all():
            raise MelismaError(
                f"{self.path} holds amplitudes that are not finite numbers: export it again, with "
                "16 or 24 bits"
            )
        if self.channels <= 2:
            return np.ascontiguousarray(block)
        if self._loudest is None:
            self._loudest = _loudest_if_cancelling(self.path)
        return _mixed(block) if self._loudest < 0 else block[self._loudest, None].copy()

    def _read(self, samples: int) -> np.ndarray:
        """The next samples, float32 [sample, channel], up to the first damage."""
        out = np.full((samples, self.channels), np.nan, np.float32)
        try:
            with _without_messages(self._noisy):
                return self._file.read(out=out)
        except _DECODER_ERRORS:
            # What was decoded before the error stands in the array.
            self._damaged = True
            missing = np.isnan(out[:, 0])
            return out[: int(missing.argmax()) if missing.any() else samples]

    def skip_to(self, sample: int) -> bool:
        """Goes to a place without decoding what is before it.

        Returns:
            Whether the file could be positioned there; if not, it is of no more use.
        """
        try:
            with _without_messages(self._noisy):
                self._file.seek(sample)
        except _DECODER_ERRORS:
            return False
        self.read_samples = sample
        return True

    @property
    def mpeg_samples(self) -> int | None:
        """Length of an MPEG file as far as its size bears it out; None for other formats.

        Read in one piece or in blocks, MPEG's decoder rounds differently, by 1e-7.
        """
        if not self._is_mpeg or not self.stated_samples:
            return None
        return min(self.stated_samples, _MPEG_SAMPLES_PER_BYTE * self._stream.size)

    @property
    def whole(self) -> bool:
        """Whether everything was read that the header states, and no damage was met."""
        stated = self.read_samples if self.stated_samples is None else self.stated_samples
        late = stated - self.read_samples > _TOLERANCE_SECONDS * self.rate_hz
        at_fault = self._damaged and (late or not self._stream.at_end)
        return not (at_fault or late or self._incomplete)

    def remarks(self) -> tuple[str, ...]:
        """What is amiss with the file, after its end was read."""
        remarks = [self._stream.remark] if self._stream.remark else []
        if self.channels > 2:
            channels = f"the {self.channels} channels of {self.path.name}"
            if self._loudest is None or self._loudest < 0:
                remarks.append(f"{channels} were mixed to one")
            else:
                remarks.append(
                    f"{channels} cancel each other when they are mixed: the loudest one was taken"
                )
        if self._ended and not self.whole:
            stated = self.stated_samples or 0
            of = f" of {stated / self.rate_hz:.2f}" if stated > self.read_samples else ""
            remarks.append(
                f"{self.path.name} is damaged or cut short: "
                f"{self.read_samples / self.rate_hz:.2f}{of} s of it could be read"
            )
        return tuple(remarks)

    def nothing_read(self) -> MelismaError:
        """The error for a file without a single sample."""
        if self.whole and not self.stated_samples:
            return MelismaError(f"{self.path} holds no sound: its length is 0")
        return MelismaError(_unreadable(self.path, self.format))


def _mixed(block: np.ndarray) -> np.ndarray:
    """The mean of all channels, float32 [1, sample]; float32 alone might overflow."""
    return block.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)


def _loudest_if_cancelling(path: Path) -> int:
    """Index of the loudest of several channels if they cancel each other when they are mixed, as
    far as the beginning shows; -1 where they do not."""
    energies: list[np.ndarray] = []
    with AudioReader(path) as reader, np.errstate(all="ignore"):  # what is not finite is refused
        for _ in range(_COMPARED_SECONDS):
            block = reader._read(reader.rate_hz).T.astype(np.float64)
            rows = np.concatenate([block, block.mean(axis=0, keepdims=True)])
            if rows.shape[1] == 0:
                break
            energies.append(np.square(rows - rows.mean(axis=1, keepdims=True)).sum(axis=1))
        if not energies:
            return -1
        sides = np.stack(energies, axis=1)
        loudest = int(sides[:-1].sum(axis=1).argmax())
        return loudest if sides_cancel(sides[:-1], sides[-1]) else -1


def _unreadable(path: Path, found: FileFormat | None) -> str:
    name = "audio" if found is None else found.name
    return (
        f"{path} is damaged or cut short: nothing of this {name} file can be read; copy, download "
        "or export it again"
    )


_MPEG_IN_WAV = 0x55
_WAV_CODINGS = (0x01, 0x02, 0x03, 0x06, 0x07, 0x11, 0x31, _MPEG_IN_WAV, 0xFFFE)
"""Codings of WAV that libsndfile decodes: PCM, ADPCM, floats, A-law, mu-law, IMA, GSM, MP3, and
those that are named elsewhere (Multimedia Data Standards Update, Microsoft, 1994)."""


def _wav_coding(head: bytes) -> int | None:
    """The number of a WAV file's coding; None where it is not to be found."""
    order: Literal["little", "big"] = "big" if head[:4] == b"RIFX" else "little"
    at = head.find(b"fmt ")
    return int.from_bytes(head[at + 8 : at + 10], order) if 0 < at <= len(head) - 10 else None


_CONTAINERS = ("WAV", "RF64 (WAV)", "Wave64", "CAF", "AU", "AIFF", "OGG")
"""Formats that hold sound of several codings."""


def read_recording(
    path: Path | str, *, first_seconds: float | None = None, last_seconds: float | None = None
) -> DecodedAudio:
    """Reads an audio file of any format that libsndfile decodes, at its own sample rate.

    A file that is damaged or cut short is read as far as it goes, with a remark; more than two
    channels are averaged, with a remark. Memory is needed for what is returned alone.

    Args:
        path: The file, of any name.
        first_seconds: How much of its beginning to read; None for all.
        last_seconds: How much of its end to read; None for all.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: The file is empty, no sound that can be read, has no samples, samples that are
            not finite, or too many to be read at once.
    """
    assert first_seconds is None or last_seconds is None
    with AudioReader(path) as reader:
        rate_hz = reader.rate_hz
        if last_seconds is not None:
            samples, remarks = _read_end(reader, max(1, round(last_seconds * rate_hz)))
        else:
            count = None if first_seconds is None else max(1, round(first_seconds * rate_hz))
            samples, remarks = _read_beginning(reader, count)
    return DecodedAudio(waveform=Waveform(samples=samples, rate_hz=rate_hz), remarks=remarks)


def read_audio(path: Path | str) -> Waveform:
    """Reads an audio file, see `read_recording`; remarks become Python warnings.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: As `read_recording`.
    """
    found = read_recording(path)
    for remark in found.remarks:
        warnings.warn(remark, stacklevel=2)
    return found.waveform


def _read_beginning(reader: AudioReader, count: int | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Up to `count` samples from the beginning, float32 [channel, sample], and remarks."""
    blocks, most = [], _MOST_VALUES // reader.channels
    for block in reader.blocks(count, reader.mpeg_samples if count is None else None):
        blocks.append(block)
        if reader.read_samples > most:
            raise MelismaError(
                f"{reader.path} lasts longer than {most / reader.rate_hz / 3600:.1f} hours, which "
                "is more than can be read at once: cut a part out of it first"
            )
    if not blocks:
        raise reader.nothing_read()
    return np.concatenate(blocks, axis=1), reader.remarks()


def _read_end(reader: AudioReader, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """The last `count` samples, float32 [channel, sample], and remarks."""
    first = (reader.stated_samples or 0) - count - round(_LEAD_SECONDS * reader.rate_hz)
    if first > 0 and reader.skip_to(first):
        samples = _last_of(reader, count)
        if reader.read_samples == reader.stated_samples:
            return samples, reader.remarks()
    # The end is not where the header puts it: everything is decoded, and the last samples kept.
    with AudioReader(reader.path) as again:
        samples = _last_of(again, count)
        if samples.shape[1] == 0:
            raise again.nothing_read()
        return samples, again.remarks()


def _last_of(reader: AudioReader, count: int) -> np.ndarray:
    """The last `count` samples of what is left, float32 [channel, sample]; fewer if there are."""
    blocks: collections.deque[np.ndarray] = collections.deque()
    kept = 0
    for block in reader.blocks():
        blocks.append(block)
        kept += block.shape[1]
        while kept - blocks[0].shape[1] >= count:
            kept -= blocks.popleft().shape[1]
    empty = np.zeros((reader.channels if reader.channels <= 2 else 1, 0), np.float32)
    return np.concatenate([empty, *blocks], axis=1)[:, -count:]


def existing_file(path: Path) -> Path:
    """The path of a file that can be read.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: The file is empty, or a pipe or device.
    """
    path = Path(path)
    expect_file(path)
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise MelismaError(f"{path} is a pipe or a device: write its sound to a file first")
    if about.st_size == 0:
        raise MelismaError(f"{path} is empty: it has 0 bytes")
    return path


@contextlib.contextmanager
def _without_messages(descriptors: tuple[int, ...]) -> Generator[None]:
    """Keeps what C libraries print off standard output (1) or error (2); they have no other switch.

    Args:
        descriptors: Which of them.
    """
    if not descriptors:
        yield
        return
    with _streams_lock, contextlib.ExitStack() as stack:
        # Whoever has closed one of them sees no messages either.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor in descriptors:
                kept = os.dup(descriptor)
                stack.callback(os.close, kept)
                with open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), descriptor)
                stack.callback(os.dup2, kept, descriptor)
            if 1 in descriptors:
                stack.callback(_flush_libraries)
        yield


def _flush_libraries() -> None:
    """Writes what C libraries have in their buffers, as far as the system lets us."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
