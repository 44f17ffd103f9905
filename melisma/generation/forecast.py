"""How long a model will take for a request on this machine, said before it is run.

A model of one stage is timed on a few layers with random weights and need not be there; one of ours
is loaded and generates a few seconds.
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
from melisma.generation.catalogue import ModelFacts
from melisma.values.errors import MelismaError

_FIRST_FRAMES = 12
"""Frames of a stream's first block: `musicgen.FIRST_FRAMES`, which loads torch."""
_SHORT_SECONDS, _LONG_SECONDS = 1.0, 3.0
"""Lengths of the pieces that one of our own models is tried with."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How long something will take, from loading on."""

    load_seconds: float
    """Packing or reading weights that lie in the system's memory; a slow disk takes longer."""
    first_sound_seconds: float
    """Until the first sound of a stream, loading left out."""
    whole_seconds: float
    """Until the piece is finished, loading left out."""
    steps_a_second: float | None = None
    """Of a single stage."""
    bytes_a_step: int | None = None
    """Of a single stage: weights, keys and values at the middle of the piece."""
    tried_layers: int | None = None
    """On how many layers that was tried."""


def forecast(facts: ModelFacts, precision: str, asked: Workload, threads: int) -> Forecast:
    """How long a model will take for what is asked, tried on this machine; three to ten seconds.

    A model of one stage is tried with random weights and need not be there; one of ours is loaded
    and draws a few seconds. `ValueError` for a model that makes no sound.
    """
    if not facts.sound:
        raise MelismaError(f"{facts.name} makes scores alone, which take seconds: nothing to tell")
    if facts.single:
        return _single_forecast(facts, precision, asked, threads)
    return _stages_forecast(facts, precision, asked, threads)


def _single_forecast(facts: ModelFacts, precision: str, asked: Workload, threads: int) -> Forecast:
    (stage,) = facts.sizes.stages
    half = "bfloat16" if facts.sizes.half_precision and precision != "float32" else "float32"
    step = time_step(stage, precision, asked, threads)
    codec = time_codec(facts.codec, facts.sizes.channels, half, threads) * asked.pieces
    first = (_FIRST_FRAMES + stage.offsets[-1]) * step + codec * _FIRST_FRAMES / stage.frame_rate_hz
    looked_at = min(stage.middle(asked), stage.window(asked))
    weights = sum(a * b for a, b in stage.matrices.values()) * stage.layers
    return Forecast(
        load_seconds=time_packing(precision) * weights / 1e6,
        first_sound_seconds=first,
        whole_seconds=stage.all_steps(asked.seconds) * step + codec * asked.seconds,
        steps_a_second=1 / step,
        bytes_a_step=stage.bytes_per_step(precision)
        + stage.cache_bytes(precision, asked, looked_at),
        tried_layers=benchmarked_layers(stage, precision),
    )


def _stages_forecast(facts: ModelFacts, precision: str, asked: Workload, threads: int) -> Forecast:
    from melisma.generation.loading import load
    from melisma.values import Prompt

    start = time.perf_counter()
    composer = load(str(facts.folder), threads, precision=precision)
    loaded = time.perf_counter()

    def seconds(duration: float) -> float:
        begun = time.perf_counter()
        prompt = Prompt(words="a piano", duration_seconds=duration)
        composer.generate_pieces(prompt, best_of=asked.pieces)
        return time.perf_counter() - begun

    seconds(_SHORT_SECONDS)  # what only the first piece needs
    short, long = seconds(_SHORT_SECONDS), seconds(_LONG_SECONDS)
    # What grows with the piece, and what every piece costs.
    each = max(long - short, 0.0) / (_LONG_SECONDS - _SHORT_SECONDS)
    begun = time.perf_counter()
    prompt = Prompt(words="a piano", duration_seconds=_LONG_SECONDS)
    next(iter(composer.stream(prompt)))
    return Forecast(
        load_seconds=loaded - start,
        first_sound_seconds=time.perf_counter() - begun,
        whole_seconds=short + each * max(asked.seconds - _SHORT_SECONDS, 0.0),
    )
