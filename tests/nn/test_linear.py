"""Linear layers give what PyTorch's give, packed or not, and notice that their weight changed."""

from __future__ import annotations

import copy
import platform

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from melisma.nn import linear
from melisma.nn.activation import gelu_tanh_
from melisma.nn.linear import Linear


def layers(bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours = Linear(40, 72, bias=bias)
    theirs = nn.Linear(40, 72, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 7, 40), (0, 40)])
@torch.no_grad()
def test_a_layer_is_that_of_pytorch(bias: bool, shape: tuple[int, ...]) -> None:
    ours, theirs = layers(bias)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.gelu(x), F.gelu(theirs(x), approximate="tanh"))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ours(x), theirs(x), rtol=0.01, atol=0.01)
        torch.testing.assert_close(
            ours.gelu(x), F.gelu(theirs(x), approximate="tanh"), rtol=0.02, atol=0.02
        )


@torch.no_grad()
def test_products_are_packed_where_they_can_be() -> None:
    """On x86 with oneDNN, in float32, and in bfloat16 where the processor has that."""
    ours, _ = layers()
    ours(torch.randn(5, 40))
    with torch.autocast("cpu", torch.bfloat16):
        ours(torch.randn(5, 40))
    kinds = (torch.float32, torch.bfloat16)
    can = {kind for kind in kinds if linear._has_packed_products(kind)}
    assert set(linear._PACKED.get(ours, {})) == can
    if platform.machine() == "x86_64" and torch.backends.mkldnn.is_available():
        assert torch.float32 in can


def test_what_pytorch_refuses_is_refused() -> None:
    ours, theirs = layers()
    x = torch.randn(5, 40, dtype=torch.float64)
    for layer in (ours, theirs):
        with torch.no_grad(), pytest.raises(RuntimeError):
            layer(x)


def test_gradients_are_those_of_pytorch() -> None:
    ours, theirs = layers()
    x = torch.randn(5, 40)
    for layer in (ours, theirs):
        F.gelu(layer(x), approximate="tanh").sum().backward()
    ours.gelu(x)  # and with gradients nothing is written over
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_a_changed_weight_is_packed_anew() -> None:
    ours, _ = layers()
    x = torch.randn(5, 40)
    with torch.no_grad():
        before = ours(x)
        ours.weight.mul_(2)
        torch.testing.assert_close(ours(x), F.linear(x, ours.weight, ours.bias))
        assert not torch.allclose(ours(x), before)
        other = copy.deepcopy(ours)
        other.weight.zero_()
        torch.testing.assert_close(other(x), other.bias.expand(5, -1))
        ours.load_state_dict(other.state_dict())
        torch.testing.assert_close(ours(x), ours.bias.expand(5, -1))
        for weight in (torch.ones(72, 40), torch.full((72, 40), 2.0)):
            ours.weight = nn.Parameter(weight)  # another one, of the same version
            torch.testing.assert_close(ours(x), F.linear(x, weight, ours.bias))


def test_a_build_without_onednn_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = layers()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    linear._has_packed_products.cache_clear()
    x = torch.randn(5, 40)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
        torch.testing.assert_close(ours.gelu(x), F.gelu(theirs(x), approximate="tanh"))
    linear._has_packed_products.cache_clear()


def test_gelu_is_that_of_pytorch() -> None:
    x = torch.cat([torch.linspace(-30, 30, 100_001), torch.tensor([-1e4, -0.0, 1e4])])
    exact = F.gelu(x.double(), approximate="tanh").float()
    torch.testing.assert_close(gelu_tanh_(x.clone()), exact, rtol=1e-5, atol=1e-6)
