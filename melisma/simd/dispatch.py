"""Decorators that compile a function for the instruction set selected in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from melisma.simd.jit import compiled_for
from melisma.simd.selection import selected

_FAST_MATH = {"nnan", "nsz"}
"""LLVM fast-math flags. They let the compiler reduce a maximum in any order. None of them changes
how anything is rounded: every instruction set gives the same numbers, to the bit."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compiles for the selected instruction set, assuming that no number is a NaN."""
    return compiled_for(selected().name, function, fastmath=_FAST_MATH)


def compiled_strict(function: Callable[..., Any]) -> Any:
    """Compiles for the selected instruction set without fast-math flags: NaNs may occur."""
    return compiled_for(selected().name, function)
