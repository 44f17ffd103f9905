"""Forecast of the time that a model takes for a workload on this machine.

A single-stage model is timed on a few layers with random weights and need not be downloaded; one of
our own models is loaded and generates a few seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from melisma.engine.resources.memory import Workload
from melisma.engine.resources.micro_benchmark import (
    benchmarked_layers,
    time_codec,
    time_packing,
    time_step,
)
from melisma.generation.catalogue import FIRST_FRAMES, ModelFacts
from melisma.values.errors import MelismaError

_SHORT_SECONDS, _LONG_SECONDS = 1.0, 3.0
"""Lengths of the pieces that one of our own models is timed with."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Predicted times of a model."""

    load_seconds: float
    """Packing or reading weights that are in the page cache; a slow disk takes longer."""
    first_sound_seconds: float
    """Until the first audio of a stream, without loading."""
    whole_seconds: float
    """Until the piece is finished, without loading."""
    steps_a_second: float | None = None
    """Steps per second of a single-stage model."""
    bytes_a_step: int | None = None
    """Bytes read per step by a single-stage model: weights, and the KV cache at the middle of the
    piece."""
    tried_layers: int | None = None
    """Number of layers that were timed."""


def forecast(facts: ModelFacts, precision: str, workload: Workload, threads: int) -> Forecast:
    """Predicts the time that a model takes by a benchmark of three to ten seconds.

    Args:
        facts: The model.
        precision: Of the weights, as `NativeEngine` takes it.
        workload: Length and number of the pieces.
        threads: Number of threads.

    Returns:
        The predicted times.

    Raises:
        MelismaError: The model generates scores, not audio.
    """
    if not facts.sound:
        raise MelismaError(f"{facts.name} makes scores alone, which take seconds: no forecast")
    if facts.single:
        return _single_forecast(facts, precision, workload, threads)
    return _stages_forecast(facts, precision, workload, threads)


def _single_forecast(
    facts: ModelFacts, precision: str, workload: Workload, threads: int
) -> Forecast:
    (stage,) = facts.sizes.stages
    half = "bfloat16" if facts.sizes.half_precision and precision != "float32" else "float32"
    step = time_step(stage, precision, workload, threads)
    codec = time_codec(facts.codec, facts.sizes.channels, half, threads) * workload.pieces
    first = (FIRST_FRAMES + stage.offsets[-1]) * step + codec * FIRST_FRAMES / stage.frame_rate_hz
    attended = min(stage.middle(workload), stage.window(workload))
    weights = sum(a * b for a, b in stage.matrices.values()) * stage.layers
    return Forecast(
        load_seconds=time_packing(precision) * weights / 1e6,
        first_sound_seconds=first,
        whole_seconds=stage.all_steps(workload.seconds) * step + codec * workload.seconds,
        steps_a_second=1 / step,
        bytes_a_step=stage.bytes_per_step(precision)
        + stage.cache_bytes(precision, workload, attended),
        tried_layers=benchmarked_layers(stage, precision),
    )


def _stages_forecast(
    facts: ModelFacts, precision: str, workload: Workload, threads: int
) -> Forecast:
    from melisma.generation.loading import load
    from melisma.values import Prompt

    start = time.perf_counter()
    composer = load(str(facts.folder), threads, precision=precision)
    loaded = time.perf_counter()

    def seconds(duration: float) -> float:
        began = time.perf_counter()
        prompt = Prompt(words="a piano", duration_seconds=duration)
        composer.generate_pieces(prompt, best_of=workload.pieces)
        return time.perf_counter() - began

    seconds(_SHORT_SECONDS)  # warm-up
    short, long = seconds(_SHORT_SECONDS), seconds(_LONG_SECONDS)
    # Time per second of audio; the rest is the constant cost of a piece.
    each = max(long - short, 0.0) / (_LONG_SECONDS - _SHORT_SECONDS)
    began = time.perf_counter()
    prompt = Prompt(words="a piano", duration_seconds=_LONG_SECONDS)
    next(iter(composer.stream(prompt)))
    return Forecast(
        load_seconds=loaded - start,
        first_sound_seconds=time.perf_counter() - began,
        whole_seconds=short + each * max(workload.seconds - _SHORT_SECONDS, 0.0),
    )
