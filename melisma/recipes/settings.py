"""Changing single settings of a tree by their dotted names, with the types that the fields have."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import TypeVar

Tree = TypeVar("Tree")


def changed(tree: Tree, changes: Mapping[str, str], part: str) -> Tree:
    """The tree with those changes that name `part` first, e.g. "codec.loop.updates" = "500".

    `ValueError` where a name or a value does not fit, with what does.
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
    if path[0] not in fields:
        raise ValueError(f'no setting "{name}": here are {", ".join(sorted(fields))}')
    present = getattr(tree, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(present):
            raise ValueError(f'the setting "{name}" goes too deep: {path[0]} has no parts')
        value = _set(present, path[1:], word, name)
    else:
        value = _parsed(present, word, name)
    return dataclasses.replace(tree, **{path[0]: value})


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
        raise ValueError(
            f'"{word}" does not fit the setting "{name}", which is like {present!r} ({kind})'
        )
    return value
