"""The prompt of an audio request: text, and exact settings that override it.

`clean_text` is the gate for all text from outside: prompts, lists of prompts, tags and JSON.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from melisma.values.attributes import METRES, TONALITIES
from melisma.values.errors import MelismaError, expect_real, expect_text

MIN_SECONDS = 1.0
MAX_SECONDS = 600.0
"""Limits of a piece's duration (chosen: ten minutes hold any song)."""
TEMPI_BPM = 30.0, 300.0
"""Limits of a tempo (chosen)."""
MAX_CHARACTERS = 2_000
"""Maximum length of a prompt in characters."""

CONTINUED_SECONDS = 10.0
"""How much of the end of a recording a piece continues from by default (MusicLM and MusicGen
continue from as much or less)."""

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK_CONTROL = re.compile("[\v\f\x1c-\x1f\x85]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_LINE_END = re.compile(r"\r\n|\n|\r")


def clean_text(text: str) -> str:
    """Text from outside as text that can be encoded, printed and read.

    Bytes that an operating system could not decode ("surrogate escapes", PEP 383) are decoded as
    UTF-8, halves of surrogate pairs are joined, blanks of old (VT, FF, NEL) become spaces; what is
    no text (lone surrogates, NUL and other control characters) becomes U+FFFD, and a byte order
    mark at the beginning is dropped. Line ends and tabs stay.

    >>> clean_text("caf\udcc3\udca9 waltz"), clean_text("a\x00b")
    ('café waltz', 'a\ufffdb')
    """
    text = _PAIR.sub(
        lambda found: found[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text
    )
    text = _ESCAPED_BYTES.sub(
        lambda found: found[0].encode("ascii", "surrogateescape").decode("utf-8", "replace"), text
    )
    text = _BLANK_CONTROL.sub(" ", _SURROGATE.sub("\ufffd", text))
    return _CONTROL.sub("\ufffd", text).removeprefix("\ufeff")


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: only blanks and marks of format."""
    return all(c.isspace() or unicodedata.category(c) in ("Cf", "Cc", "Zs") for c in text)


def decode_text(data: bytes, name: str) -> str:
    """The text of a file: UTF-8, or UTF-16 with a byte order mark, cleaned.

    Args:
        data: Content of the file.
        name: Of the file, for the message.

    Raises:
        MelismaError: It is neither.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return clean_text(data.decode(encoding))
    except UnicodeDecodeError as error:
        raise MelismaError(f"{name} is not UTF-8 text: save it as UTF-8") from error


def split_lines(text: str) -> list[str]:
    """The lines of a text, which end with LF, CR LF or CR, and with nothing else."""
    return _LINE_END.split(text)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Text and exact settings for one piece.

    Raises:
        MelismaError: A value lies outside its limits; the message states what is allowed.
    """

    words: str
    """The text of the prompt, not empty."""
    duration_seconds: float = 10.0
    tempo_bpm: float | None = None
    """Overrides the words; felt beats per minute (of the dotted quarter in 6/8)."""
    tonality: str | None = None
    """Overrides the words; one of `TONALITIES`."""
    metre: str | None = None
    """Overrides the words; one of `METRES`."""
    without: tuple[str, ...] = ()
    """Instruments that do not play, besides those that the words exclude: names such as "drums"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", clean_text(expect_text("a prompt", self.words)))
        object.__setattr__(self, "without", checked_names(self.without))
        if is_blank(self.words):
            raise MelismaError('the prompt is empty: say what to play, e.g. "a slow piano waltz"')
        check_prompt(self.words, self.duration_seconds, self.tempo_bpm, self.tonality)
        if self.metre is not None and self.metre not in METRES:
            raise MelismaError(f'no metre "{self.metre}": known are {", ".join(METRES)}')


def checked_names(names: Sequence[str] | str) -> tuple[str, ...]:
    """Names of instruments in lower case, from a list or from a text with commas.

    Raises:
        MelismaError: Something else is in the list.
    """
    try:
        given = re.split(r"[,;]", names) if isinstance(names, str) else list(names)
    except TypeError as error:
        raise MelismaError(
            "instruments to leave out are a text with commas or a list of names, not a value of "
            f"type {type(names).__name__}"
        ) from error
    plain = [
        " ".join(clean_text(expect_text("an instrument", one)).lower().split()) for one in given
    ]
    return tuple(dict.fromkeys(one for one in plain if one))


def check_prompt(
    words: str, duration_seconds: float, tempo_bpm: float | None, tonality: str | None
) -> None:
    """Checks the settings that all kinds of prompts share.

    Args:
        words: Text of the prompt; may be empty here.
        duration_seconds: Requested duration.
        tempo_bpm: Requested tempo, felt beats per minute.
        tonality: Requested musical key, one of `TONALITIES`.

    Raises:
        MelismaError: A value lies outside its limits; the message states what is allowed.
    """
    if len(expect_text("a prompt", words)) > MAX_CHARACTERS:
        raise MelismaError(
            f"the prompt has {len(words)} characters, at most {MAX_CHARACTERS} are read"
        )
    expect_real("a duration", duration_seconds, MIN_SECONDS, MAX_SECONDS, "seconds")
    if tempo_bpm is not None:
        expect_real("a tempo", tempo_bpm, *TEMPI_BPM, "bpm")
    if tonality is not None and tonality not in TONALITIES:
        raise MelismaError(f'no musical key "{tonality}": give one like "C major" or "F# minor"')
