"""Text features of the judge: sentences as hashed words and word pairs.

Input: a sentence. Output: row numbers of an embedding table. No vocabulary is learned, so the judge
shares nothing with the generator's tokenizer (Joulin et al., "Bag of tricks for efficient text
classification", 1607.01759, section 2.2). Numbers that may be tempi also select a coarse bin, so
that 119 bpm is near 121 bpm.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
import zlib

from melisma.values.attributes import TEMPO_RANGE_BPM, tempo_bin

TABLE_ROWS = 16_384
"""Rows of the table (chosen: the captions use a few thousand words)."""
_WORD = re.compile(r"[a-z]+[#♯♭]?|\d+")
_NUMBER = re.compile(r"\b\d+([.,]\d+)?\b")


def split_words(text: str) -> list[str]:
    """Lower-case words and whole numbers; accents are dropped, a sharp stays with its letter."""
    plain = unicodedata.normalize("NFKD", text.lower())
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def hash_words(text: str) -> list[int]:
    """Rows of the words, word pairs and tempo bins of a sentence; never empty."""
    words = split_words(text)
    tokens = [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]
    low, high = TEMPO_RANGE_BPM
    for word in words:
        if word.isdigit() and low <= int(word) <= high:
            first = tempo_bin(int(word))
            tokens.extend(f"tempo bin {bin_ // 2}" for bin_ in (first, first + 1))
    return [zlib.crc32(token.encode()) % TABLE_ROWS for token in tokens or [""]]


def without_numbers(text: str) -> str:
    """The sentence with every number and the "bpm" after it taken out."""
    shorter = re.sub(r"\b\d+([.,]\d+)?\s*(bpm|beats (per|a) minute)\b", " ", text, flags=re.I)
    return re.sub(r"\s+", " ", _NUMBER.sub(" ", shorter)).strip()
