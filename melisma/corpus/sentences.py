"""The forms a caption takes: tags, fragments, one sentence, a wish, a description.

Enters: a `Telling`, which holds the facts, the generator and what this caption has said already, so
that nothing is said twice. Leaves: plain strings. Every phrase states a fact or nothing at all.
"""

from __future__ import annotations

import re

import numpy as np

from melisma.corpus.words import (
    ARTICULATION_WORDS,
    DENSITY_WORDS,
    DYNAMICS_WORDS,
    FAMILY_WORDS,
    INSTRUMENT_SYNONYMS,
    METRE_PHRASES,
    METRE_TAGS,
    MOOD_WORDS,
    PLURAL_NAMES,
    REGISTER_WORDS,
    STYLE_MANNERS,
    STYLE_NOUNS,
    STYLE_TAGS,
    TONIC_SPELLINGS,
    article,
    choose,
    italian_tempi,
    joined,
    tempo_adjectives,
    tempo_nouns,
    with_article,
)
from melisma.values import Facts

SOLO_FAMILIES = frozenset(
    {"piano", "electric piano", "harpsichord", "organ", "accordion", "guitar", "harp"}
)
"""Families in which one instrument alone is surely one player."""

GENERIC_NOUNS = (
    "piece", "tune", "piece of music", "instrumental", "track", "instrumental piece",
    "composition", "melody", "theme", "little piece",
)  # fmt: skip


class Telling:
    """The facts, and what one caption has said of them so far."""

    def __init__(self, *, facts: Facts, rng: np.random.Generator, exact: bool) -> None:
        self.facts = facts
        self.rng = rng
        self.exact = exact
        self.said: set[str] = set()

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, options: tuple[str, ...] | list[str]) -> str:
        return choose(self.rng, options)

    def untold(self, attribute: str) -> bool:
        """Whether the attribute is known and not yet said."""
        if attribute in self.said:
            return False
        if attribute == "instruments":
            return bool(self.facts.instruments or self.facts.families)
        value = getattr(self.facts, attribute)
        return value is not None and value != ()


def shown_instruments(telling: Telling, most: int = 4) -> list[str]:
    """Names of up to `most` instruments, the prominent ones first; empty where none is known."""
    facts, rng = telling.facts, telling.rng
    telling.said.add("instruments")
    if facts.instruments and not telling.chance(0.12):
        count = min(len(facts.instruments), int(rng.integers(1, most + 1)))
        names = list(facts.instruments[:count])
        if len(names) > 1 and telling.chance(0.2):
            rng.shuffle(names)
        return [telling.pick(INSTRUMENT_SYNONYMS.get(n.lower(), (n,))) for n in names]
    count = min(len(facts.families), int(rng.integers(1, most + 1)))
    return [telling.pick(FAMILY_WORDS[f]) for f in facts.families[:count]]


def is_alone(facts: Facts) -> bool:
    """Whether surely one player is heard."""
    return (
        len(facts.families) == 1
        and len(facts.instruments) <= 1
        and facts.families[0] in SOLO_FAMILIES
    )


def forces(facts: Facts, rng: np.random.Generator) -> str | None:
    """A word for the group of players, None where the facts do not decide it."""
    families = set(facts.families)
    if is_alone(facts):
        return choose(rng, ("solo", "solo instrument", "one instrument alone"))
    if len(facts.instruments) == 2 and len(families) == 2:
        return choose(rng, ("duo", "duet"))
    if {"strings", "brass"} <= families and families & {"reeds", "flutes"}:
        return choose(rng, ("orchestra", "full orchestra", "orchestral"))
    if {"drums", "bass"} <= families and families & {"piano", "guitar", "electric guitar"}:
        return choose(rng, ("band", "full band", "combo"))
    if families == {"drums"}:
        return choose(rng, ("drums only", "just drums", "percussion only"))
    if len(families) >= 3:
        return choose(rng, ("ensemble", "small ensemble", "group"))
    return None


def tonality_words(telling: Telling) -> str:
    """The tonality as a bare name, e.g. "F sharp minor", "Bb major"."""
    assert telling.facts.tonality is not None
    tonic, mode = telling.facts.tonality.split()
    spellings = TONIC_SPELLINGS[tonic]
    name = spellings[0] if telling.chance(0.45) else telling.pick(spellings)
    return f"{name} {mode}"


