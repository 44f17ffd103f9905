"""Overrides of single settings by dotted names, parsed to the types of the dataclass fields."""

from __future__ import annotations

import ast
import dataclasses
import math
from collections.abc import Mapping
from typing import TypeVar

from melisma.files.legacy_names import present_settings
from melisma.files.typed_json import MAX_INTEGER
from melisma.values.errors import MelismaError

Tree = TypeVar("Tree")
_MOST_UPDATES = 10**9
"""Most updates of a training (chosen: years)."""
_MOST_PARTS = 1_024
"""Most layers, levels or heads of a network (chosen: above any in use)."""
_LARGEST = 2**24
"""Largest value of other settings (chosen likewise: above any width, vocabulary or batch)."""
_SHOWN_CHARACTERS = 40
"""Most characters of a value that a message quotes."""
_PARTS = ("layers", "levels", "heads", "blocks")
"""Endings of the names of settings that count parts of a network."""
_POSITIVE = (
    "batch", "longest", "crop_frames", "checkpoint_updates", "log_updates", "sample_updates",
    "_events", "most_windows", "span_frames", "width", "vocabulary", "wordings", *_PARTS,
)  # fmt: skip
"""Endings of the names of settings that cannot be 0, unless they belong to a condition."""
_SHARES = (
    "share", "dropout", ".melody", ".infill", "tempo_moves", "piece_starts", "silent_bars",
    "steps_kept", "source_damage", "quantile",
)  # fmt: skip
"""Endings of the names of settings that are probabilities; those of dropped conditions are, too."""
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
        MelismaError: where there is no such field, or the value has another type or is out of
            range; the message lists the fields or the range.
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
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        value = None
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -MAX_INTEGER), MAX_INTEGER))
    shown = word if len(word) <= _SHOWN_CHARACTERS else f"{word[:_SHOWN_CHARACTERS]}..."
    if dataclasses.is_dataclass(present):
        names = ", ".join(field.name for field in dataclasses.fields(present))
        raise MelismaError(f'"{shown}" does not fit "{name}", which has the settings {names}')
    if type(value) is not type(present):
        kind = type(present).__name__
        raise MelismaError(
            f'"{shown}" does not fit the setting "{name}", which is like {present!r} ({kind})'
        )
    _check_range(value, name)
    return value


def _check_range(value: object, name: str) -> None:
    """Refuses numbers with which a training cannot run, or would take all memory."""
    if value == ():
        raise MelismaError(f'the setting "{name}" has at least one value')
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, float) and not math.isfinite(one):
            raise MelismaError(f'the setting "{name}" is a finite number, not {one}')
        if isinstance(one, float) and _is_share(name) and not 0 <= one <= 1:
            raise MelismaError(f'the setting "{name}" lies between 0 and 1, not {one}')
        if isinstance(one, int) and not isinstance(one, bool):
            least, most = _limits(name)
            if not least <= one <= most:
                raise MelismaError(f'the setting "{name}" is a whole number, {least} to {most:,}')


def _is_share(name: str) -> bool:
    is_drop = "drop." in name and not name.endswith("noise")
    return is_drop or name.endswith(_SHARES)


def _limits(name: str) -> tuple[int, int]:
    """The least and the largest value of a setting that is a whole number."""
    least = 1 if name.endswith(_POSITIVE) and ".conditions." not in name else 0
    if name.endswith("seed"):
        return least, MAX_INTEGER
    if name.endswith("updates"):
        return least, _MOST_UPDATES
    return least, _MOST_PARTS if name.endswith(_PARTS) else _LARGEST
