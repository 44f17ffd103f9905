"""The forms a caption takes: tags, a fragment, one sentence, a wish, a casual line, a description.

Enters: a `Telling`. Leaves: plain strings in British spelling; `writer.py` chooses the form and
roughens the surface.
"""

from __future__ import annotations

from melisma.data.captions.phrasing import (
    CaptionState,
    backing,
    composer_name,
    composer_phrase,
    forces,
    instrument_phrase,
    instrument_synonym,
    is_alone,
    is_pair,
    lead_name,
    lead_phrase,
    metre_phrase,
    mood_words,
    shown_instruments,
    tempo_number,
    tempo_phrase,
    tonality_phrase,
    tonality_words,
    tradition_name,
    tradition_phrase,
    tradition_sentence,
)
from melisma.data.captions.vocabulary import (
    ARTICULATION_WORDS,
    DENSITY_WORDS,
    DYNAMICS_WORDS,
    METRE_TAGS,
    REGISTER_WORDS,
    STYLE_MANNERS,
    STYLE_NOUNS,
    STYLE_TAGS,
    article,
    is_plural,
    italian_tempi,
    joined,
    tempo_adjectives,
    tempo_nouns,
    with_article,
)

GENERIC_NOUNS = (
    "piece", "tune", "piece of music", "instrumental", "track", "instrumental piece",
    "composition", "melody", "theme", "little piece", "instrumental track", "bit of music",
)  # fmt: skip
_DRUM_NOUNS = ("beat", "rhythm", "groove", "loop", "drum part")

_QUALITIES = (
    ("dynamics", 0.25, DYNAMICS_WORDS),
    ("density", 0.15, DENSITY_WORDS),
    ("register", 0.15, REGISTER_WORDS),
    ("articulation", 0.15, ARTICULATION_WORDS),
)


def tags(telling: CaptionState) -> str:
    """Comma-separated tags in any order: "piano, waltz, slow, D minor"."""
    facts, found = telling.facts, list[str]()
    if telling.say("style", 0.75) and facts.style:
        found.append(telling.pick(STYLE_TAGS[facts.style]))
    if telling.say("instruments", 0.85):
        found += shown_instruments(telling)
        group = forces(telling)
        if group and telling.chance(0.3):
            found.append(group)
    if telling.say("tempo_bpm", 0.7) and facts.tempo_bpm:
        found.append(_tempo_tag(telling, facts.tempo_bpm))
    if telling.say("tonality", 0.6) and facts.tonality:
        mode = facts.tonality.split()[1]
        bare = telling.pick((f"{mode} key", mode, f"{mode} mode"))
        found.append(tonality_words(telling) if telling.exact else bare)
    if telling.say("moods", 0.6):
        found += mood_words(telling, most=3)
    for name, share, words in _QUALITIES:
        if telling.say(name, share):
            found.append(telling.pick(words[getattr(facts, name)]))
    if telling.say("metre", 0.3) and facts.metre:
        found.append(telling.pick(METRE_TAGS[facts.metre]))
    if len(facts.families) > 1 and telling.say("lead", 0.12):
        name = lead_name(telling)
        forms = ("{} melody", "melody on {}", "{} lead")
        found.append(telling.pick(forms[:2] if "bass" in name else forms).format(name))
    if telling.say("tradition", 0.3) and (repertoire := tradition_name(telling)):
        found.append(repertoire)
    if telling.say("composer", 0.2) and (name := composer_name(telling)):
        found.append(name)
    if _lacks_drums(telling) and telling.chance(0.06):
        found.append(telling.pick(("no drums", "without drums", "no percussion", "drumless")))
    if not found:
        found = [telling.pick(GENERIC_NOUNS), *shown_instruments(telling)]
    telling.rng.shuffle(found)
    found = list(dict.fromkeys(found))[:9]
    return telling.pick((", ", ", ", ", ", ", ", " ", " / ")).join(found)


def _lacks_drums(telling: CaptionState) -> bool:
    return bool(telling.facts.families) and "drums" not in telling.facts.families