def tonality_phrase(telling: Telling) -> str:
    """" in D minor", or only the mode where this caption holds no numbers."""
    telling.said.add("tonality")
    assert telling.facts.tonality is not None
    mode = telling.facts.tonality.split()[1]
    if telling.exact:
        name = tonality_words(telling)
        return telling.pick(
            [f"in {name}", f"in {name}", f"in the key of {name}", f"in the tonality of {name}"]
        )
    return telling.pick([f"in a {mode} key", f"in a {mode} key", f"in {mode}", f"in a {mode} mode"])


def tempo_number(telling: Telling) -> str:
    assert telling.facts.tempo_bpm is not None
    bpm = round(telling.facts.tempo_bpm)
    return telling.pick(
        [f"{bpm} bpm", f"{bpm} bpm", f"{bpm} BPM", f"{bpm} beats per minute", f"{bpm}bpm"]
    )


def tempo_phrase(telling: Telling) -> str:
    """An adverbial: "at 90 bpm", "at a slow tempo", "played slowly"."""
    telling.said.add("tempo_bpm")
    bpm = telling.facts.tempo_bpm
    assert bpm is not None
    if telling.exact:
        number = tempo_number(telling)
        return telling.pick(
            [f"at {number}", f"at {number}", f"around {number}", f"tempo {round(bpm)}",
             f"with a tempo of {number}"]
        )  # fmt: skip
    italian = italian_tempi(bpm)
    if italian and telling.chance(0.15):
        return telling.pick([f"marked {telling.pick(italian)}", f"({telling.pick(italian)})"])
    return "at " + telling.pick(tempo_nouns(bpm))


def mood_words(telling: Telling, most: int = 2) -> list[str]:
    telling.said.add("moods")
    moods = list(telling.facts.moods)
    telling.rng.shuffle(moods)
    words = [telling.pick(MOOD_WORDS[m]) for m in moods[: int(telling.rng.integers(1, most + 1))]]
    return list(dict.fromkeys(words))


def composer_name(telling: Telling) -> str | None:
    """"Chopin" or "Frédéric Chopin" from catalogue forms; None where it is nobody's name."""
    raw = telling.facts.composer or ""
    name = re.sub(r"\(.*?\)|[\d~?]+-[\d~?]+", "", raw).strip(" .;")
    if not name or re.search(r"anon|trad|unknown|various|project|volks", name, re.I):
        return None
    if "," in name:
        last, first = (part.strip() for part in name.split(",", 1))
        name = f"{first} {last}".strip()
        return last if telling.chance(0.6) else name
    return name.split()[-1] if telling.chance(0.6) else name


def tags(telling: Telling) -> str:
    """Comma-separated tags in any order: "piano, waltz, slow, D minor"."""
    facts, said = telling.facts, telling.said
    found: list[str] = []
    if telling.untold("style") and telling.chance(0.75) and facts.style:
        found.append(telling.pick(STYLE_TAGS[facts.style]))
    if telling.untold("instruments") and telling.chance(0.85):
        found += shown_instruments(telling)
        group = forces(facts, telling.rng)
        if group and telling.chance(0.3):
            found.append(group)
    if telling.untold("tempo_bpm") and facts.tempo_bpm and telling.chance(0.7):
        found.append(_tempo_tag(telling, facts.tempo_bpm))
    if telling.untold("tonality") and facts.tonality and telling.chance(0.6):
        mode = facts.tonality.split()[1]
        found.append(
            tonality_words(telling) if telling.exact else telling.pick([f"{mode} key", mode])
        )
    if telling.untold("moods") and telling.chance(0.6):
        found += mood_words(telling, most=3)
    found += [
        telling.pick(words[value])
        for name, share, words in _QUALITIES
        if (value := getattr(facts, name)) and name not in said and telling.chance(share)
    ]
    if facts.metre and telling.chance(0.35):
        found.append(telling.pick(METRE_TAGS[facts.metre]))
    if facts.tradition and telling.chance(0.3):
        found.append(facts.tradition)
    if (name := composer_name(telling)) and telling.chance(0.2):
        found.append(name)
    if not found:
        found = [telling.pick(GENERIC_NOUNS), *shown_instruments(telling)]
    telling.rng.shuffle(found)
    found = list(dict.fromkeys(word for word in found if word))[:9]
    return telling.pick([", ", ", ", ", ", " "]).join(found)


