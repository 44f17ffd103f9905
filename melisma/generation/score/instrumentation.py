"""Instrumentation of a score: from the words of a prompt, or a list of instruments, to its parts.

Input: text. Outputs: General MIDI programs that are fixed, and `Choice`s of the model. Names are
those of `joint/instrument_words.py`; ensembles are replaced by their usual instruments; instruments
that the words exclude are left out. Keyboards, harps and choirs are written on several staves, each
a part of its own: the usual number where they play solo, chosen by the model otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from melisma.joint.instrument_words import (
    families_of_names,
    instrument_families,
    is_instrumental,
    named_instruments,
    read_mentions,
)
from melisma.joint.negation import read_negation
from melisma.lm.score.plan import Choice
from melisma.symbolic.instruments import INSTRUMENTS
from melisma.values.attributes import program_family
from melisma.values.errors import MelismaError
from melisma.values.events import DRUM_PROGRAM

_CHOIR, _HARP = 52, 46
_KEYBOARDS, _ORGANS, _ACCORDIONS = range(8), range(16, 21), (21, 23)
MAX_STAVES: dict[int, int] = {
    **dict.fromkeys((*_KEYBOARDS, *_ORGANS, *_ACCORDIONS, _HARP), 2), _CHOIR: 4,
}  # fmt: skip
"""Most staves of a program in an ensemble; 1 for all others."""
SOLO_STAVES: dict[int, tuple[int, int]] = {
    **dict.fromkeys(_KEYBOARDS, (2, 2)), **dict.fromkeys(_ORGANS, (2, 3)), _HARP: (2, 2),
    _CHOIR: (4, 4),
}  # fmt: skip
"""Fewest and most staves of a program that plays solo (as in 8,600 windows of real solo pieces: one
staff never occurs for harpsichords and seldom for choirs; on one staff the model writes one
hand)."""
MAX_PARTS_OF_FAMILY = 3
"""Most parts of a family where only the family is known (chosen)."""

_FIRST_CHOICE: dict[str, int] = {
    "piano": 0, "electric piano": 4, "harpsichord": 6, "mallets": 11, "organ": 19,
    "accordion": 21, "guitar": 24, "electric guitar": 27, "bass": 33, "strings": 48, "harp": 46,
    "choir": 52, "brass": 61, "reeds": 71, "flutes": 73, "synth": 81, "drums": DRUM_PROGRAM,
}  # fmt: skip
"""Program of a family's name."""

_OTHER_NAMES: dict[str, int] = {
    "pianoforte": 0, "grand piano": 0, "upright piano": 0, "fortepiano": 0, "rhodes": 4,
    "wurlitzer": 4, "e-piano": 4, "fm piano": 5, "clav": 7, "clavichord": 6, "clavinet": 7,
    "celeste": 8, "bells": 14, "chimes": 14, "vibes": 11, "marimbas": 12, "steel drum": 114,
    "steelpan": 114, "steel pan": 114, "steel pans": 114, "hammond": 16, "hammond organ": 16,
    "rock organ": 18, "harmonium": 20, "pipe organ": 19, "organ": 19, "concertina": 23,
    "bandoneón": 23, "blues harp": 22, "mouth harp": 22, "musette": 21, "classical guitar": 24,
    "nylon guitar": 24, "spanish guitar": 24, "acoustic guitar": 25, "steel guitar": 25,
    "folk guitar": 25, "twelve-string guitar": 25, "mandolin": 25, "lute": 24, "ukulele": 24,
    "guitar": 24, "clean guitar": 27, "muted guitar": 28, "distorted guitars": 30,
    "overdriven guitars": 29, "distortion guitar": 30, "lead guitar": 30, "heavy guitars": 30,
    "power chords": 30, "surf guitar": 27, "electric jazz guitar": 26, "double bass": 32,
    "upright bass": 32, "acoustic bass": 32, "string bass": 32, "walking bass": 32,
    "bass guitar": 33, "electric bass": 33, "slap bass": 36, "bassline": 33, "bass line": 33,
    "synth bass": 38, "bass synth": 38, "acid bass": 38, "sub bass": 39, "sub-bass": 39,
    "contrabass": 43, "violoncello": 42, "viol": 42, "viola da gamba": 42, "fiddle": 40,
    "erhu": 110, "pizzicato": 45, "pizzicati": 45, "string pad": 50, "synth strings": 50,
    "celtic harp": 46, "lyre": 46, "zither": 15, "hammered dulcimer": 15, "dulcimer": 15,
    "guzheng": 107, "mbira": 108, "thumb piano": 108, "voice": 53, "vocals": 53, "vocal": 53,
    "singers": 52, "soprano voice": 53, "horn": 60, "french horn": 60, "hunting horn": 60,
    "cornet": 56, "flugelhorn": 56, "bugle": 56, "euphonium": 58, "sousaphone": 58,
    "muted trumpet": 59, "saxophone": 65, "sax": 65, "alto saxophone": 65, "soprano saxophone": 64,
    "tenor saxophone": 66, "baritone saxophone": 67, "bari sax": 67, "cor anglais": 69,
    "english horn": 69, "bass clarinet": 71, "contrabassoon": 70, "shawm": 111, "duduk": 111,
    "crumhorn": 111, "bagpipes": 109, "pan pipes": 75, "panpipes": 75, "tin whistle": 78,
    "penny whistle": 78, "bamboo flute": 77, "fife": 72, "whistling": 78, "synth lead": 81,
    "lead synth": 81, "synth pad": 89, "synth pads": 89, "pad": 89, "pads": 89, "warm pad": 89,
    "theremin": 85, "chiptune": 80, "8-bit synth": 80, "square wave": 80, "saw lead": 81,
    "square lead": 80, "timpani": 47, "kettledrum": 47, "kettledrums": 47, "taiko": 116,
    "woodblock": 115, "woodblocks": 115, "tom drums": 117, "synth drum": 118,
}  # fmt: skip
"""Programs of names that are not General MIDI names."""

