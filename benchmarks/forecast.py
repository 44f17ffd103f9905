"""What `melisma doctor` forecasts, beside what then happens.

Run: `python benchmarks/forecast.py [--seconds 10 30] [--musicgen small] [--rounds 3]`. Every row is
a forecast, the time of the whole command right after it, from its start to the file, and their
ratio; the forecast is right if it lies between 2/3 and 3/2. Both are whole processes; machine code
is cached. Scores take longer for some words than for others: the commands go through several.
MusicGen is a checkpoint of random weights with the published shapes (`decode.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
WORDS = (
    "a gentle waltz for piano and warm strings, 90 bpm",
    "a rock band with distorted guitar at 140 bpm",
    "a quiet song for guitar",
)
FACTOR = 1.5


@dataclass(frozen=True, kw_only=True)
class Row:
    """A forecast and a run."""

    what: str
    seconds: float
    """Of music."""
    forecast_seconds: float
    taken_seconds: float

    @property
    def ratio(self) -> float:
        """Forecast over what happened."""
        return self.forecast_seconds / self.taken_seconds


def melisma(*words: str) -> str:
    """Runs a command; returns what it prints. `doctor` may find a fault."""
    command = [sys.executable, "-m", "melisma", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def taken(verb: str, words: str, model: str, seconds: float, folder: str) -> float:
    """Seconds of a whole command."""
    ending = "mid" if verb == "compose" else "wav"
    path = Path(folder) / f"piece.{ending}"
    began = time.perf_counter()
    melisma(
        verb, words, "--model", model, "--duration", f"{seconds:g}", "--seed", "1",
        "--output", str(path), "--quiet",
    )  # fmt: skip
    found = time.perf_counter() - began
    path.unlink()
    return found


def rows_of(name: str, model: str, seconds: float, folder: str, number: int) -> list[Row]:
    """A round of forecast and runs."""
    words = WORDS[number % len(WORDS)]
    document = json.loads(
        melisma("doctor", "--json", "--model", model, "--duration", f"{seconds:g}")
    )
    found = []
    for verb, key in (("generate", "forecast"), ("compose", "score_forecast")):
        estimate = document["model"].get(key)
        if estimate is not None:
            found.append(
                Row(
                    what=f"{verb}, {name}",
                    seconds=seconds,
                    forecast_seconds=estimate["total_seconds"],
                    taken_seconds=taken(verb, words, model, seconds, folder),
                )
            )
    return found


def main() -> None:
    """Measures, prints Markdown rows and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 30])
    parser.add_argument("--musicgen", nargs="*", default=[], help="sizes, e.g. small medium")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows: list[Row] = []
    print("| what | music | forecast | taken | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        models = {"default": "default"}
        for size in given.musicgen:
            from decode import write_random

            models[f"musicgen-{size}"] = f"{folder}/{size}"
            write_random(Path(folder) / size, size)
        taken("generate", WORDS[0], "default", 2, folder)  # compiles
        taken("compose", WORDS[0], "default", 2, folder)
        for number in range(given.rounds):
            for name, model in models.items():
                for seconds in given.seconds:
                    for row in rows_of(name, model, seconds, folder, number):
                        rows.append(row)
                        print(
                            f"| {row.what} | {row.seconds:g} s | {row.forecast_seconds:.1f} s | "
                            f"{row.taken_seconds:.1f} s | {row.ratio:.2f} |",
                            flush=True,
                        )
    right = sum(1 / FACTOR <= row.ratio <= FACTOR for row in rows)
    print(f"within a factor of {FACTOR:g}: {right} of {len(rows)}")
    figures = json.dumps([asdict(row) for row in rows], indent=1)
    (RESULTS / "forecast.json").write_text(figures + "\n", "utf-8")


if __name__ == "__main__":
    main()
