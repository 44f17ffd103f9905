"""Training corpus of the score model in memory: windows of event rows and their conditions.

Input: a folder of shards (`data/score_shards.py`) and the joint embedding, whose text tower embeds
the captions. Output: `ScoreCorpus`. The text embeddings are cached in the folder, under the
fingerprint of the text tower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from melisma.data.clips import CORPUS_WEIGHTS
from melisma.files.atomic import write_arrays
from melisma.files.shards import Row, ShardReader
from melisma.files.shards.arrays import read_arrays
from melisma.joint import JointEmbedding
from melisma.joint.settings_words import read_settings
from melisma.lm.score.conditioning import SCORE_ATTRIBUTES, WORD_WIDTH, class_of
from melisma.values.attributes import FAMILIES, MOODS
from melisma.values.errors import MelismaError

KIND_SHARES: dict[str, float] = {"real": 0.5, "recast": 0.22, "arranged": 0.2, "groove": 0.08}
"""Sampling share of each kind of row in training (chosen)."""
_GROOVES = ("groove", "drum_patterns")
_OTHER_CORPUS = 0.05
"""Weight of a corpus that is not in `CORPUS_WEIGHTS`."""


@dataclass(frozen=True, kw_only=True)
class ScoreCorpus:
    """Windows of event rows with their conditions."""

    events: np.ndarray
    """int16 [event, 5], all windows concatenated."""
    spans: np.ndarray
    """int64 [window, 2]: first event and end of each window."""
    bars_done: np.ndarray
    """int32 [window]: bars of the piece before the window."""
    bars_left: np.ndarray
    """int32 [window]: bars from the window's beginning to the end of the piece."""
    attributes: np.ndarray
    """int64 [window, attribute] in the order of `SCORE_ATTRIBUTES`."""
    tempo_bpm: np.ndarray
    """float64 [window]: tempo of the perceived beat, nan where it is free."""
    families: np.ndarray
    """float32 [window, family], 1 where present."""
    moods: np.ndarray
    """float32 [window, mood], 1 where present."""
    words: np.ndarray
    """Text embeddings of the captions, float16 [window, caption, 128]."""
    exact: np.ndarray
    """bool [window, caption]: whether the caption states an exact tempo or key."""
    weight: np.ndarray
    """Sampling probability, float64 [window]; sums to 1."""
    group: np.ndarray
    """Index of the work, int32 [window]."""

    def __len__(self) -> int:
        return len(self.spans)


def attribute_row(facts: Mapping[str, Any]) -> list[int]:
    """The class of every attribute, in the order of `SCORE_ATTRIBUTES`; the number of classes where
    the facts (values by name) do not have it."""
    return [
        class_of(name, facts.get("tempo_bpm" if name == "tempo" else name))
        for name, _ in SCORE_ATTRIBUTES
    ]


def named_set(words: Any, names: tuple[str, ...]) -> list[float]:
    """Multi-hot encoding: 1 for every name that is among the words (a list, or None)."""
    return [float(name in (words or ())) for name in names]


def read_score_corpus(folder: Path, joint: JointEmbedding) -> ScoreCorpus:
    """Reads all rows of a folder of shards.

    Args:
        folder: the shards.
        joint: embeds the captions.

    Raises:
        FileNotFoundError: where there are no shards.
        MelismaError: where the shards are empty.
    """
    reader = ShardReader(folder)
    if not len(reader):
        raise MelismaError(f"{folder} holds no rows of scores: write them there first")
    columns = _Columns()
    for row in reader:
        columns.add(row)
    bars = np.concatenate(columns.bars)
    numbers = {group: number for number, group in enumerate(sorted(set(columns.groups)))}
    words, exact = _words(folder, joint, reader, len(columns.groups))
    return ScoreCorpus(
        events=np.concatenate(columns.events),
        spans=np.concatenate(columns.spans),
        bars_done=bars[:, 0].astype(np.int32),
        bars_left=bars[:, 1].astype(np.int32),
        attributes=np.concatenate(columns.attributes).astype(np.int64),
        tempo_bpm=np.concatenate(columns.tempo_bpm),
        families=np.concatenate(columns.families),
        moods=np.concatenate(columns.moods),
        words=words,
        exact=exact,
        weight=_weights(np.array(columns.kinds), np.array(columns.corpora)),
        group=np.array([numbers[group] for group in columns.groups], np.int32),
    )


