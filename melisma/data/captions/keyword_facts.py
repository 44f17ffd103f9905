"""Keyword matcher: musical attributes named in a free-text description of music.

Input: any English description. Output: `KeywordFacts`, i.e. tempo, instruments, moods, style,
dynamics and other attributes that keywords name; the others are unknown. Pattern matching without
understanding, accurate enough on MusicCaps and AudioSet to associate scenic words with attributes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from melisma.data.captions.vocabulary import MOOD_WORDS
from melisma.joint.instrument_words import named_families
from melisma.joint.settings_words import read_metre, read_tempo, read_tonality
from melisma.values import Facts

_TEMPO_WORDS: tuple[tuple[str, float, float], ...] = (
    (r"very slow|extremely slow|largo|lento|adagio", 42, 65),
    (r"slow(?:er)?[- ]to[- ](?:medium|moderate)|medium[- ]slow|andante", 65, 95),
    (r"medium[- ]to[- ](?:up|fast)[- ]?tempo|medium[- ]fast|moderate(?:ly)?[- ]fast|mid[- ]to[- ]up"
     r"|mideum to uptempo|medium to uptempo|allegretto", 95, 132),
    (r"very fast|extremely fast|super fast|breakneck|presto|frantic|frenetic|racing", 150, 200),
    (r"slow(?:er|ly)? ?(?:tempo|pace|paced|beat|song|waltz|ballad|rhythm|music|piece)?", 48, 80),
    (r"(?:medium|moderate|mid)[- ]?(?:tempo|paced?)|moderato", 80, 115),
    (r"(?:fast|quick|rapid|brisk)(?:er)?(?:[- ](?:tempo|paced?))?|up[- ]?tempo|allegro|vivace",
     115, 175),
)  # fmt: skip
"""Pattern, lowest and highest tempo in bpm (chosen as in `vocabulary.py`); first match wins."""

_MORE_MOODS: dict[str, tuple[str, ...]] = {
    "calm": ("meditative", "lullaby", "meditation", "pleasant", "laid-back", "slow jam", "zen",
             "easy listening", "comforting", "lounge", "softly"),
    "happy": ("joyous", "positive", "festive", "celebratory", "joy", "happiness", "delightful",
              "jovial", "blissful", "buoyant", "enthusiastic", "sunshine", "summer vibes"),
    "sad": ("emotional ballad", "sadness", "poignant", "grief", "melancholia", "longing", "pensive",
            "tragic", "depressing", "regretful", "sombre", "somber", "heart-wrenching"),
    "tense": ("suspense", "thriller", "tension", "chaotic", "intense", "violent", "panic", "urgent",
              "manic", "nervousness", "mysterious", "action movie", "chase"),
    "tender": ("romantic", "love song", "loving", "soulful", "touching", "heart-warming", "lovely",
               "heartwarming", "romance", "sensual", "cute", "innocent"),
    "energetic": ("aggressive", "powerful", "upbeat", "groovy", "danceable", "party", "pulsating",
                  "vivacious", "vigorous", "hard-hitting", "workout", "motivational", "epic",
                  "youthful", "thrilling", "festival", "intense", "heavy metal"),
    "solemn": ("religious", "devotional", "spiritual", "sacred", "anthemic", "regal", "royal",
               "church", "ceremony", "military", "heroic", "hymn", "worship"),
    "playful": ("comical", "cartoon", "childish", "children", "circus", "goofy", "silly", "cute",
                "comedy", "animated", "kids", "quirky", "childlike"),
    "dark": ("scary", "horror", "evil", "dark", "doom", "creepy", "mysterious", "gothic", "demonic",
             "disturbing", "terrifying"),
    "dreamy": ("psychedelic", "trippy", "mystical", "mesmerizing", "trance-like", "new age",
               "surreal", "celestial", "cosmic", "spacey", "dreamlike", "ambient", "heavenly",
               "enchanting", "fairytale", "ethereal"),
}  # fmt: skip

_STYLE_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"bossa|samba", "bossa nova"),
    (r"waltz\w*", "waltz"),
    (r"military march|marching|march(?:es)?|parade", "march"),
    (r"lo-?fi (?:hip|beat|chill|music)|lofi|chill-?hop|boom bap", "lo-fi"),
    (r"jazz\w*|swing|big band|bebop|ragtime|dixieland", "swing"),
    (r"chip-?tune|8-?bit|video ?-?game|arcade|retro game", "game"),
    (r"baroque", "baroque"),
    (r"renaissance|medieval|madrigal", "renaissance"),
    (r"impressionis\w+", "impressionist"),
    (r"hymn|gospel|church|choral|gregorian|christian|worship|sacred music|chant", "church"),
    (r"edm|techno|trance|house|electro|club music|dance[- ]music|disco|dubstep|eurodance|rave"
     r"|drum and bass|electronic dance", "dance"),
    (r"hard rock|rock|metal|punk|grunge", "rock"),
    (r"folk\w*|country|bluegrass|celtic|irish|traditional|polka|klezmer|flamenco|regional", "folk"),
    (r"ballad|love song|power ballad|soft pop", "ballad"),
    (r"opera\w*|art song|lied|aria|musical theat\w+", "song"),
    (r"orchestral|symphon\w+|cinematic|philharmonic|film score", "romantic"),
    (r"classical|chamber music|concerto|sonata", "classical"),
    (r"drum (?:loop|groove|beat|solo|break|pattern)s?|drums only|beat ?box\w*", "drum groove"),
)  # fmt: skip
"""Pattern and style, the most specific first; the first match wins."""

_SOFT = r"soft(?:ly)?|quiet(?:ly)?|hushed|gentle|lullaby|soothing|mellow|delicate|whispered|serene"
_LOUD = r"loud(?:ly)?|aggressive|heavy|powerful|booming|harsh|blasting|hard[- ]hitting|thunderous"
_SPARSE = r"sparse|minimalist|minimal|few notes|bare"
_BUSY = r"busy|dense|chaotic|intricate|complex|virtuos\w+|fast arpeggios|shredding"
_SUNG = r"\b(?:male|female|lead|child|man|woman|boy|girl|rap|rapping|singers?|sings?|singing|" \
        r"vocalists?|vocals?|voices?|vocal harmon\w+|no voices?)\b"  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KeywordFacts:
    """Attributes named by keywords. `facts.tempo_bpm` is set only if the text gives a number."""

    facts: Facts
    tempo_range_bpm: tuple[float, float] | None
    """Lowest and highest tempo in bpm meant by tempo words; None without any, or with a number."""


def keyword_facts(words: str) -> KeywordFacts:
    """Find the attributes that a description names.

    Args:
        words: An English description.

    Returns:
        The named attributes; those without a keyword, or with contradictory ones, are unknown.

    >>> read = keyword_facts("Slow tempo, mellow jazz with a saxophone. Very relaxing.")
    >>> read.facts.style, read.facts.moods, read.facts.families, read.tempo_range_bpm
    ('swing', ('calm',), ('reeds',), (48.0, 80.0))
    """
    text = words.lower()
    # The corpus has no voice except choirs; solo singing must not count as a choir.
    unsung = text if "choir" in text or "choral" in text else re.sub(_SUNG, " ", text)
    number, style = read_tempo(text), _first(_STYLE_PATTERNS, text)
    families = named_families(unsung)[0]
    if style == "drum groove" and families != ("drums",):
        style = None
    facts = Facts(
        tempo_bpm=number,
        tonality=read_tonality(words),
        metre=read_metre(text),
        families=families,
        style=style,
        moods=_moods(text),
        dynamics=_either(text, ("soft", _SOFT), ("loud", _LOUD)),
        density=_either(text, ("sparse", _SPARSE), ("busy", _BUSY)),
        articulation=_either(
            text, ("staccato", r"staccato|pizzicato"), ("legato", r"legato|smooth")
        ),
        register=_either(text, ("low", r"low[- ]pitched|deep"), ("high", r"high[- ]pitched")),
    )
    return KeywordFacts(facts=facts, tempo_range_bpm=None if number else _tempo_range(text))


def _first(patterns: tuple[tuple[str, str], ...], text: str) -> str | None:
    for pattern, value in patterns:
        if re.search(rf"(?<!no )(?<!not )\b(?:{pattern})\b", text):
            return value
    return None


def _either(text: str, *choices: tuple[str, str]) -> str | None:
    """The value whose pattern occurs in the text; None if no pattern or more than one does."""
    found = [value for value, pattern in choices if re.search(rf"\b(?:{pattern})\b", text)]
    return found[0] if len(found) == 1 else None


def _tempo_range(text: str) -> tuple[float, float] | None:
    for pattern, low, high in _TEMPO_WORDS:
        if re.search(rf"\b(?:{pattern})\b", text):
            return float(low), float(high)
    return None


@cache
def _mood_patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    def pattern(mood: str, words: tuple[str, ...]) -> re.Pattern[str]:
        names = "|".join(re.escape(word) for word in (*words, *_MORE_MOODS[mood]))
        return re.compile(rf"(?<!not )\b(?:{names})\b")

    return tuple((mood, pattern(mood, words)) for mood, words in MOOD_WORDS.items())


def _moods(text: str, limit: int = 3) -> tuple[str, ...]:
    """Up to `limit` moods, those with the most matching words first."""
    counts = {mood: len(pattern.findall(text)) for mood, pattern in _mood_patterns()}
    ranked = sorted((mood for mood in counts if counts[mood]), key=lambda m: -counts[m])
    return tuple(ranked[:limit])
