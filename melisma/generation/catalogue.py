"""Catalogue of models: references by name, and what each is, read from headers, never from weights.

`ModelFacts` has the sizes that `engine/resources/memory.py` counts with. Models are the shipped
ones, folders that `melisma train` wrote, and checkpoints of MusicGen (Copet et al., 2306.05284) in
a folder, in the hub's cache, or only known by name. Nothing is fetched, and
nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from melisma.engine.resources.memory import ModelSizes, StageShape
from melisma.files.hub import PUBLISHED, hub_card, published_folder
from melisma.files.legacy_names import present_settings
from melisma.files.provenance import allows_commercial_use
from melisma.files.transformers_checkpoint import (
    FOREIGN_ERRORS,
    PublishedTensors,
    musicgen_config,
    read_config,
)
from melisma.files.typed_json import parse_json, some_fields, typed
from melisma.generation.resolve import PUBLISHED_LICENCE, SHIPPED, resolve_model
from melisma.simd.instruction_set import multiplies_bfloat16
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ

WINDOW_SECONDS, STRIDE_SECONDS = 30.0, 18.0
"""The window that MusicGen learned and is sampled in, and how far the next window lies from it."""
FIRST_FRAMES = 12
"""Token frames sampled before a stream's first block is decoded (chosen: with the pattern's delay
and the codec's look-ahead the first sound comes before half a second of tokens is sampled)."""
STAGE_FILES = ("semantic_lm", "coarse_lm", "fine_lm")
TOKENIZERS = ("codec", "semantic", "joint")
"""Files of our own models that making sound loads."""
SCORE_FILE = "score_lm"

_SIZES = {"small": (24, 1024, 16), "medium": (48, 1536, 24), "large": (48, 2048, 32)}
"""Layers, width and heads (2306.05284, section 3.1)."""
_TEXT_PARAMETERS = 109_628_544
"""Encoder of T5-base with its table once (counted over the shapes of its configuration)."""
_CODEC_PARAMETERS = 57_933_250
"""EnCodec at 32 kHz with its codes (counted in the same way)."""
_CODEC = {
    "sampling_rate": 32_000, "num_filters": 64, "upsampling_ratios": [8, 5, 4, 4],
    "codebook_size": 2_048, "target_bandwidths": [2.2], "use_causal_conv": False,
    "use_conv_shortcut": False,
}  # fmt: skip
"""Settings of that codec (facebook/encodec_32khz), where they differ from the defaults."""
_MAX_RATE_HZ = 384_000
"""Highest sample rate of a codec that is taken for one (chosen: beyond any recording)."""
_CODEC_STATE = (".cluster_size", ".embed_avg", ".inited")
"""What the moving averages of its codes left in the files; it is not loaded."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a model without loading it."""

    name: str
    """As `--model` takes it."""
    sound: bool
    """Whether it generates sound."""
    scores: bool
    """Whether it composes scores."""
    melody: bool
    """Whether its sound follows a hummed or recorded melody (MusicGen's melody models)."""
    single: bool
    """One stage for all levels (MusicGen), else stages one after another."""
    stages: tuple[str, ...] = ()
    """Stages of a model of ours: "semantic", "coarse" and "fine", as far as it has them."""
    captions: bool = False
    """Whether a model of ours is conditioned on its words alone (the recipe *single*)."""
    licence: str
    parameters: int
    disk_bytes: int
    """On disk, or what would be fetched."""
    folder: Path | None
    """None: known by name, not downloaded."""
    sizes: ModelSizes
    codec: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a published codec; empty for ours."""

    @property
    def kind(self) -> str:
        """In a word or two."""
        if self.single:
            return ("stereo" if self.sizes.channels == 2 else "mono") + " melody" * self.melody
        return "+".join(["stages"] * self.sound + ["scores"] * self.scores)

    @property
    def commercial(self) -> bool:
        """Whether its licence allows commercial use."""
        return allows_commercial_use(self.licence)

    @property
    def usual_precision(self) -> str:
        """Precision of its weights by default."""
        return "int8" if self.single else "float32"

    @property
    def usual_candidates(self) -> int:
        """Candidates sampled for a piece by default."""
        return 1 if self.single else 4

    @property
    def usual_score_candidates(self) -> int:
        """Candidates sampled for a score by default."""
        return 8


def known_models(folders: Iterable[str] = ()) -> list[ModelFacts]:
    """Every model that can be named: shipped, in these folders, and MusicGen's published ones.

    A damaged checkpoint in the hub's cache counts as not downloaded.

    Raises:
        MelismaError: A folder holds no model, or a damaged one.
    """
    names = [path.name for path in sorted(SHIPPED.glob("*")) if path.is_dir()]
    return [facts_of(name) for name in [*names, *folders]] + [
        _known(name) for name in published_names()
    ]


def published_names() -> list[str]:
    """Names of MusicGen's checkpoints, with the revision where one is needed."""
    return [
        f"{name}@{known.revision}" if known.revision else name for name, known in PUBLISHED.items()
    ]


