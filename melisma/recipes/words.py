"""Sentences of the text tower: imagined pieces, scenes, human descriptions, everyday phrases."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from melisma.corpus.human_words import human_sentences
from melisma.joint.text import TextTower
from melisma.joint.tokenizer import train_tokenizer
from melisma.train.free_phrases import free_phrases
from melisma.train.sentence_teacher import SentenceTeacher, VectorCache
from melisma.train.text import TextTraining, train_text
from melisma.train.text_rows import (
    TextRows,
    assemble,
    human_rows,
    imagined_rows,
    joined,
    plain_rows,
    scene_rows,
    split_scenes,
)


def train_words(
    settings: TextTraining, words: Path | None, folder: Path, *, few: bool = False
) -> TextTower:
    """Gathers the sentences, asks the sentence encoder for its vectors once, and trains the tower.

    `words`: a folder of human captions (see `human_sentences`). `few`: a small part of everything
    and no sentence encoder, for the toy chain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seed = settings.loop.seed
    learned, held_scenes = split_scenes(np.random.default_rng(seed), 0.12)
    share = 20 if few else 1
    teacher = None if few else SentenceTeacher()
    cache = None if few else VectorCache(folder / "teacher.npz")
    human = [] if words is None else list(human_sentences(words, np.random.default_rng(seed + 1)))
    short = [one for one in human if one.shape in ("scene", "place", "tags")]
    long = [one for one in human if one.shape not in ("scene", "place", "tags")]
    rng = np.random.default_rng(seed + 2)
    free = free_phrases(np.random.default_rng(seed + 3))[:: share * 10 if few else 1]

    def asked(rows: list[tuple[str, np.ndarray, np.ndarray]]) -> TextRows:
        return assemble(rows, cache, teacher)

    parts = [
        asked(scene_rows(rng, max(30 // share, 2), learned)),
        asked(imagined_rows(6_000 // share, rng)),
        assemble(imagined_rows(50_000 // share, rng), None, None),
    ]
    if not few:
        parts.append(asked(plain_rows(free)))
    if short:
        parts += [asked(human_rows(short)), assemble(human_rows(long), None, None)]
    if cache is not None:
        cache.save()
    rows = joined(parts)
    tokenizer = train_tokenizer([*rows.sentences, *free])
    held = {
        "scenes": asked(scene_rows(np.random.default_rng(seed + 4), 4, held_scenes)),
        "stated": assemble(
            imagined_rows(1_000 // share, np.random.default_rng(seed + 5)), None, None
        ),
    }
    return train_text(settings, rows, tokenizer, folder, held)
