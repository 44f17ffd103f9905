"""What a person asks of a score: words, and exact settings that override them."""

from __future__ import annotations

from dataclasses import dataclass

from melisma.values.attributes import STYLES
from melisma.values.events import BAR_METRES, DRUM_PROGRAM, MOST_PARTS
from melisma.values.prompt import check_prompt
from melisma.values.traditions import COMPOSERS, TRADITIONS

MOST_SCORE_BARS = 600
"""Bars of one piece (chosen: twenty minutes of a slow one)."""
MANNERS: tuple[str, ...] = (*STYLES, *COMPOSERS, *TRADITIONS)
"""What a style may be: a style of `STYLES`, a composer, or a tradition."""


@dataclass(frozen=True, kw_only=True)
class ScorePrompt:
    """Words and exact settings for one score. `ValueError` says what is allowed.

    The words may be empty where a setting says something.
    """

    words: str = ""
    bars: int | None = None
    """How many bars; None: as many as `duration_seconds` holds."""
    duration_seconds: float = 30.0
    tempo_bpm: float | None = None
    """Overrides the words; beats a minute (of the dotted quarter in 6/8, 9/8 and 12/8)."""
    tonality: str | None = None
    """Overrides the words; one of `TONALITIES`."""
    metre: tuple[int, int] | None = None
    """Overrides the words; one of `BAR_METRES`."""
    programs: tuple[int, ...] = ()
    """Overrides the words: one part each (a keyboard, harp or choir alone: its usual staves),
    General MIDI programs, `DRUM_PROGRAM` for drums."""
    style: str | None = None
    """Overrides the words; one of `MANNERS`."""
    has_prefix: bool = False
    """Whether the score begins from given notes, which may say all."""

    def __post_init__(self) -> None:
        exact = (self.tempo_bpm, self.tonality, self.metre, self.style)
        silent = not self.words.strip() and not self.programs and not self.has_prefix
        if silent and all(one is None for one in exact):
            raise ValueError(
                'the prompt is empty: say what to play, e.g. "a slow piano waltz in D minor"'
            )
        check_prompt(self.words, self.duration_seconds, self.tempo_bpm, self.tonality)
        if self.bars is not None and not 1 <= self.bars <= MOST_SCORE_BARS:
            raise ValueError(f"a score has 1 to {MOST_SCORE_BARS} bars, not {self.bars}")
        if self.metre is not None and self.metre not in BAR_METRES:
            raise ValueError(
                f"no metre {self.metre[0]}/{self.metre[1]}: the lower number is 2, 4, 8 or 16, and "
                "a bar is at most eight quarter notes long"
            )
        if len(self.programs) > MOST_PARTS:
            raise ValueError(f"a score has at most {MOST_PARTS} parts, not {len(self.programs)}")
        if any(not 0 <= program <= DRUM_PROGRAM for program in self.programs):
            raise ValueError(f"a program lies between 0 and {DRUM_PROGRAM} (drums)")
        if self.style is not None and self.style not in MANNERS:
            raise ValueError(f'no style "{self.style}": known are {", ".join(MANNERS)}')


def felt_beat(metre: tuple[int, int]) -> float:
    """Length of the felt beat in quarter notes: the dotted quarter in 6/8, 9/8 and 12/8 (and such),
    the half note over 2, the eighth in odd metres over 8, else the quarter."""
    numerator, denominator = metre
    if denominator in (8, 16) and numerator > 3 and numerator % 3 == 0:
        return 12.0 / denominator
    return 4.0 / denominator if denominator in (2, 8) else 1.0
