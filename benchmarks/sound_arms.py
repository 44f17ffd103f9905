"""Ways of generating sound at equal compute: stages, codebook patterns, attributes.

One arm is a model of about 3 million parameters that is trained for a stated processor time (one
thread) and written as a folder that `melisma generate --model` and `melisma evaluate --model` read:

    python benchmarks/sound_arms.py --arm delayed --seed 1 --minutes 20 \
        --tokens clips/tokens --output runs/arms

Arms: `delayed`, `parallel` and `flattened` (the pattern of the coarse stage, MusicGen, 2306.05284,
section 2.2; they share one semantic stage of the same seed, and so its time), `no-semantic` (the
coarse stage alone, from the text, as large as the two together; MusicLM, 2301.11325, section 5.4)
and `style-only` (attributes, families and rhythm are never given: MusicLM's own conditioning).
`exact`, `assigned` and `shuffled` are MusicGen's single stage: one model, conditioned on captions
and in half of the clips on the tune, and nothing else (`melisma/train/datasets/captions.py` says
which captions). Then `melisma evaluate --model runs/arms/delayed-1/model ...` for each, and
`--compare`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from equal_compute import train_for

from melisma.files.checkpoint import Checkpoint, write_checkpoint
from melisma.generation.loading import STAGE_FILES
from melisma.generation.resolve import model_folder
from melisma.lm import ConditioningSettings
from melisma.lm.conditioning import DropSettings
from melisma.lm.embedding_init import start_from_codes
from melisma.lm.model import TokenModelSettings
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.train.datasets.captions import CAPTION_DROPS, KINDS, caption_encoder, with_captions
from melisma.train.lm import StageTask, StageTraining, TokenCorpus, read_corpus
from melisma.train.loop import LoopSettings, generator_of

SEMANTIC_SHARE = 0.4
"""Share of the time that the semantic stage gets."""
SHORT_CROPS_FROM = 0.6
"""Share of a stage's time after which it is trained on short crops (see `StageTraining`)."""
ARMS = ("delayed", "parallel", "flattened", "no-semantic", "style-only", *KINDS)
ALONE = ("no-semantic", *KINDS)
"""Arms of one stage."""
WIDTH, LAYERS, HEADS = 96, 5, 4
ALONE_WIDTH, ALONE_LAYERS, ALONE_HEADS = 128, 6, 4
"""Shape of the coarse stage alone: as many parameters as both stages have otherwise."""


def style_only_drops(drops: DropSettings) -> DropSettings:
    """Condition dropout that always drops everything but the style."""
    return dataclasses.replace(drops, attribute=1.0, families=1.0, rhythm=1.0)


def shape_of(stage: str, arm: str, text_width: int) -> TokenModelSettings:
    """The network of a stage of an arm; `text_width`: of the text tower's states."""
    if stage == "semantic":
        return TokenModelSettings(levels=2, width=WIDTH, layers=LAYERS, heads=HEADS)
    alone = arm in ALONE
    return TokenModelSettings(
        levels=4,
        pattern=arm if arm in ("parallel", "flattened") else "delayed",
        width=ALONE_WIDTH if alone else WIDTH,
        layers=ALONE_LAYERS if alone else LAYERS,
        heads=ALONE_HEADS if alone else HEADS,
        window_frames=250 if alone else 200,
        conditions=ConditioningSettings(
            source_levels=0 if alone else 2, text_width=text_width if arm in KINDS else 0
        ),
    )


