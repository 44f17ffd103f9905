"""A pool of threads that run compiled functions side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

_MAKING_POOLS = threading.Lock()
_POOLS: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work, started once in a process; a forked one has none of them."""
    mine = os.getpid(), threads
    with _MAKING_POOLS:
        if mine not in _POOLS:
            _POOLS[mine] = ThreadPoolExecutor(max(threads - 1, 1), "melisma-native")
        return _POOLS[mine]


def in_parallel(
    function: Callable[..., Any], parts: Sequence[tuple[Any, ...]], threads: int
) -> None:
    """Calls a compiled function with each of some arguments, side by side on so many threads; comes
    back when all are done, whatever happens."""
    first, *others = parts
    begun = [_pool(threads).submit(function, *part) for part in others]
    try:
        function(*first)
    finally:
        wait(begun)
    for one in begun:
        one.result()
