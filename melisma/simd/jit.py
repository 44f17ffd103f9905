"""Just-in-time compilation by numba, with machine code cached on disk.

numba invalidates the cached code of a function when that function's own file changes, but the
kernels of `tiles.py` are compiled into functions of other files, and for an instruction set that no
file names. So every version of the sources and every instruction set has a cache folder of its own.
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
    """The cache folder for the machine code of some sources.

    Args:
        name: Name of the folder; the instruction set, where the code depends on it.
        sources: Folder of the compiled source files, besides those of this package.

    Returns:
        A folder in numba's cache if one is configured, else next to the sources or in the user's
        cache; None where none of them is writable.
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
    """Applies a restriction to LLVM's own code generation, too. It takes effect only before numba
    compiles its first function."""
    limit = restriction()
    if limit is not None and limit.target is not None:
        # The portable kernels round as all others do where the processor has FMA.
        fma = limit.name == "portable" and features().get("fma")
        config.CPU_NAME, config.CPU_FEATURES = limit.target, "+avx,+fma" if fma else ""


@contextmanager
def _cached(folder: Path) -> Iterator[None]:
    """Sets numba's cache folder, which it reads only when a function is decorated."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def compiled_for(name: str, function: Callable[..., Any], **options: Any) -> Any:
    """Compiles a function of numbers and addresses; it runs without the interpreter lock (GIL).

    Args:
        name: Name of the cache's folder; the instruction set, where the code depends on it.
        function: The Python function.
        options: Options of `numba.njit`.

    Returns:
        The numba dispatcher, compiled at its first call.
    """
    _restrict()
    compile_ = partial(numba.njit, nogil=True, error_model="numpy", **options)
    folder = cache_folder(name, Path(function.__code__.co_filename).parent)
    if folder is None:
        return compile_()(function)
    with _cached(folder):
        return compile_(cache=True)(function)


def compiled_loop(function: Callable[..., Any], **options: Any) -> Any:
    """Compiles a loop over arrays that does not depend on the selected instruction set.

    Args:
        function: The Python function.
        options: Options of `numba.njit`.
    """
    return compiled_for("loops", function, **options)
