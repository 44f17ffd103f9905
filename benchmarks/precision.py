"""What rounding the weights that draw costs: logits and held-out nats of the shipped stages.

Run: `python benchmarks/precision.py --tokens clips/held_tokens [--clips 40]`. Held-out clips are
told to the engine step by step in every precision, and the logits of every token compared with
those of exact weights: root mean square and largest difference, share of steps whose likeliest
token is the same, divergence (nats), and the loss (nats a token). The drawing itself is judged by
`melisma evaluate
--precision`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from held_clips import parser_of
from torch import Tensor

from melisma.engine.cpu import NativeDecoding, NativeEngine, requests_of
from melisma.engine.native.packing import PRECISIONS
from melisma.engine.sampling import SamplingParams
from melisma.generation.loading import STAGE_FILES, model_folder, read_stage
from melisma.lm import TokenModel
from melisma.lm.conditioning import Conditioning
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.train.datasets.captions import words_of
from melisma.train.lm import StageTask, StageTraining, read_corpus
from melisma.train.loop import LoopSettings, generator_of

FRAMES = 250
BATCH = 8


@torch.inference_mode()
def told_logits(engine: NativeEngine, grid: Tensor, conditions: Conditioning) -> Tensor:
    """Logits [batch, level, frame, vocabulary] of tokens that are told one step after another."""
    model = engine.model
    frames, batch = grid.shape[2], len(grid)
    greedy = SamplingParams(temperature=0)
    session = NativeDecoding(
        engine, requests_of(engine, conditions, [frames] * batch, greedy, prefix=None)
    )
    steps = model.pattern.apply(grid, model.blank)
    out = torch.zeros(*grid.shape, model.settings.vocabulary)
    for step in range(steps.shape[2]):
        session.advance(1)
        logits = session.logits().view(batch, grid.shape[1], -1)
        for level in range(grid.shape[1]):
            place = model.pattern.frame_at(step, level)
            if place is not None and place < frames:
                out[:, level, place] = logits[:, level]
        session.grid()[:, :, step] = steps[:, :, step]
    return out


def compared(exact: Tensor, found: Tensor, grid: Tensor) -> dict[str, float]:
    """Differences of logits [batch, level, frame, vocabulary], and the loss of the grid."""
    logs, near = exact.log_softmax(-1), found.log_softmax(-1)
    loss = torch.nn.functional.nll_loss(near.flatten(0, 2), grid.flatten())
    return {
        "rms": float((exact - found).square().mean().sqrt()),
        "largest": float((exact - found).abs().max()),
        "same_likeliest": float((exact.argmax(-1) == found.argmax(-1)).float().mean()),
        "divergence": float((logs.exp() * (logs - near)).sum(-1).mean()),
        "nats": float(loss),
    }


def batches(task: StageTask, clips: int) -> list[tuple[Tensor, Conditioning]]:
    """Crops of held-out clips with what is told of them; the tune is not."""
    found = []
    for number in range(-(-clips // BATCH)):
        generator = generator_of(0, number, "precision")
        grid, conditions = task.batch(task.held, generator, BATCH, None, FRAMES)
        gone = Conditioning.absent(len(conditions), FRAMES)
        found.append((grid, dataclasses.replace(conditions, melody=gone.melody)))
    return found


def stage_rows(
    stage: str, model: TokenModel, task: StageTask, clips: int
) -> list[dict[str, object]]:
    """A row for each precision."""
    told = batches(task, clips)
    exact = NativeEngine(model, precision="float32")
    truth = [told_logits(exact, grid, conditions) for grid, conditions in told]
    rows: list[dict[str, object]] = []
    for precision in PRECISIONS:
        engine = NativeEngine(model, precision=precision)
        each = [
            compared(whole, told_logits(engine, grid, conditions), grid)
            for whole, (grid, conditions) in zip(truth, told, strict=True)
        ]
        figures = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        figures["largest"] = max(one["largest"] for one in each)
        row: dict[str, object] = {"stage": stage, "precision": precision}
        rows.append({**row, "clips": len(told) * BATCH, **figures})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measures every causal stage of the model."""
    parser = parser_of(__doc__)
    parser.add_argument("--tokens", type=Path, required=True, help="shards of held-out tokens")
    parser.add_argument("--clips", type=int, default=40)
    given = parser.parse_args()
    folder = model_folder(given.model)
    ears = AudioTokenizers.read(TokenizerPaths.of(folder))
    corpus = read_corpus(given.tokens, ears.joint.quantiser.codes, ears.fingerprints)
    rows: list[dict[str, object]] = []
    for name in STAGE_FILES[:2]:
        place = folder / f"{name}.safetensors"
        if not place.is_file():
            continue
        model = read_stage(place, ears.fingerprints, kind=name)
        stage = name.removesuffix("_lm")
        settings = StageTraining(
            stage=stage, model=model.settings, loop=LoopSettings(updates=1, learning_rate=1e-3)
        )
        words = words_of(ears.joint, "exact") if model.settings.conditions.text_width else None
        rows += stage_rows(stage, model, StageTask(settings, corpus, corpus, words), given.clips)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "precision.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
