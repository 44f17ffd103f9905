"""Forecast of the time that a run takes on this machine, from the start of the command to the file.

MusicGen is timed on a few layers with random weights and need not be downloaded. One of our own
models is loaded and makes short pieces, as long ones as a budget of time allows; what is longer is
extrapolated from the two longest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from melisma.engine.resources.memory import Workload
from melisma.engine.resources.micro_benchmark import (
    benchmarked_layers,
    time_codec,
    time_packing,
    time_step,
)
from melisma.generation.catalogue import FIRST_FRAMES, ModelFacts
from melisma.values.errors import MelismaError

_LENGTHS_SECONDS = (2.0, 5.0, 10.0, 20.0)
"""Lengths of the pieces that one of our own models is timed with: from 20 s on attention looks back
no further, so that longer pieces take as long for each second."""
_SHORTEST_SECONDS = 1.0
"""Length of the piece of a whole command, which shows what starting and loading take."""
_BUDGET_SECONDS = 8.0
"""A longer piece is timed only if it will take less than this (chosen)."""
_SOUND_WORDS = "a piano"
_SCORE_WORDS = ("a ballad for piano", "a jazz quartet with saxophone, piano, bass and drums")
"""Scores of few and of many notes: their mean is the forecast."""
_START = (
    "import torch, melisma.cli.program, melisma.generation.loading, "
    "melisma.generation.requests.audio"
)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Predicted times of a run."""

    load_seconds: float
    """Reading and packing weights that are in the page cache, and what the first piece of a process
    takes longer; a slow disk takes longer."""
    first_sound_seconds: float | None
    """Until the first audio of a stream, without loading; None for scores."""
    whole_seconds: float
    """Until the piece is finished, without loading."""
    start_seconds: float = 0.0
    """Until the program has started."""
    steps_a_second: float | None = None
    """Steps per second of MusicGen."""
    bytes_a_step: int | None = None
    """Bytes read per step by MusicGen: weights, and the KV cache at the middle of the piece."""
    tried_layers: int | None = None
    """Number of layers that were timed."""

    @property
    def total_seconds(self) -> float:
        """From the start of the command to the file."""
        return self.start_seconds + self.load_seconds + self.whole_seconds


def forecast(facts: ModelFacts, precision: str, workload: Workload, threads: int) -> Forecast:
    """Predicts the time that audio takes, by a benchmark of three to twenty seconds.

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
        raise MelismaError(f"{facts.name} makes scores alone: use `score_forecast`")
    if facts.single:
        return _single_forecast(facts, precision, workload, threads)
    return _stages_forecast(facts, precision, workload, threads)


def score_forecast(facts: ModelFacts, precision: str, workload: Workload, threads: int) -> Forecast:
    """Predicts the time that `melisma compose` takes, by composing short scores.

    It depends on the words: one of many parts and fast notes takes twice as long as the forecast,
    a sparse one half.

    Args:
        facts: The model.
        precision: Of the weights.
        workload: Length and number of candidates.
        threads: Number of threads.

    Raises:
        MelismaError: The model generates audio alone.
    """
    from melisma.generation.loading import load_scores
    from melisma.symbolic import write_midi
    from melisma.values.score_prompt import ScorePrompt

    assert facts.folder is not None
    composer = load_scores(str(facts.folder), threads, precision=precision)

    def compose(seconds: float, words: str = _SCORE_WORDS[0], best_of: int | None = None) -> None:
        prompt = ScorePrompt(words=words, duration_seconds=seconds)
        (piece,) = composer.generate_pieces(prompt, best_of=best_of or workload.pieces)
        write_midi(piece.score)

    def compose_all(seconds: float) -> None:
        for words in _SCORE_WORDS:
            compose(seconds, words)

    compose(_SHORTEST_SECONDS, best_of=1)
    short = _seconds_of(lambda: compose(_SHORTEST_SECONDS, best_of=1))
    whole_command = command_seconds("compose", _SCORE_WORDS[0], facts, "--threads", str(threads))
    started = start_seconds()
    measured = _measured(compose_all, workload.seconds)
    measured = [(length, taken / len(_SCORE_WORDS)) for length, taken in measured]
    return Forecast(
        start_seconds=started,
        load_seconds=max(whole_command - started - short, 0.0),
        first_sound_seconds=None,
        whole_seconds=extrapolated(measured, workload.seconds),
    )


@cache
def start_seconds() -> float:
    """Seconds until a new process of this program has imported what generating needs."""
    command = [sys.executable, "-c", _START]
    return _seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))


def command_seconds(verb: str, words: str, facts: ModelFacts, *more: str) -> float:
    """Seconds of a whole command that makes the shortest piece, of one candidate.

    Args:
        verb: "generate" or "compose".
        words: The prompt.
        facts: The model.
        more: Further options of the command.

    Raises:
        MelismaError: The command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        ending = "mid" if verb == "compose" else "wav"
        command = [
            sys.executable, "-m", "melisma", verb, words, "--model", str(facts.folder),
            "--duration", f"{_SHORTEST_SECONDS:g}", "--best-of", "1", "--seed", "1", "--quiet",
            "--output", f"{folder}/forecast.{ending}", *more,
        ]  # fmt: skip
        try:
            return _seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
            raise MelismaError(f"`melisma {verb}` does not run here: {lines[-1]}") from error


