"""Text of meta events: names, lyrics and markers in whatever encoding the program wrote them.

The standard wants ASCII and names no encoding beyond it. UTF-8 recognises itself; Shift-JIS, GBK
and Windows-1251 leave patterns that Western text does not have; everything else is Latin-1 (with
the quotes and dashes of Windows-1252), which gives every byte a character, so that nothing is lost.
"""

from __future__ import annotations

import re

MARK = "melisma: "
"""Prefix of the text event that holds Melisma's tags."""
NOTICE_MARKS = ("AI-generated with Melisma. ", "Licence: ")
"""Prefixes of Melisma's own copyright event: now, and in version 0.5."""
_HIGH_RUNS = re.compile(rb"[\x80-\xff]+")
_JAPANESE = re.compile("[\u3040-\u30ff]")
"""Hiragana and katakana."""
_FIRST_LEVEL = (0xB0, 0xD7)
"""Lead bytes of the 3,755 usual Chinese characters (GB 2312-80, level 1)."""
_CYRILLIC_LOWER = 0xE0
_SMALLEST_SHARE = 0.6
"""Share of usual characters from which on text is taken for Chinese or Cyrillic (chosen)."""


def decode_text(data: bytes) -> str:
    """Decodes the text of a meta event; never a replacement character."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    for guess in (_shift_jis, _gbk, _cyrillic):
        text = guess(data)
        if text is not None:
            return text
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode_name(data: bytes) -> str:
    """Decodes a name: without white space and zero bytes at its ends."""
    return decode_text(data).strip().strip("\0").strip()


def _shift_jis(data: bytes) -> str | None:
    """Text in Shift-JIS: it has kana, or lead bytes that are no letters in Western encodings."""
    try:
        text = data.decode("cp932")
    except UnicodeDecodeError:
        return None
    wide = [letter for letter in text if ord(letter) > 0xFF and not 0xFF61 <= ord(letter) <= 0xFF9F]
    has_leads = any(0x81 <= run[0] <= 0x9F for run in _HIGH_RUNS.findall(data))
    if not wide or not has_leads:
        return None
    return text if _JAPANESE.search(text) or len(wide) > 1 else None


def _gbk(data: bytes) -> str | None:
    """Text in GBK: pairs of high bytes, most of them usual characters."""
    runs = _HIGH_RUNS.findall(data)
    if any(len(run) % 2 or min(run) < 0xA1 for run in runs):
        return None
    leads = [lead for run in runs for lead in run[::2]]
    usual = sum(_FIRST_LEVEL[0] <= lead <= _FIRST_LEVEL[1] for lead in leads)
    if len(leads) < 2 or usual < _SMALLEST_SHARE * len(leads):
        return None
    if not any(len(run) >= 4 for run in runs):
        return None
    try:
        return data.decode("gbk")
    except UnicodeDecodeError:
        return None


def _cyrillic(data: bytes) -> str | None:
    """Text in Windows-1251: runs of letters, most of them small."""
    runs = _HIGH_RUNS.findall(data)
    letters = b"".join(runs)
    if any(letter < 0xC0 and letter not in (0xA8, 0xB8) for letter in letters):
        return None
    lower = sum(letter >= _CYRILLIC_LOWER for letter in letters)
    if max(map(len, runs)) < 3 or lower < _SMALLEST_SHARE * len(letters):
        return None
    return data.decode("cp1251")
