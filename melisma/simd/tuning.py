"""Micro-benchmark of instruction sets: speed of matrix products on this processor.

The quantized tile of `tiles.py` is timed on weights that exceed the cache of a core, on all cores
at once and for several milliseconds: the clock of some processors falls only after a millisecond of
wide registers, and further with every core that uses them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from melisma.simd.instruction_set import InstructionSet
from melisma.simd.jit import compiled_for
from melisma.simd.tiles import quantized_tile, tile_outputs

_INPUTS, _GROUP = 1024, 64
_WEIGHTS_BYTES = 8 << 20
"""int4 weights of each thread: more than the cache of a core."""
_MOST_THREADS = 8
"""A container may have only a share of many cores."""
_ROWS = 2
"""Rows of one piece with classifier-free guidance."""
_ROUND_SECONDS = 0.03
_ROUNDS = 5


def time_products(sets: Sequence[InstructionSet]) -> dict[str, float]:
    """Seconds of one pass over the weights, the fastest of `_ROUNDS` rounds, by the set's name."""
    affinity = getattr(os, "sched_getaffinity", None)
    threads = min(len(affinity(0)) if affinity else os.cpu_count() or 1, _MOST_THREADS)
    passes = {one.name: [_pass_over(one) for _ in range(threads)] for one in sets}
    best = dict.fromkeys(passes, float("inf"))
    with ThreadPoolExecutor(threads) as pool:
        for runs in passes.values():
            list(pool.map(lambda run: run(), runs))  # compiles, and touches the memory
        for _ in range(_ROUNDS):
            for name, runs in passes.items():
                start, count = time.perf_counter(), 0
                while time.perf_counter() < start + _ROUND_SECONDS:
                    list(pool.map(lambda run: run(), runs))
                    count += 1
                best[name] = min(best[name], (time.perf_counter() - start) / count)
    return best


def _pass_over(isa: InstructionSet) -> Callable[[], None]:
    """A function that makes one pass over weights of its own."""
    tile, tile_size = quantized_tile(isa, _ROWS, 4), tile_outputs(isa)
    groups, tiles = _INPUTS // _GROUP, _WEIGHTS_BYTES * 2 // (_INPUTS * tile_size)
    tile_bytes = _INPUTS * tile_size // 2

    def over(weights: Any, scales: Any, rows: Any, x: Any, xs: Any, sums: Any, out: Any) -> None:
        for index in range(tiles):
            tile(
                weights + index * tile_bytes, scales, rows, x, _INPUTS, xs, sums, 4 * groups,
                out, 4 * tile_size, 0, groups, _GROUP,
            )  # fmt: skip

    run = compiled_for(isa.name, over)
    arrays = [
        np.ones(tiles * tile_bytes + 64, np.uint8),
        np.ones(groups * tile_size, np.float16),
        np.ones(tile_size, np.float32),
        np.ones(_ROWS * _INPUTS, np.int8),
        np.ones(_ROWS * groups, np.float32),
        np.zeros(_ROWS * groups, np.int32),
        np.empty(_ROWS * tile_size, np.float32),
    ]

    def once() -> None:
        first, *rest = (array.ctypes.data for array in arrays)
        run(first + -first % 64, *rest)

    return once