def _tempo_tag(telling: CaptionState, tempo_bpm: float) -> str:
    if telling.exact:
        return tempo_number(telling)
    italian = italian_tempi(tempo_bpm)
    if italian and telling.chance(0.2):
        return telling.pick(italian)
    level = "slow" if tempo_bpm < 80 else "medium" if tempo_bpm < 112 else "fast"
    return telling.pick((*tempo_adjectives(tempo_bpm), f"{level} tempo", f"{level} tempo"))


def adjectives(telling: CaptionState, most: int = 3) -> list[str]:
    """Up to `most` adjectives before the noun, joined as people join them."""
    facts, found = telling.facts, list[str]()
    if telling.say("moods", 0.6):
        found += mood_words(telling)
    if not telling.exact and telling.say("tempo_bpm", 0.5) and facts.tempo_bpm:
        found.insert(0, telling.pick(tempo_adjectives(facts.tempo_bpm)))
    if facts.dynamics in ("soft", "loud") and telling.say("dynamics", 0.2):
        found.append(telling.pick(DYNAMICS_WORDS[facts.dynamics][:3]))
    if facts.density in ("sparse", "busy") and telling.say("density", 0.12):
        found.append(telling.pick(DENSITY_WORDS[facts.density][:2]))
    found = list(dict.fromkeys(found))[:most]
    if len(found) < 2:
        return found
    if telling.chance(0.3):
        return [", ".join(found[:-1]) + " and " + found[-1]]
    return [", ".join(found)] if telling.chance(0.6) else found


def head_noun(telling: CaptionState) -> str:
    """What the piece is: its style's noun, its players, or just "piece"."""
    facts = telling.facts
    plain = _DRUM_NOUNS if facts.families == ("drums",) else GENERIC_NOUNS
    if telling.say("style", 0.75) and facts.style:
        if telling.chance(0.15):
            return f"{telling.pick(plain)} {telling.pick(STYLE_MANNERS[facts.style])}"
        return telling.pick(STYLE_NOUNS[facts.style])
    if is_alone(facts) and telling.say("instruments", 0.5):
        name = shown_instruments(telling, most=1)[0]
        return telling.pick((f"{name} solo", f"solo {name} piece", f"{name} piece"))
    if is_pair(facts) and telling.say("instruments", 0.3):
        one, two = (instrument_synonym(telling, name) for name in facts.instruments)
        return telling.pick((f"{one} and {two} duet", f"duo for {one} and {two}"))
    return telling.pick(plain)


def _closing_phrases(telling: CaptionState, share: float) -> list[str]:
    """Tempo, tonality, metre, composer and the like, to follow the noun."""
    facts, found = telling.facts, list[str]()
    more = share + 0.25 * telling.exact
    if telling.unsaid("tempo_bpm") and telling.chance(more):
        found.append(tempo_phrase(telling))
    if telling.unsaid("tonality") and telling.chance(more):
        found.append(tonality_phrase(telling))
    if telling.unsaid("metre") and telling.chance(0.2):
        found.append(metre_phrase(telling))
    if telling.say("style", 0.25) and facts.style:
        found.append(telling.pick(STYLE_MANNERS[facts.style]))
    if telling.unsaid("composer") and telling.chance(0.2):
        found.append(composer_phrase(telling))
    if telling.unsaid("tradition") and telling.chance(0.15):
        found.append(tradition_phrase(telling))
    telling.rng.shuffle(found)
    return [phrase for phrase in found if phrase]


def _body(telling: CaptionState, share: float, instrument_share: float) -> str:
    """Adjectives, noun and what follows, without an article."""
    parts = [*adjectives(telling), head_noun(telling)]
    if telling.unsaid("instruments") and telling.chance(instrument_share):
        parts.append(instrument_phrase(telling))
    parts += _closing_phrases(telling, share)
    if telling.unsaid("lead") and len(telling.facts.families) > 1 and telling.chance(0.15):
        parts.append(lead_phrase(telling))
    return " ".join(part for part in parts if part)


