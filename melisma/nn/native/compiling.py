"""Functions that become machine code when they are first called, kept on disk for the next time.

numba forgets what it kept of a function when that function's own file changes, but the loops of
`tiles.py` and `past.py` are compiled into functions of other files. So what is kept lies in a
folder of its own for each version of the files beside this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import config as _config

config: Any = _config
_FREEDOMS = {"contract", "reassoc", "arcp", "nsz", "afn"}
"""Freedoms that the compiler has with floats: sums in any order, so that they can be vectors."""


def _folder() -> str:
    """Where machine code of just these sources is kept; numba's own choice where that cannot be."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    try:
        for path in sorted(here.glob("*.py")):
            digest.update(path.read_bytes())
        place = Path(config.CACHE_DIR or here / "__pycache__") / f"native-{digest.hexdigest()[:12]}"
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return config.CACHE_DIR
    return str(place)


_PLACE = _folder()


@contextmanager
def _kept() -> Iterator[None]:
    """numba asks where to keep a function when it is decorated, and only then."""
    before, config.CACHE_DIR = config.CACHE_DIR, _PLACE
    try:
        yield
    finally:
        config.CACHE_DIR = before


def compiled(function: Callable[..., Any]) -> Any:
    """A function of numbers and addresses as machine code without a lock on the interpreter."""
    with _kept():
        return numba.njit(nogil=True, fastmath=_FREEDOMS, error_model="numpy", cache=True)(function)


def compiled_exactly(function: Callable[..., Any]) -> Any:
    """The same, with every operation as it is written."""
    with _kept():
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
