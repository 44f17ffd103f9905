"""Forms of a caption: tags, a fragment, a sentence, a request, a casual line, a description.

Inputs: a `phrasing.CaptionState`. Outputs: strings in British spelling. `writer.py` chooses the
form and varies spelling, case and punctuation.
"""

from __future__ import annotations

from melisma.data.captions.phrasing import (
    CaptionState,
    backing,
    composer_name,
    composer_phrase,
    ensemble_name,
    instrument_names,
    instrument_phrase,
    instrument_synonym,
    is_duo,
    is_solo,
    lead_name,
    lead_phrase,
    metre_phrase,
    mood_words,
    tempo_number,
    tempo_phrase,
    tonality_name,
    tonality_phrase,
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
    STYLE_ADVERBIALS,
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


def tags(state: CaptionState) -> str:
    """Tags in random order: "piano, waltz, slow, D minor"."""
    facts, parts = state.facts, list[str]()
    if state.mention("style", 0.75) and facts.style:
        parts.append(state.pick(STYLE_TAGS[facts.style]))
    if state.mention("instruments", 0.85):
        parts += instrument_names(state)
        group = ensemble_name(state)
        if group and state.chance(0.3):
            parts.append(group)
    if state.mention("tempo_bpm", 0.7) and facts.tempo_bpm:
        parts.append(_tempo_tag(state, facts.tempo_bpm))
    if state.mention("tonality", 0.6) and facts.tonality:
        mode = facts.tonality.split()[1]
        bare = state.pick((f"{mode} key", mode, f"{mode} mode"))
        parts.append(tonality_name(state) if state.exact else bare)
    if state.mention("moods", 0.6):
        parts += mood_words(state, limit=3)
    for name, probability, words in _QUALITIES:
        if state.mention(name, probability):
            parts.append(state.pick(words[getattr(facts, name)]))
    if state.mention("metre", 0.3) and facts.metre:
        parts.append(state.pick(METRE_TAGS[facts.metre]))
    if len(facts.families) > 1 and state.mention("lead", 0.12):
        name = lead_name(state)
        forms = ("{} melody", "melody on {}", "{} lead")
        parts.append(state.pick(forms[:2] if "bass" in name else forms).format(name))
    if state.mention("tradition", 0.3) and (repertoire := tradition_name(state)):
        parts.append(repertoire)
    if state.mention("composer", 0.2) and (name := composer_name(state)):
        parts.append(name)
    if _lacks_drums(state) and state.chance(0.06):
        parts.append(state.pick(("no drums", "without drums", "no percussion", "drumless")))
    if not parts:
        parts = [state.pick(GENERIC_NOUNS), *instrument_names(state)]
    state.rng.shuffle(parts)
    parts = list(dict.fromkeys(parts))[:9]
    return state.pick((", ", ", ", ", ", ", ", " ", " / ")).join(parts)


def _lacks_drums(state: CaptionState) -> bool:
    return bool(state.facts.families) and "drums" not in state.facts.families


def _tempo_tag(state: CaptionState, tempo_bpm: float) -> str:
    if state.exact:
        return tempo_number(state)
    italian = italian_tempi(tempo_bpm)
    if italian and state.chance(0.2):
        return state.pick(italian)
    level = "slow" if tempo_bpm < 80 else "medium" if tempo_bpm < 112 else "fast"
    return state.pick((*tempo_adjectives(tempo_bpm), f"{level} tempo", f"{level} tempo"))


def adjectives(state: CaptionState, limit: int = 3) -> list[str]:
    """Up to `limit` adjectives to precede the noun, separate or joined by commas and "and"."""
    facts, parts = state.facts, list[str]()
    if state.mention("moods", 0.6):
        parts += mood_words(state)
    if not state.exact and state.mention("tempo_bpm", 0.5) and facts.tempo_bpm:
        parts.insert(0, state.pick(tempo_adjectives(facts.tempo_bpm)))
    if facts.dynamics in ("soft", "loud") and state.mention("dynamics", 0.2):
        parts.append(state.pick(DYNAMICS_WORDS[facts.dynamics][:3]))
    if facts.density in ("sparse", "busy") and state.mention("density", 0.12):
        parts.append(state.pick(DENSITY_WORDS[facts.density][:2]))
    parts = list(dict.fromkeys(parts))[:limit]
    if len(parts) < 2:
        return parts
    if state.chance(0.3):
        return [", ".join(parts[:-1]) + " and " + parts[-1]]
    return [", ".join(parts)] if state.chance(0.6) else parts


def head_noun(state: CaptionState) -> str:
    """The noun: from the style ("waltz"), the instruments ("cello solo"), or plain "piece"."""
    facts = state.facts
    plain = _DRUM_NOUNS if facts.families == ("drums",) else GENERIC_NOUNS
    if state.mention("style", 0.75) and facts.style:
        if state.chance(0.15):
            return f"{state.pick(plain)} {state.pick(STYLE_ADVERBIALS[facts.style])}"
        return state.pick(STYLE_NOUNS[facts.style])
    if is_solo(facts) and state.mention("instruments", 0.5):
        name = instrument_names(state, limit=1)[0]
        return state.pick((f"{name} solo", f"solo {name} piece", f"{name} piece"))
    if is_duo(facts) and state.mention("instruments", 0.3):
        one, two = (instrument_synonym(state, name) for name in facts.instruments)
        return state.pick((f"{one} and {two} duet", f"duo for {one} and {two}"))
    return state.pick(plain)


def _closing_phrases(state: CaptionState, probability: float) -> list[str]:
    """Phrases to follow the noun (tempo, key, metre, style, composer), in random order."""
    facts, parts = state.facts, list[str]()
    likelihood = probability + 0.25 * state.exact
    if state.unmentioned("tempo_bpm") and state.chance(likelihood):
        parts.append(tempo_phrase(state))
    if state.unmentioned("tonality") and state.chance(likelihood):
        parts.append(tonality_phrase(state))
    if state.unmentioned("metre") and state.chance(0.2):
        parts.append(metre_phrase(state))
    if state.mention("style", 0.25) and facts.style:
        parts.append(state.pick(STYLE_ADVERBIALS[facts.style]))
    if state.unmentioned("composer") and state.chance(0.2):
        parts.append(composer_phrase(state))
    if state.unmentioned("tradition") and state.chance(0.15):
        parts.append(tradition_phrase(state))
    state.rng.shuffle(parts)
    return [phrase for phrase in parts if phrase]


def _body(state: CaptionState, probability: float, instrument_share: float) -> str:
    """The noun phrase without its article: adjectives, noun, and phrases that follow it."""
    parts = [*adjectives(state), head_noun(state)]
    if state.unmentioned("instruments") and state.chance(instrument_share):
        parts.append(instrument_phrase(state))
    parts += _closing_phrases(state, probability)
    if state.unmentioned("lead") and len(state.facts.families) > 1 and state.chance(0.15):
        parts.append(lead_phrase(state))
    return " ".join(part for part in parts if part)


def short_phrase(state: CaptionState) -> str:
    """A fragment without a verb: "slow tender waltz for flute and harp in D minor"."""
    body = _body(state, 0.45, 0.75)
    return f"{article(body)} {body}" if state.chance(0.3) else body


def one_sentence(state: CaptionState, scene: str) -> str:
    """One sentence about the whole piece.

    Args:
        state: State of the caption.
        scene: A clause with a leading space to append, or "".
    """
    body = _body(state, 0.4, 0.85)
    template = state.pick(
        ("{a} {b}", "this is {a} {b}", "{a} {b}", "we hear {a} {b}", "here is {a} {b}",
         "the recording features {a} {b}", "this music is {a} {b}", "you can hear {a} {b}",
         "the clip contains {a} {b}", "it is {a} {b}", "this is a recording of {a} {b}")
    )  # fmt: skip
    text = template.format(a=article(body), b=body) + scene + "."
    return text[0].upper() + text[1:]


def imperative(state: CaptionState, scene: str) -> str:
    """A request: "write me a slow waltz for harp". `scene` as in `one_sentence`."""
    body = _body(state, 0.4, 0.75)
    template = state.pick(
        ("write me {a} {b}", "play {a} {b}", "make {a} {b}", "I want {a} {b}", "give me {a} {b}",
         "compose {a} {b}", "can you play {a} {b}", "I'd like {a} {b}", "please create {a} {b}",
         "generate {a} {b}", "I need {a} {b}", "could I have {a} {b}", "let me hear {a} {b}",
         "I'm looking for {a} {b}", "please play me {a} {b}", "could you write {a} {b}")
    )  # fmt: skip
    end = "?" if template.startswith(("can", "could")) else state.pick((".", "", "."))
    text = template.format(a=article(body), b=body) + scene + end
    return text[0].upper() + text[1:] if state.chance(0.6) else text


def casual(state: CaptionState, scene: str) -> str:
    """Colloquial: "something slow and sad on the piano"; `scene` as in `one_sentence`."""
    facts = state.facts
    words = mood_words(state, 2) if state.unmentioned("moods") else []
    if not state.exact and state.mention("tempo_bpm", 0.6) and facts.tempo_bpm:
        words.append(state.pick(tempo_adjectives(facts.tempo_bpm)))
    if state.mention("dynamics", 0.3) and facts.dynamics in ("soft", "loud"):
        words.append(state.pick(DYNAMICS_WORDS[facts.dynamics][:2]))
    rest = _closing_phrases(state, 0.5)
    if state.mention("instruments", 0.75):
        names = joined(state.rng, instrument_names(state, 3))
        rest.insert(0, state.pick((f"with {names}", f"on {names}", f"for {names}")))
    start = state.pick(("something", "something", "music that is", "some music,", "anything"))
    if not words:
        start = state.pick(("something", "some music", "music"))
    text = " ".join([start, joined(state.rng, list(dict.fromkeys(words))), *rest])
    return " ".join(text.split()) + scene + state.pick(("", "", ".", " please"))


def long_description(state: CaptionState, scene: str | None) -> str:
    """A description of up to five sentences, as in MusicCaps.

    Args:
        state: State of the caption.
        scene: A sentence to append, or None.
    """
    if state.chance(0.35) and state.unmentioned("instruments"):
        first = _contents_sentence(state)
    else:
        first = one_sentence(state, "")
    extra = statements(state)
    state.rng.shuffle(extra)
    extra = extra[: int(state.rng.integers(1, 4))]
    if scene is not None:
        extra.append(scene)
    return " ".join([first, *extra])


def _contents_sentence(state: CaptionState) -> str:
    """ "This song contains a flute and a piano."."""
    facts = state.facts
    noun = "piece"
    if state.mention("style", 0.5) and facts.style:
        noun = state.pick(STYLE_NOUNS[facts.style])
    names = instrument_names(state)
    nouns = joined(state.rng, [with_article(name) for name in names])
    return state.pick(
        (f"This {noun} contains {nouns}.", f"This {noun} features {nouns}.",
         f"In this {noun} we hear {nouns}.", f"The {noun} is played by {nouns}.")
    )  # fmt: skip


def statements(state: CaptionState) -> list[str]:
    """One sentence for each attribute that is known and not yet mentioned."""
    facts, parts = state.facts, list[str]()
    if state.unmentioned("lead") and len(facts.families) > 1:
        parts.append(_lead_sentence(state))
    if state.unmentioned("tempo_bpm") and facts.tempo_bpm:
        parts.append(_tempo_sentence(state, facts.tempo_bpm))
    if state.unmentioned("tonality"):
        words = tonality_phrase(state)
        parts.append(state.pick((f"It is {words}.", f"The piece is {words}.")))
    if state.unmentioned("moods"):
        words = joined(state.rng, mood_words(state, 3))
        parts.append(
            state.pick(
                (f"It sounds {words}.", f"The mood is {words}.", f"It feels {words}.",
                 f"The atmosphere is {words}.", f"The piece is {words}.")
            )
        )  # fmt: skip
    if state.unmentioned("metre"):
        metre = metre_phrase(state)
        parts.append(
            f"The music moves {metre}."
            if metre.startswith("with")
            else state.pick((f"It is {metre}.", f"The music moves {metre}."))
            if metre.startswith("in")
            else f"There are {metre}."
        )
    parts += _quality_sentences(state)
    if state.unmentioned("composer") and (name := composer_name(state)):
        parts.append(state.pick((f"It sounds like {name}.", f"It is in the style of {name}.")))
    if state.unmentioned("tradition") and (sentence := tradition_sentence(state)):
        parts.append(sentence)
    if _lacks_drums(state) and state.chance(0.2):
        parts.append(
            state.pick(("There are no drums.", "No percussion is heard.", "There is no drum kit."))
        )
    return parts


def _lead_sentence(state: CaptionState) -> str:
    name, behind = lead_name(state), backing(state)
    ending = "" if is_plural(name) else "s"
    verb = state.pick(("carry the melody", "carry the tune")) if not ending else ""
    verb = verb or state.pick(("carries the melody", "carries the tune"))
    options = [f"The {name} {verb}.", f"The {name} take{ending} the lead.",
               f"The main melody is played by {with_article(name)}."]  # fmt: skip
    if behind:
        options += [f"The {name} {verb} over {behind}.",
                    f"There is a melody on {name} over {behind}."]  # fmt: skip
    return state.pick(options)


def _tempo_sentence(state: CaptionState, tempo_bpm: float) -> str:
    state.mentioned.add("tempo_bpm")
    if state.exact:
        number = tempo_number(state)
        return state.pick((f"The tempo is {number}.", f"It runs at {number}.",
                             f"It is played at {number}."))  # fmt: skip
    plain = [w for w in tempo_adjectives(tempo_bpm) if not {" ", "-"} & set(w)]
    level, pace = state.pick(plain), state.pick(tempo_nouns(tempo_bpm))
    return state.pick(
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


def _quality_sentences(state: CaptionState) -> list[str]:
    return [
        state.pick(options)
        for (name, value), options in _QUALITY_SENTENCES.items()
        if state.unmentioned(name) and getattr(state.facts, name) == value
    ]