_ENSEMBLES: tuple[tuple[str, tuple[int, ...]], ...] = (
    (r"string quartets?", (40, 40, 41, 42)),
    (r"string quintets?", (40, 40, 41, 42, 42)),
    (r"string trios?", (40, 41, 42)),
    (r"piano trios?", (40, 42, 0)),
    (r"(?:piano quartets?|piano and strings quartet)", (40, 41, 42, 0)),
    (r"piano quintets?", (40, 40, 41, 42, 0)),
    (r"(?:wood)?wind quintets?", (73, 68, 71, 60, 70)),
    (r"brass quintets?", (56, 56, 60, 57, 58)),
    (r"brass quartets?", (56, 56, 57, 57)),
    (r"sax(?:ophone)? quartets?", (64, 65, 66, 67)),
    (r"clarinet quartets?", (71, 71, 71, 71)),
    (r"flute quartets?", (73, 73, 73, 73)),
    (r"guitar duos?|two guitars|guitar duets?", (24, 24)),
    (r"jazz (?:piano )?trios?", (0, 32, DRUM_PROGRAM)),
    (r"(?:jazz quartets?|jazz combos?|small jazz (?:band|group)s?)", (65, 0, 32, DRUM_PROGRAM)),
    (r"big bands?|swing bands?", (61, 65, 0, 32, DRUM_PROGRAM)),
    (r"(?:rock|punk|metal|garage) (?:band|trio|group)s?", (30, 29, 33, DRUM_PROGRAM)),
    (r"power trios?", (30, 33, DRUM_PROGRAM)),
    (r"(?:full |symphony |whole )?orchestra(?!l)", (73, 68, 71, 60, 56, 40, 40, 41, 42, 43)),
    (r"chamber orchestra|string orchestra|strings? ensemble", (40, 40, 41, 42, 43)),
    (r"marching band|military band|brass band", (56, 60, 57, 58, DRUM_PROGRAM)),
    (r"oompah band", (71, 56, 21, 58, DRUM_PROGRAM)),
)
"""Patterns of the names of ensembles, and their usual instruments, high to low."""

_EXCLUDED_GROUPS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("saxophone", "sax", "saxe", "sax section", "saxophonist"), (64, 65, 66, 67)),
    **dict.fromkeys(("double bass", "upright bass", "acoustic bass", "contrabass"), (32, 43)),
    **dict.fromkeys(("violin", "fiddle"), (40, 110)),
    **dict.fromkeys(("flute", "flutist", "flautist"), (73, 75)),
    "accordion": (21, 23), "harp": (46,), "trumpet": (56, 59), "clarinet": (71,),
    "acoustic guitar": (24, 25), "classical guitar": (24,), "timpani": (47,), "viola": (41,),
    "cello": (42,), "bell": (9, 14), "trombone": (57,), "tuba": (58,),
}  # fmt: skip
"""Programs that a name means where it is excluded, if neither its own alone nor its family's."""
_EXCLUDED_WITH_FAMILY: dict[str, tuple[int, ...]] = {
    "bass": (43,), "choir": (85, 91), "synth": (38, 39, 50, 51, 54, 62, 63),
    "drums": (112, 113, 114, 115), "strings": (48, 49, 50, 51),
}  # fmt: skip
"""Programs of other families that sound like a family."""

