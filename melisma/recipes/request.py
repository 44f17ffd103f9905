"""What a run of the chain was asked for, and the model's folder that it fills."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch

from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.generation.loading import model_folder
from melisma.tokenizers import AudioTokenizers, TokenizerPaths

TOKENIZERS = ("codec", "semantic", "joint")
"""Parts that decide tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a run of the chain was asked for."""

    data: Path
    output: Path
    size: str
    changes: Mapping[str, str]
    """Settings of the tree by their dotted names, as words."""
    device: str
    words: Path | None
    """A folder of human captions for the text tower; None: our own sentences alone."""
    start: Path | None
    """A model's folder to continue from; "default" is the shipped one."""
    captions: str = "exact"
    """Which captions the single stage learns from: one of
    `melisma.train.datasets.captions.KINDS`."""

    def part(self, name: str) -> Path:
        """The folder of one part."""
        return self.output / name

    @property
    def model(self) -> Path:
        """What `melisma generate --model` loads."""
        return self.output / "model"

    def weights(self, name: str) -> Path:
        """One file of the model's folder."""
        return self.model / f"{name}.safetensors"

    @property
    def splits(self) -> Path:
        """The file that remembers which pieces are held out: that of the score model where it was
        trained in this folder."""
        folder = self.part("score") if self.part("score").is_dir() else self.part("prints")
        return folder / "splits.json"

    def model_with(self, name: str) -> Path:
        """The run's own model where it has this part, else what it starts from: the shipped one
        where nothing was said."""
        own = self.weights(name).is_file()
        return self.model if own else self.start or model_folder("default")

    def started_from(self, name: str) -> dict[str, torch.Tensor] | None:
        """Weights to continue from."""
        path = None if self.start is None else self.start / f"{name}.safetensors"
        return None if path is None or not path.is_file() else read_checkpoint(path).tensors


def ship_part(order: RunRequest, name: str, source: Path | None = None) -> None:
    """Puts a part's averaged weights into the model's folder.

    Ears are rounded to float16 here, as they will be shipped, so that just those make the tokens.
    """
    checkpoint = read_checkpoint(source or order.part(name) / "weights.safetensors")
    precision = "float16" if name in ("codec", "semantic") else "float32"
    write_checkpoint(order.weights(name), checkpoint, precision=precision)


def frozen_tokenizers(order: RunRequest) -> AudioTokenizers:
    """The ears of the model's folder; a sentence says what is missing."""
    return AudioTokenizers.read(TokenizerPaths.of(order.model), order.device)
