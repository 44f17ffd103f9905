"""How fast this machine really is, tried on a little of a model that need not be there.

Enters: sizes (`capacity.StageShape`). Leaves: seconds, or bytes a second. Weights are random, and
only as many layers are made as no cache holds, so a trial takes a second and little memory. What
every step does is done by the code that draws: products, attention to keys and values as they are
at the middle of the piece, heads, the choice of tokens. Torch is loaded by what
tries layers, codecs and whole models, not by `measure_rates`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from melisma.engine.native.matmul import TILE
from melisma.engine.native.packing import PRECISIONS, Packed, aligned, aligned_zeros, pack
from melisma.engine.native.program import Program
from melisma.engine.native.sampler import BatchState
from melisma.engine.resources.hardware import beyond_cache_bytes, read_bandwidth
from melisma.engine.resources.memory import Rates, StageShape, Workload

if TYPE_CHECKING:
    from torch import Tensor

    from melisma.engine.native.trunk import KVCache, PackedTrunk

_TRIAL_SECONDS = 0.25
"""Length of one trial: long enough for a hundred steps, short enough for five trials (chosen)."""
_LEAST_RUNS = 15
"""Runs that a trial wants to see, for which it may take four times as long."""
_ROWS = 2
"""Rows of a step: one piece with guidance."""
_WIDTH = 1_024
"""Inputs and outputs of the matrices that the rates are tried on (MusicGen's smallest has them)."""


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest run: what the machine can do when it is left alone."""
    return float(np.min(_taken(run, _TRIAL_SECONDS)))


def _typical(run: Callable[[], object]) -> float:
    """Seconds of a typical run, the median: what other programs take is taken now, too."""
    return float(np.median(_taken(run, _TRIAL_SECONDS)))


def _taken(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of some runs, after one in which numba compiles what it has not in its cache."""
    run()
    taken: list[float] = []
    begun = start = time.perf_counter()
    # On a busy machine a trial goes on until it has seen some whole runs.
    while start < begun + seconds or (len(taken) < _LEAST_RUNS and start < begun + 4 * seconds):
        run()
        now = time.perf_counter()
        taken.append(now - start)
        start = now
    return taken


def random_matrix(outputs: int, inputs: int, precision: str) -> Packed:
    """A packed matrix whose tiles are all alike: speed does not depend on what is multiplied, and
    a tile is packed in a moment where a whole matrix takes seconds."""
    values = np.random.default_rng(0).normal(size=(TILE, inputs)).astype(np.float32)
    return _stretched(pack(values, precision), outputs)


def _stretched(tile: Packed, outputs: int) -> Packed:
    """The matrix of one tile, over so many outputs; every array in memory of its own."""
    tiles = -(-outputs // TILE)

    def repeated(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        # A stride of nothing repeats without a copy; `aligned` makes the only one.
        return aligned(np.broadcast_to(array, (tiles, *array.shape))).reshape(-1, *array.shape[1:])

    weights = repeated(tile.weights)
    assert weights is not None
    return replace(
        tile,
        outputs=outputs,
        tiles=tiles,
        weights=weights,
        group_scales=repeated(tile.group_scales),
        row_scales=repeated(tile.row_scales),
    )


def run_once(matrix: Packed) -> None:
    """A product on one thread, to see that native code runs."""
    _chain([matrix], 1).run(_ROWS)


def measure_rates(threads: int) -> Rates:
    """How fast this machine reads memory, and multiplies weights of each precision, and what an
    operation costs besides; about two seconds."""
    return Rates(
        threads=threads,
        read=read_bandwidth(threads),
        products={precision: _product_rate(precision, threads) for precision in PRECISIONS},
        operation_seconds=_operation_seconds(threads),
    )


def _chain(matrices: list[Packed], threads: int) -> Program:
    """A program of one product after another."""
    program = Program(_ROWS, threads)
    x = program.scratch((_ROWS, matrices[0].inputs))
    x[:] = 1.0
    for matrix in matrices:
        program.multiply(matrix, x, program.scratch((_ROWS, matrix.outputs)), add=False)
    return program


def _product_rate(precision: str, threads: int) -> float:
    """Bytes of weights that are multiplied in a second."""
    one = random_matrix(4 * _WIDTH, _WIDTH, precision)
    count = -(-beyond_cache_bytes() // one.bytes)
    matrices = [random_matrix(4 * _WIDTH, _WIDTH, precision) for _ in range(count)]
    program = _chain(matrices, threads)
    return count * one.bytes / _fastest(lambda: program.run(_ROWS))


def _operation_seconds(threads: int) -> float:
    """What an operation costs however small it is: the barrier between threads. Few operations a
    run, so that some run is not interrupted on a busy machine either."""
    count = 20
    program = _chain([random_matrix(TILE, TILE, "float32")] * count, threads)
    return _fastest(lambda: program.run(_ROWS)) / count


def time_step(shape: StageShape, precision: str, asked: Workload, threads: int) -> float:
    """Seconds of one step of a causal stage at the middle of its pieces.

    Tried on some layers of the true sizes, all of them in a small model; the rest are counted as
    layers that take as long.
    """
    trunk = _some_layers(shape, precision)
    layers = len(trunk.layers)
    whole = _step_program(shape, trunk, asked, threads, ends=True)
    seconds = _typical(lambda: whole(1))
    if layers == shape.layers:
        return seconds
    inner = _step_program(shape, trunk, asked, threads, ends=False)
    return seconds + (shape.layers - layers) * _typical(lambda: inner(1)) / layers


def _some_layers(shape: StageShape, precision: str) -> PackedTrunk:
    """A trunk of random weights, as many layers as no cache holds, at most all."""
    import torch

    from melisma.engine.native.trunk import PackedTrunk
    from melisma.nn.transformer import TrunkShape

    inputs = {"down_proj": shape.hidden_width}

    def tensor(name: str) -> Tensor:
        part = name.split(".")[-2]
        if part.endswith("norm"):
            return torch.ones(shape.width)
        return torch.randn(TILE, inputs.get(part, shape.width)) * 0.02

    trunk_shape = TrunkShape(
        width=shape.width,
        layers=1,
        heads=shape.heads,
        hidden_width=shape.hidden_width,
        condition_width=0,
        norm="layer" if shape.centred else "rms",
        feed_forward="swiglu" if shape.gated else "gelu",
        positions="sinusoidal",
        text=shape.text,
    )
    one = PackedTrunk.of(trunk_shape, tensor, precision)
    outputs = shape.matrices

    def layer() -> Any:
        thin = one.layers[0]
        named = {field.name: getattr(thin, field.name) for field in fields(thin)}
        matrices = {
            name: _stretched(value, outputs[name][0])
            for name, value in named.items()
            if isinstance(value, Packed)
        }
        return replace(thin, **matrices)

    count = tried_layers(shape, precision)
    layers = tuple(layer() for _ in range(count))
    return replace(one, shape=replace(trunk_shape, layers=count), layers=layers)


def tried_layers(shape: StageShape, precision: str) -> int:
    """As many as no cache holds, at most all."""
    return min(shape.layers, max(2, -(-beyond_cache_bytes() // shape.layer_bytes(precision))))


def _step_program(
    shape: StageShape, trunk: PackedTrunk, asked: Workload, threads: int, *, ends: bool
) -> Callable[[int], None]:
    """A step to run, with `ends` from tokens to tokens; otherwise of the layers alone."""
    from melisma.engine.native.trunk import add_trunk

    rows = asked.rows
    program = Program(rows, threads, distinct=True)
    hidden = program.scratch((rows, shape.width))
    middle, window = shape.middle(asked), shape.window(asked)
    past = _filled_past(shape, trunk, asked)
    program.slots[:], program.positions[:] = np.arange(rows), middle
    desk = _desk(shape, asked)
    if ends:
        program.begin_step(desk)
        tables = [np.ones((shape.vocabulary + 1, shape.width), np.float32)] * shape.levels
        nothing = aligned_zeros((1, shape.width), np.float32)
        program.embed(
            tables, desk.tokens, (nothing, nothing), (desk.frame_index, desk.place_index), hidden
        )
    out = add_trunk(program, trunk, past, hidden, window=window, angles=None)
    if ends:
        heads = random_matrix(shape.sampled_levels * shape.vocabulary, shape.width, trunk.precision)
        program.multiply(heads, out, desk.logits, add=False)
        program.sample(desk)

    def run(steps: int) -> None:
        desk.step[:] = middle - shape.prefix_positions(asked)
        program.run(rows, steps)

    return run


def _desk(shape: StageShape, asked: Workload) -> BatchState:
    """Requests half drawn."""
    steps = shape.steps(asked.seconds)
    desk = BatchState(
        asked.pieces, asked.branches, shape.offsets, shape.stride, shape.vocabulary, steps, 1,
        placed=False,
    )  # fmt: skip
    desk.frames[:], desk.before[:] = shape.frames(asked.seconds), shape.prefix_positions(asked)
    desk.frame_base[:] = -1
    desk.grid[:] = 0
    desk.temperature[:], desk.guidance[:], desk.top_k[:], desk.top_p[:] = 1.0, 3.0, 250, 1.0
    desk.noise[:] = 1.0
    return desk


def _filled_past(shape: StageShape, trunk: PackedTrunk, asked: Workload) -> KVCache:
    """Keys and values written to: memory that was never written is not read from memory."""
    from melisma.engine.native.trunk import KVCache

    past = KVCache(
        trunk, asked.rows, shape.cache_positions(asked), asked.words if shape.text else 0
    )
    for kept in (*past.layers, *past.texts):
        for array in kept.arrays():
            # About .008 as bfloat16.
            array[:] = {np.uint16: 0x3C00, np.int8: 1}.get(array.dtype.type, 0.01)
    past.text_lengths[:] = asked.words if past.texts else 0
    return past


def time_codec(config: Mapping[str, Any], channels: int, precision: str, threads: int) -> float:
    """Seconds in which a published codec of these settings decodes a second of sound; its weights
    are zeros. `precision`: "float32" or "bfloat16", of its decoder."""
    import torch

    from melisma.codec.encodec.model import Encodec, EncodecSettings

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        settings = EncodecSettings.from_config(config)
        network = Encodec(settings, precision=precision).eval()
        network.pack()
        turns = channels if settings.audio_channels == 1 else 1
        frames = round(settings.frame_rate_hz)
        tokens = torch.zeros(turns, settings.levels, frames, dtype=torch.int64)
        return _typical(lambda: network.decode_tokens(tokens))
    finally:
        torch.set_num_threads(before)


def time_packing(precision: str) -> float:
    """Seconds in which a million weights are made ready, once when a model is loaded."""
    weights = np.random.default_rng(0).normal(size=(_WIDTH, _WIDTH)).astype(np.float32)
    return _typical(lambda: pack(weights, precision)) / weights.size * 1e6
