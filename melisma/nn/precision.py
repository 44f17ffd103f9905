"""Mixed precision: the floating-point type in which networks compute on a device.

Processors with instructions for bfloat16 products multiply it two to four times as fast as float32;
others emulate it, ten to a hundred times slower. So a device computes in bfloat16 only where that
is fast: where the processor has the instructions *and* a measurement of some milliseconds, made
once per process, confirms it (PyTorch's libraries may be restricted, or built without them).
Elsewhere it computes in float32.

Modules use `autocast(device)` around their products and name no type themselves. A user's choice
applies to a loaded model (`melisma.load(precision="float32")`) or to a whole process
(`melisma train --precision`, `set_compute_precision`). Weights stay float32 in memory, and parts
that must be exact (spectra, quantizers, norms, losses) disable autocast themselves. The precision
of weights in the native engine is a separate setting (`engine/native/packing.py`).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch

from melisma.simd.instruction_set import multiplies_bfloat16
from melisma.values.errors import MelismaError
from melisma.values.model_ref import COMPUTE_PRECISIONS

AUTO = "auto"
COMPUTE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types in which networks may compute."""
_BENCHMARK_SIZE, _BENCHMARK_ROUNDS = 512, 5
_GAIN = 1.0
"""Least speed of bfloat16 relative to float32: instructions make it two to four times as fast,
emulation a tenth or less, so other programs on the machine do not change the decision."""


@dataclass(frozen=True, kw_only=True)
class ComputeDtype:
    """The type chosen for a device, and why."""

    dtype: torch.dtype
    reason: str
    """For the user."""

    @property
    def name(self) -> str:
        """Its key in `COMPUTE_DTYPES`."""
        return str(self.dtype).removeprefix("torch.")


_process_precision = [AUTO]
"""Setting of the process, changed by `set_compute_precision`."""


def set_compute_precision(precision: str) -> None:
    """Sets the precision of every device in this process.

    Args:
        precision: One of `COMPUTE_PRECISIONS`; "auto" restores the choice by device.

    Raises:
        MelismaError: Unknown precision.
    """
    if precision not in COMPUTE_PRECISIONS:
        known = ", ".join(COMPUTE_PRECISIONS)
        raise MelismaError(f'networks compute in one of {known}, not "{precision}"')
    _process_precision[0] = precision


def compute_dtype(device: str = "cpu", precision: str = AUTO) -> ComputeDtype:
    """Returns the type in which networks on a device compute, and why.

    Args:
        device: As torch names it.
        precision: One of `COMPUTE_PRECISIONS`, for one network; "auto" follows the setting of the
            process, then the device.
    """
    requested = _process_precision[0] if precision == AUTO else precision
    if requested != AUTO:
        return ComputeDtype(dtype=COMPUTE_DTYPES[requested], reason="asked for")
    return _device_dtype(torch.device(device).type)


def autocast(device: str = "cpu", precision: str = AUTO) -> AbstractContextManager[object]:
    """A context in which products on a device are computed in its `compute_dtype`; see there."""
    dtype = compute_dtype(device, precision).dtype
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype)


@cache
def _device_dtype(kind: str) -> ComputeDtype:
    """The choice for a type of device."""
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        reason = f"the GPU has {'' if native else 'no '}instructions for bfloat16"
        return ComputeDtype(dtype=torch.bfloat16 if native else torch.float32, reason=reason)
    if kind != "cpu":
        return ComputeDtype(dtype=torch.float32, reason=f"nothing is known of {kind}")
    if not multiplies_bfloat16():
        reason = "the processor has no instructions for bfloat16 and would emulate them"
        return ComputeDtype(dtype=torch.float32, reason=reason)
    gain = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    if gain < _GAIN:
        reason = f"bfloat16 was measured at {gain:.1f} times float32's speed"
        return ComputeDtype(dtype=torch.float32, reason=reason)
    return ComputeDtype(dtype=torch.bfloat16, reason=f"{gain:.1f} times as fast as float32")


def _product_seconds(dtype: torch.dtype) -> float:
    """Seconds of the fastest of some matrix products; the first one warms up the library."""
    matrix = torch.ones(_BENCHMARK_SIZE, _BENCHMARK_SIZE, dtype=dtype, device="cpu")
    best = float("inf")
    for _ in range(_BENCHMARK_ROUNDS):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, time.perf_counter() - start)
    return best
