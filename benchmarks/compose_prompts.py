"""Composes the prompts of a list, for `benchmarks/score.py` to judge.

Run: `python benchmarks/compose_prompts.py --made FOLDER [--model NAME] [--best-of 8] [--sound]`.
Writes 000.mid, 001.mid ... in the order of `melisma/evaluate/score_prompts.jsonl`, and with
`--sound` the rendered sound beside each. Existing files are kept, so an interrupted run continues.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from held_clips import parser_of

from melisma.evaluate.metrics.score_adherence import score_prompts_file
from melisma.files import write_audio, write_bytes
from melisma.generation.loading import load_scores
from melisma.generation.score.pipeline import SCORE_SAMPLING
from melisma.symbolic import write_midi
from melisma.symbolic.render import render_score
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt

BATCH = 4
"""Prompts of a batch."""


def main() -> None:
    """Composes and writes, and prints how long it took."""
    parser = parser_of(__doc__)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--best-of", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first prompt")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("temperature", "top_p", "guidance"):
        default = SCORE_SAMPLING[name]
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default)
    parser.add_argument("--sound", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lines = score_prompts_file().read_text(encoding="utf-8").splitlines()
    words = [json.loads(line)["prompt"] for line in lines[: given.first + given.count]]
    given.made.mkdir(parents=True, exist_ok=True)
    composer = load_scores(given.model)
    sampling = SamplingParams(
        temperature=given.temperature, top_p=given.top_p, guidance=given.guidance
    )
    began = time.perf_counter()
    for first in range(given.first, len(words), BATCH):
        paths = [given.made / f"{n:03d}.mid" for n in range(first, min(first + BATCH, len(words)))]
        if all(path.is_file() for path in paths):
            continue
        batch = [
            ScorePrompt(words=text, duration_seconds=given.seconds)
            for text in words[first : first + BATCH]
        ]
        pieces = composer.generate_pieces(
            batch, seed=given.seed + first, sampling=sampling, best_of=given.best_of
        )
        for path, piece in zip(paths, pieces, strict=True):
            if given.sound:
                write_audio(path.with_suffix(".flac"), render_score(piece.score).mix, None)
            write_bytes(path, write_midi(piece.score))
        print(
            f"{first + len(batch)} of {len(words)}, {time.perf_counter() - began:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