def short_phrase(telling: CaptionState) -> str:
    """A fragment without a verb: "slow tender waltz for flute and harp in D minor"."""
    body = _body(telling, 0.45, 0.75)
    return f"{article(body)} {body}" if telling.chance(0.3) else body


def one_sentence(telling: CaptionState, scene: str) -> str:
    """A sentence about the whole piece; `scene` is a clause with its leading space or nothing."""
    body = _body(telling, 0.4, 0.85)
    opening = telling.pick(
        ("{a} {b}", "this is {a} {b}", "{a} {b}", "we hear {a} {b}", "here is {a} {b}",
         "the recording features {a} {b}", "this music is {a} {b}", "you can hear {a} {b}",
         "the clip contains {a} {b}", "it is {a} {b}", "this is a recording of {a} {b}")
    )  # fmt: skip
    text = opening.format(a=article(body), b=body) + scene + "."
    return text[0].upper() + text[1:]


def imperative(telling: CaptionState, scene: str) -> str:
    """A wish: "write me a slow waltz for harp"."""
    body = _body(telling, 0.4, 0.75)
    opening = telling.pick(
        ("write me {a} {b}", "play {a} {b}", "make {a} {b}", "I want {a} {b}", "give me {a} {b}",
         "compose {a} {b}", "can you play {a} {b}", "I'd like {a} {b}", "please create {a} {b}",
         "generate {a} {b}", "I need {a} {b}", "could I have {a} {b}", "let me hear {a} {b}",
         "I'm looking for {a} {b}", "please play me {a} {b}", "could you write {a} {b}")
    )  # fmt: skip
    end = "?" if opening.startswith(("can", "could")) else telling.pick((".", "", "."))
    text = opening.format(a=article(body), b=body) + scene + end
    return text[0].upper() + text[1:] if telling.chance(0.6) else text


def casual(telling: CaptionState, scene: str) -> str:
    """How people talk: "something slow and sad on the piano, in a minor key"."""
    facts = telling.facts
    words = mood_words(telling, 2) if telling.unsaid("moods") else []
    if not telling.exact and telling.say("tempo_bpm", 0.6) and facts.tempo_bpm:
        words.append(telling.pick(tempo_adjectives(facts.tempo_bpm)))
    if telling.say("dynamics", 0.3) and facts.dynamics in ("soft", "loud"):
        words.append(telling.pick(DYNAMICS_WORDS[facts.dynamics][:2]))
    rest = _closing_phrases(telling, 0.5)
    if telling.say("instruments", 0.75):
        names = joined(telling.rng, shown_instruments(telling, 3))
        rest.insert(0, telling.pick((f"with {names}", f"on {names}", f"for {names}")))
    opening = telling.pick(("something", "something", "music that is", "some music,", "anything"))
    if not words:
        opening = telling.pick(("something", "some music", "music"))
    text = " ".join([opening, joined(telling.rng, list(dict.fromkeys(words))), *rest])
    return " ".join(text.split()) + scene + telling.pick(("", "", ".", " please"))


def long_description(telling: CaptionState, scene: str | None) -> str:
    """Two or three sentences, as MusicCaps writes them."""
    if telling.chance(0.35) and telling.unsaid("instruments"):
        first = _contents_sentence(telling)
    else:
        first = one_sentence(telling, "")
    more = statements(telling)
    telling.rng.shuffle(more)
    more = more[: int(telling.rng.integers(1, 4))]
    if scene is not None:
        more.append(scene)
    return " ".join([first, *more])


def _contents_sentence(telling: CaptionState) -> str:
    """ "This song contains a flute and a piano."."""
    facts = telling.facts
    noun = "piece"
    if telling.say("style", 0.5) and facts.style:
        noun = telling.pick(STYLE_NOUNS[facts.style])
    names = shown_instruments(telling)
    dressed = joined(telling.rng, [with_article(name) for name in names])
    return telling.pick(
        (f"This {noun} contains {dressed}.", f"This {noun} features {dressed}.",
         f"In this {noun} we hear {dressed}.", f"The {noun} is played by {dressed}.")
    )  # fmt: skip


