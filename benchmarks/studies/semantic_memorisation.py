"""Memorisation in the semantic stage: MusicLM's study of exact and approximate copies.

Follows 2301.11325, section 4.3. A clip's conditions and its first T seconds of semantic tokens are
given, the most likely tokens of the next five seconds are generated and compared with the clip's
own. *Exact*: all frames are equal (here of the first level alone, and of both). *Approximate*: the
cost of transport from the histogram of first-level tokens to the clip's is below a threshold that
hardly any pair of different pieces reaches (see `sinkhorn.py`). Beyond the paper: the same is
measured for held-out clips, which cannot be memorised, and the figure is the *excess* of training
clips; and the share of frames that are equal, which rises long before whole excerpts are copied.

Input: token shards, the joint embedding, a semantic stage. Output: continuations and arrays of one
value per clip.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from studies.sinkhorn import token_counts, transport_costs

from melisma.data.sources.splits import spread_over_works
from melisma.engine.cpu import NativeEngine
from melisma.engine.generate import sample
from melisma.engine.sampling import StageSampling
from melisma.evaluate.metrics.statistics import REPEATS, Interval
from melisma.files.shards import ShardReader
from melisma.joint import JointEmbedding
from melisma.lm import TokenModel
from melisma.lm.conditioning import ATTRIBUTE_SIZES, Condition, Conditioning
from melisma.values.errors import MelismaError

PROMPT_SECONDS = (0.0, 2.5, 5.0, 10.0)
"""Lengths of the prompts (0 to 10 s in the paper)."""
CONTINUED_FRAMES = 125
"""Frames that are generated: 5 s (the paper)."""
FALSE_SHARE = 1e-4
"""Share of pairs of different pieces that may lie below the threshold (the paper: < .01 %)."""
BATCH = 64
"""Clips of a batch (measured: more are no faster per clip on one core)."""


LIKELIEST = StageSampling(temperature=0.0)
"""Always the likeliest token, as in the study."""


@dataclass(frozen=True, kw_only=True)
class TokenClips:
    """Clips as tokens, with the conditions of the stage."""

    semantic: np.ndarray
    """int64 [clip, level, frame]."""
    style: np.ndarray
    """Joint vector of the first window, rebuilt from all its style tokens, float32 [clip, 128]."""
    attributes: np.ndarray
    """Predicted from the first window, int64 [clip, attribute]."""
    families: np.ndarray
    """Predicted from the first window, float32 [clip, family]."""
    rhythm: np.ndarray
    """Phase in the beat and in the bar, float32 [clip, frame, 2]; nan where unknown."""
    groups: np.ndarray
    """The work of each clip, str [clip]."""

    def __len__(self) -> int:
        return len(self.semantic)

    def part(self, rows: np.ndarray | Sequence[int] | slice) -> TokenClips:
        """The clips numbered `rows`."""
        return TokenClips(
            **{one.name: getattr(self, one.name)[rows] for one in dataclasses.fields(self)}
        )


def read_token_clips(folder: Path, joint: JointEmbedding, count: int, seed: int = 0) -> TokenClips:
    """Up to `count` random clips of a folder of token shards, spread over works: no work has a
    second clip before every other has its first. `ValueError` for an empty folder."""
    reader = ShardReader(folder)
    if not len(reader):
        raise MelismaError(f"{folder} holds no tokens: write them with `melisma prepare --tokens`")
    groups = [str(reader.facts(row).get("group", row)) for row in range(len(reader))]
    chosen = spread_over_works(groups, count, seed)
    arrays = [reader.row(row).arrays for row in chosen]
    style = np.stack([row["style"][0] for row in arrays]).astype(np.int64)
    rhythm = np.stack([row["rhythm"] for row in arrays]).astype(np.float32)
    sizes = np.array([size for _, size in ATTRIBUTE_SIZES])
    attributes = np.stack([row["attributes"][0] for row in arrays]).astype(np.int64)
    return TokenClips(
        semantic=np.stack([row["semantic"] for row in arrays]).astype(np.int64),
        style=joint.dequantise(style),
        attributes=np.minimum(attributes, sizes),
        families=np.stack([row["families"][0] for row in arrays]).astype(np.float32),
        # As in training: both phases are known or neither is.
        rhythm=np.where(np.isnan(rhythm).any(axis=-1, keepdims=True), np.nan, rhythm),
        groups=np.array([groups[row] for row in chosen]),
    )


def prompt_conditions(clips: TokenClips, frames: int) -> Conditioning:
    """Conditions of clips: everything but the melody, as with a text prompt."""
    attributes, families = torch.from_numpy(clips.attributes), torch.from_numpy(clips.families)
    rhythm = torch.from_numpy(np.ascontiguousarray(clips.rhythm[:, :frames]))
    sizes = torch.tensor([size for _, size in ATTRIBUTE_SIZES])
    return Conditioning(
        batch=len(clips),
        length=frames,
        style=Condition.full(torch.from_numpy(clips.style)),
        attributes=Condition(values=attributes, present=attributes < sizes),
        families=Condition(values=families, present=(families >= 0).all(dim=1)),
        rhythm=Condition(values=rhythm.nan_to_num(), present=~rhythm.isnan()),
    )


def continue_clips(
    model: TokenModel,
    clips: TokenClips,
    prompt_frames: int,
    *,
    frames: int = CONTINUED_FRAMES,
    sampling: StageSampling = LIKELIEST,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Continues the first `prompt_frames` of each clip with the stage.

    Args:
        model: The semantic stage.
        clips: Clips with their conditions.
        prompt_frames: Length of the prompt.
        frames: Length of the continuation.
        sampling: By default the likeliest tokens without guidance, as in the study.
        batch: Clips of a batch; clip i of the set always has the seed i.
        progress: Called with the number of clips that are done.

    Returns:
        Tokens, int64 [clip, level, frame].

    Raises:
        ValueError: If the clips are too short.
    """
    total = prompt_frames + frames
    if clips.semantic.shape[2] < total:
        raise MelismaError(
            f"clips of {clips.semantic.shape[2]} frames cannot be compared with {frames} frames "
            f"after {prompt_frames}: give longer clips or a shorter prompt"
        )
    parts = []
    engine = NativeEngine(model)
    for start in range(0, len(clips), batch):
        part = clips.part(slice(start, start + batch))
        given = torch.from_numpy(part.semantic[:, :, :prompt_frames]) if prompt_frames else None
        grid = sample(
            engine,
            prompt_conditions(part, total),
            total,
            sampling,
            [torch.Generator().manual_seed(start + clip) for clip in range(len(part))],
            prefix=given,
        )
        parts.append(grid[:, :, prompt_frames:].numpy())
        if progress is not None:
            progress(start + len(part))
    return np.concatenate(parts)


