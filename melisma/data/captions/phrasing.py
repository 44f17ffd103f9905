"""State of one caption under construction, and phrases for single attributes.

Inputs: a `CaptionState`, which holds the facts, the random generator and the attributes already
mentioned, so that nothing is mentioned twice. Outputs: strings, each of which states one fact or is
empty. `sentences.py` combines them into tags, sentences and requests.
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
"""Families whose instruments, if alone, certainly mean a single player."""

_ORCHESTRA = frozenset(
    {"strings", "brass", "reeds", "flutes", "harp", "drums", "mallets", "choir", "piano"}
)


class CaptionState:
    """Facts about a clip, and which of them one caption has mentioned so far.

    Args:
        facts: What is known about the clip.
        rng: Random generator of all choices of wording.
        exact: Whether tempo and key may appear as a number and a name ("90 bpm", "D minor").
    """

    def __init__(self, *, facts: Facts, rng: np.random.Generator, exact: bool) -> None:
        self.facts = facts
        self.rng = rng
        self.exact = exact
        self.mentioned: set[str] = set()
        """Names of the attributes of `Facts` that the caption has mentioned."""

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def pick(self, options: tuple[str, ...] | list[str]) -> str:
        """Choose one of the options, all equally likely; nothing with voices is instrumental."""
        if "choir" in self.facts.families:
            options = [one for one in options if "instrumental" not in one] or options
        return choose(self.rng, options)

    def unmentioned(self, attribute: str) -> bool:
        """Whether an attribute is known and not yet mentioned."""
        if attribute in self.mentioned:
            return False
        if attribute == "instruments":
            return bool(self.facts.instruments or self.facts.families)
        value = getattr(self.facts, attribute)
        return value is not None and value != ()

    def mention(self, attribute: str, probability: float) -> bool:
        """Decide at random whether to mention an attribute now, and record it if so.

        Args:
            attribute: Name of a field of `Facts`.
            probability: Probability of mentioning it, if it is known and not yet mentioned.

        Returns:
            Whether the caller is to mention it.
        """
        if not self.unmentioned(attribute) or not self.chance(probability):
            return False
        self.mentioned.add(attribute)
        return True


@cache
def _instrument_families() -> dict[str, str]:
    return {name: program_family(program, False) for program, name in enumerate(INSTRUMENTS)}


def instrument_synonym(state: CaptionState, name: str) -> str:
    """The instrument's name or a synonym, chosen at random."""
    return state.pick(INSTRUMENT_SYNONYMS.get(name, (name,)))


def instrument_names(state: CaptionState, limit: int = 4) -> list[str]:
    """Names of instruments or of their families, and record that instruments were mentioned.

    Args:
        state: State of the caption.
        limit: Largest number of names.

    Returns:
        1 to `limit` different names, usually the most prominent first; empty if none is known.
    """
    facts, rng = state.facts, state.rng
    state.mentioned.add("instruments")
    if facts.instruments and not state.chance(0.12):
        count = min(len(facts.instruments), int(rng.integers(1, limit + 1)))
        names = list(facts.instruments[:count])
        if len(names) > 1 and state.chance(0.2):
            rng.shuffle(names)
        return list(dict.fromkeys(instrument_synonym(state, name) for name in names))
    count = min(len(facts.families), int(rng.integers(1, limit + 1)))
    return list(dict.fromkeys(state.pick(FAMILY_WORDS[f]) for f in facts.families[:count]))


def is_solo(facts: Facts) -> bool:
    """Whether the facts certainly describe a single player."""
    return (
        len(facts.families) == 1
        and len(facts.instruments) <= 1
        and facts.families[0] in SOLO_FAMILIES
    )


def is_duo(facts: Facts) -> bool:
    """Whether the facts describe two different instruments, neither a choir, drums nor a synth."""
    return (
        len(facts.instruments) == 2
        and len(facts.families) == 2
        and not {"choir", "drums", "synth"} & set(facts.families)
        and not any("section" in n or "ensemble" in n or "strings" in n for n in facts.instruments)
    )


