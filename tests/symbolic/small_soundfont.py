"""Soundfonts of a few hundred samples, whose tones are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import pack

import numpy as np

RATE_HZ = 44_100
TONE_HZ = 441.0
"""Pitch of the one recording: 100 samples a period, A4 and 4 cents."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A preset that plays the tone on some of the keys."""

    bank: int = 0
    number: int = 0
    low: int = 0
    high: int = 127


def soundfont_bytes(sounds: Sequence[Sound]) -> bytes:
    """A soundfont (.sf2) with these presets, all of one looped sine."""
    wave = np.round(16_000 * np.sin(2 * np.pi * np.arange(1_000) / 100)).astype("<i2").tobytes()
    headers, bags, generators = b"", b"", b""
    instruments, own_bags, own_generators = b"", b"", b""
    for index, sound in enumerate(sounds):
        headers += pack("<20sHHH12x", b"sound", sound.number, sound.bank, index)
        bags += pack("<HH", index, 0)
        generators += pack("<HH", 41, index)
        instruments += pack("<20sH", b"tone", index)
        own_bags += pack("<HH", 4 * index, 0)
        own_generators += pack("<HBB", 43, sound.low, sound.high)
        own_generators += pack("<Hh", 38, -2_400)  # a release of a quarter of a second
        own_generators += pack("<HHHH", 54, 1, 53, 0)
    count = len(sounds)
    recording = pack("<20sIIIIIBbHH", b"sine", 0, 1_000, 100, 900, RATE_HZ, 69, -4, 0, 1)
    tables = [
        (b"phdr", headers + pack("<20sHHH12x", b"EOP", 0, 0, count)),
        (b"pbag", bags + pack("<HH", count, 0)),
        (b"pmod", bytes(10)),
        (b"pgen", generators + bytes(4)),
        (b"inst", instruments + pack("<20sH", b"EOI", count)),
        (b"ibag", own_bags + pack("<HH", 4 * count, 0)),
        (b"imod", bytes(10)),
        (b"igen", own_generators + bytes(4)),
        (b"shdr", recording + pack("<20s26x", b"EOS")),
    ]
    body = _list(b"INFO", _chunk(b"ifil", pack("<HH", 2, 1)) + _chunk(b"INAM", b"small\0"))
    body += _list(b"sdta", _chunk(b"smpl", wave + bytes(92)))
    body += _list(b"pdta", b"".join(_chunk(name, table) for name, table in tables))
    return b"RIFF" + pack("<I", len(body) + 4) + b"sfbk" + body


def write_soundfont(path: Path, sounds: Sequence[Sound]) -> Path:
    """The same on disk; returns the path."""
    path.write_bytes(soundfont_bytes(sounds))
    return path


def full_bank() -> list[Sound]:
    """Every General MIDI program and a drum kit."""
    return [*(Sound(number=number) for number in range(128)), Sound(bank=128)]


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + pack("<I", len(data)) + data


def _list(name: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", name + data)
