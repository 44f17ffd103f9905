"""Writing audio files: WAV, FLAC, MP3 and OGG by file extension, with provenance in the tags.

Audio is a `Waveform`, float32 [channel, sample], or consecutive blocks of one, for sound of any
length in constant memory. Encoding is libsndfile's (soundfile). A file is written atomically.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import numpy as np
import soundfile

from melisma.files.atomic import atomic_write, check_writable
from melisma.files.audio.tags import write_tags
from melisma.files.names import is_special
from melisma.files.provenance import Provenance
from melisma.values import Waveform
from melisma.values.errors import MelismaError

_CODERS: dict[str, tuple[str, str]] = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
}
AUDIO_ENDINGS: tuple[str, ...] = tuple(_CODERS)
"""Extensions of the audio files that can be written."""

LOSSY_ENDINGS: tuple[str, ...] = (".mp3", ".ogg")
"""Extensions of lossy formats."""

_COMPRESSION = {".mp3": 0.1, ".ogg": 0.3}
"""libsndfile's compression level, 0 best to 1 smallest (chosen: near transparent at 24 kHz)."""

T = TypeVar("T")

_BLOCK_SAMPLES = 65_536
"""Samples passed to the encoder at a time; libvorbis overflows its stack on very long blocks."""
_DECODED_SAMPLES = 1 << 18
"""Samples that are decoded at a time."""


def audio_ending(path: Path, ending: str | None = None) -> str:
    """The ending that selects the format of an audio file, in small letters with its dot.

    Args:
        path: The file, or a pipe or device, whose name may have any ending.
        ending: Of the format where the name has none; ".wav" by default for pipes and devices.

    Raises:
        MelismaError: The ending is not one of `AUDIO_ENDINGS`.
    """
    found = path.suffix.lower()
    if found not in _CODERS and is_special(path):
        found = (ending or ".wav").lower()
    if found not in _CODERS:
        given = f'the ending "{path.suffix}"' if path.suffix else "a name without an ending"
        raise MelismaError(f"{path.name} has {given}: give one of {', '.join(AUDIO_ENDINGS)}")
    return found


def check_audio_path(path: Path) -> None:
    """Checks that audio could be written at `path`.

    Raises:
        MelismaError: The extension is not one of `AUDIO_ENDINGS`.
        OSError: As `check_writable`.
    """
    path = Path(path)
    audio_ending(path)
    check_writable(path)


def write_audio(
    path: Path | str,
    waveform: Waveform,
    provenance: Provenance | None = None,
    *,
    ending: str | None = None,
    replace: bool = True,
) -> None:
    """Writes an audio file (16 bits where the format has a bit depth; amplitudes beyond 1 clip).

    Args:
        path: File to write, or a pipe or device to write into; its extension selects the format.
        waveform: The audio.
        provenance: Written into the tags; None for no tags.
        ending: Selects the format where the name of a pipe or device does not.
        replace: Whether a file that exists is replaced; otherwise it is a `FileExistsError`.

    Raises:
        MelismaError: Unknown extension, or a sample rate that the format does not support.
        OSError: As `atomic_write`.
    """
    write_audio_blocks(
        path,
        [waveform],
        rate_hz=waveform.rate_hz,
        channels=waveform.samples.shape[0],
        provenance=provenance,
        ending=ending,
        replace=replace,
    )


def write_audio_blocks(
    path: Path | str,
    blocks: Iterable[Waveform],
    *,
    rate_hz: int,
    channels: int,
    provenance: Provenance | None = None,
    ending: str | None = None,
    replace: bool = True,
) -> None:
    """Writes consecutive blocks of audio as one file, in constant memory; see `write_audio`.

    Args:
        path: As for `write_audio`.
        blocks: All of this rate and number of channels.
        rate_hz: Sample rate.
        channels: Number of channels.
        provenance: As for `write_audio`.
        ending: As for `write_audio`.
        replace: As for `write_audio`.

    Raises:
        MelismaError: As `write_audio`.
        OSError: As `write_audio`.
    """
    path = Path(path)
    check_audio_path(path)
    ending = audio_ending(path, ending)
    with (
        atomic_write(path, replace=replace) as temporary,
        temporary.open("w+b") as stream,
    ):
        _encode(stream, blocks, rate_hz, channels, ending)
        if provenance is not None:
            write_tags(stream, ending, provenance)