class _Columns:
    """Accumulates the rows of shards as arrays: their facts as strings would fill gigabytes."""

    def __init__(self) -> None:
        self.events: list[np.ndarray] = []
        self.spans: list[np.ndarray] = []
        self.bars: list[np.ndarray] = []
        self.attributes: list[np.ndarray] = []
        self.tempo_bpm: list[np.ndarray] = []
        self.families: list[np.ndarray] = []
        self.moods: list[np.ndarray] = []
        self.kinds: list[str] = []
        self.corpora: list[str] = []
        self.groups: list[str] = []
        self._events_so_far = 0

    def add(self, row: Row) -> None:
        """Adds the windows of one row."""
        windows = row.arrays["windows"].astype(np.int64)
        self.events.append(row.arrays["events"])
        self.spans.append(windows[:, :2] + self._events_so_far)
        self.bars.append(windows[:, 2:])
        self._events_so_far += len(row.arrays["events"])
        rows: Any = row.facts["windows"]
        facts = [one["facts"] for one in rows]
        self.attributes.append(np.array([attribute_row(one) for one in facts], np.int16))
        self.tempo_bpm.append(np.array([float(one.get("tempo_bpm", np.nan)) for one in facts]))
        self.families.append(
            np.array([named_set(one.get("families"), FAMILIES) for one in facts], np.float32)
        )
        self.moods.append(
            np.array([named_set(one.get("moods"), MOODS) for one in facts], np.float32)
        )
        corpus = str(row.facts["identity"]).split("/")[0]
        kind = "groove" if corpus in _GROOVES else str(row.facts["kind"])
        self.kinds += [kind] * len(rows)
        self.corpora += [corpus] * len(rows)
        self.groups += [f"{corpus}/{row.facts['group']}"] * len(rows)


def _weights(kinds: np.ndarray, corpora: np.ndarray) -> np.ndarray:
    """Sampling probabilities, float64 [window]: by the shares of the kinds, within a kind by those
    of the corpora, and equal for the windows of a corpus."""
    weight = np.zeros(len(kinds))
    for kind in np.unique(kinds):
        mine = kinds == kind
        shares = {
            corpus: CORPUS_WEIGHTS.get(str(corpus), _OTHER_CORPUS)
            for corpus in np.unique(corpora[mine])
        }
        for corpus, share in shares.items():
            these = mine & (corpora == corpus)
            weight[these] = KIND_SHARES[str(kind)] * share / sum(shares.values()) / these.sum()
    return weight / weight.sum()


def _words(
    folder: Path, joint: JointEmbedding, reader: ShardReader, windows: int
) -> tuple[np.ndarray, np.ndarray]:
    """(text embeddings float16 [window, caption, 128], exact bool [window, caption])."""
    path = folder / f"words-{joint.text_fingerprint[:12]}-{windows}.npz"
    if path.is_file():
        stored = read_arrays(path)
        if {"words", "exact"} <= set(stored):
            return stored["words"], stored["exact"]
    captions: list[list[str]] = []
    for line in reader.index:
        rows: Any = line.facts["windows"]
        captions += [one["captions"] for one in rows]
    each = min(len(one) for one in captions)
    flat = [text for one in captions for text in one[:each]]
    vectors = joint.embed_text(flat) if flat else np.zeros((0, WORD_WIDTH), np.float32)
    read = [read_settings(text) for text in flat]
    exact = np.array([r.tempo_bpm is not None or r.tonality is not None for r in read], bool)
    words = vectors.astype(np.float16).reshape(windows, each, WORD_WIDTH)
    exact = exact.reshape(windows, each)
    write_arrays(path, {"words": words, "exact": exact})
    return words, exact
