"""JSON from outside: parsed with limits, and checked against type hints before it is used.

A card, a configuration or the header of a checkpoint may be damaged, edited or hostile.
`parse_json` turns text into JSON values; `typed` turns JSON values into dataclasses, tuples and
mappings by their type hints, so that what lies behind it has the types that it declares. Both raise
`MelismaError` alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from melisma.values.errors import MelismaError

MAX_INTEGER = 2**53
"""Largest integer that is accepted: beyond it other readers of JSON lose digits (RFC 8259, section
6)."""
MAX_BYTES = 2**25
"""Largest file of JSON that is read (chosen: ten times the card of a thousand pieces)."""
MAX_REAL = 1e18
"""Largest real number likewise (chosen: far beyond any measurement, and its square is finite)."""
MAX_SIZE = 2**24
"""Largest size in the settings of a model (chosen: above any width or vocabulary in use)."""
MAX_PARTS = 1024
"""Most layers, levels or heads of a model (chosen likewise)."""
_PARTS = ("layers", "levels", "level", "heads", "blocks", "members")
"""Endings of the names of settings that count parts of a model."""
_SHOWN_CHARACTERS = 30
"""Most characters of a value that a message quotes."""

KindT = TypeVar("KindT")


def read_json(path: Path) -> Any:
    """Reads a file of JSON.

    Args:
        path: UTF-8 text.

    Raises:
        MelismaError: It is not JSON, or larger than `MAX_BYTES`; the message names the file.
        OSError: It cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise MelismaError(f"{path} is too large to be read: at most {MAX_BYTES} bytes are")
    return parse_json(path.read_bytes(), str(path))


def parse_json(text: str | bytes, name: str) -> Any:
    """Parses JSON.

    Args:
        text: The document; bytes are UTF-8.
        name: What it is, for the message: the name of a file, for example.

    Raises:
        MelismaError: It is not JSON, is nested too deeply, or has a number of too many digits.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    # A number of more than 4,300 digits is a plain ValueError.
    except (ValueError, RecursionError) as error:
        raise MelismaError(f"{name} is not JSON: it is damaged, cut short or not text") from error


def typed(value: Any, hint: Any, where: str = "") -> Any:
    """Checks a JSON value against a type hint, and converts it.

    Lists become tuples where the hint says so, and mappings become dataclasses; whole numbers are
    accepted for `float`. Numbers are finite and not beyond `MAX_INTEGER` and `MAX_REAL`, and texts
    are valid Unicode. (Of `Any` the real numbers alone are left as they are.)

    Args:
        value: A JSON value.
        hint: `Any`, `None`, bool, int, float, str, a `Literal`, a union, a tuple, a list or a
            mapping of these with keys of text, or a dataclass of such fields.
        where: Place of the value in the document, for messages; empty for the whole.

    Raises:
        MelismaError: The value is of another type; the message begins with its place.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return _plain(value, where)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, arguments, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise _mistyped(value, where, " or ".join(json.dumps(one) for one in arguments))
    if origin is tuple:
        return _tuple(value, arguments, where)
    if origin is list:
        return list(_tuple(value, (arguments[0], ...), where))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _mistyped(value, where, "an object")
        return {
            _text(key, where): typed(one, arguments[1], _inside(where, key))
            for key, one in value.items()
        }
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(value, hint, where)
    return _scalar(value, hint, where)


def some_fields(value: Any, kind: type[KindT], where: str = "") -> KindT:
    """As `typed` for a dataclass; fields that it does not have are left out.

    Args:
        value: A JSON value.
        kind: The dataclass.
        where: Place of the value in the document, for messages.

    Raises:
        MelismaError: It is no object, or a field is missing or of another type.
    """
    if not isinstance(value, Mapping):
        raise _mistyped(value, where, "an object")
    known = _hints(kind)
    return typed({name: one for name, one in value.items() if name in known}, kind, where)


