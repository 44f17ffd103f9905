"""Models by name or folder: the shipped weights, or what `melisma train` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from melisma.codec import AcousticCodec
from melisma.compose.score_song import ScoreComposer
from melisma.compose.song import Composer
from melisma.corpus.hearing import EarPaths, FrozenEars
from melisma.files.checkpoint import expect_fingerprints, expect_fit, read_checkpoint
from melisma.joint import Joint
from melisma.lm import ConditionSettings, TokenModel, TokenModelSettings
from melisma.lm.score_model import ScoreModel, ScoreModelSettings
from melisma.values.tokens import SAMPLE_RATE_HZ, TokenGrid
from melisma.values.waveform import Waveform

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""Where the shipped models lie, one folder each."""
LICENCE = "CC BY-SA 4.0"
"""Licence written into what the shipped model makes."""
STAGE_FILES = ("semantic_lm", "coarse_lm", "fine_lm")
SCORE_FILE = "score_lm"


def model_folder(model: str) -> Path:
    """The folder of a model: a shipped one by name, or a path. `ValueError` says what there is."""
    shipped = WEIGHTS / model
    if shipped.is_dir():
        return shipped
    if Path(model).is_dir():
        return Path(model)
    names = sorted(p.name for p in WEIGHTS.iterdir() if p.is_dir()) if WEIGHTS.is_dir() else []
    raise ValueError(
        f'no model "{model}": known are {", ".join(names) or "none"}, or the folder of a training'
    )


def load(model: str = "default", threads: int | None = None) -> Composer:
    """The composer of a model. `threads`: processor threads to use, torch's choice by default."""
    if threads is not None:
        torch.set_num_threads(threads)
    folder = model_folder(model)
    ears = FrozenEars.read(EarPaths.of(folder))
    paths = {name: folder / f"{name}.safetensors" for name in STAGE_FILES}
    coarse = read_stage(paths["coarse_lm"], ears.fingerprints, kind="coarse_lm")
    # A stage may be left out where nothing reads its tokens.
    needed = {"semantic_lm": bool(coarse.settings.conditions.source_levels), "fine_lm": False}
    others = {
        name: read_stage(paths[name], ears.fingerprints, kind=name)
        if need or paths[name].is_file()
        else None
        for name, need in needed.items()
    }
    return Composer(
        ears,
        others["semantic_lm"],
        coarse,
        others["fine_lm"],
        name=f"melisma-{folder.name}" if folder.parent == WEIGHTS else folder.name,
        licence=LICENCE,
    )


def load_scores(model: str = "default", threads: int | None = None) -> ScoreComposer:
    """The composer of scores of a model; `ValueError` or `OSError` where it has none."""
    if threads is not None:
        torch.set_num_threads(threads)
    folder = model_folder(model)
    path = folder / f"{SCORE_FILE}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"the model {model} has no {path.name}: it makes sound alone, see `melisma generate`"
        )
    return ScoreComposer(
        Joint.read(EarPaths.of(folder).joint),
        read_score_model(path),
        name=f"melisma-{folder.name}" if folder.parent == WEIGHTS else folder.name,
        licence=LICENCE,
    )


def read_score_model(path: Path) -> ScoreModel:
    """The score model from its checkpoint."""
    checkpoint = read_checkpoint(path, kind=SCORE_FILE)
    with expect_fit(checkpoint.kind):
        model = ScoreModel(ScoreModelSettings(**checkpoint.settings))
        model.load_state_dict(checkpoint.tensors)
    return model


def read_stage(path: Path, fingerprints: Mapping[str, str], kind: str | None = None) -> TokenModel:
    """A stage's model from its checkpoint; `ValueError` where it learned other tokens, or is not
    the stage asked for (`kind`, one of `STAGE_FILES`; any of them by default)."""
    checkpoint = read_checkpoint(path, kind=kind)
    if checkpoint.kind not in STAGE_FILES:
        raise ValueError(f'{path} holds a "{checkpoint.kind}", but a token model is needed here')
    expect_fingerprints(path, checkpoint.fingerprints, fingerprints)
    with expect_fit(checkpoint.kind):
        model = TokenModel(stage_shape(checkpoint.settings))
        model.load_state_dict(checkpoint.tensors)
    return model


def stage_shape(settings: Mapping[str, Any]) -> TokenModelSettings:
    """Settings from their JSON form."""
    conditions = ConditionSettings(**settings["conditions"])
    return TokenModelSettings(**{**settings, "conditions": conditions})


class AnyRateCodec:
    """The codec for sound of any rate and number of channels."""

    def __init__(self, codec: AcousticCodec) -> None:
        self.codec = codec

    def encode(self, waveform: Waveform, levels: int | None = None) -> TokenGrid:
        """Tokens of any waveform: it is mixed to mono and resampled to 24 kHz first."""
        mono = waveform.mono
        if waveform.rate_hz != SAMPLE_RATE_HZ:
            mono = soxr.resample(mono, waveform.rate_hz, SAMPLE_RATE_HZ, quality="HQ")
        samples = np.ascontiguousarray(mono, dtype=np.float32)[None]
        return self.codec.encode(Waveform(samples=samples, rate_hz=SAMPLE_RATE_HZ), levels)

    def decode(self, grid: TokenGrid) -> Waveform:
        """Sound of a token grid."""
        return self.codec.decode(grid)


def load_codec(model: str = "default") -> AnyRateCodec:
    """The codec of a model alone."""
    return AnyRateCodec(AcousticCodec.read(EarPaths.of(model_folder(model)).codec))
