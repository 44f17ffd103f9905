"""Request of a training run: its data, folders and settings, and paths derived from them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from melisma.files.atomic import atomic_write
from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.generation.resolve import model_folder
from melisma.recipes.names import FORMER_NAMES
from melisma.tokenizers import AudioTokenizers, TokenizerPaths

TOKENIZERS = ("codec", "semantic", "joint")
"""Parts of a model that turn audio into tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Data, folders and settings of a training run."""

    data: Path
    """The prepared data."""
    output: Path
    """The folder of the run."""
    size: str
    """One of `SIZES`."""
    changes: Mapping[str, str]
    """Settings by their dotted names, values as typed on the command line."""
    device: str
    """A torch device."""
    words: Path | None
    """Folder of human captions for the text tower; None: synthetic sentences only."""
    start: Path | None
    """Folder of a model whose weights training starts from."""
    captions: str = "exact"
    """Captions that the single stage is trained on: one of
    `melisma.train.datasets.captions.KINDS`."""

    def part(self, name: str) -> Path:
        """The folder of one part; that of its former name where a run has one."""
        former = [old for old, new in FORMER_NAMES.items() if new == name]
        existing = [self.output / one for one in (name, *former) if (self.output / one).is_dir()]
        return existing[0] if existing else self.output / name

    @property
    def model(self) -> Path:
        """The model folder, which `melisma generate --model` loads."""
        return self.output / "model"

    def weights(self, name: str) -> Path:
        """Path of one part's weights in the model folder."""
        return self.model / f"{name}.safetensors"

    @property
    def splits(self) -> Path:
        """The file with the split of each piece: the score model's, if it was trained here."""
        score = self.part("score")
        folder = score if score.is_dir() else self.part("fingerprints")
        return folder / "splits.json"

    def model_with(self, name: str) -> Path:
        """A model folder that has a part: the run's own, else the start, else the shipped one."""
        own = self.weights(name).is_file()
        return self.model if own else self.start or model_folder("default")

    def started_from(self, name: str) -> dict[str, torch.Tensor] | None:
        """Weights of a part to start from; None where there are none."""
        path = None if self.start is None else self.start / f"{name}.safetensors"
        return None if path is None or not path.is_file() else read_checkpoint(path).tensors


def copy_file(source: Path, target: Path) -> None:
    """Copies a file in one step: a run that is killed leaves no half of it."""
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


def ship_part(request: RunRequest, name: str, source: Path | None = None) -> None:
    """Copies a part's averaged weights into the model folder.

    Tokenizers are rounded to float16 here, as they will be shipped, so that training tokens come
    from exactly the shipped weights.
    """
    checkpoint = read_checkpoint(source or request.part(name) / "weights.safetensors")
    precision = "float16" if name in ("codec", "semantic") else "float32"
    write_checkpoint(request.weights(name), checkpoint, precision=precision)


def frozen_tokenizers(request: RunRequest) -> AudioTokenizers:
    """The tokenizers of the run's model folder; an error names a missing one."""
    return AudioTokenizers.read(TokenizerPaths.of(request.model), request.device)
