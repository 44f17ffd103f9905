"""Audio files: WAV, FLAC, MP3 and OGG by file extension, with provenance in the metadata tags.

Audio is a `Waveform`, float32 [channel, sample]. Encoding is libsndfile's (soundfile), tags are
mutagen's. A file is built in memory and written atomically.
"""

from __future__ import annotations

import io
from pathlib import Path

import mutagen
import numpy as np
import soundfile
from mutagen.flac import FLAC

# Names of ID3v2.4 frames (sections 4.2 and 4.10); TXXX is user-defined text with a description.
from mutagen.id3 import COMM, TCON, TIT2, TXXX
from mutagen.mp3 import MP3
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from melisma.files.atomic import check_writable, write_bytes
from melisma.files.provenance import Provenance, provenance_from_fields
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

_BLOCK_SAMPLES = 65_536
"""Samples passed to the encoder at a time; libvorbis overflows its stack on very long blocks."""


def check_audio_path(path: Path) -> None:
    """Checks that audio could be written at `path`.

    Raises:
        MelismaError: The extension is not one of `AUDIO_ENDINGS`.
        OSError: As `check_writable`.
    """
    path = Path(path)
    if path.suffix.lower() not in _CODERS:
        given = f'the ending "{path.suffix}"' if path.suffix else "a name without an ending"
        raise MelismaError(f"{path.name} has {given}: give one of {', '.join(AUDIO_ENDINGS)}")
    check_writable(path)


def write_audio(path: Path | str, waveform: Waveform, provenance: Provenance | None = None) -> None:
    """Writes an audio file (16 bits where the format has a bit depth; amplitudes beyond 1 clip).

    Args:
        path: File to write; its extension selects the format.
        waveform: The audio.
        provenance: Written into the tags; None for no tags.

    Raises:
        MelismaError: Unknown extension, or a sample rate that the format does not support.
        OSError: As `atomic_write`.
    """
    path = Path(path)
    check_audio_path(path)
    stream = _encoded(waveform, path.suffix.lower())
    if provenance is not None:
        _write_tags(stream, path.suffix.lower(), provenance)
    write_bytes(path, stream.getvalue())


def encode_and_decode(waveform: Waveform, ending: str) -> Waveform:
    """The waveform after encoding and decoding in a format; lossy codecs raise some peaks.

    Args:
        waveform: The audio.
        ending: File extension of the format, one of `AUDIO_ENDINGS`.
    """
    stream = _encoded(waveform, ending.lower())
    stream.seek(0)
    samples, rate_hz = soundfile.read(stream, dtype="float32", always_2d=True)
    return Waveform(samples=np.ascontiguousarray(samples.T), rate_hz=int(rate_hz))


def _encoded(waveform: Waveform, ending: str) -> io.BytesIO:
    form, subtype = _CODERS[ending]
    stream = io.BytesIO()
    try:
        with soundfile.SoundFile(
            stream,
            "w",
            samplerate=waveform.rate_hz,
            channels=waveform.samples.shape[0],
            format=form,
            subtype=subtype,
            compression_level=_COMPRESSION.get(ending),
        ) as file:
            frames = waveform.samples.T
            for start in range(0, len(frames), _BLOCK_SAMPLES):
                file.write(frames[start : start + _BLOCK_SAMPLES])
    except soundfile.LibsndfileError as error:
        raise MelismaError(
            f"sound at {waveform.rate_hz} Hz cannot be written as {form}: {error.error_string}"
        ) from error
    return stream


def read_audio(path: Path | str) -> Waveform:
    """Reads an audio file of any format that libsndfile supports, at its own sample rate.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: The file is empty, not audio, has no samples, samples that are not finite, or
            more than two channels.
    """
    path = _existing(Path(path))
    try:
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise MelismaError(
            f"{path} is not an audio file that can be read: give WAV, FLAC, MP3 or OGG"
        ) from error
    if len(samples) == 0:
        raise MelismaError(f"{path} holds no sound: its length is 0")
    if samples.shape[1] > 2:
        raise MelismaError(
            f"{path} has {samples.shape[1]} channels: mix it down to one or two first"
        )
    if not np.isfinite(samples).all():
        raise MelismaError(f"{path} holds amplitudes that are not finite numbers")
    return Waveform(samples=np.ascontiguousarray(samples.T), rate_hz=int(rate_hz))


def read_provenance(path: Path) -> Provenance | None:
    """The provenance in the tags of an audio file, None where Melisma wrote none.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: The file is empty.
    """
    path = _existing(path)
    try:
        file = mutagen.File(path)
    except mutagen.MutagenError:
        return None
    if file is None or file.tags is None:
        return None
    fields: dict[str, str] = {}
    for name, value in dict(file.tags).items():
        if name.startswith("TXXX:"):
            fields[name.removeprefix("TXXX:")] = str(value.text[0])
        elif isinstance(value, list) and value:
            fields[name] = str(value[0])
    return provenance_from_fields(fields)


def _existing(path: Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the name")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file inside it")
    if path.stat().st_size == 0:
        raise MelismaError(f"{path} is empty: it has 0 bytes")
    return path


def _write_tags(stream: io.BytesIO, ending: str, provenance: Provenance) -> None:
    """Writes the provenance into the tags of the encoded file in memory."""
    stream.seek(0)
    if ending in (".wav", ".mp3"):
        file = WAVE(stream) if ending == ".wav" else MP3(stream)
        if file.tags is None:
            file.add_tags()
        tags = file.tags
        assert tags is not None
        tags.add(TIT2(encoding=3, text=[provenance.title]))
        tags.add(COMM(encoding=3, lang="eng", desc="", text=[provenance.comment]))
        tags.add(TCON(encoding=3, text=["AI-generated"]))
        for name, word in provenance.fields().items():
            tags.add(TXXX(encoding=3, desc=name, text=[word]))
    else:
        file = FLAC(stream) if ending == ".flac" else OggVorbis(stream)
        file["title"] = provenance.title
        file["comment"] = provenance.comment
        file["genre"] = "AI-generated"
        for name, word in provenance.fields().items():
            file[name] = word
    stream.seek(0)
    file.save(stream)
