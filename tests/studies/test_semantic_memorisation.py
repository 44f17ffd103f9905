"""The study of memorising: a stage that knows its clips by heart is caught, a fresh one is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_stage import stage
from studies.semantic_memorisation import (
    TokenClips,
    continue_clips,
    entropy_bits,
    excess,
    likeness_of,
    negative_costs,
    prompt_conditions,
    read_token_clips,
    spread_over_works,
    threshold_of,
)
from studies.sinkhorn import centroid_distances
from torch.nn import functional as F

from melisma.engine.sampling import StageSampling
from melisma.files import Row, ShardWriter
from melisma.joint import JointEmbedding
from melisma.lm import TokenModel
from melisma.lm.conditioning import ATTRIBUTE_SIZES, FAMILY_COUNT
from melisma.values.errors import MelismaError

VOCABULARY, FRAMES, CONTINUED = 12, 40, 20
DISTANCES = centroid_distances(np.random.default_rng(0).normal(size=(VOCABULARY, 6)))
SIZES = np.array([size for _, size in ATTRIBUTE_SIZES])


def clips(count: int, seed: int) -> TokenClips:
    """Tokens and conditions at random, every clip a work of its own."""
    rng = np.random.default_rng(seed)
    style = rng.normal(size=(count, 128)).astype(np.float32)
    return TokenClips(
        semantic=rng.integers(0, VOCABULARY, size=(count, 2, FRAMES)),
        style=style / np.linalg.norm(style, axis=1, keepdims=True),
        attributes=rng.integers(0, SIZES, size=(count, len(SIZES))),
        families=rng.integers(0, 2, size=(count, FAMILY_COUNT)).astype(np.float32),
        rhythm=rng.random((count, FRAMES, 2), dtype=np.float32),
        groups=np.array([f"{seed}/{clip}" for clip in range(count)]),
    )


def small_stage() -> TokenModel:
    return stage(levels=2, vocabulary=VOCABULARY, width=32, layers=1, window=FRAMES)


@pytest.fixture(scope="module")
def by_heart() -> tuple[TokenModel, TokenClips]:
    """A stage after 200 updates on four clips."""
    model, known = small_stage(), clips(4, 1)
    grid, conditions = torch.from_numpy(known.semantic), prompt_conditions(known, FRAMES)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for update in range(200):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - update / 200)
        loss = F.cross_entropy(model(grid, conditions).flatten(0, 2), grid.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.05
    return model.eval(), known


@pytest.mark.parametrize("prompt", [0, 5, 20])
def test_a_stage_that_knows_its_clips_by_heart_is_caught(
    prompt: int, by_heart: tuple[TokenModel, TokenClips]
) -> None:
    model, known = by_heart
    target = known.semantic[:, :, prompt : prompt + CONTINUED]
    continued = continue_clips(model, known, prompt, frames=CONTINUED, batch=3)
    found = likeness_of(continued, target, DISTANCES)
    assert found.exact_first.all()
    assert found.exact_both.mean() >= 0.5
    costs = negative_costs(continued[:, 0], target[:, 0], known.groups, DISTANCES, pairs=200)
    assert (found.cost < threshold_of(costs, 0.01)).all()
    unknown = clips(8, 2)
    continued = continue_clips(model, unknown, prompt, frames=CONTINUED)
    other = likeness_of(continued, unknown.semantic[:, :, prompt : prompt + CONTINUED], DISTANCES)
    assert not other.exact_first.any()
    more = excess(found.equal_share, known.groups, other.equal_share, unknown.groups)
    assert more.low > 0.5


def test_a_stage_that_learned_nothing_is_not() -> None:
    model, some = small_stage(), clips(8, 3)
    continued = continue_clips(model, some, 10, frames=CONTINUED)
    target = some.semantic[:, :, 10 : 10 + CONTINUED]
    found = likeness_of(continued, target, DISTANCES)
    assert not found.exact_first.any()
    assert found.equal_share.mean() < 0.3
    costs = negative_costs(continued[:, 0], target[:, 0], some.groups, DISTANCES, pairs=500)
    assert (found.cost < threshold_of(costs, 0.01)).mean() < 0.3


def test_batches_do_not_matter_and_short_clips_are_refused() -> None:
    model, some = small_stage(), clips(5, 4)
    done: list[int] = []
    one = continue_clips(model, some, 6, frames=CONTINUED, batch=2, progress=done.append)
    assert np.array_equal(one, continue_clips(model, some, 6, frames=CONTINUED))
    assert done == [2, 4, 5]
    chance = StageSampling(temperature=1.0)
    continued = continue_clips(model, some, 6, frames=CONTINUED, sampling=chance)
    assert np.array_equal(
        continued, continue_clips(model, some, 6, frames=CONTINUED, sampling=chance)
    )
    assert not np.array_equal(continued, one)
    with pytest.raises(MelismaError, match="40 frames"):
        continue_clips(model, some, 30, frames=CONTINUED)


def test_exact_copies_of_one_level_and_of_both() -> None:
    target = np.zeros((3, 2, 8), dtype=np.int64)
    target[:, 0] = np.arange(8)
    continued = target.copy()
    continued[1, 1, 3] = 5
    continued[2, 0, [1, 2]] = continued[2, 0, [2, 1]]
    found = likeness_of(continued, target, DISTANCES)
    assert found.exact_first.tolist() == [True, True, False]
    assert found.exact_both.tolist() == [True, False, False]
    assert found.equal_share.tolist() == [1.0, 1.0, 0.75]
    # The order of the tokens is nothing to their histogram.
    np.testing.assert_allclose(found.cost, 0.0, atol=1e-9)
    np.testing.assert_allclose(found.entropy_bits, 3.0)
    with pytest.raises(MelismaError, match="cannot be compared"):
        likeness_of(continued[:2], target, DISTANCES)


def test_entropy_in_bits() -> None:
    counts = np.array([[4, 0, 0, 0], [2, 2, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(entropy_bits(counts), [0, 1, 2])


def test_the_threshold_lets_less_than_its_share_pass() -> None:
    costs = np.random.default_rng(0).permutation(np.arange(20_000) / 100)
    assert (costs < threshold_of(costs)).sum() == 1
    assert (costs[:10_000] < threshold_of(costs[:10_000])).sum() == 0
    assert (costs < threshold_of(costs, 0.01)).mean() < 0.01
    with pytest.raises(MelismaError, match="give 10000 or more"):
        threshold_of(costs[:5000])


def test_negatives_are_pairs_of_different_works() -> None:
    tokens = np.repeat(np.arange(3), 2)[:, None] * np.ones((1, 10), dtype=np.int64)
    works = np.array(["a", "a", "b", "b", "c", "c"])
    costs = negative_costs(tokens, tokens, works, DISTANCES, pairs=300)
    assert len(costs) == 300
    between = [DISTANCES[0, 1], DISTANCES[0, 2], DISTANCES[1, 2]]
    assert all(min(abs(cost - one) for one in between) < 1e-6 for cost in costs)
    again = negative_costs(tokens, tokens, works, DISTANCES, pairs=300)
    assert np.array_equal(costs, again)
    with pytest.raises(MelismaError, match="two works"):
        negative_costs(tokens[:2], tokens[:2], works[:2], DISTANCES)


def test_the_excess_rests_on_works() -> None:
    rng = np.random.default_rng(0)
    train, held = rng.random(400) < 0.3, rng.random(300) < 0.1
    apart = excess(train, np.arange(400), held, np.arange(300))
    assert apart.low < apart.value < apart.high
    assert apart.value == pytest.approx(train.mean() - held.mean())
    spread = np.sqrt(0.3 * 0.7 / 400 + 0.1 * 0.9 / 300)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    # Ten clips of one work that behave alike are no ten pieces.
    alike = np.repeat(rng.random(40) < 0.3, 10)
    few = excess(alike, np.repeat(np.arange(40), 10), held, np.arange(300))
    assert few.high - few.low > 2 * (apart.high - apart.low)


def test_every_work_has_a_clip_before_any_has_two() -> None:
    groups = ["a"] * 6 + ["b", "c", "d"]
    for seed in range(5):
        chosen = spread_over_works(groups, 4, seed)
        assert sorted(groups[row] for row in chosen) == ["a", "b", "c", "d"]
    assert sorted(spread_over_works(groups, 100, 0)) == list(range(9))


def test_shards_become_clips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path) as writer:
        for clip in range(3):
            rhythm = rng.random((FRAMES, 2)).astype(np.float16)
            rhythm[4, 1] = np.nan
            arrays = {
                "semantic": np.full((2, FRAMES), clip, dtype=np.uint16),
                "style": np.full((3, 2), clip, dtype=np.uint8),
                "attributes": np.full((3, len(SIZES)), 255, dtype=np.uint8),
                "families": np.ones((3, FAMILY_COUNT), dtype=np.uint8),
                "rhythm": rhythm,
            }
            writer.write(Row(key=f"clip-{clip}", arrays=arrays, facts={"group": f"g{clip}"}))
    read = read_token_clips(tmp_path, FakeJoint(), 2)
    assert len(read) == 2
    assert [f"g{clip[0, 0]}" for clip in read.semantic] == read.groups.tolist()
    assert read.style[:, 0].tolist() == read.semantic[:, 0, 0].tolist()
    assert (read.attributes == SIZES).all()
    assert np.isnan(read.rhythm[:, 4]).all()
    conditions = prompt_conditions(read, 10)
    assert conditions.rhythm is not None
    assert conditions.rhythm.values.shape == (2, 10, 2)
    assert not conditions.rhythm.present[:, 4].any()
    assert conditions.melody is None
    part = read.part([1])
    assert dataclasses.astuple(part)[0].shape == (1, 2, FRAMES)
    (tmp_path / "index.jsonl").write_text("")
    with pytest.raises(MelismaError, match="holds no tokens"):
        read_token_clips(tmp_path, FakeJoint(), 2)


class FakeJoint(JointEmbedding):
    """Style tokens become vectors that begin with them."""

    def __init__(self) -> None:
        pass

    def dequantise(self, tokens: np.ndarray) -> np.ndarray:
        return np.repeat(tokens[:, :1].astype(np.float32), 128, axis=1)
