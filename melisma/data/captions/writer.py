"""Caption generator: the facts about a clip in words that a person might type or write.

Inputs: `values.Facts` and a random generator. Outputs: captions in many wordings, from a list of
tags to a description of several sentences. A caption mentions a random subset of the facts and
nothing that is false; exact values (bpm and names of keys) appear in about 40 % of the captions.
Tags and full sentences follow the two formats in which MusicCaps describes music (Agostinelli et
al. 2023, MusicLM, section 5: aspect lists and captions). `vocabulary.py` has the words, `scenes.py`
the scenes, `sentences.py` the sentence forms.
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
from melisma.values.errors import MelismaError

EXACT_SHARE = 0.46
"""Share of captions that may contain exact values (set so that about 40 % do contain one)."""
SCENE_SHARE = 0.3
"""Share of captions for which a scene is searched (about half of the searches find one)."""

SLIP_SHARE = 0.03
"""Share of captions with a typing error (a choice: people make more, training needs fewer)."""


def write_captions(facts: Facts, rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """Write captions of one clip in different wordings.

    Args:
        facts: What is known about the clip. Unknown attributes are never mentioned.
        rng: Random generator; the same state gives the same captions.
        count: Number of captions, 0 or more.

    Returns:
        `count` captions.

    Raises:
        MelismaError: If `count` is negative.

    >>> facts = Facts(tempo_bpm=52.0, instruments=("cello",), families=("strings",))
    >>> len(write_captions(facts, np.random.default_rng(0), 3))
    3
    """
    if count < 0:
        raise MelismaError(f"a number of captions is 0 or more, not {count}")
    return tuple(_write_one(facts, rng) for _ in range(count))


def _write_one(facts: Facts, rng: np.random.Generator) -> str:
    exact = bool(rng.random() < EXACT_SHARE)
    scene = fitting_scene(facts, rng) if rng.random() < SCENE_SHARE else None
    state = CaptionState(facts=facts, rng=rng, exact=exact)
    clause = scene_clause(scene, rng) if scene else ""
    form = rng.random()
    if form < 0.2:
        text = tags(state)
        if scene is not None and rng.random() < 0.6:
            text += ", " + scene.text
    elif form < 0.37:
        text = short_phrase(state) + clause
    elif form < 0.57:
        text = one_sentence(state, clause)
    elif form < 0.69:
        text = imperative(state, clause)
    elif form < 0.77:
        text = casual(state, clause)
    else:
        text = long_description(state, scene_phrase(scene, rng) if scene else None)
    return finish(text, rng)


def finish(text: str, rng: np.random.Generator) -> str:
    """Vary spelling, case and the final full stop at random, with a rare typing error.

    Args:
        text: A non-empty caption in British spelling.
        rng: Random generator.

    Returns:
        The caption as a person might have typed it.
    """
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
    """Swap two inner letters of a random word of at least six letters, or delete one of them."""
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
