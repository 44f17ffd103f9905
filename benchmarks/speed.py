"""How long 10 s of sound and 30 s of score take from prompt to file, and how fast the codec is.

Run: `python benchmarks/speed.py [--model NAME] [--threads 2] [--instruction-set avx2]`. Weights are
loaded before; the median of five counts. A score is composed, written as MIDI, rendered and written
as sound. The codec's figure is seconds of sound per second, encode plus decode. *Cold* is a whole
`melisma generate` of 5 s, the start of Python and the reading of weights included; machine code is
cached.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from held_clips import command_line, parser_of, report
from processor import start

from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import median_interval
from melisma.files import write_audio, write_bytes
from melisma.generation.loading import load, load_codec, load_scores
from melisma.symbolic import write_midi
from melisma.symbolic.render import render_score
from melisma.values import Waveform
from melisma.values.score_prompt import ScorePrompt
from melisma.values.tokens import SAMPLE_RATE_HZ

WORDS = (
    "a gentle waltz for piano and warm strings, 90 bpm",
    "a fast reel for flute and harp in D major",
    "a church organ plays a solemn hymn in G minor",
    "a rock band with distorted guitar at 140 bpm",
    "a quiet song for guitar",
)


def piece_seconds(model: str, threads: int, best_of: int) -> list[float]:
    """Seconds from prompt to file for each of `WORDS`, after one piece that warms up."""
    composer = load(model, threads)
    composer.generate(WORDS[0], duration_seconds=2.0, seed=0, best_of=1)
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, words in enumerate(WORDS):
            began = time.perf_counter()
            sound = composer.generate(words, seed=seed, best_of=best_of)
            write_audio(Path(folder) / f"{seed}.wav", sound, None)
            taken.append(time.perf_counter() - began)
    return taken


def score_seconds(model: str, threads: int, best_of: int) -> list[float]:
    """Seconds from prompt to score and sound, 30 s of each of `WORDS`, after one that warms up."""
    composer = load_scores(model, threads)
    render_score(composer.generate_pieces(ScorePrompt(words=WORDS[0], bars=2), best_of=1)[0].score)
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, words in enumerate(WORDS):
            began = time.perf_counter()
            (piece,) = composer.generate_pieces(words, seed=seed, best_of=best_of)
            write_bytes(Path(folder) / f"{seed}.mid", write_midi(piece.score))
            write_audio(Path(folder) / f"{seed}.wav", render_score(piece.score).mix, None)
            taken.append(time.perf_counter() - began)
    return taken


def cold_seconds() -> list[float]:
    """Seconds of whole commands that make 5 s of sound, after one that compiles."""
    taken: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "cold.wav")
        words = [WORDS[0], "--duration", "5", "--seed", "1", "--output", path]
        program = "import sys; from melisma.cli import main; main()"
        for _ in range(6):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", program, "generate", *words], check=True, capture_output=True
            )
            taken.append(time.perf_counter() - began)
    return taken[1:]


def codec_rates(model: str) -> list[float]:
    """Seconds of sound coded and decoded per second, five times 20 s of noise and tones."""
    codec = load_codec(model)
    time_axis = np.arange(20 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    rng = np.random.default_rng(0)
    samples = 0.2 * np.sin(2 * np.pi * 330 * time_axis) + 0.02 * rng.standard_normal(len(time_axis))
    waveform = Waveform(samples=samples[None].astype(np.float32), rate_hz=SAMPLE_RATE_HZ)
    codec.decode(codec.encode(waveform, None))
    rates: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        codec.decode(codec.encode(waveform, None))
        rates.append(waveform.seconds / (time.perf_counter() - began))
    return rates


def main() -> None:
    """Measures times and reports."""
    parser = parser_of(__doc__)
    parser.add_argument("--best-of", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--score-best-of", type=int, nargs="+", default=[8, 1])
    given, found = start(parser)
    figures: list[Figure] = []
    for best_of in given.best_of:
        taken = np.array(piece_seconds(given.model, given.threads, best_of))
        name = f"10 s of music, prompt to file, {given.threads} threads, best of {best_of}"
        figures.append(figure_of(name, median_interval(taken), unit="s", command=command_line()))
        rate = 10.0 / taken
        figures.append(
            figure_of(f"{name}: times real time", median_interval(rate), command=command_line())
        )
    for best_of in given.score_best_of:
        taken = np.array(score_seconds(given.model, given.threads, best_of))
        name = f"30 s composed and rendered, {given.threads} threads, best of {best_of}"
        figures.append(figure_of(name, median_interval(taken), unit="s", command=command_line()))
    cold = median_interval(np.array(cold_seconds()))
    figures.append(
        figure_of("melisma generate of 5 s, cold", cold, unit="s", command=command_line())
    )
    coded = median_interval(np.array(codec_rates(given.model)))
    figures.append(
        figure_of("codec encode plus decode, times real time", coded, command=command_line())
    )
    figures = [replace(figure, details=found.facts()) for figure in figures]
    report(figures, given.results / f"speed_{found.label}.json")


if __name__ == "__main__":
    main()
