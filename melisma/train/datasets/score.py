"""The corpus of the score model in memory: event rows by window, and what is told of each.

Enters: a folder of shards (`data/score_shards.py`) and the joint embedding, whose text tower puts
the captions into vectors. Leaves: `ScoreCorpus`. The vectors are kept in the folder, under the
fingerprint of the tower that made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from melisma.data.clips import CORPUS_WEIGHTS
from melisma.files.atomic import replacing
from melisma.files.shards import Row, ShardReader
from melisma.joint import Joint
from melisma.joint.settings_words import read_settings
from melisma.lm.score.conditioning import SCORE_ATTRIBUTES, WORD_WIDTH, class_of
from melisma.values.attributes import FAMILIES, MOODS

KIND_SHARES: dict[str, float] = {"real": 0.5, "recast": 0.22, "arranged": 0.2, "groove": 0.08}
"""How often each kind of row is met in training (chosen)."""
_GROOVES = ("groove", "drum_patterns")
_OTHER_CORPUS = 0.05
"""Share of a corpus that `CORPUS_WEIGHTS` does not know."""


@dataclass(frozen=True, kw_only=True)
class ScoreCorpus:
    """Windows of event rows."""

    events: np.ndarray
    """int16 [event, 5], all windows one after the other."""
    spans: np.ndarray
    """int64 [window, 2]: first event and end."""
    bars_done: np.ndarray
    """int32 [window]: bars of the piece before the window."""
    bars_left: np.ndarray
    """int32 [window]: bars from its beginning to the piece's end."""
    attributes: np.ndarray
    """int64 [window, attribute], as `told_score.SCORE_ATTRIBUTES`."""
    tempo_bpm: np.ndarray
    """float64 [window]: of the felt beat, nan where the tempo is free."""
    families: np.ndarray
    """float32 [window, family]."""
    moods: np.ndarray
    """float32 [window, mood]."""
    words: np.ndarray
    """float16 [window, caption, 128]: vectors of the captions."""
    exact: np.ndarray
    """bool [window, caption]: whether the caption states a tempo or tonality exactly."""
    weight: np.ndarray
    """float64 [window]: how often each is met; sums to 1."""
    group: np.ndarray
    """int32 [window]: number of its work."""

    def __len__(self) -> int:
        return len(self.spans)


def attribute_row(facts: Mapping[str, Any]) -> list[int]:
    """Facts by name -> the class of every attribute, its table's size where it is not known."""
    return [
        class_of(name, facts.get("tempo_bpm" if name == "tempo" else name))
        for name, _ in SCORE_ATTRIBUTES
    ]


def named_set(words: Any, names: tuple[str, ...]) -> list[float]:
    """1 for every name that is among the words."""
    return [float(name in (words or ())) for name in names]


def read_score_corpus(folder: Path, joint: Joint) -> ScoreCorpus:
    """All rows of a folder of shards; `FileNotFoundError` or `ValueError` where there are none."""
    reader = ShardReader(folder)
    if not len(reader):
        raise ValueError(f"{folder} holds no rows of scores: write them there first")
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
    """Rows of shards as arrays, one after the other: their facts as words would fill gigabytes."""

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
        self._at = 0

    def add(self, row: Row) -> None:
        """Takes the windows of one row."""
        windows = row.arrays["windows"].astype(np.int64)
        self.events.append(row.arrays["events"])
        self.spans.append(windows[:, :2] + self._at)
        self.bars.append(windows[:, 2:])
        self._at += len(row.arrays["events"])
        told: Any = row.facts["windows"]
        facts = [one["facts"] for one in told]
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
        self.kinds += [kind] * len(told)
        self.corpora += [corpus] * len(told)
        self.groups += [f"{corpus}/{row.facts['group']}"] * len(told)


def _weights(kinds: np.ndarray, corpora: np.ndarray) -> np.ndarray:
    """Shares of the kinds, and within each of the corpora; windows of one corpus evenly."""
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
    folder: Path, joint: Joint, reader: ShardReader, windows: int
) -> tuple[np.ndarray, np.ndarray]:
    """(vectors float16 [window, caption, 128], exact bool [window, caption]) of all captions."""
    path = folder / f"words-{joint.words_fingerprint[:12]}-{windows}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return stored["words"], stored["exact"]
    captions: list[list[str]] = []
    for line in reader.index:
        told: Any = line.facts["windows"]
        captions += [one["captions"] for one in told]
    each = min(len(one) for one in captions)
    flat = [text for one in captions for text in one[:each]]
    vectors = joint.embed_text(flat) if flat else np.zeros((0, WORD_WIDTH), np.float32)
    read = [read_settings(text) for text in flat]
    exact = np.array([r.tempo_bpm is not None or r.tonality is not None for r in read], bool)
    words = vectors.astype(np.float16).reshape(windows, each, WORD_WIDTH)
    exact = exact.reshape(windows, each)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, words=words, exact=exact)
    return words, exact
