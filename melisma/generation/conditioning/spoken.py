"""Exact settings in words, for models that read words alone: MusicGen, and ours on captions.

"slow piano at 100 bpm" with a tempo of 140 becomes "slow piano, 140 bpm": what the words state
otherwise is taken out, as exact settings override the words.
"""

from __future__ import annotations

import re

from melisma.joint.embedding import NO_WORDS
from melisma.joint.settings_words import read_metre, read_settings, read_tempo, read_tonality
from melisma.values.prompt import Prompt

_TEMPO = re.compile(
    r"(?:\b(?:at|around|about|with|of)\s+)?(?:\ba\s+)?(?:\btempo\s+(?:of\s+)?)?"
    r"\b\d{1,3}(?:\.\d+)?(?:\s*(?:-|–|to)\s*\d{1,3}(?:\.\d+)?)?[\s-]*"
    r"(?:b\.?p\.?m\b\.?|beats\s+(?:per|a)\s+minute)",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"(?:\bin\s+)?(?:\b(?:the\s+)?key\s+of\s+)?\b[A-G](?:\s?[#♯♭b]|[\s-](?:sharp|flat))?[\s-]*"
    r"(?:major|minor|maj|min)\b",
    re.IGNORECASE,
)
_METRE = re.compile(r"(?:\bin\s+)?(?<![\d/])\d{1,2}\s*/\s*\d{1,2}(?![\d/])(?:\s+time\b)?")


def spoken(prompt: Prompt) -> str:
    """The words of a prompt without what they exclude, and with its exact settings.

    A model that reads words alone plays what they name, be it only to exclude it.

    >>> spoken(Prompt(words="slow piano at 100 bpm", tempo_bpm=140.0, tonality="F# minor"))
    'slow piano, 140 bpm, F# minor'
    >>> spoken(Prompt(words="slow piano, no drums"))
    'slow piano'
    """
    settings = spoken_settings(prompt)
    words = kept = read_settings(prompt.words).kept.strip() or NO_WORDS
    if not settings:
        return words
    if prompt.tempo_bpm is not None and read_tempo(words) is not None:
        words = _TEMPO.sub("", words)
    if prompt.tonality is not None and read_tonality(words) is not None:
        words = _KEY.sub("", words)
    if prompt.metre is not None and read_metre(words) is not None:
        words = _METRE.sub("", words)
    if words != kept:
        words = re.sub(r"\s*([,;:])(?:\s*[,;:])*", r"\1", " ".join(words.split()))
    return ", ".join([words.strip(" ,;:"), *settings.values()]).removeprefix(", ")


def spoken_settings(prompt: Prompt) -> dict[str, str]:
    """The words for each exact setting of a prompt, by attribute."""
    found: dict[str, str] = {}
    if prompt.tempo_bpm is not None:
        found["tempo"] = f"{prompt.tempo_bpm:g} bpm"
    if prompt.tonality is not None:
        found["tonality"] = prompt.tonality
    if prompt.metre is not None:
        found["metre"] = f"{prompt.metre} time"
    return found
