"""Normalization of composers' names, and the stylistic period of each composer (`composers.csv`).

Inputs: names as corpora write them ("Chopin, Fryderyk", "Frédéric Chopin (1810-1849)", "BachJS").
Outputs: the family name ("Chopin"), or None where no composer is named, and a period of `STYLES`.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from functools import cache
from importlib.resources import files

_PERIOD_BY_FLORUIT: tuple[tuple[int, str], ...] = (
    (1600, "renaissance"),
    (1750, "baroque"),
    (1825, "classical"),
    (1930, "romantic"),
)
"""Upper bounds (exclusive) on the year in which a composer was active (aged forty, or the year of
death if earlier), and the period; the usual textbook boundaries. Later composers have none."""

_TABLE = "composers.csv"
"""Family names and periods; where several composers share a name, the best known one."""

COMMON_SPELLINGS: dict[str, str] = {
    "haendel": "Handel", "burgmueller": "Burgmüller", "rachmaninov": "Rachmaninoff",
    "szopen": "Chopin", "tschaikowsky": "Tchaikovsky",
}  # fmt: skip
"""Alternative spellings that are unambiguous in prompts as well (`named_composer` in
`traditions.py` accepts them), lower case without accents."""

_SPELLINGS: dict[str, str] = COMMON_SPELLINGS | {
    "tchaikowsky": "Tchaikovsky", "tchaikovskiy": "Tchaikovsky", "tchaikovski": "Tchaikovsky",
    "чаиковскии": "Tchaikovsky", "bartholdy": "Mendelssohn",
    "mendelssohn-bartholdy": "Mendelssohn", "moussorgsky": "Mussorgsky", "amadeus": "Mozart",
    "schuetz": "Schütz", "skriabin": "Scriabin", "lasso": "Lassus", "prez": "Josquin",
    "mendelssohn-hensel": "Hensel", "antonin": "Dvořák", "ianequin": "Janequin",
    "kruetzer": "Kreutzer", "yaniewicz": "Janiewicz", "constanzi": "Costanzi",
}  # fmt: skip
"""All alternative spellings (and typing errors) of the corpora, lower case without accents. Those
beyond `COMMON_SPELLINGS` identify a composer only where a composer's name is expected."""

_SAME_NAME: tuple[tuple[str, str, str], ...] = (
    ("bach", r"christian|emanuel|\bj\.? ?c\b|\bc\.? ?p\.? ?e\b", "classical"),
    ("stefani", r"\bjan\b", "classical"),
)
"""Family name, pattern of the given name, and the period of that lesser-known composer."""

_NAME = r"([A-ZÀ-Ž][\w-]*\w)"
_STYLE_PHRASES = (
    re.compile(rf"\b(?:like|after|by|of|à la)\s+{_NAME}(?:\s+(?:or|and)\s+{_NAME})?"),
    re.compile(rf"\b{_NAME}(?:['’]s)?[ -](?:type|style|like|ish|manner)\b()"),
)
"""Phrases that ask for music in the style of a composer; names are capitalized."""
_COMMON_WORDS = frozenset((
    "Beach", "Bishop", "Blow", "Bridge", "Bull", "Farmer", "Field", "Finger", "German", "Guest",
    "Hook", "Just", "Shield", "Winter",
))  # fmt: skip
"""Composers whose names are ordinary words in most prompts."""

_NOT_A_COMPOSER = re.compile(
    r"^(anon|anonim|anonym|unknown|unbekannt|various|christmas|arr\b|none\b|n/?a\b|\?)|"
    r"\btrad|traditional|\bfolk|volksweise|volkslied",
    re.IGNORECASE,
)
_WORK_NUMBER = re.compile(r"[,.]?\s*\b(op|no|nr|bwv|hwv|woo|k\.?v|opus)\b.*$", re.IGNORECASE)
_SUFFIX = re.compile(r",?\s+(jr|sr|junior|senior|i|ii|iii|fils|père)\.?$", re.IGNORECASE)
_MUTOPIA_CODE = re.compile(r"([A-Z][a-zà-ÿ]{2,}(?:-[A-Z][a-z]+)?)[A-Z][A-Za-z]{0,2}")
"""Family name and initials as the Mutopia project writes them, e.g. "BachJS", "BeethovenLv"."""
_YEAR = re.compile(r"1[3-9]\d\d|20\d\d")


