"""What a person asks for: words, and exact settings that override them."""

from __future__ import annotations

from dataclasses import dataclass

from melisma.values.attributes import METRES, TONALITIES

SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 600.0
"""Limits of a piece's length (chosen: ten minutes hold any song)."""
LONGEST_WORDS = 2_000
"""Characters a prompt may have."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Words and exact settings for one piece. `ValueError` says what is allowed."""

    words: str
    duration_seconds: float = 10.0
    tempo_bpm: float | None = None
    """Overrides the words; quarter notes a minute."""
    tonality: str | None = None
    """Overrides the words; one of `TONALITIES`."""
    metre: str | None = None
    """Overrides the words; one of `METRES`."""

    def __post_init__(self) -> None:
        if not self.words.strip():
            raise ValueError('the prompt is empty: say what to play, e.g. "a slow piano waltz"')
        check_prompt(self.words, self.duration_seconds, self.tempo_bpm, self.tonality)
        if self.metre is not None and self.metre not in METRES:
            raise ValueError(f'no metre "{self.metre}": known are {", ".join(METRES)}')


def check_prompt(
    words: str, duration_seconds: float, tempo_bpm: float | None, tonality: str | None
) -> None:
    """`ValueError` where what every prompt may ask for lies beyond its limits."""
    if len(words) > LONGEST_WORDS:
        raise ValueError(
            f"the prompt has {len(words)} characters, at most {LONGEST_WORDS} are read"
        )
    if not SHORTEST_SECONDS <= duration_seconds <= LONGEST_SECONDS:
        raise ValueError(
            f"a duration lies between {SHORTEST_SECONDS:g} and {LONGEST_SECONDS:g} seconds, "
            f"not {duration_seconds}"
        )
    if tempo_bpm is not None and not 30 <= tempo_bpm <= 300:
        raise ValueError(f"a tempo lies between 30 and 300 bpm, not {tempo_bpm}")
    if tonality is not None and tonality not in TONALITIES:
        raise ValueError(f'no tonality "{tonality}": give one like "C major" or "F# minor"')
