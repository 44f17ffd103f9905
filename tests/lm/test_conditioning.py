"""Conditioning slots: absent values, and independent dropping."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
import torch
from small_stage import conditions

from melisma.lm import Conditioning, ConditioningSettings
from melisma.lm.conditioning import (
    ATTRIBUTE_SIZES,
    FAMILY_COUNT,
    Condition,
    Conditioner,
    DropSettings,
    drop,
    rhythm_features,
)
from melisma.values import attributes as vocabulary

NEVER = DropSettings(
    everything=0, style=0, attribute=0, families=0, rhythm=0, melody=0, style_noise=0
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def assert_same(one: Conditioning, other: Conditioning, slots: Iterable[str]) -> None:
    for name in slots:
        first, second = getattr(one, name), getattr(other, name)
        if isinstance(first, Condition):
            assert torch.equal(first.present, second.present), name
            torch.testing.assert_close(first.values, second.values, msg=name)
        else:
            torch.testing.assert_close(first, second, msg=name)


def present(slot: Condition | None) -> torch.Tensor:
    assert slot is not None
    return slot.present


def test_tables_are_as_long_as_the_vocabularies() -> None:
    assert dict(ATTRIBUTE_SIZES) == {
        "tempo": vocabulary.TEMPO_BINS,
        "tonality": len(vocabulary.TONALITIES),
        "metre": len(vocabulary.METRES),
        "lead": len(vocabulary.FAMILIES),
        "style": len(vocabulary.STYLES),
        "density": len(vocabulary.DENSITIES),
        "dynamics": len(vocabulary.DYNAMICS),
        "register": len(vocabulary.REGISTERS),
    }
    assert len(vocabulary.FAMILIES) == FAMILY_COUNT


def test_nothing_is_dropped_where_nothing_shall_be() -> None:
    given = conditions(5, batch=3, source=True)
    assert_same(drop(given, NEVER, generator()), given, [*given.slots(), "source"])


def test_everything_means_all_words_and_leaves_the_frames() -> None:
    given = conditions(5, batch=3, source=True)
    left = drop(given, dataclasses.replace(NEVER, everything=1.0), generator())
    for name in ("style", "attributes", "families"):
        assert not present(getattr(left, name)).any()
    assert_same(left, given, ("rhythm", "melody", "source"))
    assert_same(left, given.without_words(), ("style", "attributes", "families", "rhythm"))


@pytest.mark.parametrize("slot", ["style", "families", "rhythm", "melody"])
def test_a_slot_is_dropped_whole_for_some_pieces(slot: str) -> None:
    given = conditions(3, batch=400)
    left = drop(given, dataclasses.replace(NEVER, **{slot: 0.3}), generator())
    assert_same(left, given, {"style", "families", "rhythm", "melody", "attributes"} - {slot})
    there = (
        present(getattr(left, slot)).flatten(1)
        if slot in ("rhythm", "melody")
        else (present(getattr(left, slot))[:, None])
    )
    assert bool((there.all(dim=1) ^ ~there.any(dim=1)).all())
    assert float((~there.any(dim=1)).float().mean()) == pytest.approx(0.3, abs=0.08)


def test_each_attribute_is_dropped_by_itself() -> None:
    given = conditions(3, batch=400)
    left = drop(given, dataclasses.replace(NEVER, attribute=0.4), generator())
    absent = ~present(left.attributes)
    share = absent.float().mean(dim=0)
    expected = torch.full((len(ATTRIBUTE_SIZES),), 0.4)
    torch.testing.assert_close(share, expected, atol=0.09, rtol=0)
    assert 0 < int(absent.all(dim=1).sum() + (~absent).all(dim=1).sum()) < 40


def test_noise_on_the_style_is_in_proportion() -> None:
    given = conditions(3, batch=50)
    assert given.style is not None
    silent = torch.cat([given.style.values[:49], torch.zeros(1, 128)])
    given = dataclasses.replace(given, style=Condition.full(silent))
    noisy = drop(given, dataclasses.replace(NEVER, style_noise=0.15), generator()).style
    assert noisy is not None
    distance = (noisy.values - silent).norm(dim=1)
    assert float(distance[:49].mean()) == pytest.approx(0.15, rel=0.05)
    assert float(distance[49]) == 0.0


def test_what_is_absent_does_not_matter() -> None:
    """Whatever values lie under a mask, the trunk sees the same as of a slot that is None."""
    torch.manual_seed(0)
    conditioner = Conditioner(ConditioningSettings(), 16).eval()
    masked = conditions(5).unconditional()
    with torch.no_grad():
        one, other = conditioner(masked), conditioner(Conditioning.absent(2, 5))
    assert torch.equal(one.whole, other.whole)
    assert torch.equal(one.frames, other.frames)


def test_a_slot_of_one_batch_alone_is_absent_in_the_other() -> None:
    both = conditions(5).joined(Conditioning.absent(1, 5))
    assert len(both) == 3
    for slot in both.slots().values():
        assert bool(slot.present[:2].all())
        assert not bool(slot.present[2:].any())


def test_an_unknown_phase_is_a_zero_that_says_so() -> None:
    phases = torch.tensor([[[0.7, 0.3], [0.25, 0.0]]])
    known = torch.tensor([[[False, False], [True, True]]])
    found = rhythm_features(Condition(values=phases, present=known))
    assert not found[0, 0].any()
    assert found[0, 1, -2:].tolist() == [1.0, 1.0]
    assert float(found[0, 1, 0]) == pytest.approx(1.0)


def test_phases_are_a_circle() -> None:
    ends = rhythm_features(Condition.full(torch.tensor([[[0.0, 0.5], [0.99999, 0.5]]]), 3))
    torch.testing.assert_close(ends[0, 0], ends[0, 1], atol=1e-3, rtol=0)


def test_stretches_and_batches() -> None:
    one, other = conditions(6, source=True), conditions(6, seed=1, source=True)
    both = one.joined(other)
    assert len(both) == 4
    part = both.frames(2, 5)
    assert (part.length, part.rhythm and part.rhythm.values.shape) == (3, (4, 3, 2))
    assert part.source is not None
    assert other.source is not None
    assert torch.equal(part.source[2:], other.source[:, :, 2:5])
    first, whole = part.frames(0, 3).rows([0, 1]), one.frames(2, 5)
    assert_same(first, whole, [*first.slots(), "source"])
    assert_same(both.to("cpu"), both, [*both.slots(), "source"])
