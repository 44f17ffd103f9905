"""Loops over samples as machine code: numba compiles them when they are first called, and caches
them on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """A function of numbers and arrays as machine code, without a lock on the interpreter.

    Args:
        function: What becomes machine code.
        options: Of `numba.njit`.
    """
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # no folder can be written to: then it is compiled in every process
        return numba.njit(nogil=True, **options)(function)