def negative_costs(
    continued: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    distances: np.ndarray,
    *,
    pairs: int = 10_000,
    seed: int = 0,
) -> np.ndarray:
    """Transport costs of random pairs of different works, float64 [pair].

    `continued` and `target` are first-level tokens [clip, frame]; a continuation is compared with
    the target of another work. `ValueError` where all are of one work.
    """
    if len(np.unique(groups)) < 2:
        raise MelismaError("pairs of different works need two works or more")
    rng = np.random.default_rng(seed)
    found = np.empty((2, 0), dtype=np.int64)
    while found.shape[1] < pairs:
        some = rng.integers(0, len(groups), size=(2, 2 * pairs))
        found = np.concatenate([found, some[:, groups[some[0]] != groups[some[1]]]], axis=1)
    one, other = found[:, :pairs]
    mine = token_counts(continued, len(distances))
    theirs = token_counts(target, len(distances))
    return transport_costs(mine[one], theirs[other], distances)


def threshold_of(negatives: np.ndarray, false_share: float = FALSE_SHARE) -> float:
    """The highest cost below which less than `false_share` of the negatives lie; `ValueError` for
    too few negatives."""
    if len(negatives) * false_share < 1:
        raise MelismaError(
            f"{len(negatives)} pairs are too few for a share of {false_share}: give "
            f"{int(np.ceil(1 / false_share))} or more"
        )
    allowed = int(np.ceil(round(len(negatives) * false_share, 6))) - 1
    return float(np.sort(negatives)[allowed])


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Similarity of continuations to the clips' own tokens; every array is [clip]."""

    exact_first: np.ndarray
    """All frames of the first level are equal."""
    exact_both: np.ndarray
    """All frames of all levels are equal."""
    equal_share: np.ndarray
    """Share of frames whose first level is equal."""
    cost: np.ndarray
    """Cost of transport between the first levels' histograms."""
    entropy_bits: np.ndarray
    """Entropy of the continuation's tokens of the first level."""
    target_entropy_bits: np.ndarray
    """The same of the clip's own tokens."""


def likeness_of(continued: np.ndarray, target: np.ndarray, distances: np.ndarray) -> Likeness:
    """Compares continuations with the true tokens, both [clip, level, frame]."""
    if continued.shape != target.shape:
        raise MelismaError(f"stretches of {continued.shape} and {target.shape} cannot be compared")
    equal = continued == target
    mine, theirs = (token_counts(tokens[:, 0], len(distances)) for tokens in (continued, target))
    return Likeness(
        exact_first=equal[:, 0].all(axis=1),
        exact_both=equal.all(axis=(1, 2)),
        equal_share=equal[:, 0].mean(axis=1),
        cost=transport_costs(mine, theirs, distances),
        entropy_bits=entropy_bits(mine),
        target_entropy_bits=entropy_bits(theirs),
    )


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Entropy of histograms [clip, token] in bits, float64 [clip]."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logs).sum(axis=1)


def excess(
    train: np.ndarray,
    train_groups: np.ndarray,
    held: np.ndarray,
    held_groups: np.ndarray,
    seed: int = 0,
) -> Interval:
    """Mean of the training clips minus that of the held-out ones, with its 95 % interval.

    Works are resampled, not clips (Efron and Tibshirani, 1993, chapter 8): clips of one work are
    not independent.
    """
    rng = np.random.default_rng(seed)
    resampled = _resampled(train, train_groups, rng) - _resampled(held, held_groups, rng)
    low, high = np.percentile(resampled, [2.5, 97.5])
    value = float(np.mean(train)) - float(np.mean(held))
    return Interval(value=value, low=float(low), high=float(high), count=len(train))


def _resampled(values: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of values [clip] over resampled works, float64 [repeat]."""
    _, membership = np.unique(groups, return_inverse=True)
    total = np.bincount(membership, weights=np.asarray(values, dtype=np.float64))
    size = np.bincount(membership)
    weight = rng.multinomial(len(size), np.full(len(size), 1 / len(size)), size=REPEATS)
    return (weight @ total) / (weight @ size)
