"""Scope of negation in a prompt: which mentions a text excludes ("no drums", "all but strings").

Inputs: a text, and the places of mentions in it (instruments, styles, moods), found by a caller's
vocabulary. Output: a `Negation`. The rules are those of a negation-scope annotator for short texts
(after NegEx: Chapman et al., "A simple algorithm for identifying negated findings", 2001): a cue
opens a scope, which reaches over words that may stand before a mention to the next one, and over a
list that goes on from there; punctuation, contrast ("but", "just") and prepositions close it.

Decisions where English is ambiguous:
- "no drums and bass": both are excluded; "no drums and a bass", "no drums, bass": the drums alone.
- "without drums, bass and guitar": all three; after "no" a comma ends the scope unless the list
  ends with "or" or "nor".
- "no drums/bass": both; "no drums / bass", a list of tags: the drums alone.
- "not too many drums", "not only drums": nothing is excluded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Place = tuple[int, int]
"""Index of the first character, and of the one after the last."""


@dataclass(frozen=True, kw_only=True)
class Negation:
    """What a text excludes."""

    excluded: tuple[bool, ...] = ()
    """Whether each mention is excluded."""
    only: tuple[bool, ...] = ()
    """Whether each mention is named as the only one ("only drums", "nothing but flute")."""
    phrases: tuple[Place, ...] = ()
    """Places of the phrases that exclude something, from the cue to the last word of its scope."""
    unresolved: tuple[Place, ...] = ()
    """Places of cues that no mention follows, with the words after them ("no autotune")."""


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_MASK = "¦"
"""Stands for a character of an idiom, so that it is no part of a cue or of a scope."""
_IDIOMS = re.compile(
    r"\b(?:"
    r"n(?:[o°º]?\.|[°º]|r\.?)\s*\.?\s*(?:\d|[ivx]+\b)|"
    r"no\s+(?:\d{1,3}|[ivx]+)\b(?=\s*(?:$|[,.;:)]|(?:in|for|by|with|of|op)\b))|"
    r"not\s+(?:only|just|merely|simply|solely)|"
    r"(?:no|not)\s+(?:less|fewer|more)\s+than|no\s+other\s+than|none\s+other\s+than|"
    r"no\s+(?:hurry|rush|matter|doubts?|problems?|wonder|way|worries|idea|fuss|nonsense|frills|"
    r"end|limits?|fear|pressure|stress|big\s+deal|wave|input|sooner|shortage|lack|"
    r"strings\s+attached)\b|in\s+no\s+time|no-(?:nonsense|frills|wave|input)|"
    r"not\s+(?:to\s+mention|unlike|far\s+from|without|least|enough|a\s+problem|necessarily)|"
    r"nothing\s+(?:short\s+of|less\s+than|more\s+than)|"
    r"(?:can(?:no|')?t|can\s+not|couldn'?t|never|don'?t|do\s+not)\s+"
    r"(?:(?:do|be|live|go|imagine\s+\w+)\s+)?without|"
    r"(?:do\s+not|don['’]?t|never|please\s+don['’]?t|must\s+not|should\s+not|shouldn['’]?t)\s+"
    r"(?:you\s+)?(?:dare\s+(?:to\s+)?)?(?:ever\s+)?"
    r"(?:forget|leave\s+out|omit|skip|drop|mute|remove|exclude|miss|stop|mind|worry|hesitate|"
    r"rush|hurry|be\s+(?:shy|afraid)|hold\s+back|spare|lose|cut|avoid|know)\w*|"
    r"would(?:n'?t|\s+not)\s+be\s+\w+\s+without|never-?ending|"
    r"there(?:['’]s|\s+is)\s+nothing\s+(?:quite\s+)?like|"
    r"why\s+not|if\s+not|whether\s+or\s+not|believe\s+it\s+or\s+not|"
    r"without\s+(?:a\s+)?(?:doubt|hesitation|delay|further\s+ado|fail|question|pause|"
    r"stopping|end|hurry|haste|rush|a\s+break)|"
    r"never\s+(?:stop\w*|mind|fail\w*|been|before)|"
    r"(?:just|only)\s+(?:a\s+)?(?:hint|touch|bit|little|few|kidding|right|like|as|when|if|before|"
    r"after|because|for\s+fun|in\s+time|under|over|about|enough)|if\s+only|"
    r"hold\s+the\s+(?:note|line|chord)s?"
    r")",
    re.IGNORECASE,
)
"""Phrases with the words of a cue that exclude nothing, double negations among them."""

_AUXILIARY = (
    r"(?:do(?:es)?|did|should|must|may|can|could|would|will|shall|need|is|are|was|be|has|have|"
    r"had|might)"
)
_ONLY = (
    r"nothing\s+(?:else\s+)?(?:but|except|besides|other\s+than)|none\s+but|"
    r"no\s+(?:other\s+)?(?:instruments?|sounds?|parts?)\s+(?:but|except|besides|other\s+than)|"
    r"no\s+other\s+instruments?\s+than|no\s+instruments?\s+other\s+than|"
    r"only(?:\s+with)?|unaccompanied|just(?:\s+with)?|solely|exclusively|purely|nothing\s+other\s+than"
)
_CUES: tuple[tuple[str, str], ...] = (
    ("only", _ONLY),
    (
        "wide",
        r"(?:any|every)(?:thing|\s+instruments?)\s+(?:but|bar|save(?:\s+for)?|except(?:\s+for)?|"
        r"other\s+than|besides)|"
        r"all\s+(?:instruments\s+)?(?:but|except(?:\s+for)?)|less\s+(?:the|all|any)|save\s+for|"
        r"barring|who\s+needs|"
        rf"(?:i|we|you|it|there|he|she|they|please)?\s*\b{_AUXILIARY}(?:n['’]?t|\s+not|\s+never)\b|"
        r"(?:can|won|don|ain|shan)['’]?t\b|cannot|dont|doesnt|shouldnt|isnt|arent|wont|"
        r"(?:i|we)\s+(?:really\s+)?(?:hate|dislike|detest|loathe)|can['’]?t\s+stand|"
        r"not\s+(?:a\s+(?:big\s+)?fan\s+of|fond\s+of|into|a\s+friend\s+of|keen\s+on)|"
        r"tired\s+of|sick\s+of|allergic\s+to|had\s+enough\s+of|"
        r"without|w/o|sans|minus|avoid(?:ing|s)?|exclud(?:e|es|ing)|except(?:ing)?(?:\s+for)?|"
        r"lack(?:s|ing)?|devoid\s+of|free\s+(?:of|from)|instead\s+of|rather\s+than|"
        r"leav(?:e|ing)\s+out|omit(?:ting)?|remov(?:e|ing)|"
        r"(?:skip|drop|mute|hold|lose|cut|cut\s+out|forget|forget\s+about)\s+(?:the|any|all)|"
        r"replac(?:e|ing)|substitut(?:e|ing)|stay(?:ing)?\s+away\s+from|steer\s+clear\s+of|"
        r"(?:get(?:ting)?|be|got)\s+rid\s+of|do(?:ing)?\s+away\s+with|"
        r"(?:turn|switch|shut)(?:ing|ting)?\s+off|(?:silenc|ditch|scrap|forbid|ban|eliminat|strip)"
        r"(?:e|ing|ning|ping|ding)?\s+(?:the|any|all|out)|"
        r"keep(?:ing)?\s+out|refrain\s+from|no\s+(?:need|room|place|call)\s+(?:for|of)|"
        r"apart\s+from|neither|none\s+of|other\s+than",
    ),
    ("no", r"no|zero|non|no\s+more|not\s+(?:a\s+single|one|any)"),
    ("not", r"not|never|nor|nothing|isn['’]?t|no\s+longer|hardly|anything\s+like"),
)
"""Kind and pattern of the cues. "wide" scopes may reach over several words ("I do not want to hear
a loud brass section"), "no" over adjectives, "not" over articles and degrees alone."""
_CUE = re.compile(
    "|".join(rf"(?P<{kind}>(?<![\w’'-])(?:{pattern})(?![\w’']))" for kind, pattern in _CUES)
    + r"|(?P<minus>(?<!\S)-(?=[A-Za-z]))",
    re.IGNORECASE,
)
_WORD = re.compile(r"[\w'’¦-]+|[^\w\s]")
_FILLERS = word_set(
    "any a an the some my your our this that these those its to it me us be been being have having "
    "has had hear hearing use used using add added adding include included including want wanted "
    "wanting like need needed play played playing put feature featuring contain containing see "
    "there kind kinds sort sorts type types form forms piece song music tune sound sounds sounding "
    "let of trace hint presence instrument instruments other real really please ever at all key "
    "own too so very overly quite exactly particularly especially terribly super"
)
"""Words that may stand between a cue and what it excludes."""
_ARTICLES = word_set("a an the my your our this these those")
_BEFORE_ARTICLE = word_set(
    "let of to hear hearing use using add adding include including want like need play playing put "
    "feature featuring contain containing be have see any with sound on for from in"
)
"""Words after which an article goes on with a scope; after other words it begins something new."""
_CLOSING = word_set(
    "but just only instead rather yet then and or nor many much enough always even because if when "
    "while whose which who over under behind by into through plus although though however"
)
"""Words that close a scope."""
_PREPOSITIONS = word_set("with on for in from at")
"""Words that close a scope unless they follow its cue or a filler."""
_MOST_WORDS = {"wide": 5, "no": 3, "not": 0, "only": 1, "minus": 0}
"""Most words between a cue and a mention that are no fillers."""
_NOT_FILLERS_OF_NO = word_set("to it me us be have there please want like need see")

_OR = re.compile(
    r"(?:/|\s*,?\s*(?:or|nor|and/or)\s*)(?:any\s+|a\s+|an\s+|the\s+|no\s+)?"
    r"(?:(?:other\s+)?(?:kind|sort|type|form)s?\s+of\s+)?",
    re.IGNORECASE,
)
_AND = re.compile(r"\s*,?\s*(?:and|&|\+)\s+(?:any\s+|no\s+)?", re.IGNORECASE)
_COMMA = re.compile(r"\s*,\s*(?:any\s+|no\s+)?", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_WHOLE = re.compile(r"(?:[^\Ws]s|\b(?:percussion|drumming))$", re.IGNORECASE)
"""A plural, or a noun without one, ends a phrase: "no rock guitar" excludes the guitar, "no drums
acoustic piano" the drums alone."""
_AFTER = re.compile(
    r"-?less\b|[- ]free\b(?!\s+(?:jazz|reeds?|improv\w*|form|flowing|style|\w+ing))|"
    r"\s*[:=]\s*(?:no|none|off|0|false)\b(?!\s*\w)|\s*[?:,.–—-]+\s*no,?\s+thank(?:s|\s+you)\b|"
    r"\s+(?:turned\s+|switched\s+)?off\b(?=\s*(?:$|[,.;:!?)]|and\b|please\b))|"
    r"\s+(?:(?:is|are|was|were|be|get|gets)\s+(?:left\s+out|excluded|removed|muted|banned|absent|"
    r"missing|silent|unwanted|forbidden|out)|excluded|removed|omitted|muted|left\s+out|"
    r"not\s+(?:included|wanted|needed|allowed|used|present|welcome)|"
    rf"{_AUXILIARY}\s+be\s+(?:absent|missing|silent|excluded|removed|muted|omitted|left\s+out))\b|"
    rf"\s+{_AUXILIARY}(?:n['’]?t|\s+not)\s+(?:be\s+)?(?:wanted|allowed|needed|welcome|used|play\w*|"
    r"present|there|included|heard|appear|sound|sing)\b",
    re.IGNORECASE,
)
"""What excludes the mention that it follows."""
_LEAVE_OUT = re.compile(r"(?:leave|keep|take|cut)\s+(?:the\s+|any\s+|all\s+)?$", re.IGNORECASE)
_OUT = re.compile(r"\s+out\b(?!\s+(?:front|loud))", re.IGNORECASE)
_SOME_OUT = re.compile(r"\b(?:leave|keep|take|cut)\b.*\bout\b", re.IGNORECASE | re.DOTALL)
_ONLY_AFTER = re.compile(
    r"\s+(?:only|alone|and\s+nothing\s+(?:else|more)|by\s+itself)\b(?!\s+(?:when|if|at|in|for)\b)",
    re.IGNORECASE,
)
_UNRESOLVED_WORDS = re.compile(r"\s*(?:(?:any|a|an|the|use|want|to|have)\s+)*[\w'’-]+", re.I)
_LEFT_BEFORE = re.compile(
    r"(?:\b(?:there|it|i|we|you|that|which|please|with|should|must|will|can|is|are|has|have|having|"
    r"wants?|be|uses?)\s+)+$",
    re.IGNORECASE,
)
"""Words before a phrase that mean nothing without it."""
_LEFT_AFTER = re.compile(
    r"(?:\s*,?\s*\b(?:but(?:\s+rather)?|instead)\b|"
    r"\s+(?:at\s+all|please|of\s+any\s+kind|whatsoever|in\s+it|either)\b)+",
    re.IGNORECASE,
)
_ASIDES = re.compile(
    r",\s*(?:under\s+any\s+circumstances|please|ever|however|i\s+repeat)\s*,", re.IGNORECASE
)


def may_negate(words: str) -> bool:
    """Whether a text contains a word that may exclude something: a quick test."""
    return any(pattern.search(words) for pattern in (_CUE, _AFTER, _ONLY_AFTER, _SOME_OUT))


def read_negation(words: str, mentions: Sequence[Place]) -> Negation:
    """Finds which mentions a text excludes.

    Args:
        words: English text.
        mentions: Places of the mentions, in order, without overlap.

    >>> text = "piano, no drums or bass"
    >>> read_negation(text, [(0, 5), (10, 15), (19, 23)]).excluded
    (False, True, True)
    """
    count = len(mentions)
    excluded, only = [False] * count, [False] * count
    phrases: list[Place] = []
    unresolved: list[Place] = []
    masked = _IDIOMS.sub(lambda found: _MASK * len(found[0]), words)
    reached = 0
    for cue in _CUE.finditer(masked):
        kind = cue.lastgroup or "no"
        if cue.start() < reached:
            continue
        scope = _scope(masked, mentions, cue, kind)
        if not scope:
            if kind in ("no", "wide"):
                rest = _UNRESOLVED_WORDS.match(masked[cue.end() :])
                stop = cue.end() + (rest.end() if rest else 0)
                unresolved.append(trimmed(words, (cue.start(), stop)))
            continue
        for index in scope:
            (only if kind == "only" else excluded)[index] = True
        reached = mentions[scope[-1]][1]
        if kind != "only":
            phrases.append(trimmed(words, (cue.start(), reached)))
    for index, (first, stop) in enumerate(mentions):
        place = _excluding_after(masked, first, stop)
        if place is not None and not excluded[index]:
            excluded[index] = True
            phrases.append(place)
            inside = [cue for cue in unresolved if cue[0] < place[1] and place[0] <= cue[1]]
            unresolved = [cue for cue in unresolved if cue not in inside]
        elif _ONLY_AFTER.match(masked[stop:]) and not excluded[index]:
            only[index] = True
    return Negation(
        excluded=tuple(excluded),
        only=tuple(only),
        phrases=tuple(sorted(phrases)),
        unresolved=tuple(unresolved),
    )


def _excluding_after(masked: str, first: int, stop: int) -> Place | None:
    """Place of a mention with the words after it that exclude it; None where they do not."""
    after = _AFTER.match(masked[stop:])
    if after is not None:
        return first, stop + after.end()
    before, out = _LEAVE_OUT.search(masked[:first]), _OUT.match(masked[stop:])
    return (before.start(), stop + out.end()) if before and out else None


def _scope(masked: str, mentions: Sequence[Place], cue: re.Match[str], kind: str) -> list[int]:
    """Numbers of the mentions in the scope of a cue."""
    index = next((i for i, (first, _) in enumerate(mentions) if first >= cue.end()), None)
    if index is None or not _reaches(masked[cue.end() : mentions[index][0]], kind):
        return []
    scope = [index]
    neither = cue[0].lower() == "neither"
    hyphenated = masked[cue.end() : mentions[index][0]] == "-"  # "no-drums piano": a piano
    while scope[-1] + 1 < len(mentions):
        following = scope[-1] + 1
        between = masked[mentions[scope[-1]][1] : mentions[following][0]]
        ended = hyphenated or _WHOLE.search(masked[: mentions[scope[-1]][1]])
        adjective = kind in ("no", "wide", "only") and not ended and _SPACE.fullmatch(between)
        if (
            adjective
            or _OR.fullmatch(between)
            or (_AND.fullmatch(between) and kind not in ("not", "minus"))
            or (
                _COMMA.fullmatch(between)
                and _list_goes_on(masked, mentions, following, wide=kind == "wide" or neither)
            )
        ):
            scope.append(following)
        else:
            break
    return scope


def _list_goes_on(masked: str, mentions: Sequence[Place], number: int, *, wide: bool) -> bool:
    """Whether a list of bare mentions, separated by commas, ends with "or" (or "and")."""
    while number + 1 < len(mentions):
        between = masked[mentions[number][1] : mentions[number + 1][0]]
        if _OR.fullmatch(between) or (wide and _AND.fullmatch(between)):
            return True
        if not _COMMA.fullmatch(between):
            return False
        number += 1
    return False


def _reaches(gap: str, kind: str) -> bool:
    """Whether the scope of a cue reaches over the words between it and a mention."""
    if kind == "minus" or gap == "-":
        return (kind, gap) in (("minus", ""), ("no", "-"))
    others, before = 0, ""
    gap = _ASIDES.sub(" ", gap)
    for word in _WORD.findall(gap.lower()):
        if not re.match(r"[\w¦]", word) or word in _CLOSING or _MASK in word:
            return False
        if word in _PREPOSITIONS:
            if kind == "no" or (before and before not in _FILLERS):
                return False
        elif word in _ARTICLES:
            if before and before not in _BEFORE_ARTICLE and before not in _FILLERS:
                return False
        elif word not in _FILLERS or (kind == "no" and word in _NOT_FILLERS_OF_NO):
            others += 1
        before = word
    return others <= _MOST_WORDS[kind]


def trimmed(words: str, place: Place) -> Place:
    """A place without blanks at its ends."""
    text = words[place[0] : place[1]]
    return place[0] + len(text) - len(text.lstrip()), place[1] - len(text) + len(text.rstrip())


def without_phrases(words: str, phrases: Sequence[Place]) -> str:
    """The text without some phrases, and without the commas and conjunctions that they leave.

    >>> without_phrases("a tune, no drums, for harp", [(8, 16)])
    'a tune, for harp'
    """
    if not phrases:
        return words
    parts, last = [], 0
    for first, stop in phrases:
        if first < last:
            continue
        left = words[last:first]
        parts.append(_LEFT_BEFORE.sub("", left))
        rest = _LEFT_AFTER.match(words[stop:])
        last = stop + (rest.end() if rest else 0)
    text = " ".join([*(part.strip() for part in parts), words[last:].strip()])
    text = re.sub(r"\s+([,.;:!?)])", r"\1", " ".join(text.split()))
    text = re.sub(r"\(\s*\)|\[\s*\]", "", text)
    text = re.sub(r"(?:[,;]\s*)+([,;.!?])", r"\1", text)
    text = re.sub(r"^(?:[,;:.\s]|\b(?:and|or|but)\b)+", "", text, flags=re.IGNORECASE)
    text = re.sub(r"([.!?])\s+(?:[,;:]\s*)+", r"\1 ", text)
    text = re.sub(r"[\s,;:]*(?:\b(?:and|or|but|with)\b)?[\s,;:]*$", "", text)
    text = re.sub(r"\s*(?:/|\s-+|–|—)\s*$", "", text)
    return " ".join(text.split()) if re.search(r"\w", text) else ""
