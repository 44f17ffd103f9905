"""Parser of instrument names in text, and the family of each.

Input: text. Output: the families that the text names, in order, those it requests and those it
excludes ("no drums"). The families are those of `values.attributes.FAMILIES`; instruments that
General MIDI groups together stay together (a harmonica is with the accordions, plucked lutes of
Asia are with the harps).
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from melisma.joint.negation import may_negate, read_negation
from melisma.values.attributes import FAMILIES, class_mentions
from melisma.values.errors import MelismaError
from melisma.values.prompt import checked_names
from melisma.values.traditions import style_mentions

_NAMES: dict[str, str] = {
    "piano": (
        "piano|pianos|pianoforte|fortepiano|grand piano|upright piano|honky-tonk piano|"
        "toy piano|bright piano|electric grand piano|acoustic piano"
    ),
    "electric piano": (
        "electric piano|electric pianos|e-piano|epiano|rhodes|wurlitzer|fm piano|"
        "fm electric piano|electric keys|fender rhodes|rhodes piano"
    ),
    "harpsichord": (
        "harpsichord|harpsichords|clavichord|clavinet|clavecin|spinet|virginal|cembalo|clav|"
        "plucked keyboard"
    ),
    "mallets": (
        "mallets|mallet|mallet percussion|tuned percussion|pitched percussion|celesta|"
        "celeste|glockenspiel|music box|musical box|vibraphone|vibes|marimba|marimbas|"
        "xylophone|xylophones|tubular bells|bells|chimes|dulcimer bells|steel drum|"
        "steel drums|steelpan|steel pan|steel pans|agogo|handbells|bell"
    ),
    "organ": (
        "organ|organs|pipe organ|church organ|hammond|hammond organ|harmonium|reed organ|"
        "drawbar organ|rock organ|percussive organ|electronic organ|b3"
    ),
    "accordion": (
        "accordion|accordions|harmonica|harmonicas|bandoneon|bandoneón|concertina|melodica|"
        "mouth organ|squeezebox|mouth harp|free reeds|blues harp|musette"
    ),
    "guitar": (
        "guitar|guitars|acoustic guitar|acoustic guitars|classical guitar|nylon guitar|"
        "nylon-string guitar|steel-string guitar|spanish guitar|ukulele|ukuleles|mandolin|"
        "mandolins|lute|lutes|folk guitar|twelve-string guitar|bouzouki|vihuela|"
        "unplugged guitar|fingerpicked guitar"
    ),
    "electric guitar": (
        "electric guitar|electric guitars|e-guitar|e-guitars|distorted guitar|"
        "distorted guitars|overdriven guitar|overdriven guitars|fuzz guitar|lead guitar|"
        "rhythm guitar|jazz guitar|clean guitar|muted guitar|slide guitar|surf guitar|"
        "distortion guitar|power chords|clean electric guitar|muted electric guitar|"
        "guitar harmonics|amplified guitar|guitar riff|guitar riffs|heavy guitars|"
        "palm-muted guitar|electric jazz guitar"
    ),
    "bass": (
        "bass|basses|bass guitar|bass guitars|double bass|upright bass|acoustic bass|"
        "electric bass|e-bass|string bass|slap bass|fretless bass|synth bass|bassline|"
        "basslines|bass line|bass lines|walking bass|sub bass|sub-bass|fingered bass|"
        "picked bass|bass synth|acid bass"
    ),
    "strings": (
        "strings|string|violin|violins|viola|violas|cello|cellos|celli|violoncello|"
        "contrabass|contrabasses|string quartet|string section|string orchestra|"
        "string ensemble|string trio|fiddle|fiddles|synth strings|pizzicato strings|"
        "bowed strings|string pad|string instruments|viol|viols|viola da gamba|"
        "tremolo strings|erhu|string pads|"
        "pizzicato|pizzicati"
    ),
    "harp": (
        "harp|harps|banjo|banjos|sitar|koto|shamisen|kalimba|thumb piano|dulcimer|zither|"
        "lyre|hammered dulcimer|guzheng|plucked strings|celtic harp|mbira|autoharp"
    ),
    "choir": (
        "choir|choirs|chorus|voices|voice|vocals|vocal|vocal harmonies|choral voices|singers|"
        "children's choir|male choir|female choir|choral|a cappella|acapella|synth voice|"
        "vocalise|voice oohs|soprano voice|wordless voices"
    ),
    "brass": (
        "brass|trumpet|trumpets|trombone|trombones|tuba|tubas|horn|horns|french horn|"
        "french horns|cornet|cornets|flugelhorn|euphonium|brass band|brass section|"
        "horn section|muted trumpet|synth brass|bugle|brass instruments|brass quintet|"
        "hunting horn|sousaphone|"
        "brassy synth"
    ),
    "reeds": (
        "reeds|clarinet|clarinets|bass clarinet|oboe|oboes|bassoon|bassoons|contrabassoon|"
        "english horn|cor anglais|saxophone|saxophones|sax|saxes|alto sax|tenor sax|"
        "baritone sax|bari sax|soprano sax|alto saxophone|tenor saxophone|baritone saxophone|"
        "soprano saxophone|bagpipe|bagpipes|shawm|duduk|shanai|reed instruments|crumhorn|"
        "sax section"
    ),
    "flutes": (
        "flute|flutes|piccolo|piccolos|recorder|recorders|pan flute|pan pipes|panpipes|"
        "ocarina|ocarinas|whistle|tin whistle|penny whistle|shakuhachi|bamboo flute|"
        "wooden flute|alto flute|bansuri|fife|whistling"
    ),
    "synth": (
        "synth|synths|synthesizer|synthesizers|synthesiser|synthesisers|synth pad|synth pads|"
        "synth lead|lead synth|pad|pads|warm pad|theremin|chiptune|8-bit synth|analog synth|"
        "analogue synth|arpeggiator|electronic sounds|square wave|saw lead|square lead|moog|"
        "voice lead|bass lead|choir pad|polysynth|calliope lead|sawtooth synth|fifths lead"
    ),
    "drums": (
        "drums|drum|drum kit|drumkit|drum set|drumset|percussion|kick|kick drum|snare|"
        "snare drum|hi-hat|hi-hats|hi hat|hi hats|hihat|cymbal|cymbals|timpani|kettledrum|"
        "kettledrums|bass drum|tom|toms|tom-toms|congas|conga|bongos|bongo|shaker|shakers|"
        "tambourine|maracas|taiko|woodblock|woodblocks|cajon|cajón|tabla|djembe|castanets|"
        "drum machine|drum loop|drum beat|drum groove|drumbeat|drumming|beats|claps|"
        "handclaps|brushes|breakbeat|drum pattern|drum break|"
        "synth drum|synth drums|electronic drums|tom drums|taiko drum"
    ),
}
"""Names by family, separated by "|"; a longer name takes precedence over a shorter one in it."""

_BOTH_WINDS = ("woodwind", "woodwinds", "wind instruments", "wind ensemble", "wind quintet")
"""Names of two families: reeds and flutes."""

_NO_INSTRUMENT = (
    "jaw harp", "drum roll please", "string of", "horn of plenty", "voice of", "wind chimes",
    "rubber band", "organ donor", "bass voice", "musical instruments", "wedding bells",
    "whistle stop",
    "drum and bass", "drum n bass", "drum & bass",
)  # fmt: skip
"""Phrases that contain an instrument's name but refer to none."""

