"""The T5 encoder is the one of transformers, to the last digits, and says what it cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from melisma.nn.t5 import (
    T5Encoder,
    T5Settings,
    distance_buckets,
    load_t5_encoder,
    published_names,
    published_shapes,
)
from melisma.values.errors import MelismaError

SMALL: dict[str, Any] = {
    "vocab_size": 50, "d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 3, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
}  # fmt: skip
TOLERANCE = 1e-5


def original(**changes: Any) -> Any:
    """A random encoder of transformers, with weights that all count."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.T5EncoderModel(transformers.T5Config(**{**SMALL, **changes})).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                weight.uniform_(0.5, 1.5)
            elif "relative" in name:
                weight.normal_(std=2.0)
            else:
                weight.normal_(std=0.3)
    return model


def ours(model: Any, matrices: torch.dtype = torch.float32) -> T5Encoder:
    weights: Mapping[str, Tensor] = model.state_dict()
    return load_t5_encoder(
        T5Settings.from_config(model.config.to_dict()),
        lambda name, precision: weights[name].to(precision),
        prefix="",
        matrices=matrices,
    )


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
@pytest.mark.parametrize("tokens", [1, 7, 40])  # 40: well beyond the longest distance of 12
def test_states_are_those_of_transformers(kind: str, tokens: int) -> None:
    model = original(feed_forward_proj=kind)
    texts = torch.randint(50, (3, tokens), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(input_ids=texts).last_hidden_state
        found = ours(model)(texts)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < TOLERANCE
    assert expected.abs().max() > 1


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
def test_padding_changes_nothing(kind: str) -> None:
    model = original(feed_forward_proj=kind)
    encoder = ours(model)
    generator = torch.Generator().manual_seed(2)
    texts = torch.randint(50, (3, 20), generator=generator)
    lengths = [20, 13, 1]
    present = torch.arange(20) < torch.tensor(lengths)[:, None]
    with torch.inference_mode():
        expected = model(input_ids=texts, attention_mask=present.long()).last_hidden_state
        found = encoder(texts, present)
        for row, length in enumerate(lengths):
            alone = encoder(texts[row : row + 1, :length])[0]
            assert (found[row, :length] - alone).abs().max() < TOLERANCE
    assert (found - expected)[present].abs().max() < TOLERANCE


def test_a_row_without_tokens_stays_numbers() -> None:
    texts = torch.zeros(2, 4, dtype=torch.long)
    present = torch.tensor([[True] * 4, [False] * 4])
    for matrices in (torch.float32, torch.bfloat16):
        assert ours(original(), matrices)(texts, present).isfinite().all()


@pytest.mark.parametrize(("buckets", "longest"), [(32, 128), (8, 12), (16, 100), (4, 2)])
def test_buckets_are_those_of_transformers(buckets: int, longest: int) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    place = torch.arange(600)
    expected = t5.T5Attention._relative_position_bucket(
        place[None] - place[:, None], num_buckets=buckets, max_distance=longest
    )
    assert torch.equal(distance_buckets(600, buckets, longest), expected)


def test_bfloat16_is_near_and_its_states_are_float32() -> None:
    model = original(feed_forward_proj="gated-gelu")
    texts = torch.randint(50, (2, 15), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        exact, rounded = ours(model)(texts), ours(model, torch.bfloat16)(texts)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


def test_matrices_alone_are_bfloat16_and_nothing_learns() -> None:
    encoder = ours(original(), torch.bfloat16)
    for name, weight in encoder.named_parameters():
        small = name.endswith("norm.weight") or name == "distances.weight"
        assert weight.dtype == (torch.float32 if small else torch.bfloat16), name
        assert not weight.requires_grad


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
def test_names_and_shapes_are_those_of_transformers(kind: str) -> None:
    model = original(feed_forward_proj=kind)
    settings = T5Settings.from_config(model.config.to_dict())
    stored = {f"text_encoder.{name}": tuple(w.shape) for name, w in model.state_dict().items()}
    stored.pop("text_encoder.encoder.embed_tokens.weight", None)  # the same as shared.weight
    assert published_shapes(settings) == stored
    assert set(published_names(settings)) == {name for name, _ in ours(model).named_parameters()}


def test_weights_are_not_copied() -> None:
    model = original()
    weights = model.state_dict()
    encoder = ours(model)
    assert encoder.table.weight.data_ptr() == weights["shared.weight"].data_ptr()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "bert"}, '"bert": read is t5 alone'),
        ({"feed_forward_proj": "gated-silu"}, '"gated-silu": read are relu and gated-gelu'),
        ({"d_model": 0}, "width of a T5 encoder is a whole number from 1, not 0"),
        ({"num_layers": None}, "layers of a T5 encoder is a whole number from 1, not None"),
        ({"num_heads": "12"}, "heads of a T5 encoder is a whole number from 1, not 12"),
        ({"relative_attention_num_buckets": 30}, "a multiple of 4"),
        ({"relative_attention_max_distance": 2}, "not 8 and 2"),
        ({"layer_norm_epsilon": -1.0}, "epsilon of a T5 encoder is between 0 and 1, not -1.0"),
    ],
)
def test_what_no_t5_is(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MelismaError, match=said):
        T5Settings.from_config({**SMALL, **changes})


def test_what_a_config_leaves_out_is_as_in_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    assert T5Settings.from_config({}) == T5Settings.from_config(transformers.T5Config().to_dict())
