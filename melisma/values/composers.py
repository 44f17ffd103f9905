"""Composers: one family name each, and the period whose style they wrote in (`composers.csv`).

Enters: names as corpora write them ("Chopin, Fryderyk", "Frédéric Chopin (1810-1849)", "BachJS").
Leaves: the family name ("Chopin") or None where nobody is named, and a period of `STYLES`.
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
"""A composer who flourished before this year (forty years old, or dead before) wrote so; the usual
borders of textbooks. Later ones have no style here."""

_TABLE = "composers.csv"
"""Family names and periods; where several composers share a name, those of the best known."""

_SPELLINGS: dict[str, str] = {
    "haendel": "Handel", "tschaikowsky": "Tchaikovsky", "tchaikowsky": "Tchaikovsky",
    "tchaikovskiy": "Tchaikovsky", "tchaikovski": "Tchaikovsky", "чаиковскии": "Tchaikovsky",
    "burgmueller": "Burgmüller", "rachmaninov": "Rachmaninoff", "bartholdy": "Mendelssohn",
    "mendelssohn-bartholdy": "Mendelssohn", "moussorgsky": "Mussorgsky", "amadeus": "Mozart",
    "schuetz": "Schütz", "skriabin": "Scriabin", "lasso": "Lassus", "szopen": "Chopin",
    "prez": "Josquin", "mendelssohn-hensel": "Hensel", "antonin": "Dvořák", "ianequin": "Janequin",
    "kruetzer": "Kreutzer", "yaniewicz": "Janiewicz", "constanzi": "Costanzi",
}  # fmt: skip
"""Other spellings (and slips of the corpora), lower case without accents."""

_SAME_NAME: tuple[tuple[str, str, str], ...] = (
    ("bach", r"christian|emanuel|\bj\.? ?c\b|\bc\.? ?p\.? ?e\b", "classical"),
    ("stefani", r"\bjan\b", "classical"),
)
"""Family name, pattern of the given name, and the period of that lesser known composer."""

_NAME = r"([A-ZÀ-Ž][\w-]*\w)"
_MANNERS = (
    re.compile(rf"\b(?:like|after|by|of|à la)\s+{_NAME}(?:\s+(?:or|and)\s+{_NAME})?"),
    re.compile(rf"\b{_NAME}(?:['’]s)?[ -](?:type|style|like|ish|manner)\b()"),
)
"""How words say in whose manner they want something; names have capitals."""
_ALSO_WORDS = frozenset((
    "Beach", "Bishop", "Blow", "Bridge", "Bull", "Farmer", "Field", "Finger", "German", "Guest",
    "Hook", "Just", "Shield", "Winter",
))  # fmt: skip
"""Composers whose names say something else in most prompts."""

_NOBODY = re.compile(
    r"^(anon|anonim|anonym|unknown|unbekannt|various|christmas|arr\b|none\b|n/?a\b|\?)|"
    r"\btrad|traditional|\bfolk|volksweise|volkslied",
    re.IGNORECASE,
)
_WORK_NUMBER = re.compile(r"[,.]?\s*\b(op|no|nr|bwv|hwv|woo|k\.?v|opus)\b.*$", re.IGNORECASE)
_SUFFIX = re.compile(r",?\s+(jr|sr|junior|senior|i|ii|iii|fils|père)\.?$", re.IGNORECASE)
_CODE = re.compile(r"([A-Z][a-zà-ÿ]{2,}(?:-[A-Z][a-z]+)?)[A-Z][A-Za-z]{0,2}")
"""Family name and initials of the Mutopia project, e.g. "BachJS", "BeethovenLv"."""
_YEAR = re.compile(r"1[3-9]\d\d|20\d\d")


def _plain(name: str) -> str:
    """Lower case without accents."""
    text = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("Ł", "L"))
    return "".join(c for c in text if not unicodedata.combining(c)).lower()


@cache
def _periods() -> dict[str, tuple[str, str]]:
    """Plain name -> (name, period)."""
    text = files("melisma.values").joinpath(_TABLE).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {_plain(row["family_name"]): (row["family_name"], row["period"]) for row in rows}


def family_name(composer: str | None) -> str | None:
    """The family name of a composer, accents restored where we know them; None for nobody.

    >>> family_name("Frédéric Chopin (1810-1849)"), family_name("Händel, G. F.")
    ('Chopin', 'Handel')
    """
    if composer is None:
        return None
    text = re.sub(r"\(.*?(\)|$)|\[.*?(\]|$)|[~<]?\d{4}.*$", " ", composer)
    text = re.split(r"\barr\b|\bed\.|;|/|&|\band\b", " ".join(text.split()))[0]
    text = re.sub(r"^(by|attr\.?)\s+", "", _WORK_NUMBER.sub("", text), flags=re.IGNORECASE)
    text = text.strip(" .,~-<")
    if not text or _NOBODY.search(text):
        return None
    code = _CODE.fullmatch(text)
    text = _SUFFIX.sub("", code.group(1) if code else text)
    first = text.split(",")[0].strip()
    last = first.split()[-1]
    # "Le Beau, Luise" turns round, "Martin Luther, Wittenberg" does not.
    name = first if "," in text and _plain(last) not in _periods() else last
    name = re.sub(r"^(\w\.\s*)+", "", name)
    if not re.search(r"[^\W\d_]{2}", name):
        return None
    plain = _plain(name)
    known = _periods().get(plain)
    if known is not None:
        return known[0]
    return _SPELLINGS.get(plain) or (name.title() if name.isupper() else name)


def period(composer: str | None) -> str | None:
    """The period of a composer's style, one of `STYLES`, by name or else by dates in the text."""
    name = family_name(composer)
    if composer is None or name is None:
        return None
    for family, given, style in _SAME_NAME:
        if _plain(name) == family and re.search(given, composer, re.IGNORECASE):
            return style
    known = _periods().get(_plain(name))
    if known is not None:
        return known[1]
    years = [int(year) for year in _YEAR.findall(composer)]
    if not years:
        return None
    born, died = years[0], years[-1]
    if born == died:
        return period_of_year(born)
    # Wide spans are guesses of a century, narrow ones years of activity.
    usual = 30 <= died - born <= 95
    return period_of_year(min(born + 40, died) if usual else (born + died) // 2)


def named_period(words: str) -> str | None:
    """The period of a composer in whose manner words ask for music, None where they name none.

    >>> named_period("Palestrina type motet"), named_period("something like Victoria or Lassus")
    ('renaissance', 'renaissance')
    """
    for pattern in _MANNERS:
        for found in pattern.finditer(words):
            for name in (found[1], found[2]):
                known = _periods().get(_plain(name)) if name else None
                if known is not None and known[0] not in _ALSO_WORDS:
                    return known[1]
    return None


def period_of_year(year: int) -> str | None:
    """The period in which a year lies, one of `STYLES`; None after 1930."""
    for before, style in _PERIOD_BY_FLORUIT:
        if year < before:
            return style
    return None
