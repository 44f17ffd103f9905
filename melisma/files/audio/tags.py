"""Provenance in the tags of audio files (mutagen): ID3 in WAV and MP3, else Vorbis comments."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import mutagen
from mutagen.flac import FLAC

# Names of ID3v2.4 frames (sections 4.2 and 4.10); TXXX is user-defined text with a description.
from mutagen.id3 import COMM, TCON, TIT2, TXXX
from mutagen.mp3 import MP3
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from melisma.files.audio.reading import existing_file
from melisma.files.provenance import Provenance, provenance_from_fields


def read_provenance(path: Path) -> Provenance | None:
    """The provenance in the tags of an audio file, None where Melisma wrote none.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: The path is a folder.
        MelismaError: The file is empty.
    """
    path = existing_file(path)
    try:
        file = mutagen.File(path)
    except Exception:  # on damaged tags mutagen raises whatever its parser met
        return None
    if file is None or file.tags is None:
        return None
    fields: dict[str, str] = {}
    for name, value in dict(file.tags).items():
        if name.startswith("TXXX:") and value.text:
            fields[name.removeprefix("TXXX:")] = str(value.text[0])
        elif isinstance(value, list) and value:
            fields[name] = str(value[0])
    return provenance_from_fields(fields)


def write_tags(stream: BinaryIO, ending: str, provenance: Provenance) -> None:
    """Writes the provenance into the tags of an audio file.

    Args:
        stream: The encoded file, open for reading and writing.
        ending: Its file extension, one of those of `writing.py`.
        provenance: What the tags say.
    """
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
