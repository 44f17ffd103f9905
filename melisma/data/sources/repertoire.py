"""Style, tradition and composer of a piece from the metadata of its corpus.

Input: a `Source` (corpus, style, composer, title, instruments). Outputs: one of `STYLES`, a
tradition in words, and the composer's name. Unclear cases give None: a wrong label does more harm
in training than a missing one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melisma.values.composers import family_name, period

if TYPE_CHECKING:
    from melisma.data.sources.pieces import Source

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
"""Patterns for the style and genre columns of the corpora; the first match wins."""

_TITLE_STYLES: tuple[tuple[str, str], ...] = (
    (r"\b(waltz|waltzes|valse|walzer|walc|walce|valc|valz)\b", "waltz"),
    (r"\b(march|marche|marsz|marsch|marcia)\b", "march"),
    (
        r"\b(kyrie|gloria|credo|sanctus|benedictus|agnus dei|missa|mass|requiem|motet|psalm|hymn|"
        r"offertorium|graduale|vesper\w*|salve regina|ave maria|magnificat|laudate|te deum|"
        r"litani\w+|dixit|confitebor|regina coeli|stabat mater|koleda|kolęd\w+|introit\w*)\b",
        "church",
    ),
    (r"\b(song|songs|lied|lieder|pieśń|pieśni|piosnk\w+|piosenk\w+|aria|ballade für)\b", "song"),
    (
        r"\b(folk|traditional|reel|jig|hornpipe|krakowiak\w*|oberek|kujawiak|mazur\w*|polonez\w*|"
        r"polonaise|taniec|tańce)\b",
        "folk",
    ),
)
"""Patterns for titles that name a kind of piece; the first match wins."""

_KINDS: tuple[tuple[str, str], ...] = (
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
    (r"\b(contre|contra|country )dan[cs]e", "country dance"),
    (r"\b(etude|étude|study|studies)\b", "study"),
)
"""Patterns for kinds of piece in a title, and the tradition they mean; the first match wins."""

_VOICES = (
    r"voi[cx]|canto|cant[ou]s|sopr|alto\b(?! viola)|tenor|"
    r"śpiew|głos|chant|gesang|cor[oi]\b|chór"
)
"""Names of vocal parts in Polish, Latin, Italian, French and German sources (a lone Basso may be
an instrument)."""

_INSTRUMENT_TRADITIONS: tuple[tuple[str, str, str], ...] = (
    (r"\borgan", "organ", "organ music"),
    (r"\bharpsichord|cembalo|clave?cin", "harpsichord", "harpsichord music"),
    (r"\blute|theorbo|vihuela", "guitar", "lute music"),
    (r"\bguitar", "guitar", "classical guitar"),
    (r"string (quartet|trio|quintet)", "strings", "string chamber music"),
)
"""Pattern of the notated instruments, the only family that may play, the tradition."""

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


def source_composer(source: Source) -> str | None:
    """The composer's family name; None if unknown.

    Also None for game music and pop songs, whose authors (often pseudonyms) do not identify a
    style.
    """
    if source.corpus in ("freedoom", "blasphemer", "pop909"):
        return None
    return family_name(source.composer)


def source_style(source: Source, metre: str | None) -> str | None:
    """Derive the style of a piece.

    Args:
        source: The piece.
        metre: One of `METRES`, or None if unknown.

    Returns:
        One of `STYLES`, or None if the metadata do not determine it.
    """
    if source.corpus in ("groove", "drum_patterns"):
        return "drum groove"
    if source.corpus in ("freedoom", "blasphemer"):
        return "game"
    era = period(source.composer)
    if era == "impressionist":
        return era
    title = f"{source.title or ''} {source.identity.rsplit('/', 1)[-1].replace('-', ' ')}"
    genre = source.style or ""
    title_style = _first_match(title, _TITLE_STYLES)
    if title_style == "waltz" and metre not in (None, "3/4"):
        title_style = None
    if source.corpus == "openscore_lieder":
        return "song"
    if source.corpus == "polish_scores":
        return _polish_style(genre, title_style, era, source.instruments or "")
    if source.corpus == "openscore_orchestra" and title_style == "church":
        return era or title_style
    if title_style in ("waltz", "march") and era in (None, "romantic"):
        return title_style
    raw_style = _first_match(genre, _RAW_STYLES)
    # Volunteers write "Classical" for all art music: the composer's era is more reliable.
    if raw_style == "classical" and era is not None:
        return era
    return raw_style or era or title_style


def _polish_style(genre: str, title_style: str | None, era: str | None, parts: str) -> str | None:
    if "Sacred" in genre:
        return "church"
    from_genre = _first_match(genre, _RAW_STYLES)
    if from_genre in ("song", "waltz", "march", "folk"):
        return from_genre
    if title_style == "folk" and era is not None:
        return era
    if title_style is not None:
        return title_style
    names = [name.strip(' .[]"').lower() for name in parts.split(";")]
    voices = [name for name in names if re.search(_VOICES, name)]
    instruments = {name for name in names if name not in voices}
    if voices and any(re.search(r"organ|fondament|continuo", name) for name in instruments):
        return "church"
    if voices and era != "romantic" and any("violino" in name for name in instruments):
        return "church"  # from monastery archives: almost all music for these parts is sacred
    if voices and instruments and all(re.search(r"pian|fortep", name) for name in instruments):
        return "song"
    return era


def source_tradition(source: Source, style: str | None, families: tuple[str, ...]) -> str | None:
    """Derive the tradition (repertoire) of a clip.

    Traditions named after instruments require these instruments: a string quartet played by
    saxophones is not one.

    Args:
        source: The piece.
        style: One of `STYLES`, or None.
        families: Families that play in the clip.

    Returns:
        The tradition in words, e.g. "art song", or None.
    """
    genre = (source.style or "").strip()
    if source.corpus in ("groove", "drum_patterns"):
        word = re.split(r"[/;]", genre)[0].strip().lower()
        return f"{_DRUM_STYLE_NAMES.get(word, word)} drumming" if word else "drumming"
    if source.corpus in ("freedoom", "blasphemer"):
        return "video game music"
    if source.corpus == "openscore_lieder":
        return "art song"
    if source.corpus == "openscore_quartets":
        return "string quartet" if families == ("strings",) else "chamber music"
    if source.corpus == "openscore_orchestra":
        if len(families) < 3 and "strings" not in families:
            return None
        sacred = re.search(r"mass|requiem", source.identity + (source.title or ""), re.IGNORECASE)
        return "choral and orchestral church music" if sacred else "orchestral music"
    if source.corpus == "pop909":
        return "Chinese pop song"
    return _kind_tradition(source, style, genre) or _instrument_tradition(source, families)


def _kind_tradition(source: Source, style: str | None, genre: str) -> str | None:
    """The tradition according to the kind of piece."""
    polish = source.corpus == "polish_scores"
    kind = _first_match(f"{source.title or ''} {genre}", _KINDS)
    if kind is not None:
        return kind
    if re.search(r"opera|oratorio", genre, re.IGNORECASE):
        return "Polish opera" if polish else "opera"
    if style == "church":
        return "Polish church music" if polish else "church hymn"
    if style == "song":
        return "Polish song" if polish else "song"
    if style == "folk":
        return "folk music"
    if "jazz" in genre.lower():
        return "ragtime" if family_name(source.composer) == "Joplin" else "jazz"
    return None


def _instrument_tradition(source: Source, families: tuple[str, ...]) -> str | None:
    """The tradition according to the notated instruments, if these play in the clip."""
    written = (source.instruments or "").lower()
    for pattern, family, tradition in _INSTRUMENT_TRADITIONS:
        if re.search(pattern, written) and families == (family,):
            return tradition
    pianos = re.fullmatch(r"(\W*(piano|fortepian|pianoforte))+\W*", written)
    if (pianos or source.corpus == "piano_midi_de") and families == ("piano",):
        return "piano music"
    return "Polish music" if source.corpus == "polish_scores" else None
