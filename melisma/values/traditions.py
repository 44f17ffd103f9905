"""Composers and traditions: the closed lists of classes that condition the score model.

The order of each tuple is an interface, as in `attributes.py`: entries are only ever appended,
together with new weights. Composers are those with a dozen pieces or more in the corpus.
"""

from __future__ import annotations

import re

from melisma.values.composers import COMMON_SPELLINGS, plain_name

COMPOSERS: tuple[str, ...] = (
    "Bach", "Handel", "Telemann", "Vivaldi", "Monteverdi", "Haydn", "Mozart", "Beethoven",
    "Clementi", "Schubert", "Mendelssohn", "Schumann", "Chopin", "Liszt", "Brahms", "Dvořák",
    "Tchaikovsky", "Grieg", "Verdi", "Wieniawski", "Moniuszko", "Paderewski", "Noskowski",
    "Żeleński", "Elsner", "Stefani", "Szymanowska", "Fauré", "Wolf", "Hensel", "Debussy", "Satie",
    "Joplin", "Albéniz", "Rachmaninoff", "Bizet", "Boulanger", "Giuliani", "Sor", "Carcassi",
    "Aguado", "Burgmüller", "Czerny", "Buxtehude",
)  # fmt: skip
"""Family names as `values.composers.family_name` returns them."""

TRADITIONS: tuple[str, ...] = (
    "Polish church music", "church hymn", "choral and orchestral church music", "art song",
    "Polish song", "song", "Polish opera", "opera", "string quartet", "chamber music",
    "string chamber music", "orchestral music", "piano music", "organ music", "harpsichord music",
    "lute music", "classical guitar", "folk music", "Polish mazurka", "polonaise",
    "Polish krakowiak", "polka", "waltz", "minuet", "fugue", "nocturne", "study", "tango",
    "ragtime", "jazz", "country dance", "Polish music", "video game music", "rock drumming",
    "funk drumming", "jazz drumming", "hip-hop drumming", "Latin drumming",
    "Afro-Cuban drumming", "soul drumming", "punk drumming", "pop drumming",
    "New Orleans drumming", "reggae drumming", "disco drumming", "country drumming",
    "gospel drumming", "blues drumming", "bossa nova drumming", "samba drumming",
)  # fmt: skip
"""Repertoires under the names that `data.sources.repertoire` gives them."""

_PROMPT_SPELLINGS: dict[str, str] = {
    "żelenski": "Żeleński", "händel": "Handel", "chaikovsky": "Tchaikovsky",
}  # fmt: skip
"""Spellings in prompts beside `COMMON_SPELLINGS` and the names without their accents."""
_BY_NAME = (
    {name.lower(): name for name in COMPOSERS}
    | {plain_name(name): name for name in COMPOSERS}
    | COMMON_SPELLINGS
    | _PROMPT_SPELLINGS
)
_NAMES = "|".join(sorted(map(re.escape, _BY_NAME), key=len, reverse=True))
_COMPOSER = re.compile(rf"(?<!\w)({_NAMES})(?:['’]?s|esque|ian|-?ish|-?like)?(?!\w)", re.IGNORECASE)

_SUBJECTS = ("i", "you", "he", "she", "we", "they", "who", "to", "has", "have", "had", "can")
_NO_VERB = "".join(rf"(?<!\b{word} )" for word in (*_SUBJECTS, "while", "will", "me", "us"))
"""No such word stands before, after which "study" or "lied" is a verb rather than a piece."""

