"""A composer of scores with a small untrained model, and the shipped text tower."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import torch

from melisma.files.checkpoint import Checkpoint, write_checkpoint
from melisma.generation.resolve import model_folder
from melisma.generation.score.pipeline import ScorePipeline
from melisma.joint import JointEmbedding
from melisma.lm.score.model import ScoreModel, ScoreModelSettings


@cache
def small_score_composer() -> ScorePipeline:
    torch.manual_seed(0)
    model = ScoreModel(ScoreModelSettings(width=40, layers=2, heads=2, window_events=200))
    joint = JointEmbedding.read(model_folder("default") / "joint.safetensors")
    return ScorePipeline(joint, model, name="small", licence="none")


def write_score_model(folder: Path, window_events: int) -> None:
    """Writes a score model of one layer, as int8, into the folder of a model."""
    settings = ScoreModelSettings(width=40, layers=1, heads=2, window_events=window_events)
    checkpoint = Checkpoint(
        kind="score_lm",
        settings=dataclasses.asdict(settings),
        tensors=ScoreModel(settings).state_dict(),
    )
    write_checkpoint(folder / "score_lm.safetensors", checkpoint, precision="int8")