def facts_of(model: str | Path | ModelRef) -> ModelFacts:
    """What is known of a model: a shipped one, a folder, or a checkpoint on the hub that is known
    or in the cache.

    Raises:
        MelismaError: There is no such model, or what is wrong with it.
    """
    reference = resolve_model(model)
    if reference.folder is not None:
        if reference.family == "melisma":
            return _own(reference.name, reference.folder, reference.licence)
        return _published(reference.name, reference.folder)
    if reference.repository in PUBLISHED:
        return _known(reference.name)
    return _published(reference.name, published_folder(reference.name, offline=True))


def _own(name: str, folder: Path, licence: str) -> ModelFacts:
    """Our own: a file for each part."""
    files = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    sound = "coarse_lm" in files and all(part in files for part in TOKENIZERS)
    if not sound and SCORE_FILE not in files:
        lacking = [
            f"{part}.safetensors" for part in (*TOKENIZERS, "coarse_lm") if part not in files
        ]
        raise MelismaError(
            f"{folder} holds no model: it lacks {', '.join(lacking)}; give the folder of a "
            "training, or of a published checkpoint"
        )
    counts = {part: _count(path) for part, path in files.items()}
    stages = [part for part in STAGE_FILES if part in files] if sound else []
    loaded = [*TOKENIZERS, *stages] if sound else ["joint", SCORE_FILE]
    return ModelFacts(
        name=name,
        sound=sound,
        scores=SCORE_FILE in files,
        melody=False,
        single=False,
        stages=tuple(part.removesuffix("_lm") for part in stages),
        captions=sound and _reads_captions(files["coarse_lm"]),
        licence=licence,
        parameters=sum(counts.values()),
        disk_bytes=sum(path.stat().st_size for path in files.values()),
        folder=folder,
        sizes=ModelSizes(
            stages=tuple(StageShape.of(_settings(files[part]), FRAME_RATE_HZ) for part in stages),
            other_parameters=sum(counts.get(part, 0) for part in loaded),
            rate_hz=SAMPLE_RATE_HZ,
        ),
    )


def _reads_captions(path: Path) -> bool:
    """Whether a stage is conditioned on the words themselves."""
    conditions = _settings(path).get("conditions")
    return isinstance(conditions, Mapping) and bool(conditions.get("text_width"))


def _settings(path: Path) -> dict[str, Any]:
    """Settings in the header of one of our checkpoints."""
    try:
        with safe_open(path, framework="np") as opened:
            text = (opened.metadata() or {}).get("settings", "")
        return present_settings(typed(parse_json(text, "its header"), dict[str, Any], "settings"))
    except FOREIGN_ERRORS as error:
        raise MelismaError(
            f"{path} is no checkpoint of Melisma (truncated or damaged?): copy it again"
        ) from error


def _count(path: Path) -> int:
    """Numbers in a checkpoint; scales of rows left out."""
    try:
        with safe_open(path, framework="np") as opened:
            names = [name for name in opened.keys() if not name.endswith("::scales")]  # noqa: SIM118 - no mapping
            return sum(prod(opened.get_slice(name).get_shape()) for name in names)
    except FOREIGN_ERRORS as error:
        raise MelismaError(f"{path} is truncated or damaged: copy it again") from error