_QUALITIES = (
    ("dynamics", 0.25, DYNAMICS_WORDS),
    ("density", 0.15, DENSITY_WORDS),
    ("register", 0.15, REGISTER_WORDS),
    ("articulation", 0.15, ARTICULATION_WORDS),
)


def _tempo_tag(telling: Telling, tempo_bpm: float) -> str:
    telling.said.add("tempo_bpm")
    if telling.exact:
        return tempo_number(telling)
    italian = italian_tempi(tempo_bpm)
    if italian and telling.chance(0.2):
        return telling.pick(italian)
    return telling.pick([*tempo_adjectives(tempo_bpm), _tempo_level(tempo_bpm) + " tempo"])


def _tempo_level(tempo_bpm: float) -> str:
    if tempo_bpm < 80:
        return "slow"
    return "medium" if tempo_bpm < 112 else "fast"


def short_phrase(telling: Telling) -> str:
    """A fragment without a verb: "slow tender waltz for flute and harp in D minor"."""
    facts = telling.facts
    parts = [*adjectives(telling), head_noun(telling)]
    if telling.untold("instruments") and telling.chance(0.75):
        parts.append(instrument_phrase(telling))
    parts += _closing_phrases(telling, 0.55)
    if facts.lead and telling.chance(0.15):
        parts.append(lead_phrase(telling))
    return " ".join(part for part in parts if part)


def adjectives(telling: Telling, most: int = 3) -> list[str]:
    """Up to `most` adjectives before the noun, joined as people join them."""
    facts, found = telling.facts, list[str]()
    if telling.untold("moods") and telling.chance(0.6):
        found += mood_words(telling)
    if (
        telling.untold("tempo_bpm")
        and facts.tempo_bpm
        and not telling.exact
        and telling.chance(0.5)
    ):
        telling.said.add("tempo_bpm")
        found.insert(0, telling.pick(tempo_adjectives(facts.tempo_bpm)))
    if facts.dynamics in ("soft", "loud") and telling.untold("dynamics") and telling.chance(0.2):
        telling.said.add("dynamics")
        found.append(telling.pick(DYNAMICS_WORDS[facts.dynamics][:3]))
    if facts.density in ("sparse", "busy") and telling.untold("density") and telling.chance(0.12):
        telling.said.add("density")
        found.append(telling.pick(DENSITY_WORDS[facts.density][:2]))
    found = list(dict.fromkeys(found))[:most]
    if len(found) < 2:
        return found
    if telling.chance(0.3):
        return [" and ".join([", ".join(found[:-1]), found[-1]])]
    return [", ".join(found)] if telling.chance(0.5) else found


def head_noun(telling: Telling) -> str:
    """What the piece is: its style's noun, its players, or just "piece"."""
    facts = telling.facts
    if telling.untold("style") and facts.style and telling.chance(0.75):
        telling.said.add("style")
        if telling.chance(0.15):
            noun = telling.pick(GENERIC_NOUNS)
            return f"{noun} {telling.pick(STYLE_MANNERS[facts.style])}"
        return telling.pick(STYLE_NOUNS[facts.style])
    if telling.untold("instruments") and is_alone(facts) and telling.chance(0.5):
        name = shown_instruments(telling, most=1)[0]
        return telling.pick([f"{name} solo", f"solo {name} piece", f"{name} piece"])
    if telling.untold("instruments") and len(facts.instruments) == 2 and telling.chance(0.3):
        telling.said.add("instruments")
        return f"{facts.instruments[0]} and {facts.instruments[1]} duet"
    return telling.pick(GENERIC_NOUNS)


def instrument_phrase(telling: Telling) -> str:
    """"for flute and piano", "with a clarinet and strings", "on the organ"."""
    names = shown_instruments(telling)
    if not names:
        return ""
    plain = joined(telling.rng, names)
    if is_alone(telling.facts) and telling.chance(0.6):
        return telling.pick(
            [f"for solo {plain}", f"for {plain} alone", f"on {plain}", f"on solo {plain}",
             f"for {plain}", f"played on the {plain}", f"with only {with_article(plain)}"]
        )  # fmt: skip
    dressed = joined(telling.rng, [with_article(name) for name in names])
    return telling.pick(
        [f"for {plain}", f"for {plain}", f"with {plain}", f"with {dressed}", f"featuring {dressed}",
         f"played by {dressed}", f"using {plain}"]
    )  # fmt: skip


