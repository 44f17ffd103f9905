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

_TRADITION_WORDS: tuple[tuple[str, str], ...] = (
    (r"mazurkas?\b", "Polish mazurka"),
    (r"polonaises?\b|polonez", "polonaise"),
    (r"krakowiaks?\b|cracovienne", "Polish krakowiak"),
    (r"polkas?\b", "polka"),
    (r"rag(?:time|s)?\b", "ragtime"),
    (r"tangos?\b|habanera", "tango"),
    (r"minuets?\b|menuet", "minuet"),
    (r"fugu?es?\b|fuga\b|fugal", "fugue"),
    (r"nocturnes?\b", "nocturne"),
    (r"[ée]tudes?\b|stud(?:y|ies)\b", "study"),
    (r"string quartets?\b", "string quartet"),
    (r"(?:church |gospel )?hymns?\b|chorales?\b", "church hymn"),
    (r"polish (?:church|sacred)", "Polish church music"),
    (r"lied(?:er)?\b|art songs?\b", "art song"),
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
    """
    lowered = words.lower()
    for tradition in TRADITIONS:
        style = tradition.removesuffix(" drumming")
        if style != tradition and re.search(
            rf"\b{re.escape(style.lower())}\b[\w -]{{0,12}}\b(?:drum\w*|groove|beat)\b", lowered
        ):
            return tradition
    for pattern, tradition in _TRADITION_WORDS:
        if re.search(rf"\b(?:{pattern})", lowered):
            return tradition
    return next((t for t in TRADITIONS if t.lower() in lowered), None)
