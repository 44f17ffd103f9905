"""Labelled sentences for the text tower: captions, scenes, human captions, everyday phrases.

Input: facts, the lexicon of scenes, sentences. Output: `TextRows`, with the known attributes of
each sentence and its vector by the sentence encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from melisma.data.captions.human_words import HumanSentence
from melisma.data.captions.scenes import Scene, all_scenes, scene_clause, scene_phrase
from melisma.data.captions.text_only import random_facts
from melisma.data.captions.writer import finish, write_captions
from melisma.joint.attributes import (
    ATTRIBUTES,
    BLOCKS,
    NAMES,
    ROW_WIDTH,
    target_row,
    tempo_distribution,
)
from melisma.train.datasets.sentence_encoder import TEACHER_WIDTH, SentenceTeacher, VectorCache
from melisma.values import Facts
from melisma.values.attributes import TEMPO_BINS, TONALITIES, bin_tempo_bpm

Labelled = tuple[str, np.ndarray, np.ndarray]
"""(sentence, attribute targets float32 [150], degree to which each is known float32 [11])."""


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """Sentences with targets, row by row."""

    sentences: list[str]
    targets: np.ndarray
    """Probabilities of the attribute classes, float16 [row, 150]."""
    known: np.ndarray
    """Degree to which each attribute is known, 0 to 1, float16 [row, 11]."""
    vectors: np.ndarray
    """Unit vectors by the sentence encoder, float16 [row, 384]; zeros where not computed."""

    def __len__(self) -> int:
        return len(self.sentences)

    def part(self, picks: np.ndarray) -> TextRows:
        """The rows numbered `picks`."""
        return TextRows(
            sentences=[self.sentences[int(i)] for i in picks],
            targets=self.targets[picks],
            known=self.known[picks],
            vectors=self.vectors[picks],
        )


def caption_rows(facts: Iterable[Facts], rng: np.random.Generator, each: int) -> list[Labelled]:
    """Writes `each` captions for every piece, given its facts."""
    rows = []
    for one in facts:
        target, known = target_row(one)
        for caption in write_captions(one, rng, each):
            rows.append((caption, target, known.astype(np.float32)))
    return rows


def imagined_rows(count: int, rng: np.random.Generator) -> list[Labelled]:
    """Captions of imaginary pieces with random facts, one for each piece."""
    return caption_rows((random_facts(rng) for _ in range(count)), rng, 1)


def scene_row(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Attributes that a scene implies: (targets float32 [150], known float32 [11]).

    Alternative classes share the probability equally.
    """
    target, known = target_row(
        Facts(moods=scene.moods, dynamics=scene.dynamics, families=scene.families)
    )
    weights = known.astype(np.float32)
    target[BLOCKS["tempo"]] = tempo_range(*scene.tempo_bpm)
    weights[NAMES.index("tempo")] = 1.0
    if scene.styles:
        _share(target, weights, "style", scene.styles)
    if scene.mode is not None:
        _share(target, weights, "tonality", [t for t in TONALITIES if t.endswith(scene.mode)])
    leads = [f for f in scene.families if f not in ("drums", "bass")]
    if leads:
        _share(target, weights, "lead", leads)
    # A family that a scene does not name is not necessarily absent.
    weights[NAMES.index("families")] *= 0.5
    return target, weights


def _share(target: np.ndarray, weights: np.ndarray, name: str, classes: Sequence[str]) -> None:
    index = NAMES.index(name)
    indices = [ATTRIBUTES[index].classes.index(c) for c in classes]
    target[BLOCKS[name].start + np.array(indices)] = 1.0 / len(indices)
    weights[index] = 1.0


FRAMES: tuple[str, ...] = (
    "{}", "{}", "{}", "music for {}", "a piece for {}", "music, {}", "something for {}",
    "soundtrack: {}", "{}, instrumental", "background music {}", "the feeling of {}",
    "play me something like {}", "I am imagining {}", "a tune, {}", "{} music",
)  # fmt: skip


def scene_rows(rng: np.random.Generator, each: int, scenes: Sequence[Scene]) -> list[Labelled]:
    """Sentences about scenes alone, `each` wordings of every scene."""
    rows = []
    for scene in scenes:
        target, weights = scene_row(scene)
        for _ in range(each):
            form = rng.random()
            if form < 0.25:
                text = scene_phrase(scene, rng)
            elif form < 0.4:
                text = "music" + scene_clause(scene, rng)
            else:
                text = FRAMES[int(rng.integers(len(FRAMES)))].format(scene.text)
            rows.append((finish(text, rng), target, weights))
    return rows


