"""The transformer: what it hears of conditions and texts, and what is hidden from it."""

from __future__ import annotations

import pytest
import torch

from melisma.nn.convolution import merge_frames, split_frames
from melisma.nn.transformer import Text, Trunk, TrunkShape, apply_rotary, rotary_angles, window_mask
from melisma.values.errors import MelismaError


def trunk(condition_width: int = 6) -> Trunk:
    torch.manual_seed(0)
    made = Trunk(width=16, layers=2, heads=2, condition_width=condition_width).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_a_window_hides_what_lies_behind_it() -> None:
    mask = window_mask(5, 2, torch.device("cpu"))
    assert mask is not None
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert window_mask(5, 5, torch.device("cpu")) is None


def test_a_fresh_condition_says_nothing_yet() -> None:
    torch.manual_seed(0)
    model = Trunk(width=16, layers=2, heads=2, condition_width=6).eval()
    hidden = torch.randn(1, 4, 16)
    with torch.no_grad():
        conditional, _ = model(hidden, torch.randn(1, 1, 6))
        unconditional, _ = model(hidden)
    torch.testing.assert_close(conditional, unconditional)


def test_only_what_is_not_causal_sees_the_future() -> None:
    model = trunk(0)
    hidden = torch.randn(1, 6, 16)
    changed = hidden.clone()
    changed[:, -1] += 1
    with torch.no_grad():
        for causal in (True, False):
            first, _ = model(hidden, causal=causal)
            second, _ = model(changed, causal=causal)
            assert torch.allclose(first[:, :-1], second[:, :-1]) is causal


def test_attention_depends_on_distance_alone() -> None:
    query, key = torch.randn(1, 8), torch.randn(1, 8)

    def product(first: int, second: int) -> float:
        one = apply_rotary(query, *rotary_angles(torch.tensor([first]), 8))
        other = apply_rotary(key, *rotary_angles(torch.tensor([second]), 8))
        return float((one * other).sum())

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)


def test_the_kept_state_is_that_of_the_layer_asked_for() -> None:
    model = trunk(0)
    hidden = torch.randn(1, 4, 16)
    with torch.no_grad():
        last, kept = model(hidden, keep=2)
        assert kept is not None
        torch.testing.assert_close(model.norm(kept), last)
        assert model(hidden)[1] is None


def test_slower_and_faster_are_inverse() -> None:
    frames = torch.randn(2, 8, 6)
    assert merge_frames(frames, 4).shape == (2, 2, 24)
    assert torch.equal(split_frames(merge_frames(frames, 4), 4), frames)


def test_a_text_is_attended_to_up_to_its_end_and_an_empty_one_has_no_effect() -> None:
    torch.manual_seed(1)
    model = Trunk(width=16, layers=2, heads=2, text=True).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    hidden, states = torch.randn(2, 5, 16), torch.randn(2, 4, 16)
    changed = states.clone()
    changed[:, 3] += 1
    with torch.no_grad():

        def conditioned(words: torch.Tensor, *lengths: int) -> torch.Tensor:
            text = Text(states=words, lengths=torch.tensor(lengths))
            return model(hidden, text=text)[0]

        output, unconditional = conditioned(states, 3, 0), model(hidden)[0]
        torch.testing.assert_close(conditioned(changed, 3, 0), output)
        assert not torch.allclose(conditioned(changed, 4, 4)[0], conditioned(states, 4, 4)[0])
        torch.testing.assert_close(output[1], unconditional[1])
        assert not torch.allclose(output[0], unconditional[0])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"norm": "batch"}, "norm"), ({"feed_forward": "relu"}, "feed_forward"),
     ({"positions": "learned"}, "positions"), ({"heads": 3}, "3 heads")],
)  # fmt: skip
def test_shapes_that_do_not_exist_are_refused(wrong: dict[str, str], named: str) -> None:
    shape = {"width": 16, "layers": 1, "heads": 2, "hidden_width": 32}
    with pytest.raises(MelismaError, match=named):
        TrunkShape(**{**shape, **wrong})  # pyright: ignore[reportArgumentType]