def extrapolated(measured: list[tuple[float, float]], seconds: float) -> float:
    """Time for a piece of some length.

    Args:
        measured: (length, time) of shorter pieces, ascending; or of one of just this length.
        seconds: The length.
    """
    length, taken = measured[-1]
    if len(measured) == 1 or seconds <= length:
        return taken * seconds / length
    before, took = measured[-2]
    each = max(taken - took, 0.0) / (length - before)
    return taken + each * (seconds - length)


def in_words(seconds: float) -> str:
    """A duration in words, as exact as a forecast is."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 2 * 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 2 * 60 else f"{minutes / 60:.1f} hours"


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _measured(work: Callable[[float], object], seconds: float) -> list[tuple[float, float]]:
    """(length, time) of ever longer pieces up to a length, within the budget of time."""
    measured: list[tuple[float, float]] = []
    for length in [*(one for one in _LENGTHS_SECONDS if one < seconds), seconds]:
        if length > _LENGTHS_SECONDS[-1]:
            break
        expected = extrapolated(measured, length) if measured else 0.0
        if expected > _BUDGET_SECONDS and len(measured) > 1:
            break
        measured.append((length, _seconds_of(lambda length=length: work(length))))
    return measured


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
        start_seconds=start_seconds(),
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
    from melisma.generation.requests.audio import AudioRequest, run_audio
    from melisma.values import Prompt

    composer = load(str(facts.folder), threads, precision=precision)

    def generate(seconds: float, best_of: int | None = None) -> None:
        prompt = Prompt(words=_SOUND_WORDS, duration_seconds=seconds)
        request = AudioRequest(prompts=(prompt,), best_of=best_of or workload.pieces)
        with tempfile.TemporaryDirectory() as folder:
            for result in run_audio(composer, request):
                result.save(Path(folder) / "forecast.wav")

    generate(_SHORTEST_SECONDS, 1)
    short = _seconds_of(lambda: generate(_SHORTEST_SECONDS, 1))
    settings = ("--precision", precision, "--threads", str(threads))
    whole_command = command_seconds("generate", _SOUND_WORDS, facts, *settings)
    started = start_seconds()
    measured = _measured(generate, workload.seconds)
    length = min(_LENGTHS_SECONDS[0], workload.seconds)
    prompt = Prompt(words=_SOUND_WORDS, duration_seconds=length)
    stream = composer.stream(prompt)
    sounding = _seconds_of(lambda: next(iter(stream)))
    return Forecast(
        start_seconds=started,
        load_seconds=max(whole_command - started - short, 0.0),
        first_sound_seconds=sounding,
        whole_seconds=extrapolated(measured, workload.seconds),
    )
