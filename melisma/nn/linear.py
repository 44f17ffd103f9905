"""Linear layers that are fast on a processor: packed weights, and GELU in the same pass.

PyTorch multiplies float32 by MKL, which on many processors uses half of what they have; oneDNN,
which is part of PyTorch too, uses all of it, and more where the weights lie in its own order
(two cores with AVX-512: 510 GFLOP/s for 210; restricted to AVX2: 260 for 220). So without
gradients, on an x86 processor, `Linear` packs its weight once and multiplies by oneDNN. With
gradients, elsewhere, and in builds without oneDNN it is `torch.nn.Linear`, whose state it has.
"""

from __future__ import annotations

import platform
import weakref
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.activation import gelu_tanh_
from melisma.nn.precision import COMPUTE_DTYPES

_Packed = tuple[weakref.ref[Tensor], int, int, Tensor]
"""A weight, its address and version when it was packed, and what it was packed to."""
_PACKED: weakref.WeakKeyDictionary[Linear, dict[torch.dtype, _Packed]] = weakref.WeakKeyDictionary()


class Linear(nn.Linear):
    """`torch.nn.Linear`, with the same state."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if not _packs(input, self.weight):
            return super().forward(input)
        return self._packed_product(input, "none", "")

    def gelu(self, block: Tensor) -> Tensor:
        """`gelu(self(block), approximate="tanh")` (1606.08415, section 2)."""
        if not _packs(block, self.weight):
            return F.gelu(super().forward(block), approximate="tanh")
        if _dtype_of(block) == torch.float32:
            return gelu_tanh_(self._packed_product(block, "none", ""))
        return self._packed_product(block, "gelu", "tanh")

    def _packed_product(self, block: Tensor, activation: str, algorithm: str) -> Tensor:
        dtype = _dtype_of(block)
        bias = None if self.bias is None else self.bias.to(dtype)
        return torch.ops.mkldnn._linear_pointwise(
            block.to(dtype), self._packed_weight(dtype), bias, activation, [], algorithm
        )

    def _packed_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight in oneDNN's order; packed anew where it was changed or replaced."""
        weight, packed = self.weight, _PACKED.setdefault(self, {})
        now = weight.data_ptr(), weight._version
        if dtype in packed:
            owner, *then, found = packed[dtype]
            if owner() is weight and tuple(then) == now:
                return found
        source = weight.detach().to(dtype).contiguous()
        found = torch.ops.mkldnn._reorder_linear_weight(source, None)
        packed[dtype] = (weakref.ref(weight), *now, found)
        return found


def _dtype_of(block: Tensor) -> torch.dtype:
    """The type in which a product of this is computed here."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else block.dtype


def _packs(block: Tensor, weight: Tensor) -> bool:
    """Whether this product is one that oneDNN does from a packed weight."""
    dtype = _dtype_of(block)
    return (
        block.device.type == "cpu"
        and not torch.is_grad_enabled()
        and block.numel() > 0
        and not weight.is_inference()
        and (block.dtype == weight.dtype or torch.is_autocast_enabled("cpu"))
        and torch.float64 not in (block.dtype, weight.dtype)
        and dtype in COMPUTE_DTYPES.values()
        and torch.backends.mkldnn.enabled
        and _has_packed_products(dtype)
    )


@cache
def _has_packed_products(dtype: torch.dtype) -> bool:
    """Whether this build and this processor multiply packed weights of a type, and get it right."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if not torch.backends.mkldnn.is_available():
        return False
    one, other = (torch.arange(size).view(-1, 3).to(dtype) for size in (6, 12))
    try:
        with torch.autocast("cpu", enabled=False):
            packed = torch.ops.mkldnn._reorder_linear_weight(other, None)
            found = torch.ops.mkldnn._linear_pointwise(one, packed, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):  # whatever another version does
        return False
    return torch.equal(found.float(), one.float() @ other.float().T)
