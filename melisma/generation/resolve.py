"""Resolves names of models, once, at the entrance: everything below takes a `ModelRef`.

Nothing here loads torch or reads weights; only `local_model` fetches anything.
"""

from __future__ import annotations

import difflib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Literal

from melisma.files.hub import (
    PUBLISHED,
    check_hub_name,
    expanded,
    is_hub_name,
    published_folder,
)
from melisma.files.transformers_checkpoint import is_published
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef

SHIPPED = Path(__file__).resolve().parent.parent / "weights"
"""Where the shipped models lie, one folder each."""
SHIPPED_LICENCE = "CC BY-SA 4.0"
"""Of the weights of the shipped models."""
UNSTATED_LICENCE = "not stated"
"""Of the weights of a user's own training: theirs to decide."""
PUBLISHED_LICENCE = "CC BY-NC 4.0"
"""Of MusicGen's published weights, whatever their size."""

HUB_PREFIX = "hub:"
"""Before the name of a checkpoint on the hub that is not among `PUBLISHED`."""
_SHOWN_CHARACTERS = 100
"""Most characters of a name that a message quotes."""
_MOST_NEIGHBOURS = 1_000
"""Most entries of a folder that are compared with a name."""


def resolve_model(model: str | Path | ModelRef) -> ModelRef:
    """Resolves a model's name, once: everything below takes the reference.

    Args:
        model: The name of a shipped model, the folder of a training or of a MusicGen checkpoint in
            the layout of transformers, or the name of such a checkpoint on the hub, with
            "@revision" or not: one of those published by its authors ("facebook/musicgen-small"),
            or any other after "hub:" ("hub:owner/name"). No other name contacts the hub.

    Raises:
        MelismaError: There is no such model; the message says what there is.
    """
    if isinstance(model, ModelRef):
        return model
    name = str(model)
    if name and "/" not in name and _is_folder(SHIPPED / name):
        return _reference(name, "shipped", "melisma", SHIPPED / name)
    if "\0" in name:
        raise MelismaError("the name of a model holds no zero byte")
    folder = expanded(name)
    if name and _is_folder(folder):
        family = "musicgen" if is_published(folder) else "melisma"
        source = "shipped" if folder.resolve().parent == SHIPPED else "folder"
        return _reference(name, source, family, folder)
    repository = name.removeprefix(HUB_PREFIX)
    if name.startswith(HUB_PREFIX) or (
        repository.split("@")[0] in PUBLISHED and not folder.exists()
    ):
        check_hub_name(repository)
        return _reference(repository, "hub", "musicgen", None)
    raise MelismaError(_unknown(name))


def is_known(model: ModelRef) -> bool:
    """Whether it is known what a model is without fetching it: it is on this machine, or one of
    those whose sizes are listed."""
    return model.folder is not None or model.repository in PUBLISHED


def _is_folder(path: Path) -> bool:
    """Whether a path is that of a folder; one that no system would take is not."""
    try:
        return path.is_dir()
    except OSError:  # too long
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _unknown(name: str) -> str:
    """The sentence about a name that is no model: the nearest names, or those that there are."""
    folder = expanded(name)
    if _is_file(folder):
        return f'"{name}" is a file: the name of a model is that of its folder'
    shipped = sorted(path.name for path in SHIPPED.glob("*") if path.is_dir())
    names = [*shipped, *PUBLISHED, *_neighbours(name)]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6) if name else []
    shown = name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…"
    message = f'no model "{shown}": there is no such folder, and no shipped or published model is '
    message += "called that"
    if near:
        message += f" (did you mean {' or '.join(near)}?)"
    else:
        message += f"; known are {', '.join(shipped) or 'none'}, the folder of a training, and "
        message += "published checkpoints (`melisma models` lists them)"
    if is_hub_name(name) and not near:
        message += f"; a model on the hub that is not listed is asked for as {HUB_PREFIX}{name}"
    return message


def _neighbours(name: str) -> list[str]:
    """Folders that lie where the named one would lie, written as it is."""
    parent = expanded(name).parent
    written = name[: len(name) - len(Path(name).name)] if name else ""
    try:
        found = itertools.islice(parent.iterdir(), _MOST_NEIGHBOURS)
        return [written + path.name for path in found if path.is_dir()]
    except (OSError, ValueError):
        return []


def _reference(
    name: str,
    source: Literal["shipped", "folder", "hub"],
    family: Literal["melisma", "musicgen"],
    folder: Path | None,
) -> ModelRef:
    licence = SHIPPED_LICENCE if source == "shipped" else UNSTATED_LICENCE
    if family == "musicgen":
        licence = PUBLISHED_LICENCE
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