def ensemble_name(state: CaptionState) -> str | None:
    """A name for the ensemble, e.g. "duo" or "big band"; None if the facts determine none."""
    families = set(state.facts.families)
    if is_solo(state.facts):
        return state.pick(("solo", "solo instrument", "one instrument alone"))
    if is_duo(state.facts):
        return state.pick(("duo", "duet", "two instruments"))
    if {"strings", "brass"} <= families <= _ORCHESTRA and families & {"reeds", "flutes"}:
        return state.pick(("orchestra", "full orchestra", "orchestral"))
    if {"brass", "reeds", "drums", "bass"} <= families and state.facts.style == "swing":
        return state.pick(("big band", "jazz band"))
    if {"drums", "bass"} <= families and families & {"piano", "guitar", "electric guitar"}:
        return state.pick(("band", "full band", "combo"))
    if families == {"drums"}:
        return state.pick(("drums only", "just drums", "percussion only"))
    if families == {"strings"} and len(state.facts.instruments) >= 3:
        return state.pick(("string ensemble", "strings only", "chamber music"))
    return state.pick(("ensemble", "group")) if len(families) >= 3 else None


def tonality_name(state: CaptionState) -> str:
    """The name of the key, e.g. "F sharp minor", "Bb major"."""
    assert state.facts.tonality is not None
    tonic, mode = state.facts.tonality.split()
    spellings = TONIC_SPELLINGS[tonic]
    name = spellings[0] if state.chance(0.45) else state.pick(spellings)
    return f"{name} {mode}"


def tonality_phrase(state: CaptionState) -> str:
    """ "in D minor"; only the mode ("in a minor key") in a caption without exact values."""
    state.mentioned.add("tonality")
    assert state.facts.tonality is not None
    mode = state.facts.tonality.split()[1]
    if state.exact:
        name = tonality_name(state)
        return state.pick((f"in {name}", f"in {name}", f"in the key of {name}"))
    return state.pick((f"in a {mode} key", f"in a {mode} key", f"in {mode}"))


def tempo_number(state: CaptionState) -> str:
    """The tempo as a number with its unit: "90 bpm"."""
    assert state.facts.tempo_bpm is not None
    bpm = round(state.facts.tempo_bpm)
    return state.pick(
        (f"{bpm} bpm", f"{bpm} bpm", f"{bpm} BPM", f"{bpm} beats per minute", f"{bpm}bpm")
    )


def tempo_phrase(state: CaptionState) -> str:
    """An adverbial of tempo: "at 90 bpm", "at a slow tempo", "marked andante"."""
    state.mentioned.add("tempo_bpm")
    bpm = state.facts.tempo_bpm
    assert bpm is not None
    if state.exact:
        number = tempo_number(state)
        return state.pick(
            (f"at {number}", f"at {number}", f"at around {number}", f"at tempo {round(bpm)}",
             f"with a tempo of {number}")
        )  # fmt: skip
    italian = italian_tempi(bpm)
    if italian and state.chance(0.15):
        return state.pick((f"marked {state.pick(italian)}", f"({state.pick(italian)})"))
    return "at " + state.pick(tempo_nouns(bpm))


def metre_phrase(state: CaptionState) -> str:
    """An adverbial of metre: "in 3/4", "in waltz time"."""
    state.mentioned.add("metre")
    assert state.facts.metre is not None
    return state.pick(METRE_PHRASES[state.facts.metre])


def mood_words(state: CaptionState, limit: int = 2) -> list[str]:
    """1 to `limit` adjectives for the moods, sometimes two of them for the same mood."""
    state.mentioned.add("moods")
    moods = list(state.facts.moods)
    state.rng.shuffle(moods)
    if limit > 1 and state.chance(0.2):
        moods = [moods[0], *moods]
    count = int(state.rng.integers(1, limit + 1))
    return list(dict.fromkeys(state.pick(MOOD_WORDS[mood]) for mood in moods[:count]))


def composer_name(state: CaptionState) -> str | None:
    """The composer's name in ordinary form, e.g. "Chopin" for "Chopin, Frédéric".

    None if the field is empty, names no person ("Anonymous"), or means nothing to a listener.
    """
    if state.facts.style in ("game", "drum groove"):
        return None  # listeners do not know the authors of these
    raw = state.facts.composer or ""
    name = re.sub(r"\(.*?\)|[\d~?]+\s*[-–]\s*[\d~?]*", "", raw).strip(" .;,")
    name = re.sub(r"^(?:[A-Z]\.\s*)+", "", name)
    no_name = r"anon|trad|unknown|various|project|volks|folk|contributors|tune|english|\d|/|&| and "
    if len(name) < 3 or re.search(no_name, name, re.I):
        return None
    if "," in name:
        last, first = (part.strip() for part in name.split(",", 1))
        return last if state.chance(0.6) else f"{first} {last}".strip()
    return name.split()[-1] if state.chance(0.6) else name