def _published(name: str, folder: Path) -> ModelFacts:
    """A published checkpoint in a folder."""
    config, tensors = read_config(folder), PublishedTensors(folder)
    source = str(config.get("_name_or_path", "")).split("@")[0]
    known = PUBLISHED.get(name.split("@")[0]) or PUBLISHED.get(source)
    codec = config.get("audio_encoder")
    if not isinstance(codec, Mapping):
        raise MelismaError(f"{folder}/config.json describes no audio_encoder: it is not whole")

    def count(prefix: str) -> int:
        # T5's table stands in the file twice.
        names = [n for n in tensors.names(prefix) if not n.endswith("encoder.embed_tokens.weight")]
        return sum(prod(tensors.shape(n)) for n in names if not n.endswith(_CODEC_STATE))

    facts = _musicgen(name, config)
    return replace(
        facts,
        licence=known.licence if known else PUBLISHED_LICENCE,
        parameters=tensors.parameters,
        disk_bytes=tensors.bytes,
        folder=folder,
        sizes=replace(
            facts.sizes,
            text_parameters=count("text_encoder."),
            codec_parameters=count("audio_encoder."),
        ),
    )


def _known(name: str) -> ModelFacts:
    """A published checkpoint by its name: as it lies in the cache, or as it is known."""
    repository = name.split("@")[0]
    known = PUBLISHED[repository]
    if hub_card(name, offline=True).cached:
        try:
            return _published(name, published_folder(name, offline=True))
        except MelismaError:  # damaged: it would have to be fetched again
            pass
    facts = _musicgen(name, _config(repository))
    return replace(
        facts, licence=known.licence, parameters=known.parameters, disk_bytes=known.bytes
    )


def _config(repository: str) -> dict[str, Any]:
    """What decides the sizes of a published name, in the layout of its config.json."""
    parts = repository.split("/")[1].split("-")
    # musicgen-melody, without a size, is the medium one.
    size = next((part for part in parts if part in _SIZES), "medium")
    layers, width, heads = _SIZES[size]
    stereo = "stereo" in parts
    return {
        "model_type": "musicgen_melody" if "melody" in parts else "musicgen",
        "text_encoder": {"d_model": 768},
        "audio_encoder": _CODEC,
        "decoder": {
            "hidden_size": width,
            "ffn_dim": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_codebooks": 8 if stereo else 4,
            "vocab_size": 2_048,
            "audio_channels": 2 if stereo else 1,
        },
    }


@dataclass(frozen=True, kw_only=True)
class _CodecConfig:
    """What of EnCodec's configuration decides sizes."""

    sampling_rate: int = 24_000
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)


def _musicgen(name: str, config: Mapping[str, Any]) -> ModelFacts:
    """From a configuration alone; parameters and place are still to be filled in."""
    checked = musicgen_config(config, name)
    decoder, melody = checked.decoder, checked.melody
    codec = some_fields(config["audio_encoder"], _CodecConfig, "audio_encoder")
    samples_per_frame = prod(codec.upsampling_ratios)
    if not 0 < samples_per_frame <= codec.sampling_rate <= _MAX_RATE_HZ:
        raise MelismaError(f"the configuration of {name} describes no codec of sound")
    settings = {
        "width": decoder.hidden_size,
        "layers": decoder.num_hidden_layers,
        "heads": decoder.num_attention_heads,
        "levels": decoder.num_codebooks,
        "vocabulary": decoder.vocab_size,
        "pattern": "delayed_pairs" if checked.stereo else "delayed",
        "window_frames": decoder.max_position_embeddings,
        "expansion": decoder.ffn_dim / decoder.hidden_size,
        "norm": "layer",
        "feed_forward": "gelu",
        "conditions": {
            "text_width": checked.text_width,
            "text_before": melody,
            "chroma_frames": checked.chroma_length if melody else 0,
        },
    }
    stage = replace(
        StageShape.of(settings, codec.sampling_rate / samples_per_frame),
        longest_seconds=WINDOW_SECONDS,
        stride_seconds=STRIDE_SECONDS,
    )
    return ModelFacts(
        name=name,
        sound=True,
        scores=False,
        melody=melody,
        single=True,
        licence=PUBLISHED_LICENCE,
        parameters=0,
        disk_bytes=0,
        folder=None,
        sizes=ModelSizes(
            stages=(stage,),
            text_parameters=_TEXT_PARAMETERS,
            codec_parameters=_CODEC_PARAMETERS,
            half_precision=multiplies_bfloat16(),
            rate_hz=codec.sampling_rate,
            channels=2 if checked.stereo else 1,
        ),
        codec=config["audio_encoder"],
    )
