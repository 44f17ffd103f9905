"""What a file is by its first bytes: sound that can be read, other sound, or no sound at all.

Names say little: recorders write WAV into files called .mp3, downloads have no ending. The table
has the signatures of the formats that people have on their computers; those of libsndfile's own
formats are in its source (`guess_file_type`).
"""

from __future__ import annotations

import math
import re
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from melisma.files.audio.mpeg import find_frames

Group = Literal["readable", "sound", "video", "notes", "melisma", "no sound"]
"""Sound that libsndfile decodes; other sound; video with sound; MIDI; Melisma's own files that hold
no sound; anything else."""


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A file format."""

    name: str
    """As people call it, e.g. "M4A (MPEG-4 audio)"; with an article where it is no sound."""
    group: Group


HEAD_BYTES = 4096
"""How much of a file's beginning `format_of` looks at."""
MIDI_ENDINGS = (".mid", ".midi", ".kar", ".rmi", ".smf")
"""What MIDI files are called."""

_SIGNATURES: tuple[tuple[int, bytes, str, Group], ...] = (
    (0, b"fLaC", "FLAC", "readable"),
    (0, b"RIFX", "WAV", "readable"),
    (0, b"RF64", "RF64 (WAV)", "readable"),
    (0, b"BW64", "BW64 (WAV)", "sound"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64", "readable"),
    (0, b"caff", "CAF", "readable"),
    (0, b".snd", "AU", "readable"),
    (0, b"dns.", "AU", "readable"),
    (0, b"Creative Voice File", "VOC", "readable"),
    (0, b"NIST_1A", "NIST SPHERE", "readable"),
    (0, b"2BIT", "AVR", "readable"),
    (0, b"\x64\xa3\x01\x00", "IRCAM", "readable"),
    (0, b"\x00\x01\xa3\x64", "IRCAM", "readable"),
    (0, b" paf", "PAF", "readable"),
    (0, b"fap ", "PAF", "readable"),
    (0, b"PVF1\n", "PVF", "readable"),
    (0, b"ALawSoundFile**", "WVE", "readable"),
    (0, b"Extended Instrument:", "XI", "readable"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA (Windows Media)", "sound"),
    (0, b"#!AMR", "AMR", "sound"),
    (0, b"MAC ", "Monkey's Audio", "sound"),
    (0, b"wvpk", "WavPack", "sound"),
    (0, b"TTA1", "True Audio", "sound"),
    (0, b"MPCK", "Musepack", "sound"),
    (0, b"MP+", "Musepack", "sound"),
    (0, b"DSD ", "DSF (DSD audio)", "sound"),
    (0, b"FRM8", "DFF (DSD audio)", "sound"),
    (0, b"qoaf", "QOA", "sound"),
    (0, b"ADIF", "AAC", "sound"),
    (0, b".ra\xfd", "RealAudio", "sound"),
    (0, b"\x0b\x77", "AC-3", "sound"),
    (0, b"\x7f\xfe\x80\x01", "DTS", "sound"),
    (0, b".RMF", "RealMedia", "video"),
    (0, b"\x1a\x45\xdf\xa3", "WebM or Matroska", "video"),
    (0, b"FLV\x01", "Flash video", "video"),
    (0, b"\x00\x00\x01\xba", "MPEG video", "video"),
    (0, b"\x00\x00\x01\xb3", "MPEG video", "video"),
    (0, b"MThd", "MIDI", "notes"),
    (128, b"MThd", "MIDI", "notes"),
    (0, b"\x89MLT\r\n\x1a\n", "token", "melisma"),
    (0, b"PK\x03\x04", "a ZIP archive", "no sound"),
    (0, b"\x1f\x8b", "a gzip archive", "no sound"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", "no sound"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "no sound"),
    (0, b"Rar!", "a RAR archive", "no sound"),
    (0, b"%PDF-", "a PDF document", "no sound"),
    (0, b"\x89PNG", "a PNG picture", "no sound"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "no sound"),
    (0, b"GIF8", "a GIF picture", "no sound"),
)
_RIFF_FORMS: dict[bytes, tuple[str, Group]] = {
    b"WAVE": ("WAV", "readable"),
    b"RMID": ("MIDI", "notes"),
    b"AVI ": ("AVI", "video"),
    b"sfbk": ("a SoundFont", "no sound"),
    b"WEBP": ("a WebP picture", "no sound"),
}
_IFF_FORMS: dict[bytes, tuple[str, Group]] = {
    b"AIFF": ("AIFF", "readable"),
    b"AIFC": ("AIFF", "readable"),
    b"8SVX": ("8SVX", "readable"),
    b"16SV": ("16SV", "readable"),
}

_OGG_CODECS: tuple[tuple[bytes, str, Group], ...] = (
    (b"\x01vorbis", "OGG Vorbis", "readable"),
    (b"OpusHead", "Opus", "readable"),
    (b"\x7fFLAC", "OGG FLAC", "readable"),
    (b"Speex   ", "Speex", "sound"),
    (b"\x80theora", "Ogg video", "video"),
)


def format_of(head: bytes) -> FileFormat | None:
    """The format of a file.

    Args:
        head: The first `HEAD_BYTES` of the file; fewer of a shorter file.

    Returns:
        None where no format begins so: often samples without a header.
    """
    if head[:4] == b"RIFF" and head[8:12] in _RIFF_FORMS:
        name, group = _RIFF_FORMS[head[8:12]]
        return FileFormat(name=name, group=group)
    if head[:4] == b"FORM" and head[8:12] in _IFF_FORMS:
        name, group = _IFF_FORMS[head[8:12]]
        return FileFormat(name=name, group=group)
    if head[:4] == b"OggS":
        return _ogg_format(head)
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return _mpeg4_format(head)
    for place, signature, name, group in _SIGNATURES:
        if head[place : place + len(signature)] == signature:
            return FileFormat(name=name, group=group)
    if head[:3] == b"ID3":
        after = head[id3_bytes(head) :]
        return (format_of(after) if after else None) or FileFormat(name="MP3", group="readable")
    found = _mpeg_format(head) or _text_format(head)
    if found is None and find_frames(head) is not None:  # a part of a stream
        return FileFormat(name="MP3", group="readable")
    return found


def id3_bytes(head: bytes) -> int:
    """Length of the ID3v2 tag at the beginning (ID3v2.4, section 3.1)."""
    sizes = head[6:10]
    length = sum((size & 0x7F) << 7 * (3 - i) for i, size in enumerate(sizes))
    return 10 + length + (10 if len(head) > 5 and head[5] & 0x10 else 0)


def _ogg_format(head: bytes) -> FileFormat:
    """An Ogg file, by the identification header of its first stream."""
    first = head[28:60]
    for signature, name, group in _OGG_CODECS:
        if first.startswith(signature):
            return FileFormat(name=name, group=group)
    return FileFormat(name="OGG", group="readable")


def _mpeg4_format(head: bytes) -> FileFormat:
    """An MPEG-4 file, by its brand."""
    if head[8:12] in (b"M4A ", b"M4B ", b"M4P "):
        return FileFormat(name="M4A (MPEG-4 audio)", group="sound")
    if head[8:11] in (b"3gp", b"3g2"):
        return FileFormat(name="3GP", group="sound")
    return FileFormat(name="MPEG-4 (M4A or MP4)", group="sound")


def _mpeg_format(head: bytes) -> FileFormat | None:
    """MPEG audio, by the header of its first frame (ISO 11172-3, section 2.4.2.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0 and head[1] & 0xF0 == 0xF0:
        return FileFormat(name="AAC", group="sound")
    if version == 1 or layer == 0 or head[2] >> 4 == 15 or head[2] >> 2 & 3 == 3:
        return None
    return FileFormat(name={1: "MP3", 2: "MP2", 3: "MP1"}[layer], group="readable")


def _text_format(head: bytes) -> FileFormat | None:
    """Text, a web page instead of the file that was to be downloaded among it."""
    if not head or b"\0" in head:
        return None
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return FileFormat(name="a web page", group="no sound")
    try:
        text = head[: -4 if len(head) == HEAD_BYTES else None].decode("utf-8")
    except UnicodeDecodeError:
        return None
    printable = all(letter.isprintable() or letter in "\t\n\r\f\v" for letter in text)
    return FileFormat(name="text", group="no sound") if printable else None


def what_to_do(path: Path, found: FileFormat | None) -> str:
    """The sentence about a file that is not readable sound, with what its owner can do.

    Args:
        path: The file.
        found: Its format; None where it is unknown.
    """
    target = shlex.quote(f"{path.with_suffix('')}.wav")
    if target == shlex.quote(str(path)):
        target = shlex.quote(f"{path.with_suffix('')}-converted.wav")
    source = shlex.quote(str(path))
    if found is None:
        return (
            f"{path} is not an audio file that can be read: give WAV, FLAC, MP3 or OGG. Samples "
            "without a header need one, which states rate, channels and sample type, e.g. "
            f"ffmpeg -f s16le -ar 44100 -ac 1 -i {source} {target}"
        )
    if found.group == "notes":
        return (
            f"{path} is a MIDI file, which holds notes and no sound: `melisma render {source} "
            f"--output {target}` makes sound of it"
        )
    if found.group == "melisma":
        return (
            f"{path} is a {found.name} file, not sound: `melisma decode {source} {target}` makes "
            "sound of it"
        )
    if found.group == "no sound":
        return f"{path} is not an audio file but {found.name}: give WAV, FLAC, MP3 or OGG"
    kind = "a video file" if found.group == "video" else "sound"
    return (
        f"{path} is {kind} in the format {found.name}, which cannot be read here: convert it "
        f"first, e.g. ffmpeg -i {source} {target}"
    )


_UNKNOWN_BYTES = 0x7FFF_0000
"""Programs that write into pipes put the largest number, or one near it, where the length of the
sound would stand; it then means "until the end"."""


_NIST_SIZES = (b"sample_count", b"channel_count", b"sample_n_bytes")


def missing_bytes(head: bytes, size: int) -> int:
    """How many bytes of a file are missing by its own header.

    Args:
        head: The beginning of the file, as for `format_of`.
        size: Its length in bytes.

    Returns:
        0 where the file is whole, or its header does not say.
    """
    stated = 0
    if head[:4] in (b"RIFF", b"RIFX", b"FORM"):
        (stated,) = struct.unpack(("<" if head[:4] == b"RIFF" else ">") + "I", head[4:8])
        stated = 8 + stated if stated < _UNKNOWN_BYTES else 0
        # Some programs count the whole file, header included, or one byte of padding too many.
        stated -= 9
    elif head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        offset, length = struct.unpack((">" if head[:4] == b".snd" else "<") + "II", head[4:12])
        stated = offset + length if length < _UNKNOWN_BYTES else 0
    elif head[:4] == b"RF64" and head[12:16] == b"ds64":
        (length,) = struct.unpack("<Q", head[20:28])
        stated = 8 + length - 9 if length < 2**62 else 0
    elif head.startswith(b"Creative Voice File") and len(head) >= 30:
        (offset,) = struct.unpack("<H", head[20:22])
        (length,) = struct.unpack("<I", head[offset + 1 : offset + 4].ljust(4, b"\0"))
        stated = offset + 4 + length if head[offset : offset + 1] in (b"\1", b"\t") else 0
    elif head[:7] == b"NIST_1A":
        sizes = [re.search(name + rb" -i (\d{1,9})\n", head) for name in _NIST_SIZES]
        stated = 1_024 + math.prod(0 if found is None else int(found[1]) for found in sizes)
    elif head[:4] == b"riff" and len(head) >= 24:
        (length,) = struct.unpack("<Q", head[16:24])
        stated = length if length < 2**62 else 0
    return max(0, stated - size)
