"""Settings of a run in its folder, so that one that is resumed with other settings is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from melisma.files.atomic import write_bytes
from melisma.files.typed_json import read_json
from melisma.values.errors import MelismaError

SETTINGS_NAME = "settings.json"
_MOST_NAMED = 6
"""Most differences that a message names."""
_ABSENT = "absent"


def read_stored(folder: Path) -> dict[str, Any] | None:
    """The settings in a folder; None where there are none.

    Raises:
        MelismaError: The file is damaged.
    """
    path = folder / SETTINGS_NAME
    if not path.is_file():
        return None
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise MelismaError(f"{path} holds no settings: it was not written by this program")
    return stored


def write_stored(folder: Path, settings: Mapping[str, Any]) -> None:
    """Writes settings, JSON values, into a folder."""
    text = json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False)
    write_bytes(folder / SETTINGS_NAME, (text + "\n").encode())


def expect_same(where: object, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Checks that a run goes on with the settings that it began with.

    Args:
        where: The folder or file of the run, for the message.
        stored: The settings that it began with.
        given: Those of the present call.

    Raises:
        MelismaError: They differ; the message names what differs.
    """
    found = differences(stored, given)
    if not found:
        return
    named = ", ".join(found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    raise MelismaError(
        f"{where} was begun with other settings ({named}{more}): give the same settings again, or "
        "choose another folder"
    )


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What differs between two trees of JSON values, e.g. ["loop.seed was 1, now 77"]."""
    before, now = _flat(_as_json(stored)), _flat(_as_json(given))
    return [
        f"{name} was {before.get(name, _ABSENT)}, now {now.get(name, _ABSENT)}"
        for name in sorted({*before, *now})
        if before.get(name, _ABSENT) != now.get(name, _ABSENT)
    ]


def _as_json(tree: Mapping[str, Any]) -> Any:
    """The tree as it is read back: tuples become lists."""
    return json.loads(json.dumps(tree))


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """Values by dotted names, as JSON."""
    if isinstance(tree, dict) and tree:
        found: dict[str, str] = {}
        for name, value in tree.items():
            found |= _flat(value, f"{prefix}.{name}" if prefix else str(name))
        return found
    return {prefix: json.dumps(tree, ensure_ascii=False)}
