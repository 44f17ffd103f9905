"""The instruction set that the native kernels are made for: detected, restricted, or measured.

Where the processor has registers of 512 bits it may lower its clock while they are used, and be
faster with those of 256. That is measured once, before the kernels are first compiled, and the
result is kept beside the machine code, so that later runs compute in the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
from functools import cache
from pathlib import Path

from melisma.simd.instruction_set import (
    INSTRUCTION_SETS,
    NAMES,
    InstructionSet,
    candidates,
    detected_features,
)
from melisma.simd.jit import cache_folder
from melisma.simd.tuning import product_seconds

_GAIN = 1.05
"""How much faster the narrower registers must be (chosen: beyond what measurements vary by)."""


@cache
def selected() -> InstructionSet:
    """The set of this process."""
    possible = candidates()
    if len(possible) == 1:
        return possible[0]
    place = _place()
    known = None if place is None else _read(place)
    if known in {one.name for one in possible}:
        return INSTRUCTION_SETS[NAMES.index(str(known))]
    wide, narrow = possible
    seconds = product_seconds(possible)
    chosen = narrow if seconds[narrow.name] * _GAIN < seconds[wide.name] else wide
    if place is not None:
        _write(place, chosen, seconds)
    return chosen


def _place() -> Path | None:
    folder = cache_folder("selection")
    return None if folder is None else folder / "selection.json"


def _read(place: Path) -> str | None:
    """The name that was chosen on this processor; None where none was."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(place.read_text("utf-8"))
        if document["features"] == _features():
            return document["chosen"]
    return None


def _write(place: Path, chosen: InstructionSet, seconds: dict[str, float]) -> None:
    document = {"chosen": chosen.name, "seconds": seconds, "features": _features()}
    temporary = place.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(document), "utf-8")
        temporary.replace(place)


def _features() -> list[str]:
    return sorted(name for name, there in detected_features().items() if there)
