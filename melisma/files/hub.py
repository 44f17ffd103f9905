"""Resolution of a published checkpoint's name to a local folder: the cache first, then the hub.

Input: a folder, or a name on the Hugging Face hub ("owner/name", optionally with "@revision").
Output: a folder for `transformers_checkpoint.py`, in the cache of the package huggingface_hub,
which is imported only here and only when a name is resolved (the extra `hub`). Configuration,
tokenizer and safetensors are downloaded, never pickled weights and never code. A checkpoint that is
complete in the cache is used without contacting the hub; with HF_HUB_OFFLINE=1 the hub is never
contacted.

`hub_card` gives licence and size before anything is downloaded.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from melisma.files.transformers_checkpoint import (
    CONFIG,
    INDEX,
    WEIGHTS,
    conversion_command,
    missing_weights,
)
from melisma.values.errors import MelismaError

FETCHED = (
    CONFIG,
    "generation_config.json",
    "preprocessor_config.json",
    WEIGHTS,
    "model-?????-of-?????.safetensors",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "spiece.model",
)
"""Patterns of the files that are downloaded. Not every *.safetensors: some repositories hold the
same weights twice, in half precision and as `model.fp32.safetensors`."""
_NAME = re.compile(r"(?P<owner>[\w-][\w.-]*)/(?P<name>[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
_TRUE = ("1", "ON", "YES", "TRUE")
"""Values of an environment variable that huggingface_hub reads as true."""
_TIMEOUT_SECONDS = 10.0
"""Timeout of the request for size and licence (chosen: huggingface_hub's own default)."""


@dataclass(frozen=True, kw_only=True)
class KnownCheckpoint:
    """Built-in metadata of a published checkpoint."""

    parameters: int
    """Number of values in its files: text encoder, token model, codec and its tables."""
    bytes: int
    """Size of its safetensors files, without headers (below 0.1 MB)."""
    licence: str = "CC BY-NC 4.0"
    revision: str | None = None
    """Revision with safetensors files where the main branch has only pickled weights."""


def _known(parameters: int, width_bytes: int, revision: str | None = None) -> KnownCheckpoint:
    return KnownCheckpoint(parameters=parameters, bytes=parameters * width_bytes, revision=revision)


PUBLISHED = {
    "facebook/musicgen-small": _known(591_087_174, 4),
    "facebook/musicgen-medium": _known(2_010_502_214, 4, "refs/pr/10"),
    "facebook/musicgen-large": _known(3_429_769_798, 4, "refs/pr/18"),
    "facebook/musicgen-melody": _known(1_557_389_894, 4),
    "facebook/musicgen-melody-large": _known(2_624_293_446, 4),
    "facebook/musicgen-stereo-small": _known(607_868_486, 2),
    "facebook/musicgen-stereo-medium": _known(2_035_674_182, 2),
    "facebook/musicgen-stereo-large": _known(3_463_332_422, 2),
    "facebook/musicgen-stereo-melody": _known(1_582_561_862, 4),
    "facebook/musicgen-stereo-melody-large": _known(2_657_856_070, 4),
}
"""Every MusicGen published for transformers (2306.05284). Licence: their model cards. Parameters:
counted over the shapes that their configurations give; as float32 or float16 they match the file
sizes that the hub lists, within its rounding. Revisions: pull requests of the hub's own converter
to safetensors. Pages of the hub as of 2024 and 2025."""


@dataclass(frozen=True, kw_only=True)
class HubCard:
    """Metadata of a checkpoint on the hub; None where neither the hub nor `PUBLISHED` has it."""

    licence: str | None
    bytes: int | None
    """Size of the download, or of the files in the cache."""
    parameters: int | None
    """Number of parameters."""
    cached: bool
    """Whether the cache holds it completely, so that nothing needs to be downloaded."""


def published_folder(name: str, *, offline: bool | None = None) -> Path:
    """Local folder of a checkpoint; downloads it where necessary.

    Args:
        name: An existing folder, or a name on the hub, "owner/name" or "owner/name@revision".
        offline: Never contact the hub; None: as HF_HUB_OFFLINE says.

    Returns:
        The folder itself, or the snapshot in the hub's cache.

    Raises:
        MelismaError: No such folder or name, the extra `hub` is not installed, not in the cache, no
            network, no access, or only pickled weights; the message says what to do.
        OSError: The disk is full.
    """
    # An empty name would be the working directory.
    if name and expanded(name).is_dir():
        return expanded(name)
    repository, revision = _split(name)
    hub, errors = _packages(name)
    cached = _cached(hub, repository, revision)
    if cached is not None:
        return cached
    if _offline(offline):
        raise MelismaError(
            f"{name} is no folder and not whole in the cache of the hub, and nothing is fetched "
            f"offline (HF_HUB_OFFLINE): {_download_command(repository, revision)}, or give a folder"
        )
    try:
        folder = Path(
            hub.snapshot_download(repository, revision=revision, allow_patterns=list(FETCHED))
        )
    except Exception as error:  # its network library's own errors differ between versions
        raise _explained(error, name, errors) from error
    lacking = missing_weights(folder)
    if not (folder / CONFIG).is_file():
        raise MelismaError(
            f"{name} holds no {CONFIG} on the hub: it is not in transformers' layout"
        )
    if lacking == (WEIGHTS,):
        raise MelismaError(_without_safetensors(repository))
    if lacking:
        raise MelismaError(f"{name} lacks {lacking[0]} on the hub, which its {INDEX} names")
    return folder


def hub_card(name: str, *, offline: bool | None = None) -> HubCard:
    """Licence and size of a checkpoint, from the hub where it can be reached, otherwise from
    `PUBLISHED`. Nothing is downloaded, and a missing network is no error.

    Args:
        name: A name on the hub, "owner/name" or "owner/name@revision".
        offline: Never contact the hub; None: as HF_HUB_OFFLINE says.

    Raises:
        MelismaError: The name is malformed, or the extra `hub` is not installed and the name is not
            in `PUBLISHED`.
    """
    repository, revision = _split(name)
    known = PUBLISHED.get(repository)
    try:
        hub, _ = _packages(name)
    except MelismaError:
        if known is None:
            raise
        return _card(known, None, None, cached=False)
    cached = _cached(hub, repository, revision) is not None
    if _offline(offline):
        return _card(known, None, None, cached=cached)
    try:
        info = hub.HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    except Exception:  # as above; the card is optional, and `published_folder` reports the error
        return _card(known, None, None, cached=cached)
    return _card(known, _licence(info), _download_bytes(info), cached=cached)


def expanded(name: str) -> Path:
    """A path with "~" resolved where that user exists (`Path.expanduser` fails where not)."""
    return Path(os.path.expanduser(name))


def is_hub_name(name: str) -> bool:
    """Whether a text has the form of a name on the hub, "owner/name" or "owner/name@revision"."""
    return _NAME.fullmatch(name) is not None


def check_hub_name(name: str) -> None:
    """Raises `MelismaError` unless a text has the form of a name on the hub."""
    if not is_hub_name(name):
        raise MelismaError(
            f'"{name}" is no name on the hub: those are owner/name, like facebook/musicgen-small'
        )


def _card(
    known: KnownCheckpoint | None, licence: str | None, hub_bytes: int | None, *, cached: bool
) -> HubCard:
    """The hub's metadata, completed by the built-in ones."""
    return HubCard(
        licence=licence or (known.licence if known else None),
        bytes=hub_bytes or (known.bytes if known else None),
        parameters=known.parameters if known else None,
        cached=cached,
    )


def _licence(info: Any) -> str | None:
    """The licence in the hub's tags, in its usual spelling ("CC BY-NC 4.0")."""
    tags = [tag for tag in info.tags or [] if tag.startswith("license:")]
    if not tags:
        return None
    licence = tags[0].removeprefix("license:")
    found = re.fullmatch(r"cc-([a-z-]+)-(\d\.\d)", licence)
    return f"CC {found[1].upper()} {found[2]}" if found else licence


def _download_bytes(info: Any) -> int | None:
    """Size of the files that would be downloaded, None where none of them holds weights."""
    sizes = {
        file.rfilename: file.size or 0
        for file in info.siblings or []
        if any(fnmatch.fnmatchcase(file.rfilename, pattern) for pattern in FETCHED)
    }
    weights = any(file.endswith(".safetensors") for file in sizes)
    return sum(sizes.values()) or None if weights else None


def _split(name: str) -> tuple[str, str | None]:
    """Repository and revision of a name."""
    if name and expanded(name).exists():
        raise MelismaError(f"{name} is a file or folder here: a checkpoint is a folder, or a name")
    found = _NAME.fullmatch(name)
    if found is None:
        raise MelismaError(
            f"there is no folder {name}, and it is no name on the hub either: those are "
            "owner/name, like facebook/musicgen-small"
        )
    return f"{found['owner']}/{found['name']}", found["revision"]


def _packages(name: str) -> tuple[ModuleType, ModuleType]:
    """The modules huggingface_hub and huggingface_hub.errors."""
    try:
        hub = importlib.import_module("huggingface_hub")
        return hub, importlib.import_module("huggingface_hub.errors")
    except ImportError as error:
        raise MelismaError(
            f"there is no folder {name}, and to fetch it from the hub the package huggingface_hub "
            "is needed: pip install 'melisma[hub]'; a folder that was downloaded works without it"
        ) from error


def _offline(requested: bool | None) -> bool:
    if requested is not None:
        return requested
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _cached(hub: ModuleType, repository: str, revision: str | None) -> Path | None:
    """The folder in the cache, if it holds configuration, weights and tokenizer completely."""
    try:
        # With more patterns than the configuration, the package would refuse a cache that lacks an
        # optional file.
        folder = Path(
            hub.snapshot_download(
                repository, revision=revision, allow_patterns=[CONFIG], local_files_only=True
            )
        )
        # Another program may have downloaded only a part of it, or pickled weights.
        whole = (folder / CONFIG).is_file() and not missing_weights(folder)
    except (OSError, ValueError):
        return None
    tokenizer = any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model"))
    return folder if whole and tokenizer else None


def _explained(error: Exception, name: str, errors: ModuleType) -> Exception:
    """The error with one sentence about why a download failed."""
    repository, revision = _split(name)
    page = f"https://huggingface.co/{repository}"
    if isinstance(error, errors.GatedRepoError):
        message = (
            f"{name} is given only to those who accepted its terms: do so at {page}, then log in"
        )
        return MelismaError(f"{message}, `hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        return MelismaError(f"{repository} has no revision {revision} on the hub: see {page}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return MelismaError(
            f"there is no folder {name} and no {repository} on the hub, or it is private: check "
            "the name, or log in with `hf auth login`"
        )
    if isinstance(error, errors.HFValidationError):
        return MelismaError(f"{name} is no name on the hub: those are owner/name")
    # In older versions of the package an absent cache entry is an HTTP error too.
    absent = isinstance(error, errors.LocalEntryNotFoundError)
    if isinstance(error, errors.HfHubHTTPError) and not absent:
        reason = str(error).strip().split("\n")[0]
        return MelismaError(f"the hub refused {name} ({reason}): try again later, or see {page}")
    if type(error) is OSError and error.errno is not None:
        return error  # the disk, not the network
    return MelismaError(
        f"{name} is not whole in the cache, and the hub cannot be reached: "
        f"{_download_command(repository, revision)}, or give a folder"
    )


def _download_command(repository: str, revision: str | None) -> str:
    at = f" --revision {revision}" if revision else ""
    return f"fetch it where there is a network, `hf download {repository}{at}`"


def _without_safetensors(repository: str) -> str:
    known = PUBLISHED.get(repository)
    elsewhere = ""
    if known is not None and known.revision is not None:
        elsewhere = f"ask for {repository}@{known.revision}, where they lie as safetensors, or "
    return (
        f"{repository} has only pickled weights on the hub, which can run any code and are never "
        f"read here: {elsewhere}if you trust them, convert them once, "
        f"{conversion_command(repository)}, and give that folder"
    )
