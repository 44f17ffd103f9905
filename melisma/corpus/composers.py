"""Composers: one family name each, and the period whose style they wrote in.

Enters: names as corpora write them ("Chopin, Fryderyk", "Frédéric Chopin (1810-1849)", "BachJS").
Leaves: the family name ("Chopin") or None where nobody is named, and a period of `STYLES`.
"""

from __future__ import annotations

import re
import unicodedata

_PERIOD_BY_FLORUIT: tuple[tuple[int, str], ...] = (
    (1600, "renaissance"),
    (1750, "baroque"),
    (1825, "classical"),
    (1930, "romantic"),
)
"""A composer who flourished before this year (forty years old, or dead before) wrote so; the usual
borders of textbooks. Later ones have no style here."""

_NAMES_BY_PERIOD: dict[str, str] = {
    "renaissance": "Byrd Dowland Monte Palestrina Josquin Lassus Tallis Victoria Morley Gibbons "
    "Gabrieli Praetorius Narváez Milán Zieleński Weelkes Attaingnant Susato Arcadelt Gervaise",
    "baroque": "Bach Handel Vivaldi Purcell Corelli Scarlatti Telemann Couperin Rameau Pachelbel "
    "Buxtehude Sanz Weiss Albinoni Marcello Lully Zipoli Roncalli Froberger Sweelinck Frescobaldi "
    "Monteverdi Schütz Charpentier Scacchi Daquin Loeillet Visée Clarke Böhm Walther Kellner",
    "classical": "Mozart Haydn Beethoven Clementi Boccherini Giuliani Sor Carcassi Carulli "
    "Cimarosa Diabelli Kuhlau Dussek Cherubini Salieri Gluck Stamitz Hummel Arriaga Saint-Georges "
    "Aguado Rolla Elsner Holland Stefani Dankowski Żebrowski Lechleitner Reichardt Schröter Hoffmeister "
    "Devienne Ogiński Kozłowski Pleyel Vanhal Czerny Abrams",
    "romantic": "Schubert Chopin Schumann Brahms Mendelssohn Liszt Wagner Verdi Dvořák Tchaikovsky "
    "Grieg Mussorgsky Borodin Rachmaninoff Scriabin Bruckner Mahler Wolf Strauss Weber Paganini "
    "Rossini Bizet Fauré Franck Saint-Saëns Gounod Massenet Berlioz Albéniz Granados Tárrega Mertz "
    "Coste Burgmüller Moszkowski Balakirev Godowsky Sousa Elgar Sibelius Smetana Paderewski "
    "Moniuszko Wieniawski Noskowski Żeleński Szymanowska Kurpiński Dobrzyński Sowiński Hensel "
    "Chaminade Viardot Kinkel Lang Cornelius Franz Loewe Beach Mayer Stanford Holmès Jaëll Faisst "
    "Kralik Lehmann Kopprasch Sitt Arban Horetzky Abt Foster Bridge Delius Busoni Janáček Mayseder",
    "impressionist": "Debussy Ravel Satie Boulanger Griffes Ibert",
}
"""Well-known names; Lili Boulanger stands for the Boulangers."""

_SPELLINGS: dict[str, str] = {
    "haendel": "Handel", "tschaikowsky": "Tchaikovsky", "tchaikowsky": "Tchaikovsky",
    "burgmueller": "Burgmüller", "rachmaninov": "Rachmaninoff", "mendelssohn-bartholdy":
    "Mendelssohn", "moussorgsky": "Mussorgsky", "musorgskij": "Mussorgsky", "mudarra": "Mudarra",
    "schuetz": "Schütz", "koehler": "Köhler", "janacek": "Janáček", "amadeus": "Mozart",
    "skriabin": "Scriabin", "lasso": "Lassus", "szopen": "Chopin", "prez": "Josquin",
    "bologne": "Saint-Georges", "leontovych": "Leontovych", "mendelssohn-hensel": "Hensel",
}  # fmt: skip
"""Other spellings, lower case without accents."""

_NOBODY = re.compile(
    r"^(anon|anonim|anonym|trad|unknown|unbekannt|various|christmas|folk|arr\b|none|n/?a\b|\?)",
    re.I,
)
_SUFFIX = re.compile(r",?\s+(jr|sr|junior|senior|ii|iii|fils|père)\.?$", re.I)
_YEARS = re.compile(r"(1[3-9]\d\d)\D+(1[3-9]\d\d|20\d\d)")
_YEAR = re.compile(r"1[3-9]\d\d")


def _plain(name: str) -> str:
    """Lower case without accents."""
    text = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("Ł", "L"))
    return "".join(c for c in text if not unicodedata.combining(c)).lower()


_PERIOD_OF_NAME = {
    _plain(name): period for period, names in _NAMES_BY_PERIOD.items() for name in names.split()
}
_SPELLING_OF_NAME = {
    _plain(name): name for names in _NAMES_BY_PERIOD.values() for name in names.split()
} | _SPELLINGS


def family_name(composer: str | None) -> str | None:
    """The family name of a composer, accents restored where we know them; None for nobody.

    >>> family_name("Frédéric Chopin (1810-1849)"), family_name("Händel, G. F.")
    ('Chopin', 'Handel')
    """
    if composer is None:
        return None
    text = re.sub(r"\(.*?\)|\[.*?\]|\d{4}.*$", " ", composer)
    text = re.split(r"\barr\b|\bed\.|;|/|&|\band\b", " ".join(text.split()))[0].strip(" .,~-")
    if not text or _NOBODY.match(text):
        return None
    code = re.fullmatch(r"([A-Z][a-zà-ÿ]+(?:-[A-Z][a-z]+)?)[A-Z]+", text)
    if code:
        text = code.group(1)
    text = _SUFFIX.sub("", text)
    name = text.split(",")[0].strip() if "," in text else text.split()[-1]
    if not re.search(r"[^\W\d_]{2}", name):
        return None
    return _SPELLING_OF_NAME.get(_plain(name), name)


def period(composer: str | None) -> str | None:
    """The period of a composer's style, one of `STYLES`, by name or else by dates in the text."""
    name = family_name(composer)
    known = _PERIOD_OF_NAME.get(_plain(name)) if name else None
    if known is not None or composer is None:
        return known
    lived = _YEARS.search(composer)
    if lived:
        born, died = int(lived.group(1)), int(lived.group(2))
        return period_of_year(min(born + 40, died))
    year = _YEAR.search(composer)
    return period_of_year(int(year.group(0)) + 40) if year else None


def period_of_year(year: int) -> str | None:
    """The period in which a year lies, one of `STYLES`; None after 1930."""
    for before, style in _PERIOD_BY_FLORUIT:
        if year < before:
            return style
    return None
