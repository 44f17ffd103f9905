"""Where the time goes: of 10 s of music, of 30 s of a score, and of a command from its start.

Run: `python benchmarks/stages.py [--threads 2] [--instruction-set avx2]`. Pieces are profiled with
the weights loaded and everything compiled; the start is that of a fresh process, step by step.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import subprocess
import sys
import time
from collections.abc import Callable

import processor
from held_clips import parser_of

from melisma.generation.loading import load, load_scores
from melisma.symbolic.render import render_score

WORDS = "a gentle waltz for piano and warm strings, 90 bpm"
SOUND = {
    "tokens are sampled": ("musiclm.py", "_sample"),
    "codec decodes": ("acoustic.py", "decode_tokens"),
    "candidates are ranked": ("ranking.py", "rank_candidates"),
    "mastering": ("mastering.py", "master"),
}
SCORE = {
    "events are sampled": ("score_generate.py", "sample_scores"),
    "candidates are ranked": ("adherence.py", "score_adherence"),
    "played, mixed and levelled": ("render.py", "render_score"),
}
"""Stages by the file and the function that performs them."""
START = """
import time
started = time.perf_counter()
def say(name):
    global started
    print(f"{name}\\t{time.perf_counter() - started:.3f}")
    started = time.perf_counter()
import melisma.cli
say("command line")
import melisma.generation
melisma.generation.Piece
import torch
say("PyTorch and what pieces need")
from melisma.generation.loading import load
say("all models")
composer = load("default", %d)
say("weights")
composer.generate(%r, duration_seconds=5.0, seed=1)
say("5 s, machine code read for the first time")
composer.generate(%r, duration_seconds=5.0, seed=1)
say("5 s, once more")
"""


def stages(job: Callable[[], object], named: dict[str, tuple[str, str]]) -> dict[str, float]:
    """Seconds of each stage, of the rest, and of all; the quickest of three runs."""
    job()
    best: dict[str, float] = {"all": float("inf")}
    for _ in range(3):
        profile = cProfile.Profile()
        started = time.perf_counter()
        profile.runcall(job)
        found = {"all": time.perf_counter() - started}
        rows = getattr(pstats.Stats(profile), "stats")  # noqa: B009 - no stub has it
        for stage, (file, function) in named.items():
            found[stage] = sum(
                row[3]
                for (path, _, name), row in rows.items()
                if name == function and path.endswith(f"/{file}")
            )
        found["the rest"] = found["all"] - sum(found[stage] for stage in named)
        best = min(best, found, key=lambda one: one["all"])
    return best


def start(threads: int) -> dict[str, float]:
    """Seconds of each step of a fresh process."""
    program = START % (threads, WORDS, WORDS)
    run = [sys.executable, "-c", program]
    subprocess.run(run, check=True, capture_output=True)  # compiles, and reads the disk
    lines = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
    return {name: float(seconds) for name, seconds in (line.split("\t") for line in lines)}


def main() -> None:
    """Measures and reports."""
    given, found = processor.start(parser_of(__doc__))
    composer, scores = load(given.model, given.threads), load_scores(given.model, given.threads)

    def score() -> None:
        render_score(scores.generate_pieces(WORDS, seed=1, best_of=8)[0].score)

    tables = {
        "10 s of music, best of 4": stages(
            lambda: composer.generate(WORDS, seed=1, best_of=4), SOUND
        ),
        "30 s of a score, best of 8": stages(score, SCORE),
        "a command from its start": start(given.threads),
    }
    for name, table in tables.items():
        print(f"\n{name}")
        for stage, seconds in table.items():
            print(f"  {seconds:6.3f} s  {stage}")
    given.results.mkdir(parents=True, exist_ok=True)
    path = given.results / f"stages_{found.label}.json"
    path.write_text(json.dumps({"machine": found.facts(), **tables}, indent=2) + "\n")


if __name__ == "__main__":
    main()
