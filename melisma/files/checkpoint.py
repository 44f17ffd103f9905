"""Checkpoints: one safetensors file whose header carries settings and fingerprints as JSON.

Never pickle. Two uses: *training state* (float32, everything needed to resume exactly) and *shipped
weights* (matrices quantized to int8 with one float16 scale per row, the rest as float16).

Layout of the header's metadata, all strings: `format` "melisma", `version`, `kind` ("codec",
"semantic", ...), `settings` (JSON), `fingerprints` (JSON: name -> fingerprint of the tokenizers
that the weights were trained on), `notes` (JSON).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from melisma.files.atomic import atomic_write
from melisma.files.legacy_names import (
    first_name,
    first_settings,
    present_name,
    present_settings,
)
from melisma.values.errors import MelismaError

VERSION = 1
"""Version of the file layout; any other version is refused."""

_ROWS, _SCALES = "::rows", "::scales"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Contents of a checkpoint file."""

    kind: str
    """Which part of the system: "codec", "semantic", "joint", "lm", "training" ..."""
    settings: dict[str, Any]
    """The settings tree that builds the model, as JSON values."""
    tensors: dict[str, Tensor]
    """Weights by name; int8 rows are already dequantized to float32."""
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Fingerprints of the tokenizers on whose tokens the weights were trained, by name."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Other metadata: update number, data, measured figures."""


def _int8_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantizes a matrix [row, column] to int8, one float16 scale per row (symmetric, nearest)."""
    # The scale is rounded first and the rows use the rounded scale, so no row overflows.
    scale = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp(min=1e-7).half()
    rows = torch.round(weight / scale.float()).clamp(-127, 127).to(torch.int8)
    return rows, scale


def write_checkpoint(
    path: Path,
    checkpoint: Checkpoint,
    *,
    precision: str = "float32",
    exact: tuple[str, ...] = (),
) -> None:
    """Writes a checkpoint atomically.

    Args:
        path: File to write.
        checkpoint: Its contents.
        precision: "float32", "float16", or "int8" (matrices as int8 rows, other tensors as
            float16).
        exact: Prefixes of the names of tensors that "int8" stores as float16.

    Raises:
        MelismaError: Unknown precision.
        OSError: As `atomic_write`.
    """
    if precision not in ("float32", "float16", "int8"):
        raise MelismaError(f'the precision is "float32", "float16" or "int8", not "{precision}"')
    stored: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if not tensor.is_floating_point() or precision == "float32":
            stored[name] = tensor.clone()
        elif (
            precision == "int8"
            and tensor.ndim == 2
            and tensor.shape[1] >= 32
            and not name.startswith(exact)
        ):
            stored[name + _ROWS], stored[name + _SCALES] = _int8_rows(tensor.float())
        else:
            stored[name] = tensor.half()
    metadata = {
        "format": "melisma",
        "version": str(VERSION),
        "kind": checkpoint.kind,
        "settings": json.dumps(checkpoint.settings, sort_keys=True),
        "fingerprints": json.dumps(checkpoint.fingerprints, sort_keys=True),
        "notes": json.dumps(checkpoint.notes, sort_keys=True),
    }
    with atomic_write(path) as temporary:
        try:
            save_file(stored, temporary, metadata=metadata)
        except SafetensorError as error:  # carries the system's error as text only
            full = "No space left" in str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(path)) from error


def read_checkpoint(path: Path, *, kind: str | None = None) -> Checkpoint:
    """Reads a checkpoint; floating-point tensors are returned as float32.

    Args:
        path: File to read.
        kind: The expected kind, None for any.

    Raises:
        MelismaError: The file is missing, truncated, not a checkpoint of Melisma, of another layout
            version or of another kind.
    """
    if not path.is_file():
        raise MelismaError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            names = list(opened.keys())
            _expect_ours(path, metadata, kind)
            raw = {name: opened.get_tensor(name) for name in names}
        settings, fingerprints, notes = (
            json.loads(metadata[key]) for key in ("settings", "fingerprints", "notes")
        )
        found_kind, tensors = metadata["kind"], _as_float32(raw)
    except (SafetensorError, KeyError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MelismaError(
            f"{path} is no whole checkpoint (truncated, damaged, or another kind of file): "
            "fetch or train it again"
        ) from error
    return Checkpoint(
        kind=found_kind,
        settings=present_settings(settings),
        tensors={present_name(name): tensor for name, tensor in tensors.items()},
        fingerprints=fingerprints,
        notes=notes,
    )


def _expect_ours(path: Path, metadata: Mapping[str, str], kind: str | None) -> None:
    if metadata.get("format") != "melisma":
        raise MelismaError(f"{path} is a safetensors file, but not a checkpoint of Melisma")
    if metadata.get("version") != str(VERSION):
        raise MelismaError(
            f"{path} has the checkpoint layout {metadata.get('version')}, this program reads "
            f"layout {VERSION}: use the Melisma version that wrote it, or train it again"
        )
    if kind is not None and metadata.get("kind") != kind:
        raise MelismaError(
            f'{path} holds a "{metadata.get("kind")}", but a "{kind}" is needed here'
        )


def _as_float32(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        if name.endswith(_SCALES):
            continue
        if name.endswith(_ROWS):
            plain = name.removesuffix(_ROWS)
            tensors[plain] = tensor.float() * raw[plain + _SCALES].float()
        else:
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors


@contextlib.contextmanager
def expect_fit(kind: str) -> Iterator[None]:
    """Context manager around building a model from a checkpoint.

    Unknown settings and weights that do not fit become one `MelismaError`.

    Args:
        kind: Kind of the model, for the message.
    """
    try:
        yield
    except (KeyError, TypeError, RuntimeError) as error:
        raise MelismaError(
            f"these {kind} weights do not fit the {kind} model of this version: "
            "use the Melisma version that wrote them, or train them again"
        ) from error


def expect_fingerprints(path: Path, found: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Checks that weights were trained on tokens of the present tokenizers.

    Args:
        path: File of the weights, for the message.
        found: Fingerprints that the weights record, by tokenizer.
        present: Fingerprints of the present tokenizers.

    Raises:
        MelismaError: A tokenizer of both has different fingerprints.
    """
    for name, fingerprint in found.items():
        if name in present and present[name] != fingerprint:
            raise MelismaError(
                f"{path} was trained on tokens of the {name} {fingerprint}, but the {name} here is "
                f"{present[name]}: use the {name} it was trained with, or train it again"
            )


def fingerprint_of(kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash of everything that determines a model's tokens, twelve hexadecimal digits.

    Weights are rounded to bfloat16 first. The float32 and the shipped copy of one training run
    still differ (they occasionally produce different tokens), but a copy of a copy does not.

    Args:
        kind: Kind of the model.
        settings: Its settings; hashed under the names of the first versions.
        tensors: Its weights by name, hashed likewise.
    """
    digest = hashlib.sha256(kind.encode())
    digest.update(json.dumps(first_settings(settings), sort_keys=True).encode())
    named = {first_name(name): tensor for name, tensor in tensors.items()}
    for name in sorted(named):
        digest.update(name.encode())
        weights = named[name].detach().cpu().contiguous().to(torch.bfloat16)
        digest.update(weights.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:12]