_ONLY_EXCLUDED: dict[str, tuple[str, ...]] = {
    "singing|singers?|lyrics|words|vocalists?|sung|sing|speech|rapping": ("choir",),
    "drummers?|drumbeats?|percussionists?|percussive": ("drums",),
    "pianists?": ("piano", "electric piano"),
    "guitarists?": ("guitar", "electric guitar"),
    "bassists?": ("bass",),
    "violinists?|cellists?": ("strings",),
    "trumpeters?": ("brass",),
    "saxophonists?": ("reeds",),
    "flautists?|flutists?": ("flutes",),
    "keyboards?|keys": ("piano", "electric piano", "harpsichord", "organ"),
    "winds?": ("reeds", "flutes"),
    "orchestra|orchestral instruments": ("strings", "brass", "reeds", "flutes"),
    "rhythm section": ("bass", "drums"),
    "electronics?": ("synth",),
}
"""Names that name instruments where a text excludes them, and elsewhere many other things."""
_LESS = re.compile(
    r"(?<![\w-])(drum|beat|bass|percussion|guitar|piano|voice|vocal|string|brass)(?=less\b)", re.I
)
_LESS_FAMILIES = {"beat": "drums", "percussion": "drums", "drum": "drums", "string": "strings",
                  "voice": "choir", "vocal": "choir"}  # fmt: skip
