"""Sound on disk: WAV, FLAC, MP3 and OGG by the ending, with provenance in the file's own tags.

Enters and leaves: `Waveform`, float32 [channel, sample]. Coding is libsndfile's (soundfile), tags
are mutagen's. A file is built in memory and written whole or not at all.
"""

from __future__ import annotations

import io
from pathlib import Path

import mutagen
import numpy as np
import soundfile
from mutagen.flac import FLAC

# Names of ID3v2.4's frames (sections 4.2 and 4.10); the last is that of text with a description of
# the writer's own.
from mutagen.id3 import COMM, TCON, TIT2, TXXX
from mutagen.mp3 import MP3
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from melisma.files.atomic import check_writable, write_bytes
from melisma.files.provenance import Provenance, provenance_from_fields
from melisma.values import Waveform

_CODERS: dict[str, tuple[str, str]] = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
}
AUDIO_ENDINGS: tuple[str, ...] = tuple(_CODERS)
"""Endings of the audio files that can be written."""

LOSSY_ENDINGS: tuple[str, ...] = (".mp3", ".ogg")
"""Those that do not give back the very samples that were written."""

_COMPRESSION = {".mp3": 0.1, ".ogg": 0.3}
"""libsndfile's compression level, 0 best to 1 smallest (chosen: near transparent at 24 kHz)."""

_BLOCK_SAMPLES = 65_536
"""Samples handed to the coder at a time; libvorbis overflows its stack on very long ones."""


def check_audio_path(path: Path) -> None:
    """Raise unless sound could be written at `path`: `ValueError` for a strange ending, and the
    `OSError`s of `check_writable`."""
    path = Path(path)
    if path.suffix.lower() not in _CODERS:
        given = f'the ending "{path.suffix}"' if path.suffix else "a name without an ending"
        raise ValueError(f"{path.name} has {given}: give one of {', '.join(AUDIO_ENDINGS)}")
    check_writable(path)


def write_audio(path: Path, waveform: Waveform, provenance: Provenance | None = None) -> None:
    """Write sound (16 bits where the format has bits; amplitudes beyond 1 are clipped).

    Raises `ValueError` for an unknown ending or rate, `OSError` as `replacing` does.
    """
    path = Path(path)
    check_audio_path(path)
    stream = _coded(waveform, path.suffix.lower())
    if provenance is not None:
        _write_tags(stream, path.suffix.lower(), provenance)
    write_bytes(path, stream.getvalue())


def decoded_after_coding(waveform: Waveform, ending: str) -> Waveform:
    """What a listener to a file with this ending hears; lossy coders raise some peaks."""
    stream = _coded(waveform, ending.lower())
    stream.seek(0)
    samples, rate_hz = soundfile.read(stream, dtype="float32", always_2d=True)
    return Waveform(samples=np.ascontiguousarray(samples.T), rate_hz=int(rate_hz))


def _coded(waveform: Waveform, ending: str) -> io.BytesIO:
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
        raise ValueError(
            f"sound at {waveform.rate_hz} Hz cannot be written as {form}: {error.error_string}"
        ) from error
    return stream


def read_audio(path: Path) -> Waveform:
    """Read any sound file that libsndfile knows, at its own rate.

    Raises `FileNotFoundError`, or `ValueError` for an empty file, one that is not audio, one
    without a single sample and one with more than two channels.
    """
    path = _existing(path)
    try:
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path} is not an audio file that can be read: give WAV, FLAC, MP3 or OGG"
        ) from error
    if len(samples) == 0:
        raise ValueError(f"{path} holds no sound: its length is 0")
    if samples.shape[1] > 2:
        raise ValueError(f"{path} has {samples.shape[1]} channels: mix it down to one or two first")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path} holds amplitudes that are not finite numbers")
    return Waveform(samples=np.ascontiguousarray(samples.T), rate_hz=int(rate_hz))


def read_provenance(path: Path) -> Provenance | None:
    """The provenance in the tags of an audio file, None where it has none of ours.

    Raises `FileNotFoundError`, or `ValueError` for an empty file.
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
        raise ValueError(f"{path} is empty: it has 0 bytes")
    return path


def _write_tags(stream: io.BytesIO, ending: str, provenance: Provenance) -> None:
    """Put the provenance into the coded file in memory."""
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
