"""The one error of requests that Melisma refuses on purpose, and checks of plain values."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any


class MelismaError(ValueError):
    """A request that cannot be served, with one sentence that says what is allowed.

    It is raised for what a person can mend: a value beyond its limits, a file of another kind, a
    model that lacks what is asked for. Every other exception is a fault of the program and keeps
    its traceback.
    """


class MelismaTypeError(MelismaError, TypeError):
    """A value of another type than a call in Python takes; callers may expect a `TypeError`."""


def expect_text(name: str, value: Any) -> str:
    """The value, if it is a text; `MelismaTypeError` otherwise."""
    if not isinstance(value, str):
        raise MelismaTypeError(f"{name} is a text, not {_given(value)}")
    return value


def expect_integer(name: str, value: Any, low: int, high: int) -> int:
    """The value, if it is a whole number within limits.

    Args:
        name: What it is, for the message.
        value: An integer of Python or NumPy; a bool is none.
        low: Smallest number that is allowed.
        high: Largest.

    Raises:
        MelismaError: It is something else.
    """
    if not _is_number(value, numbers.Integral) or not low <= int(value) <= high:
        raise MelismaError(f"{name} is a whole number from {low} to {high}, not {_given(value)}")
    return int(value)


def expect_real(name: str, value: Any, low: float, high: float, unit: str = "") -> float:
    """The value, if it is a finite number within limits, in a unit; else as `expect_integer`."""
    # NaN compares as false, and an integer of any size compares.
    if not _is_number(value, numbers.Real) or not low <= value <= high:
        limits = f"{low:g} and {high:g} {unit}".rstrip()
        raise MelismaError(f"{name} lies between {limits}, not {_given(value)}")
    return float(value)


def unknown_name(what: str, name: str, allowed: Sequence[str]) -> str:
    """The sentence about a name that is none of those allowed."""
    return f'unknown {what} "{name}": choose one of {", ".join(allowed)}'


def _is_number(value: Any, kind: type) -> bool:
    """Whether a value is a number of Python or NumPy of a kind; a bool is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _given(value: Any) -> str:
    """A value in a message: numbers as they are, of other things the type alone."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more digits"
    if isinstance(value, numbers.Real):
        return str(value)
    return f"a value of type {type(value).__name__}"
