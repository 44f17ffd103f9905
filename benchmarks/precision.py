"""Cost of rounding the weights of the stages: logits and held-out loss of the shipped stages.

Run: `python benchmarks/precision.py --tokens clips/held_tokens [--clips 40]`. Held-out clips are
teacher-forced through the engine step by step in every precision, and the logits of every token
compared with those of exact weights: root mean square and largest difference, share of steps whose
likeliest token is the same, divergence (nats), and the loss (nats per token). The generated sound
is judged by `melisma evaluate --precision`.
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
from melisma.engine.sampling import StageSampling
from melisma.generation.loading import STAGE_FILES, read_stage
from melisma.generation.resolve import model_folder
from melisma.lm import TokenModel
from melisma.lm.conditioning import Conditioning
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.train.datasets.captions import caption_encoder
from melisma.train.lm import StageTask, StageTraining, read_corpus
from melisma.train.loop import LoopSettings, generator_of
from melisma.values.model_ref import PRECISIONS

FRAMES = 250
BATCH = 8


@torch.inference_mode()
def teacher_forced_logits(engine: NativeEngine, grid: Tensor, conditions: Conditioning) -> Tensor:
    """Logits [batch, level, frame, vocabulary] of given tokens, one step after another."""
    model = engine.model
    frames, batch = grid.shape[2], len(grid)
    greedy = StageSampling(temperature=0)
    decoding = NativeDecoding(
        engine, requests_of(engine, conditions, [frames] * batch, greedy, prefix=None)
    )
    steps = model.pattern.apply(grid, model.blank)
    out = torch.zeros(*grid.shape, model.settings.vocabulary)
    for step in range(steps.shape[2]):
        decoding.advance(1)
        logits = decoding.logits().view(batch, grid.shape[1], -1)
        for level in range(grid.shape[1]):
            frame = model.pattern.frame_at(step, level)
            if frame is not None and frame < frames:
                out[:, level, frame] = logits[:, level]
        decoding.grid()[:, :, step] = steps[:, :, step]
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
    """Crops of held-out clips with their conditions, but without the tune."""
    found = []
    for number in range(-(-clips // BATCH)):
        generator = generator_of(0, number, "precision")
        grid, conditions = task.batch(task.held, generator, BATCH, None, FRAMES)
        found.append((grid, dataclasses.replace(conditions, melody=None)))
    return found


def stage_rows(
    stage: str, model: TokenModel, task: StageTask, clips: int
) -> list[dict[str, object]]:
    """A row for each precision."""
    crops = batches(task, clips)
    exact = NativeEngine(model, precision="float32")
    truth = [teacher_forced_logits(exact, grid, conditions) for grid, conditions in crops]
    rows: list[dict[str, object]] = []
    for precision in PRECISIONS:
        engine = NativeEngine(model, precision=precision)
        each = [
            compared(whole, teacher_forced_logits(engine, grid, conditions), grid)
            for whole, (grid, conditions) in zip(truth, crops, strict=True)
        ]
        figures = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        figures["largest"] = max(one["largest"] for one in each)
        row: dict[str, object] = {"stage": stage, "precision": precision}
        rows.append({**row, "clips": len(crops) * BATCH, **figures})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measures every causal stage of the model."""
    parser = parser_of(__doc__)
    parser.add_argument("--tokens", type=Path, required=True, help="shards of held-out tokens")
    parser.add_argument("--clips", type=int, default=40)
    given = parser.parse_args()
    folder = model_folder(given.model)
    tokenizers = AudioTokenizers.read(TokenizerPaths.of(folder))
    corpus = read_corpus(given.tokens, tokenizers.joint.quantiser.codes, tokenizers.fingerprints)
    rows: list[dict[str, object]] = []
    for name in STAGE_FILES[:2]:
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            continue
        model = read_stage(path, tokenizers.fingerprints, kind=name)
        stage = name.removesuffix("_lm")
        settings = StageTraining(
            stage=stage, model=model.settings, loop=LoopSettings(updates=1, learning_rate=1e-3)
        )
        words = (
            caption_encoder(tokenizers.joint, "exact")
            if model.settings.conditions.text_width
            else None
        )
        rows += stage_rows(stage, model, StageTask(settings, corpus, corpus, words), given.clips)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "precision.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
