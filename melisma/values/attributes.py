"""Closed vocabularies of musical attributes, and the facts about one piece.

The same labels are used for the ground truth of a rendered clip, the heads of the joint embedding,
the conditioning of the language model, prompts and receipts. The *order* of each tuple is an
interface: trained heads index into it, so entries are only ever appended, together with a new
token version.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from melisma.values.errors import MelismaError

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
"""Instrument families: the granularity that stays distinguishable in the audio of small models."""

PITCH_NAMES: tuple[str, ...] = (
    "C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B",
)  # fmt: skip
"""One spelling for each pitch class."""

TONALITIES: tuple[str, ...] = tuple(
    f"{name} {mode}" for mode in ("major", "minor") for name in PITCH_NAMES
)
"""The 24 musical keys: index = pitch class, + 12 for minor."""

METRES: tuple[str, ...] = ("2/4", "3/4", "4/4", "6/8")
"""Time signatures with a class; any other is unknown."""
METRE_KINDS: dict[str, str] = {"2/4": "duple", "4/4": "duple", "3/4": "triple", "6/8": "compound"}
"""The kind of metre of each of `METRES`."""

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
"""Styles: the first eight are those of generated arrangements, the others those of real scores."""

MOODS: tuple[str, ...] = (
    "calm", "happy", "sad", "tense", "tender", "energetic", "solemn", "playful", "dark", "dreamy",
)  # fmt: skip
"""Moods that can be derived from notes (valence, arousal, dissonance, register)."""

DENSITIES: tuple[str, ...] = ("sparse", "medium", "busy")
DENSITY_ONSETS = (2.5, 6.2)
"""Lower bounds of "medium" and "busy", in onsets per second (simultaneous notes count once)."""
DYNAMICS: tuple[str, ...] = ("soft", "medium", "loud")
REGISTERS: tuple[str, ...] = ("low", "middle", "high")
ARTICULATIONS: tuple[str, ...] = ("staccato", "mixed", "legato")

TEMPO_BINS = 48
"""Bins of the tempo attribute, evenly spaced in log tempo."""
TEMPO_RANGE_BPM = (40.0, 220.0)
"""Outer edges of the tempo bins, quarter notes per minute; a bin is 3.6 % wide."""


def tempo_bin(tempo_bpm: float) -> int:
    """Index of the bin of a tempo; tempi outside the range fall into the first or last bin."""
    low, high = TEMPO_RANGE_BPM
    position = math.log(max(tempo_bpm, 1e-3) / low) / math.log(high / low)
    return min(max(int(position * TEMPO_BINS), 0), TEMPO_BINS - 1)


def bin_tempo_bpm(index: int) -> float:
    """Tempo at the (logarithmic) centre of a bin, quarter notes per minute."""
    low, high = TEMPO_RANGE_BPM
    return low * (high / low) ** ((index + 0.5) / TEMPO_BINS)


ATTRIBUTE_CLASSES: dict[str, tuple[str, ...]] = {
    "tempo": tuple(f"{bin_tempo_bpm(index):.0f}" for index in range(TEMPO_BINS)),
    "tonality": TONALITIES,
    "metre": METRES,
    "lead": FAMILIES,
    "style": STYLES,
    "moods": MOODS,
    "families": FAMILIES,
    "density": DENSITIES,
    "dynamics": DYNAMICS,
    "register": REGISTERS,
    "articulation": ARTICULATIONS,
}
"""Classes of each categorical attribute of a piece, in the order of the joint embedding's heads."""

CONDITION_ATTRIBUTES: tuple[str, ...] = (
    "tempo", "tonality", "metre", "lead", "style", "density", "dynamics", "register",
)  # fmt: skip
"""Attributes that condition the audio language model, in the order of its embedding tables."""