def expect_sizes(tree: object, name: str = "") -> None:
    """Checks the sizes in the settings of a model, before anything is built from them.

    Args:
        tree: Settings as JSON values; every whole number is a size or a count.
        name: Of the setting.

    Raises:
        MelismaError: One is negative, or beyond `MAX_SIZE` or `MAX_PARTS`.
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            expect_sizes(value, str(key))
    elif isinstance(tree, int) and not isinstance(tree, bool):
        most = MAX_PARTS if name.endswith(_PARTS) else MAX_SIZE
        if not 0 <= tree <= most:
            raise MelismaError(f"{name} is {tree}, 0 to {most} are allowed")


def numbers(value: Any, where: str = "") -> dict[str, float]:
    """Checks a mapping of measured numbers, of which some may be missing: null or NaN.

    Args:
        value: A JSON value.
        where: Its place in the document, for messages.

    Returns:
        Name -> number, NaN where it is missing.

    Raises:
        MelismaError: It is something else.
    """
    found = {}
    for name, one in typed(value, dict[str, Any], where).items():
        missing = one is None or (isinstance(one, float) and math.isnan(one))
        found[name] = math.nan if missing else typed(one, float, _inside(where, name))
    return found


def _scalar(value: Any, hint: Any, where: str) -> Any:
    if hint in (None, type(None)):
        if value is None:
            return None
        raise _mistyped(value, where, "null")
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise _mistyped(value, where, "true or false")
    if hint is str:
        return _text(value, where)
    if hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return _bounded(value, where)
        raise _mistyped(value, where, "a whole number")
    assert hint is float, f"no rule for {hint}"
    if isinstance(value, int) and not isinstance(value, bool):
        return float(_bounded(value, where))
    if isinstance(value, float) and math.isfinite(value):
        if abs(value) > MAX_REAL:
            raise MelismaError(f"{where or 'it'} is a number beyond all limits")
        return value
    raise _mistyped(value, where, "a number")


def _bounded(value: int, where: str) -> int:
    if abs(value) > MAX_INTEGER:
        raise MelismaError(f"{where or 'it'} is a number beyond all limits")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _mistyped(value, where, "a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MelismaError(f"{where or 'it'} is no valid Unicode text") from error
    return value


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Any JSON value, with valid texts and bounded numbers; infinities stay."""
    if depth > 100:
        raise MelismaError(f"{where or 'it'} is nested too deeply")
    if isinstance(value, dict):
        return {_text(key, where): _plain(one, where, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one, where, depth + 1) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return _bounded(value, where)
    return _text(value, where) if isinstance(value, str) else value


def _one_of(value: Any, hints: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    rest = [hint for hint in hints if hint is not type(None)]
    for hint in rest[:-1]:
        try:
            return typed(value, hint, where)
        except MelismaError:
            continue
    return typed(value, rest[-1], where)


def _tuple(value: Any, hints: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _mistyped(value, where, "a list")
    if len(hints) == 2 and hints[1] is ...:
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise MelismaError(
            f"{where or 'it'} is a list of {len(value)} values, {len(hints)} are needed"
        )
    return tuple(
        typed(one, hint, f"{where}[{index}]")
        for index, (one, hint) in enumerate(zip(value, hints, strict=True))
    )


@cache
def _hints(kind: type) -> dict[str, tuple[Any, bool]]:
    """Fields of a dataclass: name -> (type hint, whether it has a default)."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        one.name: (hints[one.name], (one.default, one.default_factory) != (missing, missing))
        for one in dataclasses.fields(kind)
    }


def _dataclass(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, dict):
        raise _mistyped(value, where, "an object")
    known = _hints(kind)
    for name in value:
        if name not in known:
            raise MelismaError(f"{_inside(where, name)} is unknown: it is of another version")
    for name, (_, optional) in known.items():
        if name not in value and not optional:
            raise MelismaError(f"{_inside(where, name)} is missing")
    return kind(
        **{name: typed(one, known[name][0], _inside(where, name)) for name, one in value.items()}
    )


def _inside(where: str, name: object) -> str:
    part = _shown(name)
    return f"{where}.{part}" if where else part


def _shown(value: object) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(value)[: _SHOWN_CHARACTERS + 1])
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _mistyped(value: Any, where: str, wanted: str) -> MelismaError:
    if isinstance(value, dict | list):
        given = "an object" if isinstance(value, dict) else "a list"
    elif isinstance(value, str):
        given = f'the text "{_shown(value)}"'
    elif isinstance(value, bool) or value is None:
        given = json.dumps(value)
    else:
        given = f"the number {_number(value)}"
    return MelismaError(f"{where or 'it'} is {given}, where {wanted} is needed")


def _number(value: Any) -> str:
    """A number in a message; str() of a huge integer would itself fail."""
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "with very many digits"
    return _shown(value)
