"""Selection of the instruction set for the native kernels: detected, restricted, or measured.

A processor with registers of 512 bits may lower its clock while they are used, and be faster with
256 bits. That is measured once, before the kernels are first compiled, and the result is cached
next to the machine code, so that later runs compute in the same way.
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
from melisma.simd.tuning import time_products

_GAIN = 1.05
"""Speed-up that the narrower registers must show (chosen: above the variance of measurements)."""


@cache
def selected() -> InstructionSet:
    """The instruction set of this process."""
    possible = candidates()
    if len(possible) == 1:
        return possible[0]
    path = _cache_path()
    known = None if path is None else _read(path)
    if known in {one.name for one in possible}:
        return INSTRUCTION_SETS[NAMES.index(str(known))]
    wide, narrow = possible
    seconds = time_products(possible)
    chosen = narrow if seconds[narrow.name] * _GAIN < seconds[wide.name] else wide
    if path is not None:
        _write(path, chosen, seconds)
    return chosen


def _cache_path() -> Path | None:
    folder = cache_folder("selection")
    return None if folder is None else folder / "selection.json"


def _read(path: Path) -> str | None:
    """The cached choice for this processor; None where there is none, or it is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(path.read_text("utf-8"))
        if document["features"] == _features():
            return document["chosen"]
    return None


def _write(path: Path, chosen: InstructionSet, seconds: dict[str, float]) -> None:
    document = {"chosen": chosen.name, "seconds": seconds, "features": _features()}
    temporary = path.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        temporary.write_text(json.dumps(document), "utf-8")
        temporary.replace(path)


def _features() -> list[str]:
    return sorted(name for name, present in detected_features().items() if present)
