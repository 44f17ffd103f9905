"""Peak memory of long pieces: the same for a minute as for an hour.

Run: `python benchmarks/memory.py [--seconds 60 180 600] [--threads 2] [--stream]`. Every row is a
whole `melisma generate` in a process of its own, and its peak resident memory as the system counts
it (`wait4`); with `--stream` the sound is written while it is sampled. *growth* is what each second
adds from the first row to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_PROGRAM = (
    "import melisma.values.prompt as prompt; from melisma.cli import main; "
    "prompt.MAX_SECONDS = 1e5; main()"
)
"""The command, for longer pieces than it makes otherwise, too."""
WORDS = "a jazz quartet with saxophone, piano, bass and drums"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One whole command."""

    seconds: float
    """Of music."""
    candidates: int
    stream: bool
    peak_bytes: int
    taken_seconds: float
    written_bytes: int


def run(seconds: float, candidates: int, model: str, threads: int, *, stream: bool) -> Run:
    """Runs `melisma generate` and measures it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.wav"
        words = [
            sys.executable, "-c", _PROGRAM, "generate", WORDS, "--duration", f"{seconds:g}",
            "--seed", "1", "--model", model, "--threads", str(threads), "--output", str(path),
            "--quiet",
        ]  # fmt: skip
        words += ["--stream"] if stream else ["--best-of", str(candidates)]
        began = time.perf_counter()
        process = os.spawnv(os.P_NOWAIT, sys.executable, words)
        _, status, usage = os.wait4(process, 0)
        taken = time.perf_counter() - began
        if status != 0:
            raise RuntimeError(f"{' '.join(words)} ended with status {status}")
        unit = 1 if sys.platform == "darwin" else 1024
        return Run(
            seconds=seconds,
            candidates=candidates,
            stream=stream,
            peak_bytes=usage.ru_maxrss * unit,
            taken_seconds=taken,
            written_bytes=path.stat().st_size,
        )


def main() -> None:
    """Measures, prints Markdown rows and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[60, 180, 600])
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stream", action="store_true")
    given = parser.parse_args()
    runs = []
    print("| music | candidates | peak memory | time |\n|---|---|---|---|")
    for seconds in given.seconds:
        one = run(seconds, given.candidates, given.model, given.threads, stream=given.stream)
        runs.append(one)
        way = "stream" if one.stream else str(one.candidates)
        print(
            f"| {seconds:g} s | {way} | {one.peak_bytes / 1e6:.0f} MB "
            f"| {one.taken_seconds:.0f} s |",
            flush=True,
        )
    first, last = runs[0], runs[-1]
    if last.seconds > first.seconds:
        growth = (last.peak_bytes - first.peak_bytes) / (last.seconds - first.seconds)
        print(f"growth: {growth / 1e6:.3f} MB for each second")
    name = "memory_stream" if given.stream else "memory"
    rows = json.dumps([asdict(one) for one in runs], indent=1)
    (RESULTS / f"{name}.json").write_text(rows + "\n", "utf-8")


if __name__ == "__main__":
    main()
