"""Conditioning slots: absent values, and independent dropping."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_stage import conditions

from melisma.lm import Conditioning
from melisma.lm.conditioning import (
    ATTRIBUTE_SIZES,
    FAMILY_COUNT,
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


def assert_same(one: Conditioning, other: Conditioning, slots: tuple[str, ...]) -> None:
    for slot in slots:
        first, second = getattr(one, slot), getattr(other, slot)
        torch.testing.assert_close(first, second, equal_nan=True, msg=slot)


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
    slots = tuple(one.name for one in dataclasses.fields(Conditioning))
    assert_same(drop(given, NEVER, generator()), given, slots)


def test_everything_means_all_words_and_leaves_the_frames() -> None:
    given = conditions(5, batch=3, source=True)
    left = drop(given, dataclasses.replace(NEVER, everything=1.0), generator())
    assert_same(left, Conditioning.absent(3, 5), ("style", "attributes", "families"))
    assert_same(left, given, ("rhythm", "melody", "source"))
    assert_same(left, given.without_words(), ("style", "attributes", "families", "rhythm"))


@pytest.mark.parametrize("slot", ["style", "families", "rhythm", "melody"])
def test_a_slot_is_dropped_whole_for_some_pieces(slot: str) -> None:
    given = conditions(3, batch=400)
    left = drop(given, dataclasses.replace(NEVER, **{slot: 0.3}), generator())
    gone = Conditioning.absent(400, 3)
    others = {"style", "families", "rhythm", "melody", "attributes"} - {slot}
    assert_same(left, given, tuple(others))
    same, absent = (
        torch.isclose(
            getattr(left, slot).double(), getattr(one, slot).double(), equal_nan=True
        ).flatten(1).all(dim=1)
        for one in (given, gone)
    )  # fmt: skip
    assert bool((same ^ absent).all())
    assert float(absent.float().mean()) == pytest.approx(0.3, abs=0.08)


def test_each_attribute_is_dropped_by_itself() -> None:
    given = conditions(3, batch=400)
    left = drop(given, dataclasses.replace(NEVER, attribute=0.4), generator())
    sizes = torch.tensor([size for _, size in ATTRIBUTE_SIZES])
    absent = left.attributes == sizes
    assert torch.equal(left.attributes[~absent], given.attributes[~absent])
    torch.testing.assert_close(
        absent.float().mean(dim=0), torch.full((len(sizes),), 0.4), atol=0.09, rtol=0
    )
    assert 0 < int(absent.all(dim=1).sum() + (~absent).all(dim=1).sum()) < 40


def test_noise_on_the_style_is_in_proportion() -> None:
    given = conditions(3, batch=50)
    given = dataclasses.replace(given, style=torch.cat([given.style[:49], torch.zeros(1, 128)]))
    noisy = drop(given, dataclasses.replace(NEVER, style_noise=0.15), generator()).style
    distance = (noisy - given.style).norm(dim=1)
    assert float(distance[:49].mean()) == pytest.approx(0.15, rel=0.05)
    assert float(distance[49]) == 0.0


def test_an_unknown_phase_is_a_zero_that_says_so() -> None:
    nan = float("nan")
    found = rhythm_features(torch.tensor([[[nan, nan], [0.25, 0.0]]]))
    assert not found[0, 0].any()
    assert found[0, 1, -2:].tolist() == [1.0, 1.0]
    assert float(found[0, 1, 0]) == pytest.approx(1.0)


def test_phases_are_a_circle() -> None:
    ends = rhythm_features(torch.tensor([[[0.0, 0.5], [0.99999, 0.5]]]))
    torch.testing.assert_close(ends[0, 0], ends[0, 1], atol=1e-3, rtol=0)


def test_stretches_and_batches() -> None:
    one, other = conditions(6, source=True), conditions(6, seed=1, source=True)
    both = one.joined(other)
    assert len(both) == 4
    part = both.frames(2, 5)
    assert part.rhythm.shape == (4, 3, 2)
    assert part.source is not None
    assert other.source is not None
    assert torch.equal(part.source[2:], other.source[:, :, 2:5])
    assert torch.equal(part.melody[:2], one.melody[:, 2:5])
    assert torch.equal(part.style, both.style)
    assert torch.equal(both.to("cpu").style, both.style)