_HYPHEN = re.compile(r"(?<!\S)-(?=[a-z])|(?<=\bnon)-(?=[a-z])|(?<=\bno)-(?=[a-z])", re.IGNORECASE)
"""The minus of "-drums", and the hyphen of "no-drums" and "non-drums"."""
_INSTRUMENTAL = re.compile(
    r"(?<![\w-])instrumental(?:s|ly)?\b(?!\s+(?:and\s+vocal|break|bridge|solo|section|in\b))",
    re.IGNORECASE,
)
_KINDS_OF_ONE = {"piano": "electric piano", "guitar": "electric guitar"}
"""Families whose bare name, excluded, excludes another family, too."""
_COUNTED = re.compile(r"\s*(?:/|(?:per|a|an|to|in|each|every)\b)", re.IGNORECASE)
"""What follows "beats" as a unit ("90 beats per minute"), which is no instrument."""
_LOUD_GUITAR = re.compile(r"\b(rock|metal|punk|grunge|shred\w*|distort\w*|riffs?)\b", re.IGNORECASE)


@cache
def instrument_families() -> dict[str, str]:
    """Every known name, lower case, with its family (without the names of two families)."""
    return {name: family for family, names in _NAMES.items() for name in names.split("|")}


@cache
def _pattern() -> re.Pattern[str]:
    names = [*instrument_families(), *_BOTH_WINDS, *_NO_INSTRUMENT]
    alternatives = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?:{alternatives})(?![\w])", re.IGNORECASE)


def name_family(name: str) -> str | None:
    """Family of an instrument's name, None where the name is unknown.

    >>> name_family("Alto Sax"), name_family("gong orchestra")
    ('reeds', None)
    """
    return instrument_families().get(name.strip().lower())