def check_audio_format(ending: str, rate_hz: int, channels: int) -> None:
    """Checks that a format takes audio of this rate and number of channels.

    Args:
        ending: File extension of the format, one of `AUDIO_ENDINGS`.
        rate_hz: Sample rate.
        channels: Number of channels.

    Raises:
        MelismaError: It does not.
    """
    with tempfile.TemporaryFile() as stream:
        _encode(stream, [], rate_hz, channels, ending.lower())


def encode_and_decode(waveform: Waveform, ending: str) -> Waveform:
    """The waveform after encoding and decoding in a format; lossy codecs raise some peaks.

    Args:
        waveform: The audio.
        ending: File extension of the format, one of `AUDIO_ENDINGS`.
    """
    channels = waveform.samples.shape[0]
    decoded = coded_blocks([waveform], waveform.rate_hz, channels, ending)
    samples = [block.samples for block in decoded]
    return Waveform(samples=np.concatenate(samples, axis=1), rate_hz=waveform.rate_hz)


def coded_blocks(
    blocks: Iterable[Waveform], rate_hz: int, channels: int, ending: str
) -> Iterator[Waveform]:
    """Yields consecutive blocks of audio after encoding and decoding in a format.

    Args:
        blocks: All of this rate and number of channels.
        rate_hz: Sample rate.
        channels: Number of channels.
        ending: File extension of the format, one of `AUDIO_ENDINGS`.
    """
    with tempfile.TemporaryFile() as stream:
        _encode(stream, blocks, rate_hz, channels, ending.lower())
        stream.seek(0)
        with soundfile.SoundFile(stream) as file:
            while len(samples := file.read(_DECODED_SAMPLES, dtype="float32", always_2d=True)):
                yield Waveform(samples=np.ascontiguousarray(samples.T), rate_hz=rate_hz)


def _encode(
    stream: BinaryIO, blocks: Iterable[Waveform], rate_hz: int, channels: int, ending: str
) -> None:
    form, subtype = _CODERS[ending]
    checked = _CheckedStream(stream)
    try:
        with soundfile.SoundFile(
            cast(BinaryIO, checked),
            "w",
            samplerate=rate_hz,
            channels=channels,
            format=form,
            subtype=subtype,
            compression_level=_COMPRESSION.get(ending),
        ) as file:
            for block in blocks:
                frames = block.samples.T
                for start in range(0, len(frames), _BLOCK_SAMPLES):
                    file.write(frames[start : start + _BLOCK_SAMPLES])
                    checked.expect_no_error()
    except soundfile.LibsndfileError as error:
        checked.expect_no_error()
        raise MelismaError(
            f"sound at {rate_hz} Hz cannot be written as {form} "
            f"({error.error_string.removeprefix('Error : ').rstrip('.')}): choose another format"
        ) from error
    checked.expect_no_error()


class _CheckedStream(io.RawIOBase):
    """A file that keeps the first error of the system: libsndfile calls it from C, where exceptions
    are lost."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._error: OSError | None = None

    def expect_no_error(self) -> None:
        """Raises the error, if there was one."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._tried(lambda: self._stream.seek(offset, whence), 0)

    def read(self, size: int = -1, /) -> bytes:
        return self._tried(lambda: self._stream.read(size), b"")

    def write(self, data: bytes, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._tried(lambda: self._stream.write(data), len(data))

    def _tried(self, call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except OSError as error:
            self._error = self._error or error
            return otherwise
