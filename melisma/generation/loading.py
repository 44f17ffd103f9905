"""Loading of models: a reference becomes a pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from melisma.codec import AcousticCodec, EncodecCodec
from melisma.engine.cpu import Engine, NativeEngine
from melisma.engine.cuda_graph import CUDAGraphEngine
from melisma.files.checkpoint import build_model, expect_fingerprints, read_checkpoint
from melisma.files.transformers_checkpoint import (
    PublishedTensors,
    expect_tensors,
    musicgen_config,
    read_config,
)
from melisma.generation.catalogue import SCORE_FILE, STAGE_FILES
from melisma.generation.musiclm import MusicLM
from melisma.generation.pipeline import AudioPipeline
from melisma.generation.resolve import local_model, model_folder, resolve_model
from melisma.joint import JointEmbedding
from melisma.lm import TokenModel, TokenModelSettings
from melisma.lm.musicgen_weights import SPARE, expected_shapes, reader_of, settings_of
from melisma.lm.score.model import ScoreModel, ScoreModelSettings
from melisma.lm.text_encoder import read_text_encoder
from melisma.nn.precision import AUTO, compute_dtype
from melisma.sound.resample import resample
from melisma.tokenizers import AudioTokenizers, TokenizerPaths
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef
from melisma.values.tokens import SAMPLE_RATE_HZ, TokenGrid
from melisma.values.waveform import Waveform

if TYPE_CHECKING:
    from melisma.generation.musicgen import MusicGen
    from melisma.generation.score.pipeline import ScorePipeline


@torch.inference_mode(mode=False)
def load(
    model: str | Path | ModelRef = "default",
    threads: int | None = None,
    *,
    precision: str | None = None,
    device: str = "auto",
) -> AudioPipeline:
    """Loads the audio pipeline of a model.

    Args:
        model: A reference, or a name as `resolve_model` takes it; one on the hub is fetched if
            need be.
        threads: Processor threads; torch's choice by default.
        precision: Of the language models' weights, one of `PRECISIONS`: float32 for our own models
            and int8 for MusicGen by default. With "float32" codec, tokenizers and text encoder
            compute in it, too (`nn/precision.py`).
        device: "cpu", "cuda" or "auto", where MusicGen runs.

    Raises:
        MelismaError: There is no such model, or it is damaged or of another kind.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    reference = local_model(model)
    if reference.family == "musicgen":
        return load_musicgen(reference, precision, device)
    folder = reference.files
    tokenizers = AudioTokenizers.read(TokenizerPaths.of(folder), precision=_networks(precision))
    paths = {name: folder / f"{name}.safetensors" for name in STAGE_FILES}
    present = tokenizers.fingerprints | {"words": tokenizers.joint.text_fingerprint}
    coarse = read_stage(paths["coarse_lm"], present, kind="coarse_lm")
    # A stage may be left out where nothing reads its tokens.
    needed = {"semantic_lm": bool(coarse.settings.conditions.source_levels), "fine_lm": False}
    others = {
        name: read_stage(paths[name], present, kind=name) if need or paths[name].is_file() else None
        for name, need in needed.items()
    }
    return MusicLM(
        tokenizers,
        others["semantic_lm"],
        coarse,
        others["fine_lm"],
        name=reference.title,
        licence=reference.licence,
        folder=folder,
        precision=precision or "float32",
    )


def _networks(precision: str | None) -> str:
    """What codec and towers compute in: float32 holds everywhere, the precision of the language
    models' weights says nothing about other arithmetic."""
    return "float32" if precision == "float32" else AUTO


@torch.inference_mode(mode=False)
def load_musicgen(
    reference: ModelRef, precision: str | None = None, device: str = "auto"
) -> MusicGen:
    """Loads MusicGen from the folder of a checkpoint in the layout of transformers.

    Weights are read from the file one by one, and rounded as they are read.

    Args:
        reference: A model of this machine.
        precision: As `load` takes it.
        device: As `load` takes it.

    Raises:
        MelismaError: The checkpoint is of another family, incomplete, or of pickles alone.
    """
    folder = reference.files
    from melisma.generation.musicgen import MusicGen

    networks, precision = _networks(precision), precision or "int8"
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _expect_device(device)
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
        config.get("audio_encoder"),
        dict(tensors.items("audio_encoder.")),
        prefix="audio_encoder.",
        channels=musicgen_config(config).decoder.audio_channels,
        precision=compute_dtype(device, networks).name,
        device=device,
    )
    if (codec.levels, codec.vocabulary) != (settings.levels, settings.vocabulary):
        raise MelismaError(
            f"the decoder in {folder} has {settings.levels} codebooks of {settings.vocabulary}, "
            f"its codec has {codec.levels} of {codec.vocabulary}: they belong to different models"
        )
    return MusicGen(
        read_text_encoder(folder, tensors, precision=compute_dtype("cpu", networks).name),
        engine,
        codec,
        name=reference.name if reference.source == "hub" else folder.resolve().name,
        licence=reference.licence,
        fingerprint=_published_fingerprint(tensors, precision),
        tokenizers=lambda: _shipped_tokenizers(networks),
    )


