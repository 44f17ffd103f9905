"""Training sentences of the text tower: synthetic captions, scenes, human captions, everyday
phrases.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.data.captions.human_words import human_sentences
from melisma.joint.text_tower import TextTower
from melisma.joint.tokenizer import train_tokenizer
from melisma.train.datasets.everyday_phrases import free_phrases
from melisma.train.datasets.sentence_encoder import SentenceTeacher, VectorCache
from melisma.train.datasets.text import (
    TextRows,
    assemble,
    human_rows,
    imagined_rows,
    joined,
    plain_rows,
    scene_rows,
    split_scenes,
)
from melisma.train.text import TextTraining, train_text


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Training and held-out sentences of the text tower."""

    rows: TextRows
    """Training sentences."""
    held: dict[str, TextRows]
    """Held-out sentences: "scenes" that are not in training, "stated" attributes in other words."""
    free: list[str]
    """Everyday phrases without labels; the tokenizer is trained on them, too."""


def gather_sentences(words: Path | None, folder: Path, seed: int, *, few: bool) -> Sentences:
    """Writes and labels the sentences, with vectors of the sentence encoder.

    Args:
        words: folder of human captions, or None.
        folder: where the vectors are cached, so that each sentence is encoded once.
        seed: of all random choices.
        few: a small part of everything, without the sentence encoder (toy size).
    """
    folder.mkdir(parents=True, exist_ok=True)
    learned, held_scenes = split_scenes(np.random.default_rng(seed), 0.12)
    share = 20 if few else 1
    teacher = None if few else SentenceTeacher()
    cache = None if few else VectorCache(folder / "teacher.npz")
    human = [] if words is None else list(human_sentences(words, np.random.default_rng(seed + 1)))
    short = [one for one in human if one.shape in ("scene", "place", "tags")]
    long = [one for one in human if one.shape not in ("scene", "place", "tags")]
    rng = np.random.default_rng(seed + 2)
    free = free_phrases(np.random.default_rng(seed + 3))[:: share * 10 if few else 1]

    def encoded(rows: list[tuple[str, np.ndarray, np.ndarray]]) -> TextRows:
        return assemble(rows, cache, teacher)

    parts = [
        encoded(scene_rows(rng, max(30 // share, 2), learned)),
        encoded(imagined_rows(6_000 // share, rng)),
        assemble(imagined_rows(50_000 // share, rng), None, None),
    ]
    if not few:
        parts.append(encoded(plain_rows(free)))
    if short:
        parts += [encoded(human_rows(short)), assemble(human_rows(long), None, None)]
    if cache is not None:
        cache.save()
    held = {
        "scenes": encoded(scene_rows(np.random.default_rng(seed + 4), 4, held_scenes)),
        "stated": assemble(
            imagined_rows(1_000 // share, np.random.default_rng(seed + 5)), None, None
        ),
    }
    return Sentences(rows=joined(parts), held=held, free=free)


def train_words(
    settings: TextTraining, words: Path | None, folder: Path, *, few: bool = False
) -> TextTower:
    """Trains the text tower alone, and its tokenizer.

    Args:
        settings: of the training.
        words: folder of human captions (see `human_sentences`), or None.
        folder: of the training state.
        few: a small part of the sentences, without the sentence encoder (toy size).
    """
    sentences = gather_sentences(words, folder, settings.loop.seed, few=few)
    tokenizer = train_tokenizer([*sentences.rows.sentences, *sentences.free])
    return train_text(settings, sentences.rows, tokenizer, folder, sentences.held)