def composer_phrase(state: CaptionState) -> str:
    """ "in the style of Chopin", or "" if the composer has no usable name."""
    state.mentioned.add("composer")
    name = composer_name(state)
    if name is None:
        return ""
    return state.pick((f"in the style of {name}", f"in the manner of {name}", f"like {name}"))


_FORCES_OF_TRADITION: tuple[tuple[str, frozenset[str]], ...] = (
    ("quartet", frozenset({"strings"})),
    ("choral", frozenset({"choir"})),
    ("orchestral", frozenset({"strings", "brass"})),
    ("lute", frozenset({"guitar", "harp"})),
)


def tradition_name(state: CaptionState) -> str | None:
    """The tradition, or None if it repeats the style or names instruments that the clip lacks.

    (It may name such instruments because scores are re-orchestrated.)
    """
    name, families = state.facts.tradition, set(state.facts.families)
    if name is None or not set(named_families(name)[0]) <= families:
        return None
    style = state.facts.style
    if style and "style" in state.mentioned and any(tag in name for tag in STYLE_TAGS[style]):
        return None  # the style has said it already
    for word, needed in _FORCES_OF_TRADITION:
        if word in name and not needed & families:
            return None
    return name


def tradition_phrase(state: CaptionState) -> str:
    """ "in the tradition of Polish church music", "like a nocturne", or "" if it does not apply."""
    state.mentioned.add("tradition")
    name = tradition_name(state)
    if name is None:
        return ""
    if is_mass(name):
        return state.pick((f"in the tradition of {name}", f"in the style of {name}"))
    one = f"{article(name)} {name}"
    return state.pick((f"like {one}", f"in the manner of {one}"))


def tradition_sentence(state: CaptionState) -> str:
    """ "It is a kind of polonaise.", or "" if the tradition does not apply."""
    state.mentioned.add("tradition")
    name = tradition_name(state)
    if name is None:
        return ""
    if is_mass(name):
        return state.pick((f"It is {name}.", f"It belongs to {name}.", f"It sounds like {name}."))
    return state.pick((f"It is a kind of {name}.", f"It sounds like {article(name)} {name}."))


def is_mass(name: str) -> bool:
    """Whether the name of a tradition is a mass noun ("church music", unlike "polonaise")."""
    return name.endswith(("music", "drumming", "guitar", "jazz", "ragtime", "opera"))


def lead_name(state: CaptionState) -> str:
    """The lead instrument if only one belongs to the lead family, otherwise the family's name."""
    facts = state.facts
    assert facts.lead is not None
    in_lead_family = [n for n in facts.instruments if _instrument_families().get(n) == facts.lead]
    if len(in_lead_family) == 1 and state.chance(0.75):
        return instrument_synonym(state, in_lead_family[0])
    return FAMILY_WORDS[facts.lead][0]


def backing(state: CaptionState) -> str:
    """Up to two families other than the lead, as a list in words; "" if there are none."""
    others = [f for f in state.facts.families if f != state.facts.lead][:2]
    names = [state.pick(FAMILY_WORDS[f]) for f in others]
    return joined(state.rng, list(dict.fromkeys(names)))


def lead_phrase(state: CaptionState) -> str:
    """A phrase about the lead: "with a flute melody over strings"."""
    state.mentioned.add("lead")
    name, behind = lead_name(state), backing(state)
    options = [f"led by {with_article(name)}", f"with the {name} in front",
               f"with the {name} carrying the melody", f"with the melody on {name}",
               f"with {with_article(name)} as the lead"]  # fmt: skip
    if behind:
        options += [f"with {with_article(name)} over {behind}", f"with {name} melody over {behind}",
                    f"with {with_article(name)} playing the tune over {behind}"]  # fmt: skip
    return state.pick(options)


def instrument_phrase(state: CaptionState) -> str:
    """ "for flute and piano", "with a clarinet and strings"; "" if no instrument is known."""
    names = instrument_names(state)
    if not names:
        return ""
    plain = joined(state.rng, names)
    if is_solo(state.facts) and state.chance(0.7):
        return state.pick(
            (f"for solo {plain}", f"for {plain} alone", f"on {plain}", f"on solo {plain}",
             f"for {plain}", f"played on the {plain}", f"with only {with_article(plain)}",
             f"for {with_article(plain)} on its own")
        )  # fmt: skip
    nouns = joined(state.rng, [with_article(name) for name in names])
    return state.pick(
        (f"for {plain}", f"for {plain}", f"with {plain}", f"with {nouns}", f"featuring {nouns}",
         f"played by {nouns}", f"on {plain}")
    )  # fmt: skip
