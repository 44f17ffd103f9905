"""What one caption knows and has said, and the phrases for single attributes.

Enters: a `Telling`, which holds the facts, the generator and what has been said, so that nothing is
said twice. Leaves: plain strings, each of which states a fact or nothing at all. The forms built of
them (tags, sentences, wishes) are in `sentences.py`.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

from melisma.data.captions.vocabulary import (
    FAMILY_WORDS,
    INSTRUMENT_SYNONYMS,
    METRE_PHRASES,
    MOOD_WORDS,
    STYLE_TAGS,
    TONIC_SPELLINGS,
    article,
    choose,
    italian_tempi,
    joined,
    tempo_nouns,
    with_article,
)
from melisma.joint.instrument_words import named_families
from melisma.symbolic.instruments import INSTRUMENTS
from melisma.values import Facts
from melisma.values.attributes import program_family

SOLO_FAMILIES = frozenset(
    {"piano", "electric piano", "harpsichord", "organ", "accordion", "guitar", "harp"}
)
"""Families in which one instrument alone is surely one player."""

_ORCHESTRA = frozenset(
    {"strings", "brass", "reeds", "flutes", "harp", "drums", "mallets", "choir", "piano"}
)


class CaptionState:
    """The facts, and what one caption has said of them so far."""

    def __init__(self, *, facts: Facts, rng: np.random.Generator, exact: bool) -> None:
        self.facts = facts
        self.rng = rng
        self.exact = exact
        """Whether tempo and tonality may stand as numbers and names."""
        self.said: set[str] = set()

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, options: tuple[str, ...] | list[str]) -> str:
        return choose(self.rng, options)

    def unsaid(self, attribute: str) -> bool:
        """Whether the attribute is known and not yet said."""
        if attribute in self.said:
            return False
        if attribute == "instruments":
            return bool(self.facts.instruments or self.facts.families)
        value = getattr(self.facts, attribute)
        return value is not None and value != ()

    def say(self, attribute: str, share: float) -> bool:
        """Decide whether to say an attribute now; where it is said, remember that."""
        if not self.unsaid(attribute) or not self.chance(share):
            return False
        self.said.add(attribute)
        return True


@cache
def _instrument_families() -> dict[str, str]:
    return {name: program_family(program, False) for program, name in enumerate(INSTRUMENTS)}


def instrument_synonym(telling: CaptionState, name: str) -> str:
    """The name, or another that people use for the same instrument."""
    return telling.pick(INSTRUMENT_SYNONYMS.get(name, (name,)))


def shown_instruments(telling: CaptionState, most: int = 4) -> list[str]:
    """Names of up to `most` instruments, the prominent ones first; empty where none is known."""
    facts, rng = telling.facts, telling.rng
    telling.said.add("instruments")
    if facts.instruments and not telling.chance(0.12):
        count = min(len(facts.instruments), int(rng.integers(1, most + 1)))
        names = list(facts.instruments[:count])
        if len(names) > 1 and telling.chance(0.2):
            rng.shuffle(names)
        return list(dict.fromkeys(instrument_synonym(telling, name) for name in names))
    count = min(len(facts.families), int(rng.integers(1, most + 1)))
    return list(dict.fromkeys(telling.pick(FAMILY_WORDS[f]) for f in facts.families[:count]))


def is_alone(facts: Facts) -> bool:
    """Whether surely one player is heard."""
    return (
        len(facts.families) == 1
        and len(facts.instruments) <= 1
        and facts.families[0] in SOLO_FAMILIES
    )


def is_pair(facts: Facts) -> bool:
    """Whether two different instruments are heard, neither of them a choir or a kit."""
    return (
        len(facts.instruments) == 2
        and len(facts.families) == 2
        and not {"choir", "drums", "synth"} & set(facts.families)
        and not any("section" in n or "ensemble" in n or "strings" in n for n in facts.instruments)
    )


def forces(telling: CaptionState) -> str | None:
    """A word for the group of players, None where the facts do not decide it."""
    families = set(telling.facts.families)
    if is_alone(telling.facts):
        return telling.pick(("solo", "solo instrument", "one instrument alone"))
    if is_pair(telling.facts):
        return telling.pick(("duo", "duet", "two instruments"))
    if {"strings", "brass"} <= families <= _ORCHESTRA and families & {"reeds", "flutes"}:
        return telling.pick(("orchestra", "full orchestra", "orchestral"))
    if {"brass", "reeds", "drums", "bass"} <= families and telling.facts.style == "swing":
        return telling.pick(("big band", "jazz band"))
    if {"drums", "bass"} <= families and families & {"piano", "guitar", "electric guitar"}:
        return telling.pick(("band", "full band", "combo"))
    if families == {"drums"}:
        return telling.pick(("drums only", "just drums", "percussion only"))
    if families == {"strings"} and len(telling.facts.instruments) >= 3:
        return telling.pick(("string ensemble", "strings only", "chamber music"))
    return telling.pick(("ensemble", "group")) if len(families) >= 3 else None


def tonality_words(telling: CaptionState) -> str:
    """The tonality as a bare name, e.g. "F sharp minor", "Bb major"."""
    assert telling.facts.tonality is not None
    tonic, mode = telling.facts.tonality.split()
    spellings = TONIC_SPELLINGS[tonic]
    name = spellings[0] if telling.chance(0.45) else telling.pick(spellings)
    return f"{name} {mode}"


def tonality_phrase(telling: CaptionState) -> str:
    """ "in D minor", or only the mode where this caption holds no names of tonalities."""
    telling.said.add("tonality")
    assert telling.facts.tonality is not None
    mode = telling.facts.tonality.split()[1]
    if telling.exact:
        name = tonality_words(telling)
        return telling.pick((f"in {name}", f"in {name}", f"in the key of {name}"))
    return telling.pick((f"in a {mode} key", f"in a {mode} key", f"in {mode}"))


def tempo_number(telling: CaptionState) -> str:
    """The tempo as a number with its unit: "90 bpm"."""
    assert telling.facts.tempo_bpm is not None
    bpm = round(telling.facts.tempo_bpm)
    return telling.pick(
        (f"{bpm} bpm", f"{bpm} bpm", f"{bpm} BPM", f"{bpm} beats per minute", f"{bpm}bpm")
    )


def tempo_phrase(telling: CaptionState) -> str:
    """An adverbial: "at 90 bpm", "at a slow tempo", "marked andante"."""
    telling.said.add("tempo_bpm")
    bpm = telling.facts.tempo_bpm
    assert bpm is not None
    if telling.exact:
        number = tempo_number(telling)
        return telling.pick(
            (f"at {number}", f"at {number}", f"at around {number}", f"at tempo {round(bpm)}",
             f"with a tempo of {number}")
        )  # fmt: skip
    italian = italian_tempi(bpm)
    if italian and telling.chance(0.15):
        return telling.pick((f"marked {telling.pick(italian)}", f"({telling.pick(italian)})"))
    return "at " + telling.pick(tempo_nouns(bpm))


def metre_phrase(telling: CaptionState) -> str:
    """ "in 3/4", "in waltz time"."""
    telling.said.add("metre")
    assert telling.facts.metre is not None
    return telling.pick(METRE_PHRASES[telling.facts.metre])


def mood_words(telling: CaptionState, most: int = 2) -> list[str]:
    """One to `most` adjectives for different moods, or two for the same one."""
    telling.said.add("moods")
    moods = list(telling.facts.moods)
    telling.rng.shuffle(moods)
    if most > 1 and telling.chance(0.2):
        moods = [moods[0], *moods]
    count = int(telling.rng.integers(1, most + 1))
    return list(dict.fromkeys(telling.pick(MOOD_WORDS[mood]) for mood in moods[:count]))


def composer_name(telling: CaptionState) -> str | None:
    """ "Chopin" or "Frédéric Chopin" from catalogue forms; None where it is nobody's name."""
    if telling.facts.style in ("game", "drum groove"):
        return None  # their authors' names tell a listener nothing
    raw = telling.facts.composer or ""
    name = re.sub(r"\(.*?\)|[\d~?]+\s*[-–]\s*[\d~?]*", "", raw).strip(" .;,")
    name = re.sub(r"^(?:[A-Z]\.\s*)+", "", name)
    nobody = r"anon|trad|unknown|various|project|volks|folk|contributors|tune|english|\d|/|&| and "
    if len(name) < 3 or re.search(nobody, name, re.I):
        return None
    if "," in name:
        last, first = (part.strip() for part in name.split(",", 1))
        return last if telling.chance(0.6) else f"{first} {last}".strip()
    return name.split()[-1] if telling.chance(0.6) else name


