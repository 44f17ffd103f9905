"""A composer of scores with a small untrained model, and the shipped text tower."""

from __future__ import annotations

from functools import cache

import torch

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
