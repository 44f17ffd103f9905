"""How much longer everything takes beside another busy program, with two threads and with one.

Run: `python benchmarks/neighbour.py [--threads 2]`. A process that calculates without a pause runs
beside each job; with two cores and two threads each job then has one core and a half to share, so
1.3 times as long would be ideal, and 2 times is what work cut into two halves takes. A program
whose threads wait for each other in busy loops takes many times as long. Medians of five.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from held_clips import parser_of
from processor import start

from melisma.generation.loading import load, load_codec, load_scores
from melisma.nn.precision import autocast
from melisma.values.score_prompt import ScorePrompt
from melisma.values.tokens import SAMPLE_RATE_HZ
from melisma.values.waveform import Waveform

WORDS = "a gentle waltz for piano and warm strings, 90 bpm"
_BUSY = "while True: pass"


def jobs(model: str, threads: int) -> dict[str, Callable[[], object]]:
    """Typical jobs: sound, a score, the codec, updates of a training."""
    import torch

    composer, scores = load(model, threads), load_scores(model, threads)
    codec = load_codec(model)
    noise = np.random.default_rng(0).standard_normal((1, 20 * SAMPLE_RATE_HZ)).astype(np.float32)
    sound = Waveform(samples=0.1 * noise, rate_hz=SAMPLE_RATE_HZ)
    network = torch.nn.Sequential(
        *[
            layer
            for _ in range(6)
            for layer in (torch.nn.Linear(256, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 256))
        ]
    )
    optimizer = torch.optim.AdamW(network.parameters())
    batch = torch.randn(64, 100, 256)

    def train() -> None:
        for _ in range(4):
            with autocast():
                loss = network(batch).float().square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return {
        "10 s of music, best of 4": lambda: composer.generate(WORDS, seed=1, best_of=4),
        "a score of 8 bars, best of 8": lambda: scores.generate_pieces(
            ScorePrompt(words=WORDS, bars=8), best_of=8, seed=3
        ),
        "20 s through the codec": lambda: codec.decode(codec.encode(sound)),
        "4 updates of a training": train,
    }


@contextmanager
def neighbour() -> Iterator[None]:
    """Another busy program."""
    other = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def seconds(job: Callable[[], object]) -> float:
    """The median of five, after one that warms up."""
    job()
    taken: list[float] = []
    for _ in range(5):
        started = time.perf_counter()
        job()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def main() -> None:
    """Measures and reports."""
    given, found = start(parser_of(__doc__))
    rows = []
    for name, job in jobs(given.model, given.threads).items():
        alone = seconds(job)
        with neighbour():
            beside = seconds(job)
        rows.append({"what": name, "alone": alone, "beside": beside, "times": beside / alone})
        print(f"{name}: {alone:.2f} s alone, {beside:.2f} s beside, {beside / alone:.1f} times")
    document = {"machine": found.facts(), "rows": rows}
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"neighbour_{found.label}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
