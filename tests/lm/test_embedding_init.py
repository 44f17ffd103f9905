"""Initialization from codebooks: similar codes start as similar rows, whatever the widths."""

from __future__ import annotations

import pytest
import torch
from small_stage import SOURCE, VOCABULARY, stage

from melisma.lm.embedding_init import HEAD_SPREAD, TABLE_SPREAD, rotated, start_from_codes
from melisma.values.errors import MelismaError


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def codes(levels: int = 4, width: int = 8) -> torch.Tensor:
    """Pairs of neighbours: code 2n + 1 lies close to code 2n. The first dimension is loudest."""
    rows = torch.randn(levels, VOCABULARY // 2, width, generator=generator())
    near = rows + 0.05 * torch.randn(rows.shape, generator=generator())
    both = torch.stack([rows, near], dim=2).reshape(levels, VOCABULARY, width)
    return both * torch.tensor([30.0] + [1.0] * (width - 1)) + 5.0


@pytest.mark.parametrize("width", [4, 8, 32])
def test_neighbours_stay_neighbours(width: int) -> None:
    rows = rotated(codes()[0], width, generator())
    assert rows.shape == (VOCABULARY, width)
    assert float(rows.square().mean()) == pytest.approx(1.0, rel=1e-4)
    distance = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    pair = torch.arange(VOCABULARY) ^ 1
    assert torch.equal(distance.argmin(dim=1), pair)


def test_the_loudest_dimension_does_not_drown_the_others() -> None:
    loud = codes()[0]
    shape = loud.clone()
    shape[:, 0] = 0.0
    rows = rotated(loud, 32, generator())
    # Distances between rows follow those of the quiet dimensions too.
    both = torch.stack([torch.cdist(rows, rows).flatten(), torch.cdist(shape, shape).flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.4


def weights(layers: torch.nn.Module) -> list[torch.Tensor]:
    return [layer.get_parameter("weight").detach().clone() for layer in layers.children()]


def test_tables_heads_and_source_begin_as_codes() -> None:
    model = stage(conditions=SOURCE)
    blank = weights(model.tables)[0][VOCABULARY]
    start_from_codes(model, codes(), codes(2, 6), generator())
    pair = torch.arange(VOCABULARY) ^ 1
    for layers, spread in (
        (model.tables, TABLE_SPREAD), (model.heads, HEAD_SPREAD),
        (model.conditioner.source, TABLE_SPREAD),
    ):  # fmt: skip
        for weight in weights(layers):
            rows = weight[:VOCABULARY]
            assert float(rows.square().mean().sqrt()) == pytest.approx(spread, rel=1e-3)
            distance = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
            assert torch.equal(distance.argmin(dim=1), pair)
    first, second = weights(model.tables)[:2]
    assert torch.equal(first[VOCABULARY], blank)
    assert not torch.equal(first, second)


def test_the_fine_stage_predicts_its_own_levels() -> None:
    model = stage(first_sampled_level=1, causal=False)
    start_from_codes(model, codes(3), None, generator())
    assert len(model.heads) == 2


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MelismaError, match="3 levels of tokens need"):
        start_from_codes(stage(), codes(2), None, generator())
    with pytest.raises(MelismaError, match="13 entries do not go with 10 codes"):
        start_from_codes(stage(), codes()[:, :10], None, generator())