# General MIDI programs by family, first and last program of each range (General MIDI 1, 1991).
_PROGRAM_RANGES: tuple[tuple[int, int, str], ...] = (
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
    """Instrument family of a General MIDI program.

    Args:
        program: General MIDI program, 0-127.
        is_drum: Whether the part is a drum kit; every kit is "drums".

    Returns:
        One of `FAMILIES`.

    Raises:
        MelismaError: The program lies outside 0-127.
    """
    if is_drum:
        return "drums"
    for first, last, family in _PROGRAM_RANGES:
        if first <= program <= last:
            return family
    raise MelismaError(f"a General MIDI program lies between 0 and 127, not {program}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Ground-truth attributes of one piece or clip; None or an empty tuple means unknown."""

    tempo_bpm: float | None = None
    """Quarter notes per minute (of the felt beat), None where the tempo is free."""
    tonality: str | None = None
    """One of `TONALITIES`."""
    metre: str | None = None
    """One of `METRES`; what a score is requested in may be any other, such as "7/8"."""
    families: tuple[str, ...] = ()
    """Those of `FAMILIES` that play, the most prominent first."""
    instruments: tuple[str, ...] = ()
    """Plain English names of single instruments ("viola", but not "string quartet"), the most
    prominent first."""
    lead: str | None = None
    """Family that carries the melody."""
    style: str | None = None
    """One of `STYLES`."""
    moods: tuple[str, ...] = ()
    """A subset of `MOODS`."""
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
    """Name of a tradition or repertoire, e.g. "Polish church music"."""
    title: str | None = None


_OTHER_SPELLINGS = {
    "Cb": "B", "B#": "C", "Db": "C#", "D#": "Eb", "Fb": "E", "E#": "F", "Gb": "F#",
    "G#": "Ab", "A#": "Bb",
}  # fmt: skip
_TONALITY = re.compile(r"([A-Ga-g])\s*([#b♯♭]|-?sharp|-?flat)?\s*(m|min|minor|maj|major|)\.?")


def parse_key(words: str) -> str:
    """Parses a musical key.

    Args:
        words: A key such as "Bb major", "c# minor", "Am" or "G".

    Returns:
        One of `TONALITIES`.

    Raises:
        MelismaError: It is no key.
    """
    match = _TONALITY.fullmatch(words.strip()) or _TONALITY.fullmatch(words.strip().lower())
    if match is None:
        raise MelismaError(
            f'"{words}" is not a musical key: use one such as "C major", "F# minor" or "Bb minor"'
        )
    sign = {"♯": "#", "♭": "b"}.get(match[2] or "", match[2] or "")
    sign = "#" if "sharp" in sign else "b" if "flat" in sign else sign
    name = match[1].upper() + sign
    name = _OTHER_SPELLINGS.get(name, name)
    assert name in PITCH_NAMES
    return f"{name} {'minor' if match[3] in ('m', 'min', 'minor') else 'major'}"


CLASS_WORDS: dict[tuple[str, str], str] = {
    ("tempo", "fast"): "fast|faster|quick|rapid|brisk|speedy|up-?tempo|presto|allegro|hurried",
    ("tempo", "slow"): "slow|slower|slowly|largo|adagio|lento|sluggish|down-?tempo|leisurely",
    ("dynamics", "soft"): "soft|softly|quiet|quietly|gentle|gently|hushed|pianissimo",
    ("dynamics", "loud"): "loud|loudly|noisy|fortissimo|booming|thunderous",
    ("density", "sparse"): "sparse|minimal|minimalist|minimalistic",
    ("density", "busy"): "busy|dense|hectic|virtuoso|virtuosic",
    ("register", "low"): "low|low-pitched|deep",
    ("register", "high"): "high|high-pitched|shrill",
    ("articulation", "staccato"): "staccato|choppy|detached",
    ("articulation", "legato"): "legato|smooth|sustained",
    ("tonality", "minor"): "(?:in )?(?:a )?minor(?: key| mode)?",
    ("tonality", "major"): "(?:in )?(?:a )?major(?: key| mode)?",
    ("moods", "calm"): "calm|peaceful|relaxed|relaxing|tranquil|serene|soothing|mellow|chill",
    ("moods", "happy"): "happy|cheerful|cheery|joyful|joyous|merry|upbeat|sunny|jolly",
    ("moods", "sad"): "sad|mournful|melanchol(?:y|ic)|sorrowful|gloomy|tearful|depressing|sombre",
    ("moods", "tense"): "tense|suspenseful|anxious|nervous|threatening|scary|ominous",
    ("moods", "tender"): "tender|loving|intimate",
    ("moods", "energetic"): "energetic|lively|driving|vigorous|powerful|exciting|aggressive",
    ("moods", "solemn"): "solemn|grave|majestic|stately|ceremonial|noble",
    ("moods", "playful"): "playful|funny|humorous|whimsical|quirky|mischievous",
    ("moods", "dark"): "dark|sinister|brooding|bleak|eerie|spooky",
    ("moods", "dreamy"): "dreamy|ethereal|floating|hazy|dreamlike",
    ("style", "waltz"): "waltz|waltzes|valse",
    ("style", "march"): "march|marches|marching",
    ("style", "ballad"): "ballads?",
    ("style", "bossa nova"): "bossa(?: nova)?",
    ("style", "swing"): "swing|swinging",
    ("style", "rock"): "rock|rocking",
    ("style", "lo-fi"): "lo-?fi",
    ("style", "dance"): "dance|dances|danceable",
    ("style", "renaissance"): "renaissance",
    ("style", "baroque"): "baroque",
    ("style", "classical"): "classical",
    ("style", "romantic"): "romantic",
    ("style", "impressionist"): "impressionist|impressionistic",
    ("style", "folk"): "folk|folky",
    ("style", "church"): "church|sacred",
    ("style", "song"): "songs?",
    ("style", "game"): "(?:video ?)?games?",
    ("style", "drum groove"): "drum grooves?|groove",
}  # fmt: skip
"""Words for classes of attributes in prompts, as patterns in lower case, by attribute and class;
"fast" and "slow" are tempi of more or fewer bpm than `FAST_BPM` and `SLOW_BPM`."""
FAST_BPM, SLOW_BPM = 132.0, 76.0
"""Least tempo that counts as fast (allegro) and most that counts as slow (adagio), by the markings
of metronomes."""
_CLASS_WORDS = re.compile(
    "|".join(
        rf"(?P<c{number}>(?<![\w-])(?:{pattern})(?![\w-]))"
        for number, pattern in enumerate(CLASS_WORDS.values())
    ),
    re.IGNORECASE,
)


def class_mentions(words: str) -> list[tuple[str, str, int, int]]:
    """Words for classes in a text: (attribute, class, first character, after the last), in order.

    >>> class_mentions("a slow, sad tune")
    [('tempo', 'slow', 2, 6), ('moods', 'sad', 8, 11)]
    """
    keys = list(CLASS_WORDS)
    return [
        (*keys[int((found.lastgroup or "c0")[1:])], found.start(), found.end())
        for found in _CLASS_WORDS.finditer(words)
    ]
