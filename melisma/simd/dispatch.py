"""Functions compiled for the instruction set that was selected for this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from melisma.simd.jit import compiled_for
from melisma.simd.selection import selected

_FREEDOMS = {"nnan", "nsz"}
"""Freedoms that the compiler has with floats: to take the largest of many in any order. None that
changes how anything is rounded: every instruction set gives the same numbers, to the bit."""


def compiled(function: Callable[..., Any]) -> Any:
    """Machine code for the selected instruction set, where no number is a NaN."""
    return compiled_for(selected().name, function, fastmath=_FREEDOMS)


def compiled_exactly(function: Callable[..., Any]) -> Any:
    """The same, where there may be NaNs."""
    return compiled_for(selected().name, function)
