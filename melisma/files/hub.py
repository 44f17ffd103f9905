"""From the name of a published checkpoint to its folder: the cache first, then the hub.

Enters: a folder, or a name on the Hugging Face hub ("owner/name", with "@revision" where one is
meant). Leaves: a folder for `transformers_checkpoint.py`, in the cache of the package
huggingface_hub, which is imported here alone and only when a name is asked for (the extra `hub`).
Fetched are configuration, tokenizer and safetensors, never pickled weights and never code. What
lies whole in the cache is taken without asking the hub; with HF_HUB_OFFLINE=1 nothing else is done.

`hub_card` says before anything is fetched under which licence and how large it is.
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
"""All that is fetched. Not every *.safetensors: beside half precision some repositories hold the
same weights once more as `model.fp32.safetensors`."""
_NAME = re.compile(r"(?P<owner>[\w-][\w.-]*)/(?P<name>[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
_TRUE = ("1", "ON", "YES", "TRUE")
"""What huggingface_hub takes for true in an environment variable."""
_TIMEOUT_SECONDS = 10.0
"""How long the hub may take to tell size and licence (chosen; huggingface_hub's own default)."""


@dataclass(frozen=True, kw_only=True)
class KnownCheckpoint:
    """What is known of a published checkpoint without asking."""

    parameters: int
    """Numbers in its files: text encoder, token model, codec and its tables."""
    bytes: int
    """Its safetensors files, headers (below 0.1 MB) left out."""
    licence: str = "CC BY-NC 4.0"
    revision: str | None = None
    """Where its safetensors lie while its main branch holds pickled weights alone."""


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
"""Every MusicGen that was published for transformers (2306.05284). Licence: their model cards.
Parameters: counted over the shapes that their configurations give; as float32 or float16 they come
to the sizes that the hub lists for the files, within its rounding. Revisions: pull requests
of the hub's own converter to safetensors. Pages of the hub as of 2024 and 2025."""


@dataclass(frozen=True, kw_only=True)
class HubCard:
    """What a name is, before anything is fetched; None where neither the hub nor `PUBLISHED`
    says it."""

    licence: str | None
    bytes: int | None
    """What would be fetched, or is in the cache."""
    parameters: int | None
    cached: bool
    """Whether it lies whole in the cache, so that nothing needs to be fetched."""


def published_folder(name: str, *, offline: bool | None = None) -> Path:
    """The folder of a checkpoint: one that exists as it is, otherwise that of a name on the hub,
    from the cache, or fetched.

    `offline`: never ask the hub; by default what HF_HUB_OFFLINE says. Raises `ValueError` with what
    to do: no such folder or name, the extra `hub` is not installed, not in the cache, no network,
    no access, pickled weights alone. A full disk is an `OSError`.
    """
    # An empty name would be the folder that one is in.
    if name and Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    repository, revision = _split(name)
    hub, errors = _packages(name)
    cached = _cached(hub, repository, revision)
    if cached is not None:
        return cached
    if _offline(offline):
        raise ValueError(
            f"{name} is no folder and not whole in the cache of the hub, and nothing is fetched "
            f"offline (HF_HUB_OFFLINE): {_download_command(repository, revision)}, or give a folder"
        )
    try:
        folder = Path(
            hub.snapshot_download(repository, revision=revision, allow_patterns=list(FETCHED))
        )
    except Exception as error:  # its network library's own errors differ between versions
        raise _spoken(error, name, errors) from error
    lacking = missing_weights(folder)
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{name} holds no {CONFIG} on the hub: it is not in transformers' layout")
    if lacking == (WEIGHTS,):
        raise ValueError(_without_safetensors(repository))
    if lacking:
        raise ValueError(f"{name} lacks {lacking[0]} on the hub, which its {INDEX} names")
    return folder


def hub_card(name: str, *, offline: bool | None = None) -> HubCard:
    """Licence and size of a name on the hub, from the hub where it can be reached, otherwise from
    `PUBLISHED`; nothing is fetched and no network is an answer too.

    Raises `ValueError` where the name is none, or the extra `hub` is not installed and the name
    not in `PUBLISHED`.
    """
    repository, revision = _split(name)
    known = PUBLISHED.get(repository)
    try:
        hub, _ = _packages(name)
    except ValueError:
        if known is None:
            raise
        return _card(known, None, None, cached=False)
    cached = _cached(hub, repository, revision) is not None
    if _offline(offline):
        return _card(known, None, None, cached=cached)
    try:
        told = hub.HfApi().model_info(
            repository, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    except Exception:  # as above; a card is a courtesy, and `published_folder` says what is wrong
        return _card(known, None, None, cached=cached)
    return _card(known, _licence(told), _fetched_bytes(told), cached=cached)


def _card(
    known: KnownCheckpoint | None, licence: str | None, told_bytes: int | None, *, cached: bool
) -> HubCard:
    """What was told, and for the rest what is known."""
    return HubCard(
        licence=licence or (known.licence if known else None),
        bytes=told_bytes or (known.bytes if known else None),
        parameters=known.parameters if known else None,
        cached=cached,
    )


def _licence(told: Any) -> str | None:
    """The licence in the hub's tags, "cc-by-nc-4.0" as people write it."""
    tags = [tag for tag in told.tags or [] if tag.startswith("license:")]
    if not tags:
        return None
    licence = tags[0].removeprefix("license:")
    found = re.fullmatch(r"cc-([a-z-]+)-(\d\.\d)", licence)
    return f"CC {found[1].upper()} {found[2]}" if found else licence


def _fetched_bytes(told: Any) -> int | None:
    """Size of the files that would be fetched, None where there are no weights among them."""
    sizes = {
        file.rfilename: file.size or 0
        for file in told.siblings or []
        if any(fnmatch.fnmatchcase(file.rfilename, pattern) for pattern in FETCHED)
    }
    weights = any(file.endswith(".safetensors") for file in sizes)
    return sum(sizes.values()) or None if weights else None


def _split(name: str) -> tuple[str, str | None]:
    """Repository and revision of a name."""
    if name and Path(name).expanduser().exists():
        raise ValueError(f"{name} is a file or folder here: a checkpoint is a folder, or a name")
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"there is no folder {name}, and it is no name on the hub either: those are "
            "owner/name, like facebook/musicgen-small"
        )
    return f"{found['owner']}/{found['name']}", found["revision"]


def _packages(name: str) -> tuple[ModuleType, ModuleType]:
    """huggingface_hub and its errors."""
    try:
        hub = importlib.import_module("huggingface_hub")
        return hub, importlib.import_module("huggingface_hub.errors")
    except ImportError as error:
        raise ValueError(
            f"there is no folder {name}, and to fetch it from the hub the package huggingface_hub "
            "is needed: pip install 'melisma[hub]'; a folder that was downloaded works without it"
        ) from error


def _offline(wished: bool | None) -> bool:
    if wished is not None:
        return wished
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _cached(hub: ModuleType, repository: str, revision: str | None) -> Path | None:
    """The folder in the cache, if configuration, weights and tokenizer are there whole."""
    try:
        # Asked for more than the configuration, the package would refuse a cache that lacks a file
        # which we can do without.
        folder = Path(
            hub.snapshot_download(
                repository, revision=revision, allow_patterns=[CONFIG], local_files_only=True
            )
        )
        # Another program may have fetched only a part of it, or pickled weights.
        whole = (folder / CONFIG).is_file() and not missing_weights(folder)
    except (OSError, ValueError):
        return None
    words = any((folder / name).is_file() for name in ("tokenizer.json", "spiece.model"))
    return folder if whole and words else None


def _spoken(error: Exception, name: str, errors: ModuleType) -> Exception:
    """One sentence about why something could not be fetched."""
    repository, revision = _split(name)
    page = f"https://huggingface.co/{repository}"
    if isinstance(error, errors.GatedRepoError):
        said = f"{name} is given only to those who accepted its terms: do so at {page}, then log in"
        return ValueError(f"{said}, `hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"{repository} has no revision {revision} on the hub: see {page}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(
            f"there is no folder {name} and no {repository} on the hub, or it is private: check "
            "the name, or log in with `hf auth login`"
        )
    if isinstance(error, errors.HFValidationError):
        return ValueError(f"{name} is no name on the hub: those are owner/name")
    # In older versions of the package what is absent from the cache is an HTTP error too.
    absent = isinstance(error, errors.LocalEntryNotFoundError)
    if isinstance(error, errors.HfHubHTTPError) and not absent:
        reason = str(error).strip().split("\n")[0]
        return ValueError(f"the hub refused {name} ({reason}): try again later, or see {page}")
    if type(error) is OSError and error.errno is not None:
        return error  # the disk, not the network
    return ValueError(
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
