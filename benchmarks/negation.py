"""Do pieces leave out what their prompts exclude? Share of outputs with the excluded instruments.

Run: `python benchmarks/negation.py [--engine sound] [--count 2] [--best-of 1] [--seconds 8]`.
Prompts: `benchmarks/prompts/negated_prompts.jsonl`, the excluded family beside each. Sound is
measured by the shipped judge, which shares no weights with what ranks candidates; of scores the
tracks are read.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from held_clips import PROMPTS, command_line, parser_of

from melisma.analysis.score.instruments import playing_families
from melisma.evaluate.models.judge import Judge
from melisma.generation.loading import load, load_scores
from melisma.generation.resolve import model_folder
from melisma.values import Prompt
from melisma.values.attributes import FAMILIES
from melisma.values.score_prompt import ScorePrompt

PRESENT = 0.5
"""Least probability of the judge at which a family counts as playing."""
CONFIDENCE_Z = 1.96


def presence_in_sound(rows: list[dict[str, str]], count: int, best_of: int, seconds: float):
    """Probability that the excluded family plays, float32 [prompt, seed]."""
    pipeline = load("default")
    judge = Judge.read(model_folder("default"))
    found = np.zeros((len(rows), count), np.float32)
    for number, row in enumerate(rows):
        prompts = [Prompt(words=row["prompt"], duration_seconds=seconds)] * count
        pieces = pipeline.generate_pieces(prompts, seed=100 * number, best_of=best_of)
        for seed, verdict in enumerate(judge.judge_all([piece.waveform for piece in pieces])):
            found[number, seed] = verdict.family_probabilities[FAMILIES.index(row["excluded"])]
        print(f"{found[number].mean():.2f}  {row['excluded']:16} {row['prompt']}", flush=True)
    return found


def presence_in_scores(rows: list[dict[str, str]], count: int, best_of: int, seconds: float):
    """1 where the excluded family has notes, float32 [prompt, seed]."""
    pipeline = load_scores("default")
    found = np.zeros((len(rows), count), np.float32)
    for number, row in enumerate(rows):
        prompts = [ScorePrompt(words=row["prompt"], duration_seconds=seconds)] * count
        pieces = pipeline.generate_pieces(prompts, seed=100 * number, best_of=best_of)
        for seed, piece in enumerate(pieces):
            found[number, seed] = row["excluded"] in playing_families(piece.score, 1e-6)
        print(f"{found[number].mean():.2f}  {row['excluded']:16} {row['prompt']}", flush=True)
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--engine", choices=("sound", "score"), default="sound")
    parser.add_argument("--count", type=int, default=2, help="seeds of each prompt")
    parser.add_argument("--best-of", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--prompts", type=Path, default=PROMPTS / "negated_prompts.jsonl")
    options = parser.parse_args()
    lines = options.prompts.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line]
    measure = presence_in_sound if options.engine == "sound" else presence_in_scores
    found = measure(rows, options.count, options.best_of, options.seconds)
    share = (found >= PRESENT).mean(axis=1)
    spread = CONFIDENCE_Z * share.std(ddof=1) / len(share) ** 0.5
    figures = {
        "command": command_line(),
        "prompts": len(rows),
        "pieces": int(found.size),
        "excluded_plays": round(float(share.mean()), 4),
        "interval": [round(float(share.mean() + sign * spread), 4) for sign in (-1, 1)],
        "mean_probability": round(float(found.mean()), 4),
    }
    print(json.dumps(figures, indent=2))
    path = options.results / f"negation_{options.engine}_best_of_{options.best_of}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