def train_arm_stage(
    stage: str,
    arm: str,
    seed: int,
    minutes: float,
    corpora: tuple[TokenCorpus, TokenCorpus],
    tokenizers: AudioTokenizers,
) -> tuple[Checkpoint, dict[str, float]]:
    """Trains one stage: its weights, and its figures."""
    loop = LoopSettings(
        updates=1_000, learning_rate=2e-3, warmup_updates=50, average_decay=0.99, seed=seed
    )
    model = shape_of(stage, arm, tokenizers.joint.text.settings.width)
    settings = StageTraining(
        stage=stage,
        model=model,
        loop=loop,
        batch=8 if stage == "semantic" else 10,
        crop_frames=250 if stage == "semantic" or arm in ALONE else 150,
        short_crop_from=2.0,
    )
    if arm == "style-only":
        settings = dataclasses.replace(
            settings,
            drop=style_only_drops(settings.drop),
            short_crop_drop=style_only_drops(settings.short_crop_drop),
        )
    if arm in KINDS:
        settings = dataclasses.replace(settings, drop=CAPTION_DROPS, short_crop_drop=CAPTION_DROPS)
        # All are judged by the captions of the held-out clips themselves.
        corpora = with_captions(corpora[0], arm, tokenizers.joint, seed), corpora[1]
    words = caption_encoder(tokenizers.joint, arm) if arm in KINDS else None
    task = StageTask(settings, *corpora, words)
    codes = (
        tokenizers.semantic.centroids
        if stage == "semantic"
        else tokenizers.codec.codec.quantizer.codes
    )
    generator = generator_of(seed, 0, "codes")
    start_from_codes(task.model, codes, tokenizers.semantic.centroids, generator)

    def shared(share: float) -> None:
        if share >= SHORT_CROPS_FROM and task.settings.short_crop_from > 1:
            task.settings = dataclasses.replace(settings, short_crop_from=0.0)

    updates, used = train_for(task, loop, minutes, shared)
    task.model.conditioner.ignore_never_trained(settings.drop)
    held = task.judge(task.model)
    checkpoint = Checkpoint(
        kind=f"{stage}_lm",
        settings=task.settings_tree(),
        tensors=dict(task.model.state_dict()),
        fingerprints=task.fingerprints(),
        notes={"arm": arm, "seed": seed, "updates": updates},
    )
    size = sum(parameter.numel() for parameter in task.model.parameters())
    figures = {"parameters": size, "updates": updates, "processor_minutes": used / 60}
    return checkpoint, figures | {f"held_{name}": value for name, value in held.items()}


def main() -> None:
    """Trains one arm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arm", choices=ARMS, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0, help="processor time of the arm")
    parser.add_argument("--tokens", type=Path, required=True, help="token shards to learn from")
    parser.add_argument(
        "--tokenizers", default="default", help="name or folder of the tokens' tokenizers"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    paths = TokenizerPaths.of(model_folder(given.tokenizers))
    tokenizers = AudioTokenizers.read(paths)
    corpus = read_corpus(given.tokens, tokenizers.joint.quantiser.codes, tokenizers.fingerprints)
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(corpus)))
    apart = max(1, round(len(corpus) * 0.03))
    corpora = corpus.part(rows[apart:]), corpus.part(rows[:apart])
    folder = given.output / f"{given.arm}-{given.seed}" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for path in vars(paths).values():
        shutil.copyfile(path, folder / path.name)
    semantic, coarse = (f"{name}.safetensors" for name in STAGE_FILES[:2])
    figures: dict[str, dict[str, float]] = {}
    minutes = {"semantic": given.minutes * SEMANTIC_SHARE}
    shared = given.output / f"delayed-{given.seed}" / "model" / semantic
    if given.arm in ALONE:
        minutes = {}
    elif given.arm in ("parallel", "flattened") and shared.is_file():
        shutil.copyfile(shared, folder / semantic)
        minutes = {}
    left = given.minutes if given.arm in ALONE else given.minutes * (1 - SEMANTIC_SHARE)
    for stage, share in {**minutes, "coarse": left}.items():
        checkpoint, figures[stage] = train_arm_stage(
            stage, given.arm, given.seed, share, corpora, tokenizers
        )
        write_checkpoint(folder / (semantic if stage == "semantic" else coarse), checkpoint)
    row = {"arm": given.arm, "seed": given.seed, "stages": figures}
    print(json.dumps(row))
    given.results.mkdir(parents=True, exist_ok=True)
    with (given.results / "sound_arms.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
