"""Settings of every run at every size.

Each function takes the name of a size and returns the whole settings tree of a run. *small* is
close to the settings of the shipped weights; *toy* tests the chain in minutes; *large* keeps one
GPU busy for about half an hour in all.
"""

from __future__ import annotations

import dataclasses

from melisma.codec import CodecSettings
from melisma.data.score_shards import ScoreSettings
from melisma.evaluate.models.judge import JudgeSettings
from melisma.joint import MusicTowerSettings, TextTowerSettings
from melisma.lm import ConditioningSettings, TokenModelSettings
from melisma.lm.score.model import ScoreModelSettings
from melisma.semantic import SemanticSettings
from melisma.train.codec import CodecTraining
from melisma.train.datasets.captions import CAPTION_DROPS
from melisma.train.joint import JointTraining
from melisma.train.judge import JudgeTraining
from melisma.train.lm import StageTraining, stage_settings
from melisma.train.loop import LoopSettings
from melisma.train.score import ScoreTraining
from melisma.train.semantic import SemanticTraining
from melisma.train.text import TextTraining


def codec(size: str) -> CodecTraining:
    """The codec: encoder, quantizer and decoder."""
    if size == "toy":
        return CodecTraining(
            codec=CodecSettings(
                encoder_width=128,
                encoder_blocks=1,
                latent_width=128,
                latent_blocks=1,
                levels=4,
                vocabulary=256,
                decoder_slow_width=128,
                decoder_slow_blocks=1,
                decoder_width=96,
                decoder_blocks=1,
            ),
            loop=LoopSettings(updates=300, learning_rate=6e-4, warmup_updates=30),
            batch=8,
            start_crops=256,
            adversarial_from=0.8,
            depths=(2, 4),
        )
    if size == "large":
        return CodecTraining(
            codec=CodecSettings(
                encoder_width=320,
                latent_width=448,
                levels=12,
                decoder_slow_width=640,
                decoder_width=384,
                decoder_blocks=7,
            ),
            loop=LoopSettings(updates=12_000, learning_rate=6e-4, warmup_updates=200),
            batch=96,
            crop_frames=32,
            adversarial_from=0.4,
            depths=(2, 4, 6, 8, 12),
        )
    return CodecTraining(
        loop=LoopSettings(updates=1_800, learning_rate=5e-4, warmup_updates=50),
        batch=12,
        adversarial_from=1.0,
    )


def finetune_codec(size: str) -> CodecTraining:
    """The codec's decoder alone, with frozen tokens, adversarial towards the end."""
    before = dataclasses.replace(codec(size), frozen_tokens=True)
    if size != "small":
        return dataclasses.replace(before, adversarial_from=0.1)
    return dataclasses.replace(
        before,
        loop=LoopSettings(updates=5_300, learning_rate=6e-4, warmup_updates=100),
        depths=(2, 4, 4, 4, 6, 8),
        adversarial_from=0.755,
    )


def semantic(size: str) -> SemanticTraining:
    """The semantic encoder."""
    if size == "toy":
        return SemanticTraining(
            semantic=SemanticSettings(width=96, layers=3, token_layer=2, vocabulary=256),
            loop=LoopSettings(updates=200, learning_rate=2e-3, warmup_updates=30),
            batch=8,
            cluster_vectors=20_000,
        )
    if size == "large":
        return SemanticTraining(
            semantic=SemanticSettings(width=320, heads=5),
            loop=LoopSettings(updates=8_000, learning_rate=1e-3, warmup_updates=300),
            batch=96,
        )
    return SemanticTraining(
        loop=LoopSettings(updates=4_000, learning_rate=1.5e-3, warmup_updates=150)
    )


def text(size: str) -> TextTraining:
    """The text tower alone."""
    if size == "toy":
        return TextTraining(
            tower=TextTowerSettings(layers=1, width=64, heads=2),
            loop=LoopSettings(updates=100, learning_rate=2e-3, warmup_updates=20),
        )
    if size == "large":
        return TextTraining(
            tower=TextTowerSettings(layers=4),
            loop=LoopSettings(updates=12_000, learning_rate=1e-3, warmup_updates=200),
            batch=1_024,
        )
    return TextTraining(
        tower=TextTowerSettings(layers=2),
        loop=LoopSettings(
            updates=2_000, learning_rate=1.5e-3, weight_decay=0.05, warmup_updates=100
        ),
        batch=192,
    )


def joint(size: str, semantic_width: int) -> JointTraining:
    """Both towers of the joint embedding; `semantic_width` is the semantic encoder's width."""
    music = MusicTowerSettings(trunk_width=2 * semantic_width)
    if size == "toy":
        return JointTraining(
            music=MusicTowerSettings(trunk_width=2 * semantic_width, width=64, heads=2),
            loop=LoopSettings(updates=150, learning_rate=2e-3, warmup_updates=20),
            batch=128,
        )
    if size == "large":
        return JointTraining(
            music=music,
            loop=LoopSettings(updates=8_000, learning_rate=1e-3),
            batch=4_096,
            text_learns=True,
        )
    return JointTraining(
        music=music,
        loop=LoopSettings(updates=400, learning_rate=1e-3, warmup_updates=50, average_decay=0.99),
    )