def composer_phrase(telling: CaptionState) -> str:
    """ "in the style of Chopin", or nothing."""
    telling.said.add("composer")
    name = composer_name(telling)
    if name is None:
        return ""
    return telling.pick((f"in the style of {name}", f"in the manner of {name}", f"like {name}"))


_FORCES_OF_TRADITION: tuple[tuple[str, frozenset[str]], ...] = (
    ("quartet", frozenset({"strings"})),
    ("choral", frozenset({"choir"})),
    ("orchestral", frozenset({"strings", "brass"})),
    ("lute", frozenset({"guitar", "harp"})),
)


def tradition_name(telling: CaptionState) -> str | None:
    """The tradition, unless it names players who are not heard (scores are re-orchestrated)."""
    name, families = telling.facts.tradition, set(telling.facts.families)
    if name is None or not set(named_families(name)[0]) <= families:
        return None
    style = telling.facts.style
    if style and "style" in telling.said and any(tag in name for tag in STYLE_TAGS[style]):
        return None  # said already
    for word, needed in _FORCES_OF_TRADITION:
        if word in name and not needed & families:
            return None
    return name


def tradition_phrase(telling: CaptionState) -> str:
    """ "in the tradition of Polish church music", "like a nocturne", or nothing."""
    telling.said.add("tradition")
    name = tradition_name(telling)
    if name is None:
        return ""
    if is_mass(name):
        return telling.pick((f"in the tradition of {name}", f"in the style of {name}"))
    one = f"{article(name)} {name}"
    return telling.pick((f"like {one}", f"in the manner of {one}"))