_COUNTS = {"two": 2, "three": 3, "four": 4, "2": 2, "3": 3, "4": 4, "pair of": 2, "duo of": 2}
_COUNT = re.compile(r"\b(two|three|four|2|3|4|pair of|duo of)\s+$", re.IGNORECASE)


@cache
def _programs_by_name() -> dict[str, int]:
    named = {name.lower(): program for program, name in enumerate(INSTRUMENTS)}
    return named | _OTHER_NAMES


def program_of_name(name: str) -> int | None:
    """General MIDI program of an instrument's name; None for an unknown name.

    >>> program_of_name("alto sax"), program_of_name("cellos"), program_of_name("drums")
    (65, 42, 128)
    """
    plain = " ".join(name.lower().split())
    known = _programs_by_name()
    for form in (plain, plain.removesuffix("s"), plain.removesuffix("es")):
        if form in known:
            return known[form]
    families = instrument_families()
    for form in (plain, plain.removesuffix("s")):
        if form in _FIRST_CHOICE:
            return _FIRST_CHOICE[form]
        if form in families:
            return _FIRST_CHOICE[families[form]]
    return None


def instruments_in(words: str) -> tuple[tuple[int, ...], tuple[Choice, ...]]:
    """Reads the instruments that a text names.

    Args:
        words: English text.

    Returns:
        The programs of fixed parts, and choices of the model; both empty where no instrument is
        named.

    >>> instruments_in("a string quartet in D minor")[0]
    (40, 40, 41, 42)
    """
    fixed: list[int] = []
    rest = words
    for pattern, programs in _ENSEMBLES:
        found = re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", rest, re.IGNORECASE)
        if found and not read_negation(rest, [found.span()]).excluded[0]:
            fixed += programs
            rest = rest[: found.start()] + " " * (found.end() - found.start()) + rest[found.end() :]
    choices: dict[int, int] = {}
    for named in named_instruments(rest):
        program = program_of_name(named.name)
        if named.ruled_out or program is None:
            continue
        if program == 24 and "electric guitar" in named.families:
            program = 29
        counted = _COUNT.search(rest[: named.first])
        count = _COUNTS[counted[1].lower()] if counted else 1
        if program not in fixed:
            choices[program] = max(choices.get(program, 0), count)
    if not fixed and tuple(choices.values()) == (1,):
        return solo_parts(next(iter(choices)))
    return tuple(fixed), tuple(_choice(program, count) for program, count in choices.items())


def requested_programs(
    words: str, programs: Sequence[int] = (), without: Sequence[str] = ()
) -> tuple[int, ...]:
    """Programs that a prompt requests, in its order: those listed, else those that it names.

    Args:
        words: Of the prompt.
        programs: Requested by a setting; overrides the words.
        without: Names of what does not play.

    >>> requested_programs("a flute and a harp, no piano")
    (73, 46)
    """
    if programs:
        return tuple(dict.fromkeys(programs))
    silent = frozenset().union(*excluded_programs(words, without).values())
    fixed, choices = instruments_in(words)
    chosen = [program for choice in choices for program in sorted(choice.programs)]
    single = [one.first for one in named_instruments(words) if program_of_name(one.name) in chosen]
    ensembles = [first for first, _ in ensemble_places(words)]
    if single and ensembles and min(single) < min(ensembles):
        named = [*chosen, *fixed]
    else:
        named = [*fixed, *chosen]
    return tuple(program for program in dict.fromkeys(named) if program not in silent)


def solo_parts(program: int) -> tuple[tuple[int, ...], tuple[Choice, ...]]:
    """Parts of a solo instrument: (programs of fixed parts, choices of the model).

    >>> solo_parts(40), solo_parts(6)[1][0].least
    (((40,), ()), 2)
    """
    if program not in SOLO_STAVES:
        return (program,), ()
    least, most = SOLO_STAVES[program]
    return (), (Choice(programs=frozenset((program,)), least=least, most=most),)


