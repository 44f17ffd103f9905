"""Overrides of single settings by dotted names, parsed to the types of the dataclass fields."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from melisma.files.legacy_names import present_settings
from melisma.values.errors import MelismaError

Tree = TypeVar("Tree")
_FORMER_FIELDS = {"rate": "learning_rate"}
"""Former names of fields that no checkpoint contains; for others see `melisma.files.legacy_names`.
"""


def changed(tree: Tree, changes: Mapping[str, str], part: str) -> Tree:
    """Applies overrides to a tree of settings.

    Args:
        tree: a dataclass, nested to any depth.
        changes: values by dotted names, e.g. {"codec.loop.updates": "500"}; former names of
            fields are accepted.
        part: only names that begin with this are applied.

    Returns:
        A changed copy.

    Raises:
        MelismaError: where there is no such field, or the value has another type; the message lists
            the fields.
    """
    for name, word in changes.items():
        first, _, rest = name.partition(".")
        if first == part and rest:
            tree = _set(tree, rest.split("."), word, name)
    return tree


def _set(tree: Tree, path: list[str], word: str, name: str) -> Tree:
    assert dataclasses.is_dataclass(tree)
    assert not isinstance(tree, type)
    fields = {field.name for field in dataclasses.fields(tree)}
    first = path[0] if path[0] in fields else _present_field(path[0])
    if first not in fields:
        raise MelismaError(f'no setting "{name}": here are {", ".join(sorted(fields))}')
    present = getattr(tree, first)
    if len(path) > 1:
        if not dataclasses.is_dataclass(present):
            raise MelismaError(f'the setting "{name}" goes too deep: {first} has no parts')
        value = _set(present, path[1:], word, name)
    else:
        value = _parsed(present, word, name)
    return dataclasses.replace(tree, **{first: value})


def _present_field(name: str) -> str:
    """The present name of a field whose name was changed."""
    present = str(next(iter(present_settings({name: None}))))
    return _FORMER_FIELDS.get(present, present)


def _parsed(present: object, word: str, name: str) -> object:
    if isinstance(present, str):
        return word
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        value = None
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(present):
        kind = type(present).__name__
        raise MelismaError(
            f'"{word}" does not fit the setting "{name}", which is like {present!r} ({kind})'
        )
    return value