@torch.inference_mode(mode=False)
def _shipped_tokenizers(precision: str) -> AudioTokenizers:
    return AudioTokenizers.read(TokenizerPaths.of(model_folder("default")), precision=precision)


def _expect_device(device: str) -> None:
    """`MelismaError` where torch has no such graphics processor."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cpu" and int(device.partition(":")[2] or 0) >= count:
        has = f"{count} of them" if count else "none that this torch can use"
        raise MelismaError(
            f'there is no device "{device}": this machine has {has}; leave out device, or give '
            '"cpu"'
        )


def _published_fingerprint(tensors: PublishedTensors, precision: str) -> str:
    """Twelve digits from every tensor's name and first numbers: reading all of a large checkpoint
    would take longer than a piece."""
    digest = hashlib.sha256(precision.encode())
    for name in sorted(tensors.names()):
        digest.update(name.encode())
        digest.update(tensors.get(name).flatten()[:4096].float().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.inference_mode(mode=False)
def load_scores(
    model: str | Path | ModelRef = "default",
    threads: int | None = None,
    *,
    precision: str | None = None,
) -> ScorePipeline:
    """Loads the score pipeline of a model.

    Args:
        model: A reference, or a name as `resolve_model` takes it.
        threads: Processor threads; torch's choice by default.
        precision: Of the score model's weights, as `load` takes it.

    Raises:
        MelismaError: There is no such model, or it has no score model.
    """
    from melisma.generation.score.pipeline import ScorePipeline

    if threads is not None:
        torch.set_num_threads(threads)
    reference = resolve_model(model)
    folder = reference.files
    path = folder / f"{SCORE_FILE}.safetensors"
    if not path.is_file():
        raise MelismaError(
            f"the model {reference.name} has no {path.name}: it makes sound alone, see "
            "`melisma generate`"
        )
    return ScorePipeline(
        JointEmbedding.read(TokenizerPaths.of(folder).joint),
        read_score_model(path),
        name=reference.title,
        licence=reference.licence,
        folder=folder,
        precision=precision or "float32",
    )


@torch.inference_mode(mode=False)
def read_score_model(path: Path) -> ScoreModel:
    """The score model from its checkpoint."""
    checkpoint = read_checkpoint(path, kind=SCORE_FILE)
    return build_model(checkpoint, ScoreModelSettings, ScoreModel)


@torch.inference_mode(mode=False)
def read_stage(path: Path, fingerprints: Mapping[str, str], kind: str | None = None) -> TokenModel:
    """A stage's model from its checkpoint; `MelismaError` where it learned other tokens, or is not
    the stage asked for (`kind`, one of `STAGE_FILES`; any of them by default)."""
    checkpoint = read_checkpoint(path, kind=kind)
    if checkpoint.kind not in STAGE_FILES:
        raise MelismaError(f'{path} holds a "{checkpoint.kind}", but a token model is needed here')
    expect_fingerprints(path, checkpoint.fingerprints, fingerprints)
    return build_model(checkpoint, TokenModelSettings, TokenModel)


class AnyRateCodec:
    """The codec for sound of any rate and number of channels."""

    def __init__(self, codec: AcousticCodec) -> None:
        self.codec = codec

    def encode(self, waveform: Waveform, levels: int | None = None) -> TokenGrid:
        """Tokens of any waveform: it is mixed to mono and resampled to 24 kHz first."""
        return self.codec.encode(resample(waveform, SAMPLE_RATE_HZ, 1), levels)

    def decode(self, grid: TokenGrid) -> Waveform:
        """Sound of a token grid."""
        return self.codec.decode(grid)


@torch.inference_mode(mode=False)
def load_codec(model: str | Path | ModelRef = "default") -> AnyRateCodec:
    """The codec of a model alone."""
    return AnyRateCodec(AcousticCodec.read(TokenizerPaths.of(model_folder(model)).codec))
