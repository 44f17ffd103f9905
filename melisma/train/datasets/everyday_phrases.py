"""Phrases of everyday English, for words of the text tower that no caption contains.

They have no attribute labels; the targets are the vectors of a sentence encoder
(`sentence_encoder.py`). Frequent words are from the PyPI package `wordfreq` (Speer, 2022; `train`
extra).

Input: a random generator. Output: sentences such as "music for a harbour" or "a rainy evening".
"""

from __future__ import annotations

import numpy as np
from wordfreq import top_n_list

FREQUENT_WORDS = 16_000
"""Number of the most frequent words; rarer ones are mostly names (chosen)."""

ONE_WORD: tuple[str, ...] = (
    "{a}",
    "music for {a}",
    "music for a {a}",
    "a {a} song",
    "{a} music",
    "the sound of {a}",
    "the mood of a {a}",
    "a piece about {a}",
    "something {a}",
    "very {a} music",
    "it feels like {a}",
    "a tune for the {a}",
    "background music for a {a} video",
    "I want {a} music",
    "soundtrack of a {a}",
)
TWO_WORDS: tuple[str, ...] = (
    "{a} {b}",
    "a {a} {b}",
    "{a} and {b}",
    "the {a} of the {b}",
    "a {a} in the {b}",
    "music for a {a} {b}",
    "like a {a} {b}",
    "a {a} melody for a {b}",
)
SETTINGS: tuple[str, ...] = (
    "a {a} {time} in a {b} {place}",
    "{time} at the {place}, {a}",
    "a {b} {place} on a {a} {time}",
    "walking through a {a} {place}",
    "a {a} {time} by the {place}",
    "scene: a {a} {place}, {time}, {b}",
    "the {time} when the {a} came back to the {place}",
    "music for a {place} at {time}",
)
TIMES: tuple[str, ...] = (
    "morning", "evening", "night", "Sunday", "afternoon", "summer", "winter", "autumn", "spring",
    "midnight", "dawn", "dusk", "holiday", "weekend", "Christmas", "sunset", "Monday", "childhood",
)  # fmt: skip
PLACES: tuple[str, ...] = (
    "café", "kitchen", "forest", "castle", "church", "street", "river", "club", "beach", "city",
    "village", "garden", "train", "mountain", "bar", "library", "theatre", "school", "market",
    "office", "desert", "ship", "harbour", "temple", "ballroom", "cave", "spaceship", "hospital",
    "graveyard", "stadium", "farm", "island", "tavern", "museum", "palace", "battlefield", "park",
)  # fmt: skip


def frequent_words(count: int = FREQUENT_WORDS) -> list[str]:
    """Lower-case English words of three letters or more, the most frequent first."""
    listed = top_n_list("en", count)
    return [w for w in listed if w.isalpha() and w.isascii() and len(w) >= 3]


def free_phrases(rng: np.random.Generator, each: int = 2, mixed: int = 30_000) -> list[str]:
    """Phrases without repeats.

    Args:
        rng: of all random choices.
        each: phrases for every frequent word.
        mixed: phrases of several words.
    """
    words = frequent_words()
    phrases: dict[str, None] = {}
    for word in words:
        for index in rng.permutation(len(ONE_WORD))[:each]:
            phrases[ONE_WORD[int(index)].format(a=word)] = None
    # Squaring a uniform number prefers frequent words.
    ranks = (rng.random((mixed, 2)) ** 2 * len(words)).astype(int)
    for first, second in ranks:
        form = TWO_WORDS if rng.random() < 0.5 else SETTINGS
        phrases[
            form[int(rng.integers(len(form)))].format(
                a=words[first],
                b=words[second],
                time=TIMES[int(rng.integers(len(TIMES)))],
                place=PLACES[int(rng.integers(len(PLACES)))],
            )
        ] = None
    return list(phrases)