def lead_phrase(telling: Telling) -> str:
    """Who carries the melody: "with the flute leading"."""
    telling.said.add("lead")
    name = lead_name(telling)
    over = _backing(telling)
    options = [f"led by {name}", f"with {name} in front", f"with {name} carrying the melody",
               f"with the melody on {name}", f"with {name} as the lead"]  # fmt: skip
    if over:
        options += [f"with {name} over {over}", f"with {name} melody over {over}"]
    return telling.pick(options)


def lead_name(telling: Telling) -> str:
    """A word for the leading family: the first instrument of that family, or the family."""
    facts = telling.facts
    assert facts.lead is not None
    first = facts.families[0] if facts.families else None
    if facts.instruments and first == facts.lead and telling.chance(0.6):
        name = facts.instruments[0]
        return telling.pick(INSTRUMENT_SYNONYMS.get(name.lower(), (name,)))
    return telling.pick(FAMILY_WORDS[facts.lead][:1])


def _backing(telling: Telling) -> str:
    others = [f for f in telling.facts.families if f != telling.facts.lead][:2]
    return joined(telling.rng, [telling.pick(FAMILY_WORDS[f]) for f in others])


def _closing_phrases(telling: Telling, share: float) -> list[str]:
    """Tempo, tonality, metre, composer and the like, to follow the noun."""
    facts, found = telling.facts, list[str]()
    if telling.untold("tempo_bpm") and telling.chance(share + 0.2 * telling.exact):
        found.append(tempo_phrase(telling))
    if telling.untold("tonality") and telling.chance(share + 0.2 * telling.exact):
        found.append(tonality_phrase(telling))
    if telling.untold("metre") and facts.metre and telling.chance(0.2):
        telling.said.add("metre")
        found.append(telling.pick(METRE_PHRASES[facts.metre]))
    if telling.untold("style") and facts.style and telling.chance(0.25):
        telling.said.add("style")
        found.append(telling.pick(STYLE_MANNERS[facts.style]))
    if telling.untold("composer") and telling.chance(0.2):
        telling.said.add("composer")
        if name := composer_name(telling):
            found.append(telling.pick([f"in the style of {name}", f"like {name}", f"by {name}"]))
    telling.rng.shuffle(found)
    return found


def one_sentence(telling: Telling, scene: str) -> str:
    """A sentence about the whole piece; `scene` is a clause with its leading space or nothing."""
    noun = " ".join([*adjectives(telling), head_noun(telling)])
    rest = [instrument_phrase(telling)] if telling.untold("instruments") else []
    rest += _closing_phrases(telling, 0.45)
    if telling.untold("lead") and telling.chance(0.2):
        rest.append(lead_phrase(telling))
    body = " ".join([noun, *(r for r in rest if r)])
    opening = telling.pick(
        ["{a} {b}", "this is {a} {b}", "{a} {b}", "we hear {a} {b}", "here is {a} {b}",
         "the recording features {a} {b}", "this music is {a} {b}", "you can hear {a} {b}"]
    )  # fmt: skip
    text = opening.format(a=article(body), b=body) + scene + "."
    return text[0].upper() + text[1:]


def imperative(telling: Telling, scene: str) -> str:
    """A wish: "write me a slow waltz for harp"."""
    noun = " ".join([*adjectives(telling), head_noun(telling)])
    rest = [instrument_phrase(telling)] if telling.chance(0.7) else []
    rest += _closing_phrases(telling, 0.45)
    body = " ".join([noun, *(r for r in rest if r)])
    opening = telling.pick(
        ["write me {a} {b}", "play {a} {b}", "make {a} {b}", "I want {a} {b}", "give me {a} {b}",
         "compose {a} {b}", "can you play {a} {b}", "I'd like {a} {b}", "please create {a} {b}",
         "generate {a} {b}", "I need {a} {b}", "could I have {a} {b}"]
    )  # fmt: skip
    end = "?" if opening.startswith(("can", "could")) else telling.pick([".", "", "."])
    text = opening.format(a=article(body), b=body) + scene + end
    return text[0].upper() + text[1:] if telling.chance(0.6) else text


