"""Functions compiled to machine code by numba when they are first called, cached on disk.

numba forgets what it cached of a function when that function's own file changes, but the loops of
`tiles.py` are compiled into functions of other files, and for an instruction set that no file
names. So the cache is a folder of its own for each version of the sources, and for each instruction
set.
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

from melisma.simd.instruction_set import features, restriction

config: Any = _config
_HERE = Path(__file__).parent


@cache
def cache_folder(name: str, sources: Path = _HERE) -> Path | None:
    """A folder for machine code of certain sources.

    Args:
        name: Its name; the instruction set, where the code depends on it.
        sources: The folder whose files the code is made of, beside those of this folder.

    Returns:
        A folder in numba's cache where one is named, beside the sources, or in the user's cache;
        None where nothing can be written.
    """
    digest = hashlib.sha256()
    for path in sorted({*_HERE.glob("*.py"), *sources.glob("*.py")}):
        digest.update(path.read_bytes())
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "melisma"
    roots = [Path(config.CACHE_DIR)] if config.CACHE_DIR else [sources / "__pycache__", users]
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
    folder = cache_folder(name, Path(function.__code__.co_filename).parent)
    if folder is None:
        return compile_()(function)
    with _cached(folder):
        return compile_(cache=True)(function)


def compiled_loop(function: Callable[..., Any], **options: Any) -> Any:
    """A loop over arrays as machine code that is the same for every instruction set of kernels.

    Args:
        function: What becomes machine code.
        options: Of `numba.njit`.
    """
    return compiled_for("loops", function, **options)
