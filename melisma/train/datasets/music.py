"""What the music tower needs of a corpus, heard once: summaries, semantic states, facts.

Enters: a corpus of the ears and, if there is one, the frozen semantic encoder as a function from
sound to hidden states. Leaves: `MusicFeatures`, kept as one `.npz` file beside nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melisma.data.audio_shards import AudioShards
from melisma.joint.attributes import target_row
from melisma.joint.summary import summarise
from melisma.values import Facts

StatesOf = Callable[[Tensor], Tensor]
"""Sound [batch, sample] at 24 kHz -> semantic hidden states [batch, 25, width]."""
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class MusicFeatures:
    """Clips as the music tower hears them, with their truth."""

    summary: np.ndarray
    """float32 [clip, 420]."""
    trunk: np.ndarray | None
    """float16 [clip, 25, width], None where there was no semantic encoder."""
    facts: tuple[Facts, ...]

    def __len__(self) -> int:
        return len(self.facts)

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """(targets float32 [clip, 150], known float32 [clip, 11])."""
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
    ears: AudioShards, states_of: StatesOf | None, path: Path | None = None
) -> MusicFeatures:
    """Hears every clip; `path` keeps the result (and gives it back where it is already there)."""
    facts = tuple(ears.facts(i) for i in range(len(ears)))
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as stored:
            summary = stored["summary"]
            trunk = stored["trunk"] if "trunk" in stored.files else None
        if len(summary) != len(facts):
            raise ValueError(
                f"{path} holds {len(summary)} clips, the corpus {len(facts)}: remove the file to "
                "hear the corpus again"
            )
        return MusicFeatures(summary=summary, trunk=trunk, facts=facts)
    summaries, trunks = [], []
    for shard in ears.sound:
        for start in range(0, len(shard), BATCH):
            stretch = np.asarray(shard[start : start + BATCH]).astype(np.float32) / 32768.0
            sound = torch.from_numpy(stretch)
            summaries.append(summarise(sound).numpy())
            if states_of is not None:
                trunks.append(states_of(sound).to(torch.float16).numpy())
    summary = np.concatenate(summaries)
    trunk = np.concatenate(trunks) if trunks else None
    if path is not None:
        _keep(path, summary, trunk)
    return MusicFeatures(summary=summary, trunk=trunk, facts=facts)


def _keep(path: Path, summary: np.ndarray, trunk: np.ndarray | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    arrays = {"summary": summary} if trunk is None else {"summary": summary, "trunk": trunk}
    np.savez(partial, **arrays)  # type: ignore[arg-type] # savez's options share its keywords
    os.replace(partial, path)


def split_by_group(
    ears: AudioShards, heard: MusicFeatures, held_share: float, seed: int
) -> tuple[MusicFeatures, MusicFeatures]:
    """Learned and held-out clips; no group (a piece and its kin) stands on both sides, and each
    side has one at least. `ValueError` where there is only one."""
    groups = [str(row["group"]) for row in ears.rows]
    names = sorted(set(groups))
    if len(names) < 2:
        raise ValueError(
            "all clips are of one work: give clips of two or more, or a held-out folder"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    held = {names[int(i)] for i in order[: max(1, round(held_share * len(names)))]}
    apart = np.array([group in held for group in groups])
    return heard.part(np.flatnonzero(~apart)), heard.part(np.flatnonzero(apart))
