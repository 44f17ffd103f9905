"""From the known truth of a clip to the words a person might type or write about it.

Enters: `values.Facts` and a random generator. Leaves: captions in many wordings, from bare tags to
three sentences. A caption mentions a random part of the facts and never a false one; numbers (bpm
and names of tonalities) stand in about two of five. Tags and full sentences follow the two ways in
which MusicCaps describes music (Agostinelli et al. 2023, MusicLM, section 5: aspect lists and
captions). The words come from `vocabulary.py`, the scenes from `scenes.py`, the sentences from
`sentences.py`.
"""

from __future__ import annotations

import numpy as np

from melisma.data.captions.phrasing import CaptionState
from melisma.data.captions.scenes import fitting_scene, scene_clause, scene_phrase
from melisma.data.captions.sentences import (
    casual,
    imperative,
    long_description,
    one_sentence,
    short_phrase,
    tags,
)
from melisma.data.captions.vocabulary import AMERICAN
from melisma.values import Facts

EXACT_SHARE = 0.46
"""Share of captions in which numbers may appear (chosen so that they do in about 40 %)."""
SCENE_SHARE = 0.3
"""Share of captions that look for a scene (about half of them find one that fits)."""

SLIP_SHARE = 0.03
"""Share of captions with a slip of the pen (chosen: people make more, models need fewer)."""


def write_captions(facts: Facts, rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """`count` wordings of the same facts; the same generator state gives the same wordings.

    Raises `ValueError` where `count` is negative.

    >>> facts = Facts(tempo_bpm=52.0, instruments=("cello",), families=("strings",))
    >>> len(write_captions(facts, np.random.default_rng(0), 3))
    3
    """
    if count < 0:
        raise ValueError(f"a number of captions is 0 or more, not {count}")
    return tuple(_write_one(facts, rng) for _ in range(count))


def _write_one(facts: Facts, rng: np.random.Generator) -> str:
    exact = bool(rng.random() < EXACT_SHARE)
    scene = fitting_scene(facts, rng) if rng.random() < SCENE_SHARE else None
    telling = CaptionState(facts=facts, rng=rng, exact=exact)
    clause = scene_clause(scene, rng) if scene else ""
    form = rng.random()
    if form < 0.2:
        text = tags(telling)
        if scene is not None and rng.random() < 0.6:
            text += ", " + scene.text
    elif form < 0.37:
        text = short_phrase(telling) + clause
    elif form < 0.57:
        text = one_sentence(telling, clause)
    elif form < 0.69:
        text = imperative(telling, clause)
    elif form < 0.77:
        text = casual(telling, clause)
    else:
        text = long_description(telling, scene_phrase(scene, rng) if scene else None)
    return finish(text, rng)


def finish(text: str, rng: np.random.Generator) -> str:
    """Human unevenness: American spelling, lower case, a missing full stop, rarely a slip."""
    if rng.random() < 0.5:
        text = " ".join(_american(word) for word in text.split(" "))
    text = text[0].upper() + text[1:] if rng.random() < 0.6 else text
    if rng.random() < 0.35:
        text = text.lower()
    if rng.random() < 0.3:
        text = text.rstrip(".")
    if rng.random() < SLIP_SHARE:
        text = _slip(text, rng)
    return text.strip()


def _american(word: str) -> str:
    bare = word.rstrip(".,;:!?")
    return AMERICAN.get(bare, bare) + word[len(bare) :]


def _slip(text: str, rng: np.random.Generator) -> str:
    """Swap two inner letters of one longer word, or drop one of them."""
    words = text.split(" ")
    long_words = [i for i, word in enumerate(words) if len(word) > 5 and word.isalpha()]
    if not long_words:
        return text
    index = long_words[int(rng.integers(len(long_words)))]
    word = words[index]
    at = int(rng.integers(1, len(word) - 2))
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    words[index] = swapped if rng.random() < 0.5 else word[:at] + word[at + 1 :]
    return " ".join(words)