def long_description(telling: Telling, scene: str | None) -> str:
    """Two or three sentences, as MusicCaps writes them."""
    first = one_sentence(telling, "")
    more = statements(telling)
    telling.rng.shuffle(more)
    more = more[: int(telling.rng.integers(1, 3))]
    if scene is not None:
        more.append(scene)
    return " ".join([first, *more])


def statements(telling: Telling) -> list[str]:
    """One sentence for each fact that is known and not yet said."""
    facts, found = telling.facts, list[str]()
    if telling.untold("lead"):
        found.append(_lead_sentence(telling))
    if telling.untold("tempo_bpm") and facts.tempo_bpm:
        found.append(_tempo_sentence(telling, facts.tempo_bpm))
    if telling.untold("tonality"):
        words = tonality_phrase(telling)
        found.append(telling.pick([f"It is {words}.", f"The piece is {words}.", f"It moves {words}."]))
    if telling.untold("moods"):
        words = joined(telling.rng, mood_words(telling, 3))
        found.append(
            telling.pick(
                [f"It sounds {words}.", f"The mood is {words}.", f"It feels {words}.",
                 f"The atmosphere is {words}."]
            )
        )  # fmt: skip
    if telling.untold("metre") and facts.metre:
        metre = telling.pick(METRE_PHRASES[facts.metre])
        found.append(telling.pick([f"It is {metre}.", f"The music moves {metre}."]))
    found += _quality_sentences(telling)
    if telling.untold("composer") and (name := composer_name(telling)):
        found.append(telling.pick([f"It sounds like {name}.", f"It is in the style of {name}."]))
    if telling.untold("tradition") and facts.tradition:
        found.append(f"It belongs to {facts.tradition}.")
    if facts.families and "drums" not in facts.families and telling.chance(0.2):
        found.append(telling.pick(["There are no drums.", "No percussion is heard."]))
    return found


def _lead_sentence(telling: Telling) -> str:
    name, over = lead_name(telling), _backing(telling)
    verb = "carry" if name in PLURAL_NAMES else "carries"
    takes = "take" if name in PLURAL_NAMES else "takes"
    options = [f"The {name} {verb} the melody.", f"The {name} {takes} the lead.",
               f"The main melody is played by {with_article(name)}."]  # fmt: skip
    if over:
        options += [f"The {name} {verb} the tune over {over}.",
                    f"There is {with_article(name + ' melody')} over {over}."]  # fmt: skip
    return telling.pick(options)


def _tempo_sentence(telling: Telling, tempo_bpm: float) -> str:
    telling.said.add("tempo_bpm")
    if telling.exact:
        number = tempo_number(telling)
        return telling.pick([f"The tempo is {number}.", f"It runs at {number}.",
                             f"It is played at {number}."])  # fmt: skip
    level = telling.pick([w for w in tempo_adjectives(tempo_bpm) if " " not in w and "-" not in w])
    return telling.pick([f"The tempo is {level}.", f"It is played at {telling.pick(tempo_nouns(tempo_bpm))}.",
                         f"The pace is {level}."])  # fmt: skip


def _quality_sentences(telling: Telling) -> list[str]:
    facts, found = telling.facts, list[str]()
    sentences = {
        ("dynamics", "soft"): ("It is played softly.", "Everything stays quiet."),
        ("dynamics", "loud"): ("It is played loudly.", "The playing is loud and strong."),
        ("density", "sparse"): ("There are few notes.", "The texture is thin and spacious."),
        ("density", "busy"): ("There are many notes.", "The texture is busy and full."),
        ("register", "low"): ("It stays in a low register.", "Mostly low notes are played."),
        ("register", "middle"): ("It stays in the middle register.", "The notes lie in mid range."),
        ("register", "high"): ("It lies in a high register.", "Mostly high notes are played."),
        ("articulation", "staccato"): ("The notes are short and detached.", "It is played staccato."),
        ("articulation", "legato"): ("The notes are smooth and connected.", "It is played legato."),
    }
    for (name, value), options in sentences.items():
        if telling.untold(name) and getattr(facts, name) == value:
            found.append(telling.pick(options))
    return found
