"""Which captions a model that is told a text learns from: own ones, assigned ones, or wrong ones.

*Exact*: what is known of the clip. *Assigned* (pseudo-labels: Noise2Music, 2302.03917, 4.1):
of a pool of captions of other clips, those that the joint embedding finds nearest to what the music
tower heard; they need no words about the music at all. *Shuffled*: another clip's, the control that
shows how much of what a model does its captions did.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from melisma.joint import Joint
from melisma.lm.conditioning import DropSettings
from melisma.train.lm import TokenCorpus, Words

KINDS = ("exact", "assigned", "shuffled")
POOL = 8_000
"""Captions that are chosen from, of all clips together (chosen: more repeat what is there)."""
ASSIGNED = 4
"""Captions assigned to each clip, as many as a clip has of its own."""
CAPTION_DROPS = DropSettings(
    everything=0.1, style=1.0, attribute=1.0, families=1.0, rhythm=1.0, melody=0.5, text=0.1
)
"""How often a model that is told captions and a tune, and nothing else, goes without them."""
_BATCH = 256


def words_of(joint: Joint, kind: str) -> Words:
    """The text tower of a joint embedding as the encoder of captions of a kind."""
    return Words(read=joint.read_words, fingerprint=joint.words_fingerprint, captions=kind)


def with_captions(corpus: TokenCorpus, kind: str, joint: Joint, seed: int) -> TokenCorpus:
    """The corpus with captions of a kind. `ValueError` for another one, or where none are there."""
    if kind not in KINDS:
        raise ValueError(f'no kind of captions "{kind}": known are {", ".join(KINDS)}')
    if not any(corpus.captions):
        raise ValueError("no clip of this corpus has a caption")
    rng = np.random.default_rng(seed)
    if kind == "exact":
        return corpus
    if kind == "shuffled":
        # A turn by at least one place: no clip keeps its own.
        order = rng.permutation(len(corpus))
        other = np.empty(len(corpus), np.int64)
        other[order] = np.roll(order, 1)
        captions = tuple(corpus.captions[row] for row in other)
        return dataclasses.replace(corpus, captions=captions)
    return dataclasses.replace(corpus, captions=_assigned(corpus, joint, rng))


def _assigned(
    corpus: TokenCorpus, joint: Joint, rng: np.random.Generator
) -> tuple[tuple[str, ...], ...]:
    """For each clip the captions of others whose vectors lie nearest to its own."""
    pool = [(text, row) for row, texts in enumerate(corpus.captions) for text in texts]
    pool = [pool[i] for i in rng.permutation(len(pool))[:POOL]]
    texts, owners = [text for text, _ in pool], np.array([row for _, row in pool])
    words = joint.embed_text(texts)
    # Between words and music lies a constant distance (the modality gap): both are centred.
    words = _centred(words)
    music = _centred(corpus.style[:, :, -1].float().mean(dim=1).numpy())
    found: list[tuple[str, ...]] = []
    for start in range(0, len(corpus), _BATCH):
        scores = music[start : start + _BATCH] @ words.T
        for i, row in enumerate(range(start, min(start + _BATCH, len(corpus)))):
            scores[i, owners == row] = -np.inf
            others = min(ASSIGNED, int((owners != row).sum()))
            nearest = np.argsort(-scores[i])[:others]
            found.append(tuple(texts[place] for place in nearest))
    return tuple(found)


def _centred(vectors: np.ndarray) -> np.ndarray:
    moved = vectors - vectors.mean(axis=0)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
