"""Thread pool that runs compiled functions in parallel."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

_POOLS_LOCK = threading.Lock()
_POOLS: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """The pool of this process, created on first use; a forked process gets its own."""
    key = os.getpid(), threads
    with _POOLS_LOCK:
        if key not in _POOLS:
            _POOLS[key] = ThreadPoolExecutor(max(threads - 1, 1), "melisma-native")
        return _POOLS[key]


def in_parallel(
    function: Callable[..., Any], parts: Sequence[tuple[Any, ...]], threads: int
) -> None:
    """Calls a compiled function once per argument tuple, in parallel, and waits for all calls.

    Args:
        function: A compiled function that releases the GIL.
        parts: Arguments of each call; the first one runs on the calling thread.
        threads: Size of the thread pool, the calling thread included.

    Raises:
        Exception: Whatever a call raised, after all of them have finished.
    """
    first, *others = parts
    futures = [_pool(threads).submit(function, *part) for part in others]
    try:
        function(*first)
    finally:
        wait(futures)
    for future in futures:
        future.result()
