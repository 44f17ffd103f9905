"""Index of a language model's training clips, built from its token shards.

Its limits are the similarities that real music reaches without having been trained on: clips of
held-out works, from a separate folder, or else of some works that are left out of the index while
the limits are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.analysis.similarity.clip_index import ClipIndex, Limit
from melisma.analysis.similarity.clip_limits import measure_limits
from melisma.files.shards import Facts, ShardReader
from melisma.joint import JointEmbedding
from melisma.tokenizers import WINDOW_HOP_SECONDS, WINDOW_SECONDS, check_tokenizer_fingerprints
from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class IndexedClips:
    """Clips of a folder of shards, as the index stores them."""

    names: list[str]
    """`clip_name` of each clip."""
    groups: np.ndarray
    """The work that each clip is from, str [clip]."""
    tokens: np.ndarray
    """First semantic level, uint16 [clip, frame]."""
    vectors: np.ndarray
    """Joint embedding reconstructed from the style tokens, float32 [clip, window, 128]."""

    def __len__(self) -> int:
        return len(self.names)

    def part(self, rows: np.ndarray) -> IndexedClips:
        """The clips numbered `rows`."""
        return IndexedClips(
            names=[self.names[row] for row in rows],
            groups=self.groups[rows],
            tokens=self.tokens[rows],
            vectors=self.vectors[rows],
        )


def clip_name(key: str, facts: Facts) -> str:
    """CORPUS/WORK/KEY of a row, without parts that its provenance lacks."""
    corpus = str(facts.get("identity", "")).partition("/")[0]
    work = str(facts.get("group", ""))
    return " ".join("/".join(part for part in (corpus, work, key) if part).split())


def read_indexed_clips(
    folder: Path, joint: JointEmbedding, fingerprints: Mapping[str, str]
) -> IndexedClips:
    """Reads every clip of a folder of token shards.

    Args:
        folder: the shards.
        joint: decodes the style tokens.
        fingerprints: of the tokenizers, by name.

    Raises:
        MelismaError: where there is no clip, or one with tokens of other tokenizers.
    """
    names, groups, tokens, styles = [], [], [], []
    for row in ShardReader(folder):
        check_tokenizer_fingerprints(folder, row.facts, fingerprints)
        names.append(clip_name(row.key, row.facts))
        groups.append(str(row.facts.get("group", row.key)))
        tokens.append(row.arrays["semantic"][0].astype(np.uint16))
        styles.append(row.arrays["style"].astype(np.int64))
    if not names:
        raise MelismaError(f"{folder} holds no tokens: write them with `melisma prepare --tokens`")
    style = np.stack(styles)
    vectors = joint.dequantise(style.reshape(-1, style.shape[-1]))
    return IndexedClips(
        names=names,
        groups=np.array(groups),
        tokens=np.stack(tokens),
        vectors=vectors.reshape(*style.shape[:2], -1).astype(np.float32),
    )


def build_index(
    train: IndexedClips,
    held: IndexedClips | None,
    fingerprints: Mapping[str, str],
    held_share: float,
) -> ClipIndex:
    """Builds the index of all training clips, with limits measured on held-out ones.

    Args:
        train: training clips.
        held: held-out clips; None: a share of the training works is compared with the others.
        fingerprints: of the tokenizers, by name.
        held_share: that share.

    Raises:
        MelismaError: where there are no held-out clips, and all training clips are of one work.
    """
    whole = _index_of(train, fingerprints)
    if held is not None:
        whole.limits = _limits(whole, held)
        return whole
    works = np.unique(train.groups)
    if len(works) < 2:
        raise MelismaError(
            "limits need clips of two works or more: give a folder of held-out tokens"
        )
    apart = np.random.default_rng(0).permutation(works)[: max(1, round(len(works) * held_share))]
    out = np.isin(train.groups, apart)
    known = _index_of(train.part(np.flatnonzero(~out)), fingerprints)
    whole.limits = _limits(known, train.part(np.flatnonzero(out)))
    return whole


def _index_of(clips: IndexedClips, fingerprints: Mapping[str, str]) -> ClipIndex:
    return ClipIndex(clips.names, clips.tokens, clips.vectors, fingerprints)


def _limits(index: ClipIndex, held: IndexedClips) -> tuple[Limit, ...]:
    limits = measure_limits(
        index,
        list(zip(held.tokens, held.vectors, strict=True)),
        held.groups.tolist(),
        window_seconds=WINDOW_SECONDS,
        hop_seconds=WINDOW_HOP_SECONDS,
    )
    return tuple(limits)
