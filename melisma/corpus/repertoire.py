"""Style and tradition of a piece, from what its corpus says about it.

Enters: a `Source` (corpus, raw style, composer, title, instruments). Leaves: one of `STYLES` and
a tradition in words. What is unclear stays None: a wrong word teaches more harm than none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melisma.corpus.composers import family_name, period

if TYPE_CHECKING:
    from melisma.corpus.sources import Source

_RAW_STYLES: tuple[tuple[str, str], ...] = (
    (r"baroque", "baroque"),
    (r"classi(cal|que)", "classical"),
    (r"romanti", "romantic"),
    (r"renaissance", "renaissance"),
    (r"hymn|motet|gospel|sacred|mass|requiem|vespers", "church"),
    (r"folk", "folk"),
    (r"march", "march"),
    (r"waltz", "waltz"),
    (r"\bsong", "song"),
)
"""Words of the corpora's style and genre columns, the first that fits wins."""

_TITLE_STYLES: tuple[tuple[str, str], ...] = (
    (r"\b(waltz|waltzes|valse|walzer|walc|walce)\b", "waltz"),
    (r"\b(march|marche|marsz|marsch|marcia)\b", "march"),
    (
        r"\b(kyrie|gloria|credo|sanctus|benedictus|agnus dei|missa|mass|requiem|motet|psalm|hymn|"
        r"offertorium|graduale|vesper\w*|salve regina|ave maria|magnificat|laudate|te deum|"
        r"litani\w+|dixit|confitebor|regina coeli|stabat mater|koleda|kolęd\w+|introit\w*)\b",
        "church",
    ),
    (r"\b(song|songs|lied|lieder|pieśń|pieśni|piosnk\w+|piosenk\w+|aria|ballade für)\b", "song"),
    (r"\b(folk|traditional|reel|jig|hornpipe|krakowiak\w*|oberek|kujawiak)\b", "folk"),
)
"""Words of titles that name a kind of piece."""

_DANCES: tuple[tuple[str, str], ...] = (
    (r"\bmazur\w*", "Polish mazurka"),
    (r"\b(polonez\w*|polona?ise\w*|polacca)\b", "polonaise"),
    (r"\bkrakowiak\w*", "Polish krakowiak"),
    (r"\b(oberek|kujawiak)\w*", "Polish folk dance"),
    (r"\bpolk[ai]\b", "polka"),
    (r"\b(waltz|valse|walzer|walc)\w*", "waltz"),
    (r"\b(nocturne?|nokturn)\w*", "nocturne"),
    (r"\b(minuet|menuet|menuetto)\b", "minuet"),
    (r"\b(fugue|fuga)\b", "fugue"),
    (r"\b(tango|habanera)\b", "tango"),
    (r"\brag(time)?\b", "ragtime"),
    (r"\b(etude|étude|study|studies)\b", "study"),
)
"""Kinds of piece that are named in a title, used as the tradition."""

_DRUM_STYLE_NAMES = {
    "hiphop": "hip-hop", "afrocuban": "Afro-Cuban", "afro-cuban": "Afro-Cuban", "latin": "Latin",
    "neworleans": "New Orleans", "middleeastern": "Middle Eastern", "r-n-b": "R&B",
    "bossa-nova": "bossa nova", "dance": "dance", "slow": "slow", "cha-cha": "cha-cha",
    "paso-doble": "paso doble", "rhythm & blues": "rhythm and blues", "ending": "pop",
    "highlife": "highlife", "hip-hop": "hip-hop",
}  # fmt: skip


def _first_match(text: str, table: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, word in table:
        if re.search(pattern, text, re.IGNORECASE):
            return word
    return None


def source_style(source: Source, metre: str | None) -> str | None:
    """The style of a piece, one of `STYLES`, or None where its corpus does not tell."""
    if source.corpus in ("groove", "drum_patterns"):
        return "drum groove"
    if source.corpus in ("freedoom", "blasphemer"):
        return "game"
    when = period(source.composer)
    if when == "impressionist":
        return when
    title = f"{source.title or ''} {source.identity.rsplit('/', 1)[-1].replace('-', ' ')}"
    raw = source.style or ""
    named = _first_match(title, _TITLE_STYLES)
    if named == "waltz" and metre not in (None, "3/4"):
        named = None
    if source.corpus == "openscore_lieder":
        return "song"
    if source.corpus == "polish_scores":
        return _polish_style(raw, named, when)
    if source.corpus == "openscore_orchestra" and named == "church":
        return when or named
    if named in ("waltz", "march") and when in (None, "romantic"):
        return named
    return _first_match(raw, _RAW_STYLES) or when or named


def _polish_style(genre: str, named: str | None, when: str | None) -> str | None:
    if "Sacred" in genre:
        return "church"
    from_genre = _first_match(genre, _RAW_STYLES)
    if from_genre in ("song", "waltz", "march", "folk"):
        return from_genre
    return named or when


def source_tradition(source: Source, style: str | None) -> str | None:
    """The repertoire a piece belongs to, in words, or None."""
    raw = (source.style or "").strip()
    if source.corpus in ("groove", "drum_patterns"):
        word = re.split(r"[/;]", raw)[0].strip().lower()
        return f"{_DRUM_STYLE_NAMES.get(word, word)} drumming".strip() if word else "drumming"
    if source.corpus in ("freedoom", "blasphemer"):
        return "video game music"
    if source.corpus == "openscore_lieder":
        return "art song"
    if source.corpus == "openscore_quartets":
        return "string quartet"
    if source.corpus == "openscore_orchestra":
        sacred = re.search(r"mass|requiem", source.identity + (source.title or ""), re.I)
        return "choral and orchestral church music" if sacred else "orchestral music"
    if source.corpus == "pop909":
        return "Chinese pop song"
    return _title_tradition(source, style, raw)


def _title_tradition(source: Source, style: str | None, raw: str) -> str | None:
    polish = source.corpus == "polish_scores"
    dance = _first_match(f"{source.title or ''} {raw}", _DANCES)
    if dance is not None:
        return dance
    if re.search(r"opera|oratorio", raw, re.IGNORECASE):
        return "Polish opera" if polish else "opera"
    if style == "church":
        return "Polish church music" if polish else "church hymn"
    if style == "song":
        return "Polish song" if polish else "song"
    if style == "folk":
        return "folk music"
    if "jazz" in raw.lower():
        return "ragtime" if family_name(source.composer) == "Joplin" else "jazz"
    instruments = (source.instruments or "").lower()
    for word, tradition in (
        ("organ", "organ music"),
        ("harpsichord", "harpsichord music"),
        ("lute", "lute music"),
        ("guitar", "classical guitar"),
    ):
        if word in instruments:
            return tradition
    if re.fullmatch(r"\W*(piano|fortepian)\W*(\W*(piano|fortepian)\W*)*", instruments) or (
        source.corpus == "piano_midi_de"
    ):
        return "piano music"
    return "Polish music" if polish else None
