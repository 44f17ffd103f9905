"""By what a training that is resumed recognizes its own settings and data."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

_NETWORKS = ("codec", "model", "music", "semantic", "tower")
"""Fields of trainings that hold the settings of the network."""
_MOST_VALUES = 1 << 16
"""Most values of an array that are read, evenly spaced (chosen: milliseconds, on a disk too)."""


def other_settings(settings: Any, *data: Any) -> dict[str, Any]:
    """What decides a training beside its network and its loop, as JSON values.

    Args:
        settings: Of the training, a dataclass; its network, its loop and its device are left out.
        data: The training data.
    """
    tree = dataclasses.asdict(settings)
    left_out = {"loop", "device", *_NETWORKS}
    return {name: value for name, value in tree.items() if name not in left_out} | {
        "data": data_fingerprint(*data)
    }


def data_fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that other data almost surely changes.

    Args:
        parts: Arrays, tensors, texts, dataclasses, and sequences and mappings of such. Of long
            arrays a part of the values is read; of real numbers in arrays the shape alone, because
            they are computed, and another number of threads may round them differently.
    """
    digest = hashlib.sha256()
    for part in parts:
        _add(digest, part)
    return digest.hexdigest()[:12]


def _add(digest: hashlib._Hash, part: Any) -> None:
    if isinstance(part, Tensor):
        _add_array(digest, part.detach().cpu().numpy())
    elif isinstance(part, np.ndarray):
        _add_array(digest, part)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        _add(digest, vars(part))
    elif isinstance(part, Mapping):
        for name in sorted(part, key=str):
            digest.update(f"/{name}".encode())
            _add(digest, part[name])
    elif isinstance(part, Iterable) and not isinstance(part, str | bytes):
        digest.update(b"[")
        for one in part:
            _add(digest, one)
        digest.update(b"]")
    else:
        digest.update(f"{part!r},".encode())


def _add_array(digest: hashlib._Hash, array: np.ndarray) -> None:
    digest.update(f"{array.dtype}{array.shape}".encode())
    if np.issubdtype(array.dtype, np.inexact):
        return
    flat = array.reshape(-1)
    digest.update(np.ascontiguousarray(flat[:: max(flat.size // _MOST_VALUES, 1)]).tobytes())
