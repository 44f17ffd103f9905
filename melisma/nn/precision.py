"""The one place that decides in which floating-point type networks compute.

Processors with instructions for products of bfloat16 multiply it two to four times as fast as
float32; others emulate it, ten to a hundred times slower. So a device computes in bfloat16 only
where it really does that well: where the processor has the instructions *and* a measurement of some
milliseconds agrees, which is made once in a process (PyTorch's libraries may be restricted, or
built without them). Elsewhere it computes in float32.

Modules ask for `autocast(device)` around their products and name no type themselves. A person's
own choice holds for what is loaded with it (`melisma.load(precision="float32")`) or for a whole
process (`melisma train --precision`, `set_compute_precision`).
Weights stay float32 in memory, and what must be exact (spectra, quantizers, norms, losses) leaves
autocast by itself. The precision of the weights that a native engine multiplies is another thing
(`native/packing.py`).
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch

from melisma.simd.instruction_set import multiplies_bfloat16

AUTO = "auto"
COMPUTE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Types that networks may compute in."""
COMPUTE_PRECISIONS = (AUTO, *COMPUTE_DTYPES)
"""What may be asked for; "auto" decides by the device."""
_TRIAL_SIZE, _TRIAL_ROUNDS = 512, 5
_GAIN = 1.0
"""How fast it must be beside float32: real instructions make it two to four times as fast,
emulation a tenth or less, so that no neighbour on the machine changes what is decided."""


@dataclass(frozen=True, kw_only=True)
class ComputeDtype:
    """What was decided for a device."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """As `COMPUTE_DTYPES` has it."""
        return str(self.dtype).removeprefix("torch.")


_asked = [AUTO]


def set_compute_precision(precision: str) -> None:
    """Decides for every device of this process, as `torch.set_num_threads` does for threads.

    Args:
        precision: One of `COMPUTE_PRECISIONS`; "auto" leaves it to the device again.

    Raises:
        ValueError: Another precision.
    """
    if precision not in COMPUTE_PRECISIONS:
        known = ", ".join(COMPUTE_PRECISIONS)
        raise ValueError(f'networks compute in one of {known}, not "{precision}"')
    _asked[0] = precision


def compute_dtype(device: str = "cpu", precision: str = AUTO) -> ComputeDtype:
    """The type in which networks on a device compute, and why.

    Args:
        device: As torch names it.
        precision: One of `COMPUTE_PRECISIONS`, for one network; "auto" leaves it to the process and
            the device.
    """
    asked = _asked[0] if precision == AUTO else precision
    if asked != AUTO:
        return ComputeDtype(dtype=COMPUTE_DTYPES[asked], reason="asked for")
    return _chosen(torch.device(device).type)


def autocast(device: str = "cpu", precision: str = AUTO) -> AbstractContextManager[object]:
    """A context in which products on a device are computed in its `compute_dtype`."""
    dtype = compute_dtype(device, precision).dtype
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype)


@cache
def _chosen(kind: str) -> ComputeDtype:
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
    """Seconds of the fastest of some products; the first makes the library ready."""
    one = torch.ones(_TRIAL_SIZE, _TRIAL_SIZE, dtype=dtype)
    best = float("inf")
    for _ in range(_TRIAL_ROUNDS):
        begun = time.perf_counter()
        torch.mm(one, one)
        best = min(best, time.perf_counter() - begun)
    return best
