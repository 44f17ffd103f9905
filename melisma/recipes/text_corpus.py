"""Sentences of the text tower: imagined pieces, scenes, human descriptions, everyday phrases."""

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
    """What the text tower learns from, and what it is judged on."""

    rows: TextRows
    held: dict[str, TextRows]
    """ "scenes" that it never sees, and "stated" attributes in other wordings."""
    free: list[str]
    """Everyday phrases without any label; the word pieces are found on them too."""


def gather_sentences(words: Path | None, folder: Path, seed: int, *, few: bool) -> Sentences:
    """Writes and labels the sentences, and asks the sentence encoder for its vectors once (they are
    kept in `folder`)."""
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
    held = {
        "scenes": asked(scene_rows(np.random.default_rng(seed + 4), 4, held_scenes)),
        "stated": assemble(
            imagined_rows(1_000 // share, np.random.default_rng(seed + 5)), None, None
        ),
    }
    return Sentences(rows=joined(parts), held=held, free=free)


def train_words(
    settings: TextTraining, words: Path | None, folder: Path, *, few: bool = False
) -> TextTower:
    """Trains the text tower alone.

    `words`: a folder of human captions (see `human_sentences`). `few`: a small part of everything
    and no sentence encoder, for the toy chain.
    """
    sentences = gather_sentences(words, folder, settings.loop.seed, few=few)
    tokenizer = train_tokenizer([*sentences.rows.sentences, *sentences.free])
    return train_text(settings, sentences.rows, tokenizer, folder, sentences.held)
