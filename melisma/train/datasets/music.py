"""Input features of the music tower for a corpus: summaries, semantic states, facts.

Input: audio shards and, optionally, the frozen semantic encoder as a function from audio to hidden
states. Output: `MusicFeatures`, cached in one `.npz` file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melisma.data.audio_shards import AudioShards, shards_description
from melisma.files.atomic import write_arrays
from melisma.files.shards.arrays import read_arrays
from melisma.joint.attributes import target_row
from melisma.joint.summary import summarise
from melisma.values import Facts
from melisma.values.errors import MelismaError

StatesOf = Callable[[Tensor], Tensor]
"""Audio [batch, sample] at 24 kHz -> semantic hidden states [batch, 25, width]."""
BATCH = 16
"""Clips that are encoded together."""


@dataclass(frozen=True, kw_only=True)
class MusicFeatures:
    """Inputs and targets of the music tower for a set of clips."""

    summary: np.ndarray
    """`summarise` of each clip, float32 [clip, 420]."""
    trunk: np.ndarray | None
    """Hidden states of the semantic encoder, float16 [clip, 25, width]; None without an encoder."""
    facts: tuple[Facts, ...]
    """Known attributes of each clip."""

    def __len__(self) -> int:
        return len(self.facts)

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Attribute targets: (probabilities float32 [clip, 150], known float32 [clip, 11])."""
        rows = [target_row(one) for one in self.facts]
        return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows]).astype(np.float32)

    def part(self, picks: np.ndarray) -> MusicFeatures:
        """The clips numbered `picks`."""
        return MusicFeatures(
            summary=self.summary[picks],
            trunk=None if self.trunk is None else self.trunk[picks],
            facts=tuple(self.facts[int(i)] for i in picks),
        )


@torch.no_grad()
def encode_music(
    shards: AudioShards, states_of: StatesOf | None, path: Path | None = None
) -> MusicFeatures:
    """Computes the features of every clip.

    Args:
        shards: the clips.
        states_of: the semantic encoder, or None.
        path: cache file; read if it exists, else written.

    Raises:
        MelismaError: where the cache is of another number of clips.
    """
    facts = tuple(shards.facts(i) for i in range(len(shards)))
    if path is not None and path.exists():
        stored = read_arrays(path)
        summary, trunk = stored["summary"], stored.get("trunk")
        if len(summary) != len(facts):
            raise MelismaError(
                f"{path} holds {len(summary)} clips, the corpus {len(facts)}: remove the file to "
                "encode the corpus again"
            )
        if "clips" in stored and not np.array_equal(stored["clips"], _digest(shards)):
            raise MelismaError(
                f"{path} holds other clips than the corpus: remove the file to encode it"
            )
        return MusicFeatures(summary=summary, trunk=trunk, facts=facts)
    summaries, trunks = [], []
    for shard in shards.sound:
        for start in range(0, len(shard), BATCH):
            samples = np.asarray(shard[start : start + BATCH]).astype(np.float32) / 32768.0
            sound = torch.from_numpy(samples)
            summaries.append(summarise(sound).numpy())
            if states_of is not None:
                trunks.append(states_of(sound).to(torch.float16).numpy())
    summary = np.concatenate(summaries)
    trunk = np.concatenate(trunks) if trunks else None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"summary": summary, "clips": _digest(shards)}
        write_arrays(path, arrays if trunk is None else {**arrays, "trunk": trunk})
    return MusicFeatures(summary=summary, trunk=trunk, facts=facts)


def _digest(shards: AudioShards) -> np.ndarray:
    """The hash of the clips, uint8 [digit]."""
    return np.frombuffer(str(shards_description(shards)["hash"]).encode(), dtype=np.uint8)


def split_by_group(
    shards: AudioShards, features: MusicFeatures, held_share: float, seed: int
) -> tuple[MusicFeatures, MusicFeatures]:
    """Splits clips into (training, held-out) ones, with every group on one side only.

    Args:
        shards: the clips, whose rows name their groups (a work and its variants).
        features: of the same clips.
        held_share: share of the groups to hold out, at least one group.
        seed: of the random choice.

    Raises:
        MelismaError: where all clips are of one group.
    """
    groups = [str(row["group"]) for row in shards.rows]
    names = sorted(set(groups))
    if len(names) < 2:
        raise MelismaError(
            "all clips are of one work: give clips of two or more, or a held-out folder"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    held = {names[int(i)] for i in order[: max(1, round(held_share * len(names)))]}
    is_held = np.array([group in held for group in groups])
    return features.part(np.flatnonzero(~is_held)), features.part(np.flatnonzero(is_held))
