"""Public encoders of sound as embeddings: CLAP, or any audio encoder of the package transformers.

Optional: the extra `hub` (transformers, huggingface_hub) is imported when an encoder is requested.
CLAP (Wu et al., 2211.06687) yields its audio projection of windows of ten seconds; other encoders
(wav2vec 2.0, HuBERT, AST ...) yield the mean over time of their last hidden state, windows of five.
VGGish itself is not a model of transformers: its distance can be measured only where its weights
were converted to an encoder that transformers supports.

Weights are read from safetensors only; pickled weights (`pytorch_model.bin`) and code that comes
with a model (`trust_remote_code`, as MERT's) are refused, because both can run arbitrary code. A
folder is read offline; a name is downloaded once into the cache of huggingface_hub, or with
`HF_HUB_OFFLINE=1` only looked up there. Licences of such weights are those of their authors: they
serve measurement only.

Inputs and outputs are those of `embedding.Embedding`.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from melisma.evaluate.models.embedding import HOP_SECONDS, WINDOW_SECONDS, Embedding
from melisma.files.checkpoint import fingerprint_of
from melisma.values.errors import MelismaError

CLAP_WINDOW_SECONDS = 10.0
CLAP_HOP_SECONDS = 5.0
"""CLAP was trained on ten seconds; shorter sound would be repeated."""
BATCH = 8
"""Windows encoded at a time (bounds memory)."""
DOWNLOADED_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "preprocessor_config.json",
]
"""All that is downloaded of a model: neither pickled weights nor code."""


@final
class HubEmbedding(Embedding):
    """An encoder of transformers with its feature extractor, frozen."""

    kind = "HubEmbedding"

    def __init__(self, place: str, model: torch.nn.Module, extractor: Any) -> None:
        """Wraps an encoder; its width is found by encoding one window of silence.

        Args:
            place: Folder or name on the hub, for the embedding's name and for messages.
            model: The encoder.
            extractor: The feature extractor: called with windows it returns the encoder's inputs.

        Raises:
            MelismaError: If the encoder does not accept sound alone.
        """
        clap = model.config.model_type in ("clap", "clap_audio_model")  # type: ignore[union-attr]
        self.model, self.extractor, self.is_clap = model.eval(), extractor, clap
        self.name = f"hub:{Path(place).name if Path(place).is_dir() else place}"
        self.rate_hz = int(extractor.sampling_rate)
        self.window_seconds = CLAP_WINDOW_SECONDS if clap else WINDOW_SECONDS
        self.hop_seconds = CLAP_HOP_SECONDS if clap else HOP_SECONDS
        self.width = 0
        silence = np.zeros((1, round(self.window_seconds * self.rate_hz)), dtype=np.float32)
        try:
            self.width = self.embed_windows(silence).shape[1]
        except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
            raise MelismaError(
                f"{place} is no encoder that takes sound alone and has a last hidden state: "
                "give CLAP, wav2vec 2.0, HuBERT, AST or one like them"
            ) from error

    @property
    def weights_fingerprint(self) -> str:
        settings = {"extractor": _plain(self.extractor.to_dict())}
        return fingerprint_of("hub", settings, self.model.state_dict())

    @torch.no_grad()
    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(windows), BATCH):
            rows = list(windows[start : start + BATCH])
            inputs = dict(self.extractor(rows, sampling_rate=self.rate_hz, return_tensors="pt"))
            if "is_longer" in inputs:
                # The extractor of fused CLAP takes one window at random for longer than it is.
                inputs["is_longer"] = torch.zeros(len(rows), 1, dtype=torch.bool, device="cpu")
            answer = self.model(**inputs)
            vectors = answer.audio_embeds if self.is_clap else answer.last_hidden_state.mean(dim=1)
            parts.append(vectors.float().numpy())
        return np.concatenate(parts)


def _plain(value: Any) -> Any:
    """Settings as JSON values; arrays, which follow from other settings, are left out."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if not isinstance(v, np.ndarray)}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def read_hub_embedding(place: str) -> HubEmbedding:
    """Reads an encoder from a folder or from the Hugging Face hub.

    Args:
        place: A folder, or a name on the hub ("owner/model", optionally with "@revision").

    Raises:
        MelismaError: With what to do: a package, folder or download is missing, the weights are
            pickled, the model needs code of its own, or it is not an encoder of sound.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MelismaError(
            f'the embedding hub:{place} needs transformers: `pip install "melisma[hub]"`'
        )
    transformers = importlib.import_module("transformers")
    folder = Path(place) if Path(place).is_dir() else _downloaded(place)
    _expect_safetensors(place, folder)
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        # Only the audio tower of CLAP is read.
        kind = "ClapAudioModelWithProjection" if config.model_type == "clap" else "AutoModel"
        model = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise MelismaError(
            f"{place} cannot be read as an encoder of sound that transformers itself knows (code "
            f"that comes with a model is never run): {reason}"
        ) from error
    return HubEmbedding(place, model, extractor)


def _downloaded(place: str) -> Path:
    """Folder of a model of the hub in the cache, downloaded where that is allowed."""
    name, _, revision = place.partition("@")
    hub = importlib.import_module("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        found = hub.snapshot_download(
            name, revision=revision or None, allow_patterns=DOWNLOADED_FILES
        )
    except errors.HFValidationError as error:
        raise MelismaError(
            f"{place} is neither a folder nor the name of a model (owner/model)"
        ) from error
    except (OSError, ValueError, errors.HfHubHTTPError) as error:
        raise MelismaError(
            f"there is no folder {place}, and the model of that name is not in the cache and could "
            "not be fetched (no network, HF_HUB_OFFLINE, or no such model): fetch it where there "
            f"is a network, `hf download {name}`, and give its folder"
        ) from error
    return Path(found)


def _expect_safetensors(place: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise MelismaError(f"{place} holds no config.json: give the folder of a transformers model")
    if any(folder.glob("*.safetensors")):
        return
    raise MelismaError(
        f"{place} has no weights as safetensors, and pickled ones are never read here, as they can "
        'run code. If you trust them, convert them once: python -c "from transformers import '
        f"AutoModel as M, AutoFeatureExtractor as E; n = '{place}'; "
        "M.from_pretrained(n).save_pretrained('FOLDER'); E.from_pretrained(n)"
        ".save_pretrained('FOLDER')\" and give hub:FOLDER"
    )
