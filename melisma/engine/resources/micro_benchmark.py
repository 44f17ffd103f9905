"""Micro-benchmarks of this machine: matrix products, decoding steps, codecs, weight packing.

Input: sizes of a model (`memory.StageShape`), which need not be available. Output: seconds, or
bytes per second. Weights are random, and only as many layers are created as exceed the cache, so a
benchmark takes a second and little memory. Steps run the code of the CPU engine: matrix products,
attention to a KV cache as it is in the middle of a piece, output heads, and sampling.
`measure_rates` does not load torch; benchmarks of layers and codecs do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from melisma.engine.native.matmul import TILE
from melisma.engine.native.packing import Packed, aligned, aligned_zeros, pack
from melisma.engine.native.program import Program
from melisma.engine.native.sampler import NO_FRAMES, BatchState
from melisma.engine.resources.hardware import beyond_cache_bytes, read_bandwidth
from melisma.engine.resources.memory import Rates, StageShape, Workload
from melisma.values.model_ref import PRECISIONS

if TYPE_CHECKING:
    from torch import Tensor

    from melisma.engine.native.trunk import KVCache, PackedTrunk

_BENCHMARK_SECONDS = 0.25
"""Duration of a benchmark: long enough for a hundred steps, short enough for five (chosen)."""
_MIN_RUNS = 15
"""Least runs of a benchmark, for which it may take four times as long."""
_ROWS = 2
"""Rows of a step: one piece with guidance."""
_WIDTH = 1_024
"""Inputs of the matrices that rates are measured on (those of MusicGen's smallest model)."""


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest run: the speed of the machine without disturbance."""
    return float(np.min(_run_seconds(run, _BENCHMARK_SECONDS)))


def _typical(run: Callable[[], object]) -> float:
    """Seconds of the median run: the speed beside other programs."""
    return float(np.median(_run_seconds(run, _BENCHMARK_SECONDS)))


def _run_seconds(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each run, after a warm-up run in which numba compiles."""
    run()
    measured: list[float] = []
    begin = start = time.perf_counter()
    # On a busy machine the benchmark continues until it has enough runs.
    while start < begin + seconds or (len(measured) < _MIN_RUNS and start < begin + 4 * seconds):
        run()
        now = time.perf_counter()
        measured.append(now - start)
        start = now
    return measured


def random_matrix(outputs: int, inputs: int, precision: str) -> Packed:
    """A packed matrix of random weights that repeats one tile.

    Speed does not depend on the weights, and packing a tile is much faster than a whole matrix.
    """
    values = np.random.default_rng(0).normal(size=(TILE, inputs)).astype(np.float32)
    return _repeat_tile(pack(values, precision), outputs)


def _repeat_tile(tile: Packed, outputs: int) -> Packed:
    """Repeats a matrix of one tile to `outputs` outputs; every array is a copy."""
    tiles = -(-outputs // TILE)

    def repeated(array: np.ndarray | None) -> np.ndarray | None:
        if array is None:
            return None
        # Broadcasting repeats without a copy; `aligned` makes the only one.
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
    """Runs a matrix product on one thread, to check that native code works."""
    _chain([matrix], 1).run(_ROWS)


def measure_rates(threads: int) -> Rates:
    """Measures memory bandwidth, matrix products of each precision, and the fixed cost of an
    operation; takes about two seconds."""
    return Rates(
        threads=threads,
        read_bandwidth=read_bandwidth(threads),
        matmul_bandwidth={precision: _product_rate(precision, threads) for precision in PRECISIONS},
        operation_seconds=_operation_seconds(threads),
    )


def _chain(matrices: list[Packed], threads: int) -> Program:
    """A program of consecutive matrix products."""
    program = Program(_ROWS, threads)
    x = program.scratch((_ROWS, matrices[0].inputs))
    x[:] = 1.0
    for matrix in matrices:
        program.multiply(matrix, x, program.scratch((_ROWS, matrix.outputs)), add=False)
    return program


def _product_rate(precision: str, threads: int) -> float:
    """Bytes of weights per second in matrix products."""
    size = random_matrix(4 * _WIDTH, _WIDTH, precision).bytes
    count = -(-beyond_cache_bytes() // size)
    matrices = [random_matrix(4 * _WIDTH, _WIDTH, precision) for _ in range(count)]
    program = _chain(matrices, threads)
    return count * size / _fastest(lambda: program.run(_ROWS))


def _operation_seconds(threads: int) -> float:
    """Fixed cost of an operation: the synchronization of threads. A run has few operations, so that
    even on a busy machine some run is not interrupted."""
    count = 20
    program = _chain([random_matrix(TILE, TILE, "float32")] * count, threads)
    return _fastest(lambda: program.run(_ROWS)) / count


def time_step(shape: StageShape, precision: str, workload: Workload, threads: int) -> float:
    """Measures one decoding step of a causal stage in the middle of a piece.

    Some layers of the true sizes are run, in a small model all of them; the remaining ones are
    assumed to take as long.

    Args:
        shape: Sizes of the stage.
        precision: Of its weights.
        workload: The batch.
        threads: Threads to compute with.

    Returns:
        Seconds.
    """
    trunk = _random_trunk(shape, precision)
    layers = len(trunk.layers)
    whole = _step_program(shape, trunk, workload, threads, sampled=True)
    seconds = _typical(lambda: whole(1))
    if layers == shape.layers:
        return seconds
    inner = _step_program(shape, trunk, workload, threads, sampled=False)
    return seconds + (shape.layers - layers) * _typical(lambda: inner(1)) / layers


def _random_trunk(shape: StageShape, precision: str) -> PackedTrunk:
    """A trunk of random weights with `benchmarked_layers` layers."""
    import torch

    from melisma.engine.native.trunk import PackedTrunk
    from melisma.nn.transformer import TrunkShape

    inputs = {"down_proj": shape.hidden_width}

    def tensor(name: str) -> Tensor:
        part = name.split(".")[-2]
        if part.endswith("norm"):
            return torch.ones(shape.width, dtype=torch.float32, device="cpu")
        return (
            torch.randn(TILE, inputs.get(part, shape.width), dtype=torch.float32, device="cpu")
            * 0.02
        )

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
    one_layer = PackedTrunk.of(trunk_shape, tensor, precision)
    outputs = shape.matrices

    def layer() -> Any:
        template = one_layer.layers[0]
        values = {field.name: getattr(template, field.name) for field in fields(template)}
        matrices = {
            name: _repeat_tile(value, outputs[name][0])
            for name, value in values.items()
            if isinstance(value, Packed)
        }
        return replace(template, **matrices)

    count = benchmarked_layers(shape, precision)
    layers = tuple(layer() for _ in range(count))
    return replace(one_layer, shape=replace(trunk_shape, layers=count), layers=layers)


def benchmarked_layers(shape: StageShape, precision: str) -> int:
    """Layers that a benchmark creates: as many as exceed the cache, at most all."""
    return min(shape.layers, max(2, -(-beyond_cache_bytes() // shape.layer_bytes(precision))))


def _step_program(
    shape: StageShape, trunk: PackedTrunk, workload: Workload, threads: int, *, sampled: bool
) -> Callable[[int], None]:
    """A function that runs decoding steps: from tokens to sampled tokens, or only the layers."""
    from melisma.engine.native.trunk import add_trunk

    rows = workload.rows
    program = Program(rows, threads, distinct=True)
    hidden = program.scratch((rows, shape.width))
    middle, window = shape.middle(workload), shape.window(workload)
    cache = _filled_cache(shape, trunk, workload)
    program.sequence_index[:], program.positions[:] = np.arange(rows), middle
    batch = _batch_state(shape, workload)
    if sampled:
        program.begin_step(batch)
        tables = [np.ones((shape.vocabulary + 1, shape.width), np.float32)] * shape.levels
        zeros = aligned_zeros((1, shape.width), np.float32)
        program.embed(
            tables, batch.tokens, (zeros, zeros), (batch.frame_index, batch.position_index), hidden
        )
    out = add_trunk(program, trunk, cache, hidden, window=window, angles=None)
    if sampled:
        heads = random_matrix(shape.sampled_levels * shape.vocabulary, shape.width, trunk.precision)
        program.multiply(heads, out, batch.logits, add=False)
        program.sample(batch)

    def run(steps: int) -> None:
        batch.step[:] = middle - shape.prefix_positions(workload)
        program.run(rows, steps)

    return run


def _batch_state(shape: StageShape, workload: Workload) -> BatchState:
    """State of a batch in the middle of its pieces."""
    steps = shape.steps(workload.seconds)
    batch = BatchState(
        workload.pieces, workload.branches, shape.offsets, shape.stride, shape.vocabulary, steps, 1,
        absolute_positions=False,
    )  # fmt: skip
    batch.frames[:], batch.prefix_lengths[:] = (
        shape.frames(workload.seconds),
        shape.prefix_positions(workload),
    )
    batch.frame_base[:] = NO_FRAMES
    batch.grid[:] = 0
    batch.temperature[:], batch.guidance[:], batch.top_k[:], batch.top_p[:] = 1.0, 3.0, 250, 1.0
    batch.noise[:] = 1.0
    return batch


def _filled_cache(shape: StageShape, trunk: PackedTrunk, workload: Workload) -> KVCache:
    """A KV cache whose memory has been written to: pages never written are not read from memory."""
    from melisma.engine.native.trunk import KVCache

    cache = KVCache(
        trunk,
        workload.rows,
        shape.cache_positions(workload),
        workload.text_tokens if shape.text else 0,
    )
    for part in (*cache.layers, *cache.texts):
        for array in part.arrays():
            # 0x3C00 is 0.008 as bfloat16.
            array[:] = {np.uint16: 0x3C00, np.int8: 1}.get(array.dtype.type, 0.01)
    cache.text_lengths[:] = workload.text_tokens if cache.texts else 0
    return cache


def time_codec(config: Mapping[str, Any], channels: int, precision: str, threads: int) -> float:
    """Measures how long an EnCodec model with zero weights takes to decode a second of sound.

    Args:
        config: Its settings in the format of transformers.
        channels: Channels of the sound.
        precision: Of its decoder, "float32" or "bfloat16".
        threads: Threads of PyTorch.

    Returns:
        Seconds.
    """
    import torch

    from melisma.codec.encodec.model import Encodec, EncodecSettings

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        settings = EncodecSettings.from_config(config)
        network = Encodec(settings, precision=precision).eval()
        network.pack()
        batch = channels if settings.audio_channels == 1 else 1
        frames = round(settings.frame_rate_hz)
        tokens = torch.zeros(batch, settings.levels, frames, dtype=torch.int64, device="cpu")
        return _typical(lambda: network.decode_tokens(tokens))
    finally:
        torch.set_num_threads(before)


def time_packing(precision: str) -> float:
    """Measures how long packing a million weights takes, once when a model is loaded; seconds."""
    weights = np.random.default_rng(0).normal(size=(_WIDTH, _WIDTH)).astype(np.float32)
    return _typical(lambda: pack(weights, precision)) / weights.size * 1e6