def families_of_names(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Families of instruments that are to be left out, by name.

    Args:
        names: Names in lower case, e.g. "drums", "alto sax", "vocals", or a family.

    Raises:
        MelismaError: A name is unknown; the message suggests some that are alike.

    >>> families_of_names(["saxophone", "guitars"])
    {'saxophone': ('reeds',), 'guitars': ('guitar', 'electric guitar')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        mentions = [one for one in read_mentions(f"no {name}").instruments if one.ruled_out]
        if len(mentions) == 1 and mentions[0].stop - mentions[0].first == len(name):
            found[name] = mentions[0].families
        elif name in FAMILIES:
            found[name] = (name,)
        else:
            known = [*instrument_families(), *FAMILIES, *_BOTH_WINDS]
            alike = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3)
            advice = "give names such as drums, saxophone, strings or vocals, separated by commas"
            if alike:
                advice = f"did you mean {' or '.join(alike)}?"
            raise MelismaError(f'no instrument "{name}" to leave out: {advice}')
    return found


def checked_instruments(names: Sequence[str] | str) -> tuple[str, ...]:
    """Names of instruments that are to be left out, in lower case.

    Args:
        names: A list of names, or one text with commas.

    Raises:
        MelismaError: A name is unknown.
    """
    found = checked_names(names)
    families_of_names(found)
    return found


def named_families(words: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Families that a text requests, and families that it excludes, in order of mention.

    A family that is both requested and excluded counts as requested ("no bongos, just a drum
    kit"). A bare "guitar" is an electric one where the text mentions rock, metal or riffs.

    >>> named_families("clarinet and piano, no drums or bass")
    (('reeds', 'piano'), ('drums', 'bass'))
    """
    requested: list[str] = []
    absent: list[str] = []
    for named in named_instruments(words):
        (absent if named.ruled_out else requested).extend(named.families)
    unique = tuple(dict.fromkeys(requested))
    return unique, tuple(family for family in dict.fromkeys(absent) if family not in unique)


@dataclass(frozen=True, kw_only=True)
class NamedInstrument:
    """One mention of an instrument or a group of instruments."""

    name: str
    """Lower case, as in `instrument_families`."""
    families: tuple[str, ...]
    ruled_out: bool
    """Whether the text excludes it."""
    first: int
    """Index of its first character in the text."""
    stop: int
    """Index after its last character."""


def named_instruments(words: str) -> tuple[NamedInstrument, ...]:
    """All mentions of instruments in a text, in order."""
    found = _mentions(words)
    if not may_negate(words):
        return found
    return tuple(one for one in read_mentions(words).mentions if isinstance(one, NamedInstrument))


@dataclass(frozen=True, kw_only=True)
class NamedClass:
    """One mention of a class of an attribute, of a style, a tradition or a composer."""

    attribute: str
    """"tempo", "moods", "style" ...; "composer" and "tradition" besides those of `CLASS_WORDS`."""
    name: str
    """The class, e.g. "fast" or "sad"."""
    ruled_out: bool
    first: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Mentions:
    """All that a text mentions, and what of it the text excludes."""

    mentions: tuple[NamedInstrument | NamedClass, ...]
    only: bool
    """Whether the instruments that are mentioned and not excluded are to play alone."""
    phrases: tuple[tuple[int, int], ...]
    """Places of the phrases that exclude something: (first character, after the last)."""
    unresolved: tuple[tuple[int, int], ...]
    """Places of phrases that exclude something which is in no vocabulary ("no autotune")."""

    @property
    def instruments(self) -> tuple[NamedInstrument, ...]:
        """The instruments."""
        return tuple(one for one in self.mentions if isinstance(one, NamedInstrument))

    @property
    def classes(self) -> tuple[NamedClass, ...]:
        """Everything else."""
        return tuple(one for one in self.mentions if isinstance(one, NamedClass))


def read_mentions(words: str) -> Mentions:
    """Finds what a text mentions and excludes, by the rules of `negation.py`."""
    found: list[NamedInstrument | NamedClass] = list(_mentions(words))
    for attribute, name, first, stop in (*class_mentions(words), *style_mentions(words)):
        if all(stop <= one.first or one.stop <= first for one in found):
            found.append(
                NamedClass(attribute=attribute, name=name, ruled_out=False, first=first, stop=stop)
            )
    plain = tuple(sorted(found, key=lambda one: one.first))
    if not may_negate(words):
        return Mentions(mentions=plain, only=False, phrases=(), unresolved=())
    for match in (*_only_excluded().finditer(_HYPHEN.sub(" ", words)), *_LESS.finditer(words)):
        if all(match.end() <= one.first or one.stop <= match.start() for one in plain):
            name = match[0].lower()
            families = (_LESS_FAMILIES.get(name, name),)
            if match.lastgroup is not None:
                families = list(_ONLY_EXCLUDED.values())[int(match.lastgroup[1:])]
            found.append(_mention(match, families))
    found.sort(key=lambda one: one.first)
    negation = read_negation(words, [(one.first, one.stop) for one in found])
    mentions = tuple(
        _ruled_out(one) if excluded else one
        for one, excluded in zip(found, negation.excluded, strict=True)
        if excluded or one in plain
    )
    only = any(
        flag and isinstance(one, NamedInstrument) and one in plain
        for one, flag in zip(found, negation.only, strict=True)
    )
    return Mentions(
        mentions=mentions, only=only, phrases=negation.phrases, unresolved=negation.unresolved
    )


@cache
def _only_excluded() -> re.Pattern[str]:
    groups = "|".join(f"(?P<g{i}>{names})" for i, names in enumerate(_ONLY_EXCLUDED))
    return re.compile(rf"(?<![\w-])(?:{groups})(?![\w])", re.IGNORECASE)


def _ruled_out(one: NamedInstrument | NamedClass) -> NamedInstrument | NamedClass:
    """The same mention as excluded; bare names exclude all kinds ("no guitar": no electric one)."""
    if isinstance(one, NamedInstrument) and one.name.removesuffix("s") in _KINDS_OF_ONE:
        kinds = (one.name.removesuffix("s"), _KINDS_OF_ONE[one.name.removesuffix("s")])
        return dataclasses.replace(one, ruled_out=True, families=kinds)
    return dataclasses.replace(one, ruled_out=True)


def is_instrumental(words: str) -> bool:
    """Whether a text asks for music without voices by calling it instrumental."""
    return _INSTRUMENTAL.search(words) is not None


def _mentions(words: str) -> tuple[NamedInstrument, ...]:
    """All mentions of instruments in a text, whether it excludes them or not."""
    found: list[NamedInstrument] = []
    for match in _pattern().finditer(_HYPHEN.sub(" ", words)):
        name = match.group().lower()
        families = _families_of(name, words)
        counted = name == "beats" and _COUNTED.match(words[match.end() :])
        if not families or counted:
            continue
        found.append(_mention(match, families))
    return tuple(found)


def _mention(match: re.Match[str], families: tuple[str, ...]) -> NamedInstrument:
    return NamedInstrument(
        name=match[0].lower(),
        families=families,
        ruled_out=False,
        first=match.start(),
        stop=match.end(),
    )


def _families_of(name: str, words: str) -> tuple[str, ...]:
    if name in _BOTH_WINDS:
        return ("reeds", "flutes")
    if name in _NO_INSTRUMENT:
        return ()
    if name in ("guitar", "guitars") and _LOUD_GUITAR.search(words):
        return ("electric guitar",)
    return (instrument_families()[name],)