def ensemble_places(words: str) -> list[tuple[int, int]]:
    """Where a text names ensembles: (first character, after the last)."""
    return [
        found.span()
        for pattern, _ in _ENSEMBLES
        for found in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", words, re.IGNORECASE)
    ]


def excluded_programs(words: str, without: Sequence[str] = ()) -> dict[str, frozenset[int]]:
    """Programs that must not play, by the name under which they are excluded.

    Args:
        words: A prompt; what it also requests is not excluded ("no bongos, just a drum kit").
        without: Further names, which are excluded whatever the words request.

    Raises:
        MelismaError: A name of `without` is unknown.

    >>> {name: sorted(found) for name, found in excluded_programs("no saxophone").items()}
    {'saxophone': [64, 65, 66, 67]}
    """
    listed = families_of_names(without)
    mentions = read_mentions(words).instruments
    excluded = {one.name: one.families for one in mentions if one.ruled_out}
    if is_instrumental(words) and not any("choir" in one.families for one in mentions):
        excluded["voices"] = ("choir",)
    requested = {program_of_name(one.name) for one in mentions if not one.ruled_out}
    found = {name: _all_programs(name, which) - requested for name, which in excluded.items()}
    found |= {name: _all_programs(name, families) for name, families in listed.items()}
    return {name: programs for name, programs in found.items() if programs}


def _all_programs(name: str, families: Sequence[str]) -> frozenset[int]:
    """Programs that a name means where it is excluded: more than where it is requested."""
    plain = name.removesuffix("s") if name.removesuffix("s") in _EXCLUDED_GROUPS else name
    if plain in _EXCLUDED_GROUPS:
        return frozenset(_EXCLUDED_GROUPS[plain])
    program = program_of_name(name)
    is_family = name in _FIRST_CHOICE or name + "s" in _FIRST_CHOICE or len(families) > 1
    if is_family or program is None or program in _FIRST_CHOICE.values():
        return frozenset(
            p
            for family in families
            for p in (*_EXCLUDED_WITH_FAMILY.get(family, ()), *_programs_of_family(family))
        )
    return frozenset((program,))


def _choice(program: int, count: int) -> Choice:
    most = count * MAX_STAVES.get(program, 1)
    return Choice(programs=frozenset((program,)), least=count, most=most)


def programs_of(names: str) -> tuple[int, ...]:
    """Parses a list of instruments.

    Args:
        names: Names or program numbers, separated by commas, semicolons, "+" or "and", such as
            "flute, piano"; an ensemble stands for its usual instruments.

    Returns:
        One program for each part, `DRUM_PROGRAM` for drums.

    Raises:
        MelismaError: A name is unknown, or none is given.
    """
    programs: list[int] = []
    for name in (part.strip() for part in re.split(r"[,;+]|\band\b", names)):
        if not name:
            continue
        ensemble = next(
            (p for pattern, p in _ENSEMBLES if re.fullmatch(pattern, name, re.IGNORECASE)), None
        )
        program = program_of_name(name)
        if ensemble is not None:
            programs += ensemble
        elif program is not None:
            programs.append(program)
        elif name.isdigit() and int(name) < 128:
            programs.append(int(name))
        else:
            raise MelismaError(
                f'no instrument "{name}": give names like violin, piano, alto sax, drums or string '
                "quartet, or General MIDI programs from 0 to 127, separated by commas"
            )
    if not programs:
        raise MelismaError("no instrument was named: give names like violin, piano, drums")
    return tuple(programs)


def family_choices(
    families: tuple[str, ...], excluded: frozenset[int] = frozenset()
) -> tuple[Choice, ...]:
    """Choices of the model where only the families of the instruments are known, without some
    programs."""
    allowed = [_family_programs(family) - excluded for family in families]
    return tuple(
        Choice(programs=programs, most=MAX_PARTS_OF_FAMILY) for programs in allowed if programs
    )


@cache
def _family_programs(family: str) -> frozenset[int]:
    """Programs that the model may choose for a family."""
    if family == "drums":
        return frozenset((DRUM_PROGRAM,))
    stop = 120  # the programs from here on are sound effects
    return frozenset(p for p in _programs_of_family(family) if p < stop)


def _programs_of_family(family: str) -> frozenset[int]:
    """All programs of a family, the drum kit with the drums."""
    kit = (DRUM_PROGRAM,) if family == "drums" else ()
    return frozenset((*kit, *(p for p in range(128) if program_family(p, False) == family)))
