"""Text of meta events: names, lyrics and markers in whatever encoding the program wrote them.

The standard wants ASCII and names no encoding beyond it. UTF-8 recognises itself; Shift-JIS, GBK
and Windows-1251 leave patterns that Western text does not have; everything else is Latin-1 (with
the quotes and dashes of Windows-1252), which gives every byte a character, so that nothing is lost.
"""

from __future__ import annotations

import contextlib
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
_CYRILLIC_CAPITALS = frozenset((0xA8, *range(0xC0, 0xE0)))
_FEWEST_CAPITALS = 4
"""So many capitals in a row are taken for Cyrillic (chosen: Western words hardly have two that are
no ASCII, and two usual Chinese characters are hardly ever four such bytes)."""
_FEWEST_WIDE = 0.6
"""Least share of ideographs in the words of a Japanese text that have one (chosen: quotes and
letters of Windows-1252 and 1250 make ideographs of the letters that follow them, "don’t")."""
_VOICED = re.compile("[\uff76-\uff84\uff8a-\uff8e][\uff9e\uff9f]")
"""A half-width kana that can be voiced, with its mark."""
_SMALLEST_SHARE = 0.6
"""Share of usual characters from which on text is taken for Chinese or Cyrillic (chosen)."""


def decode_text(data: bytes) -> str:
    """Decodes the text of a meta event; never a replacement character."""
    for encoding, mark in (("utf-16", b"\xff\xfe"), ("utf-16", b"\xfe\xff"), ("utf-8-sig", b"")):
        if data.startswith(mark):
            with contextlib.suppress(UnicodeDecodeError):
                return data.decode(encoding)
    for guess in (_half_width_kana, _shift_jis, _cyrillic_capitals, _gbk, _cyrillic):
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
    if not wide or not has_leads or any("\ue000" <= letter <= "\uf8ff" for letter in wide):
        return None
    mixed = [word for word in text.split() if any(ord(letter) > 0xFF for letter in word)]
    share = len(wide) / sum(letter.isalpha() for word in mixed for letter in word)
    return text if _JAPANESE.search(text) or (len(wide) > 1 and share >= _FEWEST_WIDE) else None


def _half_width_kana(data: bytes) -> str | None:
    """Text in Shift-JIS of half-width kana, voiced ones among them, and no ideographs."""
    high = b"".join(_HIGH_RUNS.findall(data))
    if min(high) < 0xA1 or max(high) > 0xDF or min(high) >= 0xC0:
        return None
    text = data.decode("cp932")
    marks = sum(letter in "\uff9e\uff9f" for letter in text)
    return text if marks and marks == len(_VOICED.findall(text)) else None


def _cyrillic_capitals(data: bytes) -> str | None:
    """Text in Windows-1251 that is all capitals."""
    runs = _HIGH_RUNS.findall(data)
    if max(map(len, runs)) < _FEWEST_CAPITALS or not _CYRILLIC_CAPITALS.issuperset(b"".join(runs)):
        return None
    return data.decode("cp1251")


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
