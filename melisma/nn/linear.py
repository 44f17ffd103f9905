"""Linear layers with weights packed for oneDNN, and fused GELU, for fast inference on the CPU.

PyTorch multiplies float32 with MKL, which on many processors reaches half of their speed; oneDNN,
which is also part of PyTorch, reaches all of it, and more with weights in its own layout (two cores
with AVX-512: 510 GFLOP/s instead of 210; restricted to AVX2: 260 instead of 220). So without
gradients, on an x86 processor, `Linear` packs its weight once and multiplies with oneDNN. With
gradients, elsewhere, and in builds without oneDNN it is `torch.nn.Linear`, with the same state.
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
"""A weight, its address and version when it was packed, and the packed tensor."""
_PACKED: weakref.WeakKeyDictionary[Linear, dict[torch.dtype, _Packed]] = weakref.WeakKeyDictionary()


class Linear(nn.Linear):
    """`torch.nn.Linear` with the same state, faster on the CPU without gradients."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if not _uses_packed_weight(input, self.weight):
            return super().forward(input)
        return self._packed_product(input, "none", "")

    def gelu(self, block: Tensor) -> Tensor:
        """`gelu(self(block), approximate="tanh")` (1606.08415, section 2)."""
        if not _uses_packed_weight(block, self.weight):
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
        """The weight in oneDNN's layout; packed again after it was changed or replaced."""
        weight, packed = self.weight, _PACKED.setdefault(self, {})
        version = weight.data_ptr(), weight._version
        if dtype in packed:
            owner, *packed_version, reordered = packed[dtype]
            if owner() is weight and tuple(packed_version) == version:
                return reordered
        source = weight.detach().to(dtype).contiguous()
        reordered = torch.ops.mkldnn._reorder_linear_weight(source, None)
        packed[dtype] = (weakref.ref(weight), *version, reordered)
        return reordered


def _dtype_of(block: Tensor) -> torch.dtype:
    """The type in which a product with this tensor is computed, autocast included."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else block.dtype


def _uses_packed_weight(block: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes this product from a packed weight."""
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
    """Whether this build of PyTorch multiplies packed weights of a type correctly here."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if not torch.backends.mkldnn.is_available():
        return False
    x, weight = (
        torch.arange(size, dtype=torch.long, device="cpu").view(-1, 3).to(dtype) for size in (6, 12)
    )
    try:
        with torch.autocast("cpu", enabled=False):
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            found = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):  # other versions may lack it
        return False
    return torch.equal(found.float(), x.float() @ weight.float().T)