def plain_name(name: str) -> str:
    """A name in lower case without accents."""
    text = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("Ł", "L"))
    return "".join(c for c in text if not unicodedata.combining(c)).lower()


@cache
def _periods() -> dict[str, tuple[str, str]]:
    """Plain name -> (family name, period)."""
    text = files("melisma.values").joinpath(_TABLE).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {plain_name(row["family_name"]): (row["family_name"], row["period"]) for row in rows}


def family_name(composer: str | None) -> str | None:
    """The normalized family name of a composer.

    Args:
        composer: A name in any form that the corpora use; None where the source has none.

    Returns:
        The family name, with accents restored for known composers; None where the text names no
        composer (anonymous, traditional, empty).

    >>> family_name("Frédéric Chopin (1810-1849)"), family_name("Händel, G. F.")
    ('Chopin', 'Handel')
    """
    if composer is None:
        return None
    text = re.sub(r"\(.*?(\)|$)|\[.*?(\]|$)|[~<]?\d{4}.*$", " ", composer)
    text = re.split(r"\barr\b|\bed\.|;|/|&|\band\b", " ".join(text.split()))[0]
    text = re.sub(r"^(by|attr\.?)\s+", "", _WORK_NUMBER.sub("", text), flags=re.IGNORECASE)
    text = text.strip(" .,~-<")
    if not text or _NOT_A_COMPOSER.search(text):
        return None
    code = _MUTOPIA_CODE.fullmatch(text)
    text = _SUFFIX.sub("", code.group(1) if code else text)
    first = text.split(",")[0].strip()
    last = first.split()[-1]
    # "Le Beau, Luise" is inverted, "Martin Luther, Wittenberg" is not.
    name = first if "," in text and plain_name(last) not in _periods() else last
    name = re.sub(r"^(\w\.\s*)+", "", name)
    if not re.search(r"[^\W\d_]{2}", name):
        return None
    plain = plain_name(name)
    known = _periods().get(plain)
    if known is not None:
        return known[0]
    return _SPELLINGS.get(plain) or (name.title() if name.isupper() else name)


def period(composer: str | None) -> str | None:
    """The stylistic period of a composer.

    Args:
        composer: A name as for `family_name`, with or without years.

    Returns:
        One of `STYLES`, from the table of known composers or else from the years in the text;
        None where neither is available.
    """
    name = family_name(composer)
    if composer is None or name is None:
        return None
    for family, given, style in _SAME_NAME:
        if plain_name(name) == family and re.search(given, composer, re.IGNORECASE):
            return style
    known = _periods().get(plain_name(name))
    if known is not None:
        return known[1]
    years = [int(year) for year in _YEAR.findall(composer)]
    if not years:
        return None
    born, died = years[0], years[-1]
    if born == died:
        return period_of_year(born)
    # Wider spans are estimates of a century, narrower ones years of activity.
    usual = 30 <= died - born <= 95
    return period_of_year(min(born + 40, died) if usual else (born + died) // 2)


def named_period(words: str) -> str | None:
    """The period of the composer in whose style a prompt asks for music, None if it names none.

    >>> named_period("Palestrina type motet"), named_period("something like Victoria or Lassus")
    ('renaissance', 'renaissance')
    """
    for pattern in _STYLE_PHRASES:
        for found in pattern.finditer(words):
            for name in (found[1], found[2]):
                known = _periods().get(plain_name(name)) if name else None
                if known is not None and known[0] not in _COMMON_WORDS:
                    return known[1]
    return None


def period_of_year(year: int) -> str | None:
    """The stylistic period of a year, one of `STYLES`; None from 1930 on."""
    for before, style in _PERIOD_BY_FLORUIT:
        if year < before:
            return style
    return None
