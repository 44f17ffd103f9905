"""What of a prompt was understood, what was not, what a given piece decided and what the model
chose freely.

Input: a prompt's text and the attributes that a piece was conditioned on. Output: an
`Understanding`. A mention counts as understood only where the piece was conditioned on it, so that
"brisk" is not understood where the model chose a slow tempo. The text encoder reads every word for
its mood; what is in none of our vocabularies is named as not understood all the same, as nobody can
rely on it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from melisma.joint.instrument_words import Mentions, NamedClass, NamedInstrument, read_mentions
from melisma.joint.negation import Place, trimmed, word_set
from melisma.joint.settings_words import (
    HIGHEST_BPM,
    LOWEST_BPM,
    StatedSettings,
    read_settings,
    read_tempo,
    setting_places,
)
from melisma.values.attributes import FAST_BPM, SLOW_BPM

NO_KNOWN_WORD = "no word that this model knows"
OTHER_SCRIPT = "only English in Latin script is read"
PICTURE = "pictures and signs are not read"
NO_TEXT = "no text"
ARTIST = "artists are not imitated; known are composers out of copyright, by name"
CHANGE = "changes within a piece are not planned"
NEGATED = "nothing known is excluded"
UNUSED = "known, but without effect here"
OUT_OF_RANGE = f"a tempo lies between {LOWEST_BPM:.0f} and {HIGHEST_BPM:.0f} bpm"
LENGTH = "--duration or --bars sets the length"
CONTRADICTED = "other words of the prompt ask for it"
GIVEN = "the given piece decides it"
WITHOUT = "--without excludes it"
FOR_SCORES = "only `melisma compose` knows it"
"""Reasons why a phrase was not understood."""


@dataclass(frozen=True, kw_only=True)
class NotUnderstood:
    """A phrase of a prompt that changes nothing that one could rely on."""

    text: str
    reason: str

    def line(self) -> str:
        """In one line, e.g. '"xyz" (no word that this model knows)'."""
        return f'"{self.text}"' + ("" if self.reason == NO_KNOWN_WORD else f" ({self.reason})")


@dataclass(frozen=True, kw_only=True)
class Understanding:
    """What became of the words and settings of one prompt."""

    understood: Mapping[str, str] = field(default_factory=dict[str, str])
    """What was requested and conditioned on, by attribute; "without": what is excluded."""
    not_understood: tuple[NotUnderstood, ...] = ()
    """Phrases of the prompt, in order."""
    chosen_freely: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the piece was conditioned on though nobody requested it, by attribute."""
    from_given_piece: Mapping[str, str] = field(default_factory=dict[str, str])
    """What was taken from the score that is continued, filled in or accompanied, by attribute."""

    def as_json(self) -> dict[str, object]:
        """The four parts as JSON values."""
        return {
            "understood": dict(self.understood),
            "not_understood": [vars(one) for one in self.not_understood],
            "from_given_piece": dict(self.from_given_piece),
            "chosen_freely": dict(self.chosen_freely),
        }


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a piece is conditioned on, to compare a prompt with."""

    shown: Mapping[str, str]
    """In words, by attribute."""
    stated: frozenset[str]
    """Attributes of `shown` that words or settings state exactly."""
    tempo_bpm: float
    tonality: str | None
    attributes: Mapping[str, str]
    """Class by attribute, "composer" and "tradition" among them."""
    moods: tuple[str, ...]
    plays: Callable[[NamedInstrument], bool]
    """Whether an instrument that the words name is played."""
    excluded: tuple[str, ...]
    """Names of what does not play."""
    has_traditions: bool = False
    """Whether the model knows composers and traditions."""
    from_given_piece: Mapping[str, str] = field(default_factory=dict[str, str])
    """What was taken from a given score, in words, by attribute."""


def understand(
    words: str, settings: StatedSettings, used: Used, ensembles: Sequence[Place] = ()
) -> Understanding:
    """Compares a prompt with what a piece was conditioned on.

    Args:
        words: Text of the prompt.
        settings: What `read_settings` finds in it.
        used: What the piece is conditioned on.
        ensembles: Places of names of ensembles that are played, such as "jazz trio".
    """
    mentions = read_mentions(words)
    changes = [trimmed(words, found.span()) for found in _CHANGE.finditer(words)]
    understood = {name: used.shown[name] for name in used.shown if name in used.stated}
    read: list[Place] = [*ensembles, *mentions.phrases]
    missed: list[tuple[Place, str]] = []
    for name, first, stop in setting_places(words):
        same_key = settings.tonality is not None and settings.tonality == used.tonality
        if name in used.stated or (name == "tonality" and same_key):
            read.append((first, stop))
        elif name in used.from_given_piece:
            missed.append(((first, stop), GIVEN))
        elif name != "tonality" and any(one.isdigit() for one in words[first:stop]):
            impossible = name == "tempo" and read_tempo(words[first:stop]) is None
            missed.append(((first, stop), OUT_OF_RANGE if impossible else UNUSED))
    decided = [*changes, *(place for place, reason in missed if reason == GIVEN)]
    for one in mentions.mentions:
        place = (one.first, one.stop)
        if one.ruled_out or (isinstance(one, NamedInstrument) and used.plays(one)):
            read.append(place)
        elif isinstance(one, NamedInstrument):
            missed.append((place, WITHOUT if one.name in used.excluded else UNUSED))
        elif _is_inside(place, decided):
            continue
        elif _is_used(one, used):
            read.append(place)
            _add(understood, one, used)
        elif not used.has_traditions and one.attribute in ("composer", "tradition"):
            missed.append((place, FOR_SCORES))
        elif words[one.first : one.stop].lower() not in _FUNCTION_WORDS:
            missed.append((place, UNUSED))
    missed = [one for one in missed if not _is_inside(one[0], read)]
    missed += [(place, CONTRADICTED) for place in _contradicted(mentions, settings, used)]
    _add_exclusions(understood, mentions, settings, used)
    known = [*read, *(place for place, _ in missed)]
    missed += [(place, reason) for place, reason in _others(words, known, mentions.unresolved)]
    return Understanding(
        understood=understood,
        not_understood=tuple(
            NotUnderstood(text=words[first:stop], reason=reason)
            for (first, stop), reason in sorted(missed)
        ),
        chosen_freely={
            name: value
            for name, value in used.shown.items()
            if name not in understood and used.from_given_piece.get(name) != value
        },
        from_given_piece={
            name: value for name, value in used.from_given_piece.items() if name not in understood
        },
    )


def read_by_another_encoder(words: str, shown: Mapping[str, str]) -> Understanding:
    """For models whose text encoder is not ours: it reads every word in its own way.

    Args:
        words: Text of the prompt.
        shown: What the model was conditioned on, in words.
    """
    missed = [
        (place, reason)
        for place, reason in _others(words, [], ())
        if reason in (OTHER_SCRIPT, PICTURE, NO_TEXT)
    ]
    kept = read_settings(words).kept
    left_out = {"left out of the words": "what they exclude"} if kept != words else {}
    return Understanding(
        understood=dict(shown) | left_out,
        not_understood=tuple(
            NotUnderstood(text=words[first:stop], reason=reason) for (first, stop), reason in missed
        ),
        chosen_freely={"everything else": "as the model's own text encoder reads the words"},
    )


def _is_used(one: NamedClass, used: Used) -> bool:
    """Whether the piece is conditioned on a class that the words mention."""
    if one.attribute == "tempo" and "tempo" in used.stated:
        return True  # the number says how fast or slow
    if one.attribute == "tempo":
        return used.tempo_bpm > FAST_BPM if one.name == "fast" else used.tempo_bpm < SLOW_BPM
    if one.attribute == "tonality":
        return used.tonality is not None and used.tonality.endswith(one.name)
    if one.attribute == "moods":
        return one.name in used.moods
    if one.attribute == "style" and used.attributes.get("tradition") == one.name:
        return True
    return used.attributes.get(one.attribute) == one.name


def _contradicted(mentions: Mentions, settings: StatedSettings, used: Used) -> list[Place]:
    """Places of classes that the words exclude and request, as in "G minor, not in minor"."""
    return [
        (one.first, one.stop)
        for one in mentions.classes
        if one.ruled_out
        and _is_used(one, used)
        and (
            (one.attribute, one.name) not in settings.avoided
            or (one.attribute == "tonality" and settings.tonality is not None)
        )
    ]


def _add(understood: dict[str, str], one: NamedClass, used: Used) -> None:
    """Adds a class that is used to what was understood."""
    if one.attribute == "moods":
        moods = [*understood.get("mood", "").split(", "), one.name]
        understood["mood"] = ", ".join(dict.fromkeys(mood for mood in moods if mood))
    elif one.attribute == "tempo":
        understood["tempo"] = used.shown.get("tempo", one.name)
    elif one.attribute == "tonality" and "tonality" not in understood:
        understood["mode"] = one.name
    elif one.attribute == "style" and used.attributes.get("tradition") == one.name:
        understood["tradition"] = one.name
    else:
        understood[one.attribute] = used.shown.get(one.attribute, one.name)


def _add_exclusions(
    understood: dict[str, str], mentions: Mentions, settings: StatedSettings, used: Used
) -> None:
    """Adds what does not play, and classes that were avoided."""
    if used.excluded:
        understood["without"] = ", ".join(used.excluded)
    if mentions.only:
        understood["only"] = used.shown.get("instruments", "what is named")
    if settings.avoided:
        understood["not"] = ", ".join(dict.fromkeys(name for _, name in settings.avoided))


# --- words that are in no vocabulary -------------------------------------------------------------

_FUNCTION_WORDS = word_set(
    "a an the this that these those some any each every all both another such one ones "
    "and or but nor so yet then than as if when while where which who whose what how "
    "of in on at by to from for with without into over under between about around through during "
    "after before until upon off up down out near within per via like "
    "i you he she it we they me him her us them my your his its our their mine yours "
    "is are was were be been being am do does did done doing have has had having can could will "
    "would shall should may might must let lets make makes made making give gives want wants "
    "wanted need needs please use uses using used play plays played playing write written compose "
    "composed create created generate add get go goes going keep put feel feels feeling sound "
    "sounds sounding there here very quite really rather too also just only even still more most "
    "less much many lot lots bit little few not no yes not s t re ve ll d m n "
    "music musical piece pieces tune tunes track tracks song songs composition work works score "
    "melody melodies theme themes part parts section sections style styled mood moods tempo beat "
    "key scale mode major minor time signature metre meter bar bars bpm second seconds minute "
    "minutes instrument instruments instrumental instrumentation instrumented accompaniment "
    "accompanied accompanying solo duo duet trio quartet ensemble group band lead leading "
    "featuring features feature including include includes consisting good nice great beautiful "
    "lovely perfect amazing cool best full long short new old something somewhat kind sort type "
    "pattern line lines note notes chord chords harmony harmonies rhythm rhythms rhythmic "
    "two three four five six seven eight nine ten first main simple "
    "nothing none nobody never except exclusively solely purely unaccompanied alone instead "
    "anything everything"
)
"""Words that say nothing on their own about how a piece should be."""
_WORD = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*")
_CHANGE = re.compile(
    r"\b(?:(?:that|which|it|and|then)\s+)*(?:slowly\s+|gradually\s+|suddenly\s+)?"
    r"(?:becom(?:es?|ing)|turn(?:s|ing)?\s+(?:into|to)|build(?:s|ing)?\s+(?:up|to)|"
    r"grow(?:s|ing)?\b|get(?:s|ting)?\s+(?=faster|slower|louder|softer|quieter|more)|"
    r"fad(?:es?|ing)\s+(?:in|out|away)|speed(?:s|ing)?\s+up|slow(?:s|ing)?\s+down|"
    r"start(?:s|ing)?\s+(?:with|off|as|out|slow\w*|soft\w*|quiet\w*|calm\w*)|"
    r"begin(?:s|ning)?\s+(?:with|as|slow\w*|soft\w*|quiet\w*|calm\w*)|"
    r"end(?:s|ing)?\s+(?:with|in|on|as|slow\w*|soft\w*|quiet\w*|loud\w*|calm\w*)|"
    r"(?:accelerando|ritardando|rallentando|crescendo|diminuendo|decrescendo)\b|"
    r"(?:at|towards?|near)\s+the\s+(?:end|beginning|start|middle|climax)|"
    r"(?:in|after)\s+the\s+(?:first|second|last|middle)\s+(?:half|part|section|minute))"
    r"[^,.;:!?]*",
    re.IGNORECASE,
)
"""A phrase about how a piece changes, up to the end of its clause."""
_LENGTH = re.compile(
    r"\b(?:\d+(?:\.\d+)?|one|two|three|four|five|six|eight|ten|twelve|sixteen|twenty|thirty|sixty)"
    r"(?:[\s-]*(?:bars|measures|seconds|secs?|minutes?|mins?)|-second|[\s-]bar(?!\s+blues))"
    r"\b(?:\s+long\b)?",
    re.IGNORECASE,
)
"""How long a piece should be, in bars or in time."""
_IMITATION = re.compile(
    r"\b(?:in\s+the\s+(?:style|manner|spirit|vein)\s+of|(?:sound(?:s|ing)?|something|songs?|"
    r"pieces?|tunes?|tracks?)\s+like|similar\s+to|[àa]\s+la|reminiscent\s+of|cover\s+of)\s+"
    r"([^\W\d_][\w'’.&-]*)\s+([^\W\d_][\w'’.&-]*)",
    re.IGNORECASE,
)
"""Two words that are probably a name, in small letters too."""
_LIKE = re.compile(r"\b(?:like|by|from|of|[àa] la)\s+$", re.IGNORECASE)
_NAME = re.compile(r"(?:[A-Z][\w'’.-]+)(?:\s+(?:[A-Z&][\w'’.-]*|of|the|and|de|van|von))*")


def _is_inside(place: Place, places: Iterable[Place]) -> bool:
    return any(first <= place[0] and place[1] <= stop for first, stop in places)


def _others(
    words: str, known: Sequence[Place], unresolved: Sequence[Place]
) -> list[tuple[Place, str]]:
    """Phrases outside the known places that say something which is not understood, with reasons."""
    found: list[tuple[Place, str]] = [(place, NEGATED) for place in unresolved]
    for change in _CHANGE.finditer(words):
        found.append((trimmed(words, change.span()), CHANGE))
    covered = [*known, *(place for place, _ in found)]
    for length in _LENGTH.finditer(words):
        if not any(first < length.end() and length.start() < stop for first, stop in covered):
            found.append((length.span(), LENGTH))
    covered = [*known, *(place for place, _ in found)]
    names = [
        (one.start(1), one.end(2))
        for one in _IMITATION.finditer(words)
        if not _FUNCTION_WORDS.intersection((one[1].lower(), one[2].lower()))
    ]
    run: list[tuple[Place, str]] = []
    for place, reason in _tokens(words):
        if any(first < place[1] and place[0] < stop for first, stop in covered):
            continue
        if reason == NO_KNOWN_WORD and words[slice(*place)].lower() in _FUNCTION_WORDS:
            continue
        if reason == NO_KNOWN_WORD and _is_artist(words, place, names):
            reason = ARTIST
        if (
            run
            and run[-1][1] == reason
            and not re.search(r"[,.;:!?()\n]|\w", words[run[-1][0][1] : place[0]])
        ):
            run[-1] = ((run[-1][0][0], place[1]), reason)
        else:
            run.append((place, reason))
    return sorted(found + run)


def _tokens(words: str) -> list[tuple[Place, str]]:
    """Words, signs and pictures of a text, each with why it might not be understood."""
    found: list[tuple[Place, str]] = []
    for match in _WORD.finditer(words):
        if not any(one.isalpha() for one in match[0]):
            continue
        latin = all(_is_latin(one) for one in match[0])
        found.append((match.span(), NO_KNOWN_WORD if latin else OTHER_SCRIPT))
    for match in re.finditer(r"[^\w\s]+", words):
        if any(unicodedata.category(one) in ("So", "Sk", "Cs", "Co", "Cn") for one in match[0]):
            reason = NO_TEXT if "\ufffd" in match[0] else PICTURE
            found.append((match.span(), reason))
    if not found and words.strip():  # nothing but punctuation or numbers
        reason = NO_KNOWN_WORD if any(one.isalnum() for one in words) else NO_TEXT
        found.append((trimmed(words, (0, len(words))), reason))
    return sorted(found)


def _is_latin(one: str) -> bool:
    return not one.isalpha() or "LATIN" in unicodedata.name(one, "")


def _is_artist(words: str, place: Place, names: Sequence[Place]) -> bool:
    """Whether a word is part of a name: of two words after "in the style of", of several with
    capitals, or of one with a capital after "like" or "by"."""
    if _is_inside(place, names):
        return True
    if words.istitle() or words.isupper():
        return False
    name = next((one for one in _NAME.finditer(words) if _is_inside(place, [one.span()])), None)
    if name is None or name.start() == 0:
        return False
    return " " in name[0].strip() or _LIKE.search(words[: name.start()]) is not None
