"""Models by name or folder: the shipped weights, or what `melisma train` wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch

from melisma.codec import AcousticCodec, EncodecCodec
from melisma.engine.cpu import Engine, NativeEngine
from melisma.engine.cuda_graph import CUDAGraphEngine
from melisma.files.checkpoint import expect_fingerprints, expect_fit, read_checkpoint
from melisma.files.hub import published_folder
from melisma.files.transformers_checkpoint import (
    PublishedTensors,
    expect_tensors,
    is_published,
    read_config,
)
from melisma.generation.catalogue import (
    OWN_LICENCE,
    PUBLISHED_LICENCE,
    SCORE_FILE,
    SHIPPED,
    STAGE_FILES,
)
from melisma.generation.musiclm import Composer
from melisma.generation.pipeline import SoundComposer
from melisma.joint import Joint
from melisma.lm import ConditioningSettings, TokenModel, TokenModelSettings
from melisma.lm.musicgen_weights import SPARE, expected_shapes, reader_of, settings_of
from melisma.lm.score.model import ScoreModel, ScoreModelSettings
from melisma.lm.text_encoder import read_words
from melisma.nn.precision import AUTO, compute_dtype
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.values.tokens import SAMPLE_RATE_HZ, TokenGrid
from melisma.values.waveform import Waveform

if TYPE_CHECKING:
    from melisma.generation.musicgen import MusicGen
    from melisma.generation.score.pipeline import ScoreComposer


def model_folder(model: str) -> Path:
    """The folder of a model: a shipped one by name, or a path. `ValueError` says what there is."""
    shipped = SHIPPED / model
    if shipped.is_dir():
        return shipped
    if Path(model).is_dir():
        return Path(model)
    names = sorted(p.name for p in SHIPPED.iterdir() if p.is_dir()) if SHIPPED.is_dir() else []
    raise ValueError(
        f'no model "{model}": known are {", ".join(names) or "none"}, or the folder of a training'
    )


def load(
    model: str = "default",
    threads: int | None = None,
    *,
    precision: str | None = None,
    device: str = "auto",
) -> SoundComposer:
    """The composer of a model: a shipped one by name, the folder of a training or of a published
    MusicGen checkpoint, or such a checkpoint's name on the hub ("facebook/musicgen-small").

    `threads`: processor threads to use, torch's choice by default. `precision` of the weights that
    draw, one of `PRECISIONS`: exact for our own models and int8 for published ones by default; with
    "float32" codec, tokenizer and text encoder compute in it, too (`nn/precision.py`).
    `device`: "cpu", "cuda" or "auto", where published ones draw. `ValueError` says what there is.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if is_published_name(model):
        return load_published(published_folder(model), model, precision, device)
    folder = model_folder(model)
    if is_published(folder):
        return load_published(folder, folder.resolve().name, precision, device)
    ears = AudioTokenizers.read(TokenizerPaths.of(folder), precision=_networks(precision))
    paths = {name: folder / f"{name}.safetensors" for name in STAGE_FILES}
    present = ears.fingerprints | {"words": ears.joint.words_fingerprint}
    coarse = read_stage(paths["coarse_lm"], present, kind="coarse_lm")
    # A stage may be left out where nothing reads its tokens.
    needed = {"semantic_lm": bool(coarse.settings.conditions.source_levels), "fine_lm": False}
    others = {
        name: read_stage(paths[name], present, kind=name) if need or paths[name].is_file() else None
        for name, need in needed.items()
    }
    return Composer(
        ears,
        others["semantic_lm"],
        coarse,
        others["fine_lm"],
        name=f"melisma-{folder.name}" if folder.parent == SHIPPED else folder.name,
        licence=OWN_LICENCE,
        precision=precision or "float32",
    )


def _networks(precision: str | None) -> str:
    """What codec and towers compute in. Whoever asks for float32 gets it everywhere; smaller
    weights that draw say nothing of the arithmetic of others."""
    return "float32" if precision == "float32" else AUTO