def split_scenes(rng: np.random.Generator, held_share: float) -> tuple[list[Scene], list[Scene]]:
    """(training, held-out) scenes, at random; `held_share` of all are held out."""
    scenes = all_scenes()
    order = [scenes[int(i)] for i in rng.permutation(len(scenes))]
    held = round(held_share * len(order))
    return order[held:], order[:held]


def human_rows(sentences: Iterable[HumanSentence], weight: float = 0.6) -> list[Labelled]:
    """Human captions with the attributes of their keywords, which are known to degree `weight`.

    Missing keywords are weak evidence, so the degree is halved for families and moods.
    """
    rows = []
    for sentence in sentences:
        target, known = target_row(sentence.facts)
        weights = known.astype(np.float32) * weight
        for name in ("families", "moods"):
            weights[NAMES.index(name)] *= 0.5
        if sentence.tempo_range_bpm is not None and not known[NAMES.index("tempo")]:
            target[BLOCKS["tempo"]] = tempo_range(*sentence.tempo_range_bpm)
            weights[NAMES.index("tempo")] = weight
        rows.append((sentence.text, target, weights))
    return rows


def tempo_range(low_bpm: float, high_bpm: float) -> np.ndarray:
    """Even distribution over the tempo bins between two tempi, float32 [48]."""
    inside = [i for i in range(TEMPO_BINS) if low_bpm <= bin_tempo_bpm(i) <= high_bpm]
    return np.mean([tempo_distribution(bin_tempo_bpm(i), 1.0) for i in inside], axis=0)


def plain_rows(sentences: Iterable[str]) -> list[Labelled]:
    """Sentences without known attributes."""
    nothing = np.zeros(ROW_WIDTH, np.float32), np.zeros(len(ATTRIBUTES), np.float32)
    return [(sentence, *nothing) for sentence in sentences]


def assemble(
    labelled: Sequence[Labelled], cache: VectorCache | None, teacher: SentenceTeacher | None
) -> TextRows:
    """Collects labelled sentences as `TextRows`.

    Args:
        labelled: the sentences.
        cache: of the sentence encoder's vectors; None: all vectors are zero.
        teacher: encodes the sentences that the cache lacks.
    """
    sentences = [row[0] for row in labelled]
    vectors = (
        np.zeros((len(sentences), TEACHER_WIDTH), np.float16)
        if cache is None
        else cache.vectors(sentences, teacher)
    )
    return TextRows(
        sentences=sentences,
        targets=np.stack([row[1] for row in labelled]).astype(np.float16),
        known=np.stack([row[2] for row in labelled]).astype(np.float16),
        vectors=vectors,
    )


def joined(parts: Sequence[TextRows]) -> TextRows:
    """Concatenates rows."""
    return TextRows(
        sentences=[sentence for part in parts for sentence in part.sentences],
        targets=np.concatenate([part.targets for part in parts]),
        known=np.concatenate([part.known for part in parts]),
        vectors=np.concatenate([part.vectors for part in parts]),
    )


def accuracies(rows: np.ndarray, targets: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Accuracy of the most likely class of each attribute (tempo: within one bin of the true one).

    A row counts for an attribute if it is known and its target is not a wide distribution. If
    several classes are true, or alternatives share the probability, any of them is correct.

    Args:
        rows: predicted probabilities [row, 150].
        targets: true probabilities [row, 150].
        known: degrees to which each attribute is known [row, 11].

    Returns:
        Accuracies by attribute; attributes that no row knows are omitted.
    """
    result = {}
    for index, attribute in enumerate(ATTRIBUTES):
        block = BLOCKS[attribute.name]
        true = targets[:, block].astype(np.float32)
        use = known[:, index] > 0.3
        if attribute.name == "tempo":
            use &= true.max(axis=1) >= 0.2
        if not use.any():
            continue
        predicted, true = rows[use, block].argmax(axis=1), true[use]
        if attribute.name == "tempo":
            hit = np.abs(predicted - true.argmax(axis=1)) <= 1
        else:
            hit = true[np.arange(len(predicted)), predicted] >= 0.5 * true.max(axis=1)
        result[attribute.name] = float(hit.mean())
    return result
