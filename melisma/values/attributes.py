"""The closed vocabularies of musical attributes, and the facts about one piece.

The same words serve the truth of a rendered clip, the heads of the joint embedding, the condition
slots of the language model, prompts and receipts. The *order* of each tuple is an interface:
trained heads index into it, so entries are only ever appended together with a new token version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FAMILIES: tuple[str, ...] = (
    "piano",
    "electric piano",
    "harpsichord",
    "mallets",
    "organ",
    "accordion",
    "guitar",
    "electric guitar",
    "bass",
    "strings",
    "harp",
    "choir",
    "brass",
    "reeds",
    "flutes",
    "synth",
    "drums",
)
"""Instrument families, the granularity at which sound of small models can be told apart."""

PITCH_NAMES: tuple[str, ...] = (
    "C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B",
)  # fmt: skip
"""One spelling for each pitch class."""

TONALITIES: tuple[str, ...] = tuple(
    f"{name} {mode}" for mode in ("major", "minor") for name in PITCH_NAMES
)
"""24 tonalities: index = pitch class, + 12 for minor."""

METRES: tuple[str, ...] = ("2/4", "3/4", "4/4", "6/8")
"""Metres told apart; anything else is unknown."""
METRE_KINDS: dict[str, str] = {"2/4": "duple", "4/4": "duple", "3/4": "triple", "6/8": "compound"}
"""The kind of each of `METRES`."""

STYLES: tuple[str, ...] = (
    "waltz",
    "march",
    "ballad",
    "bossa nova",
    "swing",
    "rock",
    "lo-fi",
    "dance",
    "renaissance",
    "baroque",
    "classical",
    "romantic",
    "impressionist",
    "folk",
    "church",
    "song",
    "game",
    "drum groove",
)
"""Styles: the first eight are arranged, the others are those of real scores."""

MOODS: tuple[str, ...] = (
    "calm", "happy", "sad", "tense", "tender", "energetic", "solemn", "playful", "dark", "dreamy",
)  # fmt: skip
"""Moods that can be derived from notes (valence, arousal, dissonance, register)."""

DENSITIES: tuple[str, ...] = ("sparse", "medium", "busy")
DENSITY_ONSETS = (2.5, 6.2)
"""Notes a second (simultaneous ones counted once) from which on a clip is medium, and busy."""
DYNAMICS: tuple[str, ...] = ("soft", "medium", "loud")
REGISTERS: tuple[str, ...] = ("low", "middle", "high")
ARTICULATIONS: tuple[str, ...] = ("staccato", "mixed", "legato")

TEMPO_BINS = 48
"""Bins of the tempo attribute, evenly spaced in log tempo."""
TEMPO_RANGE_BPM = (40.0, 220.0)
"""Outer edges of the tempo bins, quarter notes a minute; a bin is 3.6 % wide."""


def tempo_bin(tempo_bpm: float) -> int:
    """The bin of a tempo; tempi beyond the range fall into the outer bins."""
    low, high = TEMPO_RANGE_BPM
    position = math.log(max(tempo_bpm, 1e-3) / low) / math.log(high / low)
    return min(max(int(position * TEMPO_BINS), 0), TEMPO_BINS - 1)


def bin_tempo_bpm(index: int) -> float:
    """The tempo at the (logarithmic) middle of a bin."""
    low, high = TEMPO_RANGE_BPM
    return low * (high / low) ** ((index + 0.5) / TEMPO_BINS)


# General MIDI programs by family, first and last program of each run (General MIDI 1, 1991).
_PROGRAM_RUNS: tuple[tuple[int, int, str], ...] = (
    (0, 3, "piano"),
    (4, 5, "electric piano"),
    (6, 7, "harpsichord"),
    (8, 14, "mallets"),
    (15, 15, "harp"),
    (16, 20, "organ"),
    (21, 23, "accordion"),
    (24, 25, "guitar"),
    (26, 31, "electric guitar"),
    (32, 39, "bass"),
    (40, 45, "strings"),
    (46, 46, "harp"),
    (47, 47, "drums"),
    (48, 51, "strings"),
    (52, 54, "choir"),
    (55, 63, "brass"),
    (64, 71, "reeds"),
    (72, 79, "flutes"),
    (80, 103, "synth"),
    (104, 108, "harp"),
    (109, 109, "reeds"),
    (110, 110, "strings"),
    (111, 111, "reeds"),
    (112, 114, "mallets"),
    (115, 119, "drums"),
    (120, 127, "synth"),
)


def program_family(program: int, is_drum: bool) -> str:
    """The family of a General MIDI program 0-127; every drum kit is "drums"."""
    if is_drum:
        return "drums"
    for first, last, family in _PROGRAM_RUNS:
        if first <= program <= last:
            return family
    raise ValueError(f"a General MIDI program lies between 0 and 127, not {program}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is true of one piece or clip; None or an empty tuple where it is not known."""

    tempo_bpm: float | None = None
    """Quarter notes a minute (of the felt beat), None where the tempo is free."""
    tonality: str | None = None
    """One of `TONALITIES`."""
    metre: str | None = None
    """One of `METRES`."""
    families: tuple[str, ...] = ()
    """Of `FAMILIES`, those heard, the most prominent first."""
    instruments: tuple[str, ...] = ()
    """Plain English names ("string quartet" is no instrument, "viola" is), prominent first."""
    lead: str | None = None
    """Family that carries the melody."""
    style: str | None = None
    """One of `STYLES`."""
    moods: tuple[str, ...] = ()
    """Of `MOODS`."""
    density: str | None = None
    """One of `DENSITIES`."""
    dynamics: str | None = None
    """One of `DYNAMICS`."""
    register: str | None = None
    """One of `REGISTERS`."""
    articulation: str | None = None
    """One of `ARTICULATIONS`."""
    composer: str | None = None
    tradition: str | None = None
    """A tradition or repertoire in words, e.g. "Polish church music"."""
    title: str | None = None
