"""The prompt of an audio request: text, and exact settings that override it."""

from __future__ import annotations

from dataclasses import dataclass

from melisma.values.attributes import METRES, TONALITIES
from melisma.values.errors import MelismaError

MIN_SECONDS = 1.0
MAX_SECONDS = 600.0
"""Limits of a piece's duration (chosen: ten minutes hold any song)."""
MAX_CHARACTERS = 2_000
"""Maximum length of a prompt in characters."""

CONTINUED_SECONDS = 10.0
"""How much of the end of a recording a piece continues from by default (MusicLM and MusicGen
continue from as much or less)."""


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
    """Overrides the words; quarter notes per minute."""
    tonality: str | None = None
    """Overrides the words; one of `TONALITIES`."""
    metre: str | None = None
    """Overrides the words; one of `METRES`."""

    def __post_init__(self) -> None:
        if not self.words.strip():
            raise MelismaError('the prompt is empty: say what to play, e.g. "a slow piano waltz"')
        check_prompt(self.words, self.duration_seconds, self.tempo_bpm, self.tonality)
        if self.metre is not None and self.metre not in METRES:
            raise MelismaError(f'no metre "{self.metre}": known are {", ".join(METRES)}')


def check_prompt(
    words: str, duration_seconds: float, tempo_bpm: float | None, tonality: str | None
) -> None:
    """Checks the settings that all kinds of prompts share.

    Args:
        words: Text of the prompt; may be empty here.
        duration_seconds: Requested duration.
        tempo_bpm: Requested tempo, quarter notes per minute.
        tonality: Requested musical key, one of `TONALITIES`.

    Raises:
        MelismaError: A value lies outside its limits; the message states what is allowed.
    """
    if len(words) > MAX_CHARACTERS:
        raise MelismaError(
            f"the prompt has {len(words)} characters, at most {MAX_CHARACTERS} are read"
        )
    if not MIN_SECONDS <= duration_seconds <= MAX_SECONDS:
        raise MelismaError(
            f"a duration lies between {MIN_SECONDS:g} and {MAX_SECONDS:g} seconds, "
            f"not {duration_seconds}"
        )
    if tempo_bpm is not None and not 30 <= tempo_bpm <= 300:
        raise MelismaError(f"a tempo lies between 30 and 300 bpm, not {tempo_bpm}")
    if tonality is not None and tonality not in TONALITIES:
        raise MelismaError(f'no musical key "{tonality}": give one like "C major" or "F# minor"')