def tradition_sentence(telling: CaptionState) -> str:
    """ "It is a kind of polonaise.", or nothing."""
    telling.said.add("tradition")
    name = tradition_name(telling)
    if name is None:
        return ""
    if is_mass(name):
        return telling.pick((f"It is {name}.", f"It belongs to {name}.", f"It sounds like {name}."))
    return telling.pick((f"It is a kind of {name}.", f"It sounds like {article(name)} {name}."))


def is_mass(name: str) -> bool:
    """Whether a repertoire stands without an article (church music, unlike a polonaise)."""
    return name.endswith(("music", "drumming", "guitar", "jazz", "ragtime", "opera"))


def lead_name(telling: CaptionState) -> str:
    """The instrument that leads where only one is of the leading family, or else the family."""
    facts = telling.facts
    assert facts.lead is not None
    of_lead = [n for n in facts.instruments if _instrument_families().get(n) == facts.lead]
    if len(of_lead) == 1 and telling.chance(0.75):
        return instrument_synonym(telling, of_lead[0])
    return FAMILY_WORDS[facts.lead][0]


def backing(telling: CaptionState) -> str:
    """One or two families behind the lead, as a list in words; "" where there is none."""
    others = [f for f in telling.facts.families if f != telling.facts.lead][:2]
    names = [telling.pick(FAMILY_WORDS[f]) for f in others]
    return joined(telling.rng, list(dict.fromkeys(names)))


def lead_phrase(telling: CaptionState) -> str:
    """Who carries the melody: "with a flute melody over strings"."""
    telling.said.add("lead")
    name, over = lead_name(telling), backing(telling)
    options = [f"led by {with_article(name)}", f"with the {name} in front",
               f"with the {name} carrying the melody", f"with the melody on {name}",
               f"with {with_article(name)} as the lead"]  # fmt: skip
    if over:
        options += [f"with {with_article(name)} over {over}", f"with {name} melody over {over}",
                    f"with {with_article(name)} playing the tune over {over}"]  # fmt: skip
    return telling.pick(options)


def instrument_phrase(telling: CaptionState) -> str:
    """ "for flute and piano", "with a clarinet and strings", "on the organ"."""
    names = shown_instruments(telling)
    if not names:
        return ""
    plain = joined(telling.rng, names)
    if is_alone(telling.facts) and telling.chance(0.7):
        return telling.pick(
            (f"for solo {plain}", f"for {plain} alone", f"on {plain}", f"on solo {plain}",
             f"for {plain}", f"played on the {plain}", f"with only {with_article(plain)}",
             f"for {with_article(plain)} on its own")
        )  # fmt: skip
    dressed = joined(telling.rng, [with_article(name) for name in names])
    return telling.pick(
        (f"for {plain}", f"for {plain}", f"with {plain}", f"with {dressed}", f"featuring {dressed}",
         f"played by {dressed}", f"on {plain}")
    )  # fmt: skip
