"""Functions that become machine code when they are first called, cached on disk for the next time.

numba forgets what it cached of a function when that function's own file changes, but the loops of
`tiles.py` and `past.py` are compiled into functions of other files, and for an instruction set that
no file names. So the cache is a folder of its own for each version of the files beside this one,
and for each instruction set.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba
from numba.core import config as _config

from melisma.nn.instruction_set import features, restriction

config: Any = _config
_FREEDOMS = {"nnan", "nsz"}
"""Freedoms that the compiler has with floats: to take the largest of many in any order. None that
changes how anything is rounded: every instruction set gives the same numbers, to the bit."""


@cache
def cache_folder(name: str) -> Path | None:
    """A folder for what is made of just these sources: in numba's folder where one is named, beside
    the sources, or in the user's cache; None where nothing can be written."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in (*sorted(here.glob("*.py")), here.parent / "instruction_set.py"):
        digest.update(path.read_bytes())
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "melisma"
    roots = [Path(config.CACHE_DIR)] if config.CACHE_DIR else [here / "__pycache__", users]
    for root in roots:
        folder = root / f"native-{digest.hexdigest()[:12]}-{name}"
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    return None


@cache
def _restrict() -> None:
    """LLVM uses no instruction beyond a restriction, either (where numba has compiled nothing
    yet)."""
    asked = restriction()
    if asked is not None and asked.target is not None:
        # The portable kernels round as all others do where the processor can.
        fma = asked.name == "portable" and features().get("fma")
        config.CPU_NAME, config.CPU_FEATURES = asked.target, "+avx,+fma" if fma else ""


@contextmanager
def _cached(folder: Path) -> Iterator[None]:
    """numba asks where to cache a function when it is decorated, and only then."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def compiled_for(name: str, function: Callable[..., Any], **options: Any) -> Any:
    """A function of numbers and addresses as machine code without a lock on the interpreter.

    Args:
        name: Name of the cache's folder; the instruction set, where the code depends on it.
        function: What becomes machine code.
        options: Of `numba.njit`.
    """
    _restrict()
    compile_ = partial(numba.njit, nogil=True, error_model="numpy", **options)
    folder = cache_folder(name)
    if folder is None:
        return compile_()(function)
    with _cached(folder):
        return compile_(cache=True)(function)


def compiled(function: Callable[..., Any]) -> Any:
    """Machine code for the selected instruction set, where no number is a NaN."""
    from melisma.nn.native.selection import selected

    return compiled_for(selected().name, function, fastmath=_FREEDOMS)


def compiled_exactly(function: Callable[..., Any]) -> Any:
    """The same, where there may be NaNs."""
    from melisma.nn.native.selection import selected

    return compiled_for(selected().name, function)
