"""The prompt of a score request: text, and exact settings that override it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from melisma.values.attributes import STYLES
from melisma.values.errors import MelismaError, expect_integer, expect_text, unknown_name
from melisma.values.events import BAR_METRES, DRUM_PROGRAM, MAX_PARTS
from melisma.values.prompt import check_prompt, checked_names, clean_text, is_blank
from melisma.values.traditions import COMPOSERS, TRADITIONS

MAX_SCORE_BARS = 600
"""Maximum number of bars of one piece (chosen: twenty minutes of a slow one)."""
STYLE_NAMES: tuple[str, ...] = (*STYLES, *COMPOSERS, *TRADITIONS)
"""Allowed values of `ScorePrompt.style`: a style of `STYLES`, a composer or a tradition."""


@dataclass(frozen=True, kw_only=True)
class ScorePrompt:
    """Text and exact settings for one score.

    The words may be empty where at least one other setting is given.

    Raises:
        MelismaError: A value lies outside its limits; the message states what is allowed.
    """

    words: str = ""
    bars: int | None = None
    """Number of bars; None: as many as fit into `duration_seconds`."""
    duration_seconds: float = 30.0
    tempo_bpm: float | None = None
    """Overrides the words; beats per minute (of the dotted quarter in 6/8, 9/8 and 12/8)."""
    tonality: str | None = None
    """Overrides the words; one of `TONALITIES`."""
    metre: tuple[int, int] | None = None
    """Overrides the words; one of `BAR_METRES`."""
    programs: tuple[int, ...] = ()
    """Overrides the words; General MIDI programs, `DRUM_PROGRAM` for drums. One part per program
    (a keyboard, harp or choir alone gets its usual staves)."""
    style: str | None = None
    """Overrides the words; one of `STYLE_NAMES`."""
    has_prefix: bool = False
    """Whether the score continues given notes, which may be the only conditioning."""
    without: tuple[str, ...] = ()
    """Instruments that do not play, besides those that the words exclude: names such as "drums"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", clean_text(expect_text("a prompt", self.words)))
        object.__setattr__(self, "without", checked_names(self.without))
        exact = (self.tempo_bpm, self.tonality, self.metre, self.style, self.without or None)
        empty = is_blank(self.words) and not self.programs and not self.has_prefix
        if empty and all(value is None for value in exact):
            raise MelismaError(
                'the prompt is empty: say what to play, e.g. "a slow piano waltz in D minor"'
            )
        check_prompt(self.words, self.duration_seconds, self.tempo_bpm, self.tonality)
        if self.bars is not None:
            bars = expect_integer("the number of bars", self.bars, 1, MAX_SCORE_BARS)
            object.__setattr__(self, "bars", bars)
        if self.metre is not None and self.metre not in BAR_METRES:
            raise MelismaError(
                f"no metre {self.metre[0]}/{self.metre[1]}: the lower number is 2, 4, 8 or 16, and "
                "a bar is at most eight quarter notes long"
            )
        if len(self.programs) > MAX_PARTS:
            raise MelismaError(f"a score has at most {MAX_PARTS} parts, not {len(self.programs)}")
        if any(not 0 <= program <= DRUM_PROGRAM for program in self.programs):
            raise MelismaError(f"a program lies between 0 and {DRUM_PROGRAM} (drums)")
        if self.style is not None and self.style not in STYLE_NAMES:
            raise MelismaError(f'no style "{self.style}": known are {", ".join(STYLE_NAMES)}')


def felt_beat(metre: tuple[int, int]) -> float:
    """Length of the felt beat of a metre (numerator, denominator), in quarter notes.

    The dotted quarter in compound metres (6/8, 9/8, 12/8), the half note over 2, the eighth note in
    odd metres over 8, otherwise the quarter note.
    """
    numerator, denominator = metre
    if denominator in (8, 16) and numerator > 3 and numerator % 3 == 0:
        return 12.0 / denominator
    return 4.0 / denominator if denominator in (2, 8) else 1.0


_BEAT_NAMES = {
    0.25: "sixteenth", 0.5: "eighth", 0.75: "dotted eighth", 1.0: "quarter", 1.5: "dotted quarter",
    2.0: "half", 3.0: "dotted half",
}  # fmt: skip


def beat_name(metre: tuple[int, int]) -> str:
    """Name of the felt beat of a metre, e.g. "dotted quarter" in 6/8."""
    return _BEAT_NAMES[felt_beat(metre)]


def parse_time_signature(words: str) -> tuple[int, int]:
    """(3, 4) from "3/4"; `ScorePrompt` checks whether it is one of those supported."""
    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(\d{1,2})\s*", words)
    if match is None:
        raise MelismaError(f'"{words}" is not a time signature: use one such as 3/4 or 6/8')
    return int(match[1]), int(match[2])


def parse_style(words: str) -> str:
    """The name of `STYLE_NAMES` that is meant, in any case."""
    plain = words.strip().lower()
    for style in STYLE_NAMES:
        if plain == style.lower():
            return style
    sentence = unknown_name("style", words, STYLE_NAMES)
    raise MelismaError(f"{sentence}, or describe it in the prompt")
