"""Parser of exact settings in a prompt: tempo, musical key, metre, instruments.

Input: the text of a prompt. Output: `StatedSettings`, with None for what the text does not state.
Nothing is inferred from moods or styles; that is the text tower's task. The one exception is a
waltz, which is in 3/4.

Decisions where English is ambiguous:
- "a minor key", "a major hit", "write a minor waltz": an article, no key.
- "A minor waltz", "in a minor", "piano, a minor, slow": A minor, because a waltz in minor is the
  only plausible meaning, and A the only possible tonic.
- "in the key of G" and "waltz in G" mean G major, as musicians use them.
- Of two statements the first counts; "80-90 bpm" means the mean.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from melisma.joint.instrument_words import is_instrumental, named_families, read_mentions
from melisma.joint.negation import may_negate, without_phrases
from melisma.values.attributes import PITCH_NAMES

LOWEST_BPM, HIGHEST_BPM = 30.0, 300.0
"""Tempi outside this range are ignored; `values.Prompt` has the same limits."""


@dataclass(frozen=True, kw_only=True)
class StatedSettings:
    """Settings that a text states exactly; None or an empty tuple where it states none."""

    tempo_bpm: float | None = None
    """Quarter notes per minute."""
    tonality: str | None = None
    """One of `TONALITIES`."""
    metre: str | None = None
    """One of `METRES`."""
    families: tuple[str, ...] = ()
    """Requested families of `FAMILIES`, in order of mention."""
    absent_families: tuple[str, ...] = ()
    """Excluded families of `FAMILIES` ("no drums")."""
    absent_names: tuple[str, ...] = ()
    """Names of excluded instruments, in order of mention, e.g. "alto sax"."""
    only: bool = False
    """Whether no other instruments than those of `families` are to play ("only drums")."""
    avoided: tuple[tuple[str, str], ...] = ()
    """Excluded classes of other attributes, as (attribute, class), e.g. ("moods", "sad")."""
    unresolved: tuple[str, ...] = ()
    """Phrases that exclude something unknown ("no autotune")."""
    kept: str = ""
    """The text without the phrases that exclude something; else as it is."""


def read_settings(words: str) -> StatedSettings:
    """Parses the exact settings in a text.

    >>> read_settings("a waltz in F# minor at 90 bpm for oboe, no drums")
    ... # doctest: +NORMALIZE_WHITESPACE
    StatedSettings(tempo_bpm=90.0, tonality='F# minor', metre='3/4', families=('reeds',),
                   absent_families=('drums',), absent_names=('drums',), only=False, avoided=(),
                   unresolved=(), kept='a waltz in F# minor at 90 bpm for oboe')
    """
    requested, absent = named_families(words)
    plain = StatedSettings(
        tempo_bpm=read_tempo(words),
        tonality=read_tonality(words),
        metre=read_metre(words),
        families=requested,
        absent_families=absent,
        kept=words,
    )
    if is_instrumental(words) and "choir" not in (*requested, *absent):
        plain = dataclasses.replace(
            plain, absent_families=(*absent, "choir"), absent_names=("voices",)
        )
    if not may_negate(words):
        return plain
    found = read_mentions(words)
    classes = [one for one in found.classes if one.ruled_out]
    wanted = {(one.attribute, one.name) for one in found.classes if not one.ruled_out}
    excluded = [(one.attribute, one.name) for one in classes]
    names = [one.name for one in found.instruments if one.ruled_out]
    return dataclasses.replace(
        plain,
        absent_names=tuple(dict.fromkeys([*names, *plain.absent_names])),
        only=found.only,
        avoided=tuple(one for one in dict.fromkeys(excluded) if one not in wanted),
        unresolved=tuple(words[first:stop] for first, stop in found.unresolved),
        kept=without_phrases(words, found.phrases),
    )


def setting_places(words: str) -> list[tuple[str, int, int]]:
    """Where a text speaks of a tempo in bpm, a key or a metre, understood or not.

    Returns:
        ("tempo", "tonality" or "metre", first character, after the last), of each mention.
    """
    patterns = [("tempo", _AFTER), ("tempo", _BEFORE), ("tempo", _FAR), ("metre", _SIGNATURE)]
    patterns += [("tonality", one) for one in (_FULL, _SHORT, _KEY_OF, _IN_LETTER)]
    patterns += [("metre", re.compile(pattern, re.I)) for pattern, _ in _METRE_WORDS]
    return [
        (name, found.start(), found.end())
        for name, pattern in patterns
        for found in pattern.finditer(words)
    ]


# --- tempo ---------------------------------------------------------------------------------------

_UNITS: dict[str, int] = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS: dict[str, int] = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90,
}  # fmt: skip
_NUMBER_WORD = "|".join([*_UNITS, *_TENS, "hundred", "and", "a"])
_SPOKEN = rf"(?:\b(?:{_NUMBER_WORD})\b[\s-]+)*\b(?:{'|'.join([*_UNITS, *_TENS, 'hundred'])})\b"
_FIGURE = r"\d{1,3}(?:\.\d+)?"
_BEATS = (
    r"(?:b\.?p\.?m\b\.?|(?:quarter[- ]notes?|crotchets?|beats?)\s*(?:per|a|/|in\s+a|every)\s*min)"
)
_AFTER = re.compile(
    rf"(?<![\d.])(?:({_FIGURE})\s*(?:-|–|to|and|or)\s*)?({_FIGURE}|{_SPOKEN})[\s-]*{_BEATS}", re.I
)
_BEFORE = re.compile(
    rf"(?:\bb\.?p\.?m\b\.?|\btempo\b|\bmetronome\b|\bm\.\s?m\.|[♩]|\bq(?=\s*=))"
    rf"\s*(?:marking|mark)?\s*(?:is|of|at|to|around|about|approximately|near|[:=≈~])*\s*"
    rf"(?:around|about|approximately|circa|[:=≈~])?\s*({_FIGURE})(?:\s*(?:-|–|to)\s*({_FIGURE}))?"
    rf"(?![\d/])",
    re.I,
)
_FAR = re.compile(rf"(?<![\d.])\d{{4,}}(?:\.\d+)?[\s-]*{_BEATS}", re.I)
"""A tempo of more figures than any piece has."""
_NOT = re.compile(
    r"\b(?:not|no|never|isn['’]?t|don['’]?t|without|avoid(?:ing)?|rather than|instead of|"
    r"anything but|nor|do not (?:use|make it))\s+"
    r"(?:(?:in|at|the|key|of|a|an|use|using|any|played|metre|meter|tempo)\s+)*$",
    re.IGNORECASE,
)


def read_tempo(words: str) -> float | None:
    """Stated tempo in quarter notes per minute, None where none is stated or plausible."""
    found: list[tuple[int, float]] = []
    for match in _AFTER.finditer(words):
        low, high = match.group(1), _number(match.group(2))
        if high is not None:
            value = (float(low) + high) / 2 if low and float(low) <= high else high
            found.append((match.start(), value))
    for match in _BEFORE.finditer(words):
        value, high_text = float(match.group(1)), match.group(2)
        if high_text and float(high_text) > value:
            value = (value + float(high_text)) / 2
        found.append((match.start(), value))
    plausible = [
        (start, value)
        for start, value in found
        if LOWEST_BPM <= value <= HIGHEST_BPM and not _NOT.search(words[:start])
    ]
    return min(plausible)[1] if plausible else None


def _number(text: str) -> float | None:
    """Value of digits or of a number word below a thousand; None where it is no number."""
    if text[0].isdigit():
        return float(text)
    total = 0
    for word in re.split(r"[\s-]+", text.lower()):
        if word == "hundred":
            total = max(total, 1) * 100
        elif word in _UNITS or word in _TENS:
            total += _UNITS.get(word, 0) + _TENS.get(word, 0)
    return float(total) if total else None


# --- musical key ---------------------------------------------------------------------------------

_SHIFTS = {"": 0, "#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1, "natural": 0}
_LETTERS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ACCIDENTAL = r"[#♯♭b]|[\s-]?(?:sharp|flat|natural)\b"
_FULL = re.compile(
    rf"(?<![\w#♯♭'’-])([A-G])({_ACCIDENTAL})?[\s-]*"
    r"(?:(?:natural|harmonic|melodic)[\s-]+)?(major|minor|maj|min)\b",
    re.I,
)
_SHORT = re.compile(
    rf"(?:\b(?:in|key|of|tonality)\s*:?\s+|^|[,;:(/|]\s*)([A-G])({_ACCIDENTAL})?m\b"
)
_KEY_OF = re.compile(
    rf"\bkey\s*(?:of\s|is\s|[:=])\s*([A-Gb-g])({_ACCIDENTAL})?(?![\w#♯♭])"
    r"(?![\s-]*(?:minor|min\b|flat|sharp))"
)
_IN_LETTER = re.compile(
    rf"\bin\s+([A-G])({_ACCIDENTAL})?(?=\s*(?:[.,;:!?)]|$|\b(?:at|with|for|and|on)\b))"
)
_AFTER_MODE_IS_ARTICLE = re.compile(
    r"\s+(?:key|keys|mode|tonality|scale|chord|chords|feel|feeling|mood|way|part|role|hit|third|"
    r"sixth|seventh|sound|change|event|tone|touch|problem|upgrade|label|detail|twist|harmon\w+)\b",
    re.I,
)
_GOES_ON_OR_ENDS = re.compile(
    r"\s*(?:$|[.,;:!?)\]]|(?:at|with|for|and|on|in|by|played|over|from|to|but|using|tempo|around|"
    r"featuring|then|or|like|please|\d+)\b)",
    re.I,
)


def read_tonality(words: str) -> str | None:
    """Stated musical key in the spelling of `TONALITIES`, None where none is stated.

    >>> read_tonality("something in Db major"), read_tonality("in a minor key")
    ('C# major', None)
    """
    found: list[tuple[int, str]] = []
    for match in _FULL.finditer(words):
        if not (match.group(2) is None and _is_article(words, match)):
            mode = "minor" if match.group(3).lower().startswith("min") else "major"
            found.append((match.start(), _tonality(match.group(1), match.group(2), mode)))
    for pattern, mode in ((_SHORT, "minor"), (_KEY_OF, "major"), (_IN_LETTER, "major")):
        for match in pattern.finditer(words):
            if not re.match(r"\s*(?:major|maj|dorian|lydian|phrygian|mixolydian|\w*\s*minor)\b",
                            words[match.end() :], re.I):  # fmt: skip
                found.append((match.start(), _tonality(match.group(1), match.group(2), mode)))
    found = [(start, name) for start, name in found if not _NOT.search(words[:start])]
    return min(found)[1] if found else None


def _is_article(words: str, match: re.Match[str]) -> bool:
    """Whether the "a" before "minor" or "major" is an article rather than a tonic."""
    letter, rest = match.group(1), words[match.end() :]
    if letter not in "aA" or "-" in words[match.end(1) : match.start(3)]:
        return False
    opens = not words[: match.start()].strip() or words[: match.start()].rstrip()[-1] in ".!?"
    if letter == "A" and not opens:
        return False
    if _AFTER_MODE_IS_ARTICLE.match(rest):
        return True
    if letter == "a":
        return not _GOES_ON_OR_ENDS.match(rest)
    return match.group(3).lower().startswith("maj") and not _GOES_ON_OR_ENDS.match(rest)


def _tonality(letter: str, accidental: str | None, mode: str) -> str:
    shift = _SHIFTS[(accidental or "").strip(" -").lower()]
    return f"{PITCH_NAMES[(_LETTERS[letter.lower()] + shift) % 12]} {mode}"


# --- metre ---------------------------------------------------------------------------------------

_SIGNATURE = re.compile(r"(?<![\d/.])(\d{1,2})\s*/\s*(\d{1,2})(?![\d/])")
_METRE_WORDS: tuple[tuple[str, str], ...] = (
    (r"\b(?:two|2)[- ]?(?:four|quarter)(?:\s+time)\b|\bin\s+two\b(?!\s+\w+s\b)", "2/4"),
    (r"\bthree[- ](?:four|quarter)\b|\bwaltz\w*\b|\btriple\s+(?:time|met(?:re|er))\b"
     r"|\bthree beats (?:to|in|per) (?:the|a|each|every)?\s*(?:bar|measure)"
     r"|\bin\s+(?:three|3)\b(?!\s*(?:/|\w+s\b|parts?\b|keys?\b))", "3/4"),
    (r"\bin\s+(?:four|4)\b(?!\s*(?:/|\w+s\b|part\b|to\b|or\b))"
     r"|\bfour[- ]four\b|\bcommon\s+time\b|\bquadruple\s+(?:time|met(?:re|er))\b"
     r"|\bfour beats (?:to|in|per) (?:the|a|each|every)?\s*(?:bar|measure)", "4/4"),
    (r"\bsix[- ]eight\b|\bcompound\s+duple\b", "6/8"),
)  # fmt: skip


def read_bar_metre(words: str) -> tuple[int, int] | None:
    """First time signature in digits, e.g. (7, 8); None where the text has none."""
    for match in _SIGNATURE.finditer(words):
        if match.group(2) in ("2", "4", "8", "16") and not _NOT.search(words[: match.start()]):
            return int(match.group(1)), int(match.group(2))
    return None


def read_metre(words: str) -> str | None:
    """Stated metre, None where none of `METRES` is stated (5/4 and 12/8 count as none)."""
    written = read_bar_metre(words)
    if written is not None:
        name = f"{written[0]}/{written[1]}"
        return name if name in ("2/4", "3/4", "4/4", "6/8") else None
    found = [
        (match.start(), metre)
        for pattern, metre in _METRE_WORDS
        for match in re.finditer(pattern, words, re.I)
        if not _NOT.search(words[: match.start()])
    ]
    return min(found)[1] if found else None
