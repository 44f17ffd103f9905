"""Captions for the training of a text-conditioned model: exact, assigned, or shuffled.

*Exact*: written from the clip's facts. *Assigned* (pseudo-labels: Noise2Music, 2302.03917, section
4.1): from a pool of other clips' captions, the nearest to the clip in the joint embedding, which
needs no text about the clip. *Shuffled*: those of another clip, a control that shows the effect of
the captions on the model.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from melisma.joint import JointEmbedding
from melisma.lm.conditioning import DropSettings
from melisma.train.lm import CaptionEncoder, TokenCorpus
from melisma.values.errors import MelismaError

KINDS = ("exact", "assigned", "shuffled")
POOL = 8_000
"""Size of the pool of captions, of all clips together (chosen: more add only repetitions)."""
ASSIGNED = 4
"""Captions assigned to each clip, as many as a clip has itself."""
CAPTION_DROPS = DropSettings(
    everything=0.1, style=1.0, attribute=1.0, families=1.0, rhythm=1.0, melody=0.5, text=0.1
)
"""Drop probabilities of a model that is conditioned on captions and a melody alone."""
_BATCH = 256


def caption_encoder(joint: JointEmbedding, kind: str) -> CaptionEncoder:
    """The text tower of a joint embedding as the encoder of captions of a kind (see `KINDS`)."""
    return CaptionEncoder(read=joint.text_states, fingerprint=joint.text_fingerprint, captions=kind)


def with_captions(corpus: TokenCorpus, kind: str, joint: JointEmbedding, seed: int) -> TokenCorpus:
    """Replaces the captions of a corpus.

    Args:
        corpus: with its exact captions.
        kind: one of `KINDS`.
        joint: assigns the captions.
        seed: of the pool and the shuffling.

    Raises:
        MelismaError: for an unknown kind, or where no clip has a caption.
    """
    if kind not in KINDS:
        raise MelismaError(f'no kind of captions "{kind}": known are {", ".join(KINDS)}')
    if not any(corpus.captions):
        raise MelismaError("no clip of this corpus has a caption")
    rng = np.random.default_rng(seed)
    if kind == "exact":
        return corpus
    if kind == "shuffled":
        # A cyclic permutation: no clip keeps its own captions.
        order = rng.permutation(len(corpus))
        other = np.empty(len(corpus), np.int64)
        other[order] = np.roll(order, 1)
        captions = tuple(corpus.captions[row] for row in other)
        return dataclasses.replace(corpus, captions=captions)
    return dataclasses.replace(corpus, captions=_assigned(corpus, joint, rng))


def _assigned(
    corpus: TokenCorpus, joint: JointEmbedding, rng: np.random.Generator
) -> tuple[tuple[str, ...], ...]:
    """For each clip, the captions of other clips whose text embeddings are nearest to its music
    embedding."""
    pool = [(text, row) for row, texts in enumerate(corpus.captions) for text in texts]
    pool = [pool[i] for i in rng.permutation(len(pool))[:POOL]]
    texts, owners = [text for text, _ in pool], np.array([row for _, row in pool])
    words = joint.embed_text(texts)
    # Text and music embeddings differ by a constant offset (the modality gap): both are centred.
    words = _centred(words)
    music = _centred(corpus.style[:, :, -1].float().mean(dim=1).numpy())
    found: list[tuple[str, ...]] = []
    for start in range(0, len(corpus), _BATCH):
        scores = music[start : start + _BATCH] @ words.T
        for i, row in enumerate(range(start, min(start + _BATCH, len(corpus)))):
            scores[i, owners == row] = -np.inf
            others = min(ASSIGNED, int((owners != row).sum()))
            nearest = np.argsort(-scores[i])[:others]
            found.append(tuple(texts[index] for index in nearest))
    return tuple(found)


def _centred(vectors: np.ndarray) -> np.ndarray:
    moved = vectors - vectors.mean(axis=0)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
