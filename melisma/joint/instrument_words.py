"""Parser of instrument names in text, and the family of each.

Input: text. Output: the families that the text names, in order, those it requests and those it
excludes ("no drums"). The families are those of `values.attributes.FAMILIES`; instruments that
General MIDI groups together stay together (a harmonica is with the accordions, plucked lutes of
Asia are with the harps).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

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

_NEGATION = re.compile(
    r"\b(?:no|not|without|minus|never|avoid|excluding|except|lacking|instead of|rather than|"
    r"do not use|don't use|don't want|leave out|isn't|hold the)\s+"
    r"(?:(?:any|a|an|the|use|other|using)\s+)*$",
    re.IGNORECASE,
)
_JOINS_NEGATION = re.compile(r"^\s*(?:,?\s*(?:or|nor)|and)\s+(?:any\s+|no\s+)?$", re.IGNORECASE)
_FOLLOWING_NEGATION = re.compile(r"^(?:less\b|-free\b|-less\b)", re.IGNORECASE)
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
    found: list[NamedInstrument] = []
    for match in _pattern().finditer(words):
        name = match.group().lower()
        families = _families_of(name, words)
        counted = name == "beats" and _COUNTED.match(words[match.end() :])
        if not families or counted:
            continue
        between = words[found[-1].stop if found else 0 : match.start()]
        ruled_out = bool(
            _NEGATION.search(words[: match.start()])
            or _FOLLOWING_NEGATION.match(words[match.end() :])
            or (found and found[-1].ruled_out and _JOINS_NEGATION.match(between))
        )
        found.append(
            NamedInstrument(
                name=name,
                families=families,
                ruled_out=ruled_out,
                first=match.start(),
                stop=match.end(),
            )
        )
    return tuple(found)


def _families_of(name: str, words: str) -> tuple[str, ...]:
    if name in _BOTH_WINDS:
        return ("reeds", "flutes")
    if name in _NO_INSTRUMENT:
        return ()
    if name in ("guitar", "guitars") and _LOUD_GUITAR.search(words):
        return ("electric guitar",)
    return (instrument_families()[name],)
