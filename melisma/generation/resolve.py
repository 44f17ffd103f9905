"""Resolves names of models, once, at the entrance: everything below takes a `ModelRef`.

Nothing here loads torch or reads weights; only `local_model` fetches anything.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from melisma.files.hub import published_folder
from melisma.files.transformers_checkpoint import is_published
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef

SHIPPED = Path(__file__).resolve().parent.parent / "weights"
"""Where the shipped models lie, one folder each."""
OWN_LICENCE = "CC BY-SA 4.0"
"""Of the shipped model and what it makes."""
PUBLISHED_LICENCE = "CC BY-NC 4.0"
"""Of MusicGen's published weights, whatever their size; what they make bears it, too."""


def resolve_model(model: str | Path | ModelRef) -> ModelRef:
    """Resolves a model's name, once: everything below takes the reference.

    Args:
        model: The name of a shipped model, the folder of a training or of a MusicGen checkpoint in
            the layout of transformers, or the name of such a checkpoint on the hub, with
            "@revision" or not ("facebook/musicgen-small").

    Raises:
        MelismaError: There is no such model; the message says what there is.
    """
    if isinstance(model, ModelRef):
        return model
    name = str(model)
    if name and "/" not in name and (SHIPPED / name).is_dir():
        return _reference(name, "shipped", "melisma", SHIPPED / name)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        family = "musicgen" if is_published(folder) else "melisma"
        source = "shipped" if folder.resolve().parent == SHIPPED else "folder"
        return _reference(name, source, family, folder)
    owner, _, repository = name.partition("/")
    plain = repository.split("@")[0]
    if owner not in ("", ".") and plain and "/" not in plain and not Path(name).exists():
        return _reference(name, "hub", "musicgen", None)
    names = sorted(path.name for path in SHIPPED.glob("*") if path.is_dir())
    raise MelismaError(
        f'no model "{name}": known are {", ".join(names) or "none"}, the folder of a training, and '
        "published checkpoints by folder or name (`melisma models` lists them)"
    )


def _reference(
    name: str,
    source: Literal["shipped", "folder", "hub"],
    family: Literal["melisma", "musicgen"],
    folder: Path | None,
) -> ModelRef:
    licence = OWN_LICENCE if family == "melisma" else PUBLISHED_LICENCE
    return ModelRef(name=name, source=source, family=family, folder=folder, licence=licence)


def local_model(model: str | Path | ModelRef) -> ModelRef:
    """A model of this machine: as `resolve_model`, but one on the hub is fetched if need be.

    Raises:
        MelismaError: As `resolve_model`, or it cannot be fetched.
    """
    reference = resolve_model(model)
    if reference.folder is None:
        return replace(reference, folder=published_folder(reference.name))
    return reference


def model_folder(model: str | Path | ModelRef) -> Path:
    """The folder of one of our own models, a shipped one or one that `melisma train` wrote.

    Raises:
        MelismaError: There is no such model, or it is only on the hub.
    """
    return resolve_model(model).files