def finetune_text(size: str, music: MusicTowerSettings) -> JointTraining:
    """The text tower alone, against a frozen music tower of these settings."""
    updates, batch = {"toy": (20, 32), "small": (200, 128), "large": (3_000, 1_024)}[size]
    return JointTraining(
        music=music,
        loop=LoopSettings(
            updates=updates,
            learning_rate=4e-4,
            warmup_updates=20,
            weight_decay=0.05,
            average_decay=0.98,
        ),
        batch=batch,
        text_learns=True,
        music_learns=False,
    )


def stage(name: str, size: str) -> StageTraining:
    """One stage of the language model: "semantic", "coarse" or "fine"."""
    crop_frames = {"semantic": 500, "coarse": 200, "fine": 100}[name]
    if size == "toy":
        model = _toy_stage(name)
        loop = LoopSettings(updates=150, learning_rate=2e-3, warmup_updates=20)
        crop_frames = min(crop_frames, 200)
        return StageTraining(stage=name, model=model, loop=loop, batch=8, crop_frames=crop_frames)
    if size == "large":
        shape = {
            "semantic": {"width": 384, "heads": 6},
            "coarse": {"width": 320, "heads": 5},
            "fine": {"width": 256},
        }[name]
        loop = LoopSettings(updates=10_000, learning_rate=1e-3, warmup_updates=300)
        batch = {"semantic": 128, "coarse": 256, "fine": 384}[name]
        return StageTraining(
            stage=name,
            model=stage_settings(name, **shape),
            loop=loop,
            batch=batch,
            crop_frames=crop_frames,
            short_crop_updates=2_000 if name == "semantic" else 0,
        )
    updates = {"semantic": 3_300, "coarse": 3_300, "fine": 1_200}[name]
    batch = {"semantic": 8, "coarse": 20, "fine": 32}[name]
    layers = {"semantic": 6, "coarse": 6, "fine": 3}[name]
    return StageTraining(
        stage=name,
        model=stage_settings(name, width=192, layers=layers),
        loop=LoopSettings(
            updates=updates, learning_rate=1.5e-3, warmup_updates=100, average_decay=0.998
        ),
        batch=batch,
        crop_frames=crop_frames,
        short_crop_from=0.8 if name == "coarse" else 0.75,
        short_crop_updates=1_000 if name == "semantic" else 0,
    )


def single(size: str, text_width: int) -> StageTraining:
    """A single stage conditioned on captions and a melody (MusicGen, 2306.05284): the coarse stage
    without semantic tokens. `text_width`: width of the text tower's states."""
    before = stage("coarse", size)
    conditions = dataclasses.replace(
        before.model.conditions, source_levels=0, text_width=text_width
    )
    model = dataclasses.replace(before.model, conditions=conditions, window_frames=250)
    return dataclasses.replace(
        before, model=model, crop_frames=250, drop=CAPTION_DROPS, short_crop_drop=CAPTION_DROPS
    )


def _toy_stage(name: str) -> TokenModelSettings:
    source = ConditioningSettings(source_levels=2, source_vocabulary=256)
    if name == "semantic":
        return TokenModelSettings(
            levels=2, vocabulary=256, width=96, layers=3, window_frames=200,
            conditions=ConditioningSettings(source_vocabulary=256),
        )  # fmt: skip
    if name == "coarse":
        return TokenModelSettings(
            levels=2, vocabulary=256, width=96, layers=3, window_frames=200, conditions=source
        )
    return TokenModelSettings(
        levels=4, first_sampled_level=2, vocabulary=256, causal=False, width=96, layers=2,
        window_frames=100, conditions=source,
    )  # fmt: skip


def judge(size: str) -> tuple[JudgeSettings, JudgeTraining]:
    """The independent judge: its network and its training."""
    if size == "toy":
        return JudgeSettings(moment=48, trunk=64), JudgeTraining(updates=20, batch=8)
    return JudgeSettings(moment=256, trunk=320), JudgeTraining(updates=2_400)


def score_rows(size: str) -> ScoreSettings:
    """Training corpus of the score model."""
    if size == "toy":
        return ScoreSettings(arranged=20, most_windows=2, recast_share=0.2)
    return ScoreSettings(arranged=8_000 if size == "large" else 4_000)


def score(size: str) -> ScoreTraining:
    """The score model."""
    if size == "toy":
        return ScoreTraining(
            model=ScoreModelSettings(width=80, layers=2, heads=2),
            loop=LoopSettings(updates=100, learning_rate=2e-3, warmup_updates=20),
            batch=8,
            longest=256,
        )
    if size == "large":
        return ScoreTraining(
            model=ScoreModelSettings(width=320, layers=8, heads=5),
            loop=LoopSettings(updates=12_000, learning_rate=1e-3, warmup_updates=300),
            batch=96,
        )
    return ScoreTraining(
        model=ScoreModelSettings(width=256, layers=6, heads=4),
        loop=LoopSettings(updates=8_000, learning_rate=1.5e-3),
        dropout=0.0,
    )
