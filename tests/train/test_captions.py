"""Captions for the training of a text-conditioned model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch

from melisma.joint import JointEmbedding
from melisma.lm import Conditioning, ConditioningSettings
from melisma.lm.conditioning import (
    ATTRIBUTE_SIZES,
    FAMILY_COUNT,
    Condition,
    Conditioner,
    DropSettings,
)
from melisma.train.datasets.captions import ASSIGNED, with_captions
from melisma.train.lm import TokenCorpus
from melisma.values.errors import MelismaError

CLIPS, KINDS_OF_MUSIC = 30, 3


class Likeness:
    """A joint embedding that knows what kind of music a caption speaks of."""

    def embed_text(self, sentences: Sequence[str]) -> np.ndarray:
        return vectors_of([int(one.split()[1]) for one in sentences])


def vectors_of(kinds: Sequence[int]) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(KINDS_OF_MUSIC, 8))[list(kinds)]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def corpus_of(captions: tuple[tuple[str, ...], ...]) -> TokenCorpus:
    """Clip i is of kind i % 3."""
    style = torch.from_numpy(vectors_of([i % KINDS_OF_MUSIC for i in range(CLIPS)]))
    none = torch.zeros(CLIPS, 1, 1)
    return TokenCorpus(
        acoustic=none, semantic=none, style=style[:, None, None].expand(-1, 2, 3, -1),
        attributes=none, families=none, rhythm=none, melody=none, captions=captions,
        fingerprints={},
    )  # fmt: skip


def joint() -> JointEmbedding:
    return cast(Any, Likeness())


OWN = tuple((f"kind {i % KINDS_OF_MUSIC} clip {i}",) for i in range(CLIPS))


def test_exact_captions_are_the_clips_own() -> None:
    assert with_captions(corpus_of(OWN), "exact", joint(), 1).captions == OWN


def test_shuffled_captions_are_all_there_and_nobodys_own() -> None:
    found = with_captions(corpus_of(OWN), "shuffled", joint(), 1).captions
    assert sorted(found) == sorted(OWN)
    assert all(own != other for own, other in zip(OWN, found, strict=True))
    assert found == with_captions(corpus_of(OWN), "shuffled", joint(), 1).captions
    assert found != with_captions(corpus_of(OWN), "shuffled", joint(), 2).captions


def test_assigned_captions_are_those_of_others_that_fit() -> None:
    found = with_captions(corpus_of(OWN), "assigned", joint(), 1).captions
    for clip, texts in enumerate(found):
        assert len(set(texts)) == ASSIGNED
        assert {text.split()[1] for text in texts} == {str(clip % KINDS_OF_MUSIC)}
        assert OWN[clip][0] not in texts


def test_few_clips_have_few_captions_of_others() -> None:
    few = corpus_of(OWN).part(torch.tensor([0, 3, 6]))
    found = with_captions(few, "assigned", joint(), 1).captions
    assert [len(texts) for texts in found] == [2, 2, 2]


def test_captions_that_are_not_there_are_missed() -> None:
    with pytest.raises(MelismaError, match='no kind of captions "wrong"'):
        with_captions(corpus_of(OWN), "wrong", joint(), 1)
    with pytest.raises(MelismaError, match="no clip of this corpus has a caption"):
        with_captions(corpus_of(((),) * CLIPS), "exact", joint(), 1)


@torch.no_grad()
def test_what_was_never_told_acts_as_if_it_were_absent() -> None:
    torch.manual_seed(0)
    conditioner = Conditioner(ConditioningSettings(), 16).eval()
    absent = Conditioning.absent(2, 5)
    conditions = Conditioning(
        batch=2,
        length=5,
        style=Condition.full(torch.randn(2, 128)),
        attributes=Condition.full(torch.zeros(2, len(ATTRIBUTE_SIZES), dtype=torch.long), 2),
        families=Condition.full(torch.ones(2, FAMILY_COUNT)),
        rhythm=Condition.full(torch.rand(2, 5, 2), 3),
        melody=Condition.full(torch.zeros(2, 5, dtype=torch.long), 2),
    )
    before = conditioner(absent)
    conditioner.ignore_never_trained(DropSettings())
    assert not torch.allclose(conditioner(conditions).whole, before.whole, atol=1e-3)
    never = DropSettings(style=1.0, attribute=1.0, families=1.0, rhythm=1.0, melody=1.0)
    conditioner.ignore_never_trained(never)
    for now in (conditioner(absent), conditioner(conditions)):
        assert torch.allclose(now.whole, before.whole, atol=1e-5)
        assert torch.allclose(now.frames, before.frames, atol=1e-5)