def is_published_name(model: str) -> bool:
    """Whether a model is neither shipped nor a folder here, but may be a name on the hub."""
    owner, _, name = model.partition("/")
    return bool(owner and name and "/" not in name and not Path(model).exists()) and owner != "."


def is_published_model(model: str) -> bool:
    """Whether a model is one of MusicGen's published checkpoints, here or on the hub."""
    return is_published_name(model) or (Path(model).is_dir() and is_published(Path(model)))


def load_published(
    folder: Path, name: str, precision: str | None = None, device: str = "auto"
) -> MusicGen:
    """MusicGen from the folder of a checkpoint in the layout of transformers.

    Weights are read from the file one by one, and rounded as they are read. Raises `ValueError`
    with one sentence for a checkpoint of another family, an incomplete one, one of pickles alone.
    """
    from melisma.generation.musicgen import MusicGen

    networks, precision = _networks(precision), precision or "int8"
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    config = read_config(folder)
    tensors = PublishedTensors(folder)
    settings = settings_of(config)
    with torch.device("meta"):
        model = TokenModel(settings)
    expect_tensors(tensors, expected_shapes(model), prefix="decoder.", spare=SPARE)
    read = reader_of(tensors.get)
    conditioner = model.conditioner.to_empty(device="cpu")
    conditioner.load_state_dict(
        {name: read(f"conditioner.{name}").float() for name in conditioner.state_dict()}
    )
    if device == "cpu":
        engine: Engine = NativeEngine(model, precision=precision, tensors=read)
    else:
        names = [name for name in model.state_dict() if not name.startswith("conditioner.")]
        model.load_state_dict({n: read(n).float() for n in names}, strict=False, assign=True)
        engine = CUDAGraphEngine(model, device=device, half=precision != "float32")
    codec = EncodecCodec.from_published(
        config["audio_encoder"],
        dict(tensors.items("audio_encoder.")),
        prefix="audio_encoder.",
        channels=int(config["decoder"].get("audio_channels", 1)),
        precision=compute_dtype(device, networks).name,
        device=device,
    )
    if (codec.levels, codec.vocabulary) != (settings.levels, settings.vocabulary):
        raise ValueError(
            f"the decoder in {folder} draws {settings.levels} codebooks of {settings.vocabulary}, "
            f"its codec has {codec.levels} of {codec.vocabulary}: they belong to different models"
        )
    return MusicGen(
        read_words(folder, tensors, precision=compute_dtype("cpu", networks).name),
        engine,
        codec,
        name=name,
        licence=PUBLISHED_LICENCE,
        fingerprint=_published_fingerprint(tensors, precision),
        ears=lambda: AudioTokenizers.read(
            TokenizerPaths.of(model_folder("default")), precision=networks
        ),
    )


def _published_fingerprint(tensors: PublishedTensors, precision: str) -> str:
    """Twelve digits from every tensor's name and first numbers: reading all of a large checkpoint
    would take longer than a piece."""
    digest = hashlib.sha256(precision.encode())
    for name in sorted(tensors.names()):
        digest.update(name.encode())
        digest.update(tensors.get(name).flatten()[:4096].float().numpy().tobytes())
    return digest.hexdigest()[:12]


def load_scores(
    model: str = "default", threads: int | None = None, *, precision: str | None = None
) -> ScoreComposer:
    """The composer of scores of a model; `ValueError` or `OSError` where it has none. `precision`
    of its weights as in `load`."""
    from melisma.generation.score.pipeline import ScoreComposer

    if threads is not None:
        torch.set_num_threads(threads)
    folder = model_folder(model)
    path = folder / f"{SCORE_FILE}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"the model {model} has no {path.name}: it makes sound alone, see `melisma generate`"
        )
    return ScoreComposer(
        Joint.read(TokenizerPaths.of(folder).joint),
        read_score_model(path),
        name=f"melisma-{folder.name}" if folder.parent == SHIPPED else folder.name,
        licence=OWN_LICENCE,
        precision=precision or "float32",
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
    conditions = ConditioningSettings(**settings["conditions"])
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
    return AnyRateCodec(AcousticCodec.read(TokenizerPaths.of(model_folder(model)).codec))