_TRADITION_WORDS: tuple[tuple[str, str], ...] = (
    (r"mazurkas?\b", "Polish mazurka"),
    (r"polonaises?\b|polonez", "polonaise"),
    (r"krakowiaks?\b|cracovienne", "Polish krakowiak"),
    (r"polkas?\b(?![ -]dots?\b)", "polka"),
    (r"ragtime\b|(?<![\w-])rags?\b(?!(?:[ -](?:doll|time|tag|trade|to|and bone)|to))", "ragtime"),
    (r"tangos?\b|habanera", "tango"),
    (r"minuets?\b|menuet", "minuet"),
    (r"fugu?es?\b(?! states?\b)|fuga\b|fugal", "fugue"),
    (r"nocturnes?\b", "nocturne"),
    (
        rf"[ée]tudes?\b|{_NO_VERB}(?<!\bfor )stud(?:y|ies)\b"
        r"(?! (?:to|with|while|hard|room|time|session|music|beats?|playlist|vibes?|group|hall|"
        r"break|hours?|mood|abroad|late|night)\b)",
        "study",
    ),
    (r"string quartets?\b", "string quartet"),
    (r"(?:church |gospel )?hymns?\b|chorales?\b", "church hymn"),
    (r"polish (?:church|sacred)", "Polish church music"),
    (rf"lieder\b|{_NO_VERB}lied\b(?! (?:to|about|that|down)\b)|art songs?\b", "art song"),
    (r"country dances?\b", "country dance"),
    (r"lute (?:music|piece|song)", "lute music"),
    (r"video ?games?\b|game music|chiptune|8-?bit|boss (?:fight|battle)", "video game music"),
    (r"folk (?:tune|song|music|dance)s?\b", "folk music"),
    (r"oratorio|choral and orchestral", "choral and orchestral church music"),
    (r"symphon(?:y|ic)\b|orchestral\b", "orchestral music"),
    (r"waltz(?:es)?\b|valse", "waltz"),
)


def named_composer(words: str) -> str | None:
    """The first of `COMPOSERS` that a prompt names, None where it names none.

    >>> named_composer("something Chopin-esque"), named_composer("bach's style")
    ('Chopin', 'Bach')
    """
    found = _COMPOSER.search(words)
    return _BY_NAME[found[1].lower()] if found else None


def named_tradition(words: str) -> str | None:
    """The first of `TRADITIONS` that a prompt names, None where it names none.

    >>> named_tradition("a slow mazurka"), named_tradition("funk drumming")
    ('Polish mazurka', 'funk drumming')
    >>> named_tradition("a beat to study to") is None
    True
    """
    found = _tradition_mentions(words)
    return found[0][1] if found else None


def _tradition_mentions(words: str) -> list[tuple[str, str, int, int]]:
    """Mentions of traditions, ("tradition", name, first character, after the last): the most
    telling first."""
    lowered = words.lower()
    if len(lowered) != len(words):  # a few capitals have longer small forms
        lowered = words
    found: list[tuple[str, str, int, int]] = []

    def add(match: re.Match[str] | None, tradition: str) -> None:
        if match is not None:
            found.append(("tradition", tradition, match.start(), match.end()))

    for tradition in TRADITIONS:
        style = tradition.removesuffix(" drumming")
        if style != tradition:
            add(
                re.search(
                    rf"\b{re.escape(style.lower())}\b[\w -]{{0,12}}\b(?:drum\w*|groove|beat)\b",
                    lowered,
                ),
                tradition,
            )
    for pattern, tradition in _TRADITION_WORDS:
        add(re.search(rf"(?<!\w)(?:{pattern})", lowered), tradition)
    for tradition in TRADITIONS:
        if tradition != "study":  # its pattern knows where the word is a verb
            add(re.search(rf"(?<!\w){re.escape(tradition.lower())}", lowered), tradition)
    return found


def style_mentions(words: str) -> list[tuple[str, str, int, int]]:
    """Composers and traditions that a text names, in order and without overlap.

    Returns:
        ("composer" or "tradition", name, first character, after the last).
    """
    found = [
        ("composer", _BY_NAME[match[1].lower()], match.start(), match.end())
        for match in _COMPOSER.finditer(words)
    ]
    for one in _tradition_mentions(words):
        if all(one[3] <= first or stop <= one[2] for _, _, first, stop in found):
            found.append(one)
    return sorted(found, key=lambda one: one[2])