def statements(telling: CaptionState) -> list[str]:
    """One sentence for each fact that is known and not yet said."""
    facts, found = telling.facts, list[str]()
    if telling.unsaid("lead") and len(facts.families) > 1:
        found.append(_lead_sentence(telling))
    if telling.unsaid("tempo_bpm") and facts.tempo_bpm:
        found.append(_tempo_sentence(telling, facts.tempo_bpm))
    if telling.unsaid("tonality"):
        words = tonality_phrase(telling)
        found.append(telling.pick((f"It is {words}.", f"The piece is {words}.")))
    if telling.unsaid("moods"):
        words = joined(telling.rng, mood_words(telling, 3))
        found.append(
            telling.pick(
                (f"It sounds {words}.", f"The mood is {words}.", f"It feels {words}.",
                 f"The atmosphere is {words}.", f"The piece is {words}.")
            )
        )  # fmt: skip
    if telling.unsaid("metre"):
        metre = metre_phrase(telling)
        found.append(
            f"The music moves {metre}."
            if metre.startswith("with")
            else telling.pick((f"It is {metre}.", f"The music moves {metre}."))
            if metre.startswith("in")
            else f"There are {metre}."
        )
    found += _quality_sentences(telling)
    if telling.unsaid("composer") and (name := composer_name(telling)):
        found.append(telling.pick((f"It sounds like {name}.", f"It is in the style of {name}.")))
    if telling.unsaid("tradition") and (sentence := tradition_sentence(telling)):
        found.append(sentence)
    if _lacks_drums(telling) and telling.chance(0.2):
        found.append(
            telling.pick(
                ("There are no drums.", "No percussion is heard.", "There is no drum kit.")
            )
        )
    return found


def _lead_sentence(telling: CaptionState) -> str:
    name, over = lead_name(telling), backing(telling)
    ending = "" if is_plural(name) else "s"
    verb = telling.pick(("carry the melody", "carry the tune")) if not ending else ""
    verb = verb or telling.pick(("carries the melody", "carries the tune"))
    options = [f"The {name} {verb}.", f"The {name} take{ending} the lead.",
               f"The main melody is played by {with_article(name)}."]  # fmt: skip
    if over:
        options += [f"The {name} {verb} over {over}.",
                    f"There is a melody on {name} over {over}."]  # fmt: skip
    return telling.pick(options)


def _tempo_sentence(telling: CaptionState, tempo_bpm: float) -> str:
    telling.said.add("tempo_bpm")
    if telling.exact:
        number = tempo_number(telling)
        return telling.pick((f"The tempo is {number}.", f"It runs at {number}.",
                             f"It is played at {number}."))  # fmt: skip
    plain = [w for w in tempo_adjectives(tempo_bpm) if not {" ", "-"} & set(w)]
    level, pace = telling.pick(plain), telling.pick(tempo_nouns(tempo_bpm))
    return telling.pick(
        (f"The tempo is {level}.", f"It is played at {pace}.", f"The pace is {level}.")
    )


_QUALITY_SENTENCES: dict[tuple[str, str], tuple[str, ...]] = {
    ("dynamics", "soft"): ("It is played softly.", "Everything stays quiet.", "It is soft."),
    ("dynamics", "loud"): (
        "It is played loudly.",
        "The playing is loud and strong.",
        "It is loud.",
    ),
    ("density", "sparse"): ("There are few notes.", "The texture is thin and spacious."),
    ("density", "busy"): ("There are many notes.", "The texture is busy and full."),
    ("register", "low"): ("It stays in a low register.", "Mostly low notes are played."),
    ("register", "middle"): ("It stays in the middle register.", "The notes lie in the mid range."),
    ("register", "high"): ("It lies in a high register.", "Mostly high notes are played."),
    ("articulation", "staccato"): ("The notes are short and detached.", "It is played staccato."),
    ("articulation", "legato"): ("The notes are smooth and connected.", "It is played legato."),
}


def _quality_sentences(telling: CaptionState) -> list[str]:
    return [
        telling.pick(options)
        for (name, value), options in _QUALITY_SENTENCES.items()
        if telling.unsaid(name) and getattr(telling.facts, name) == value
    ]
