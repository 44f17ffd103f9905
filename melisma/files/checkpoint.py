"""Checkpoints: one safetensors file whose header carries settings and fingerprints as JSON.

Never pickle. Two uses: *training state* (float32, everything needed to resume exactly) and *shipped
weights* (matrices quantized to int8 with one float16 scale per row, the rest as float16).

Layout of the header's metadata, all strings: `format` "melisma", `version`, `kind` ("codec",
"semantic", ...), `settings` (JSON), `fingerprints` (JSON: name -> fingerprint of the tokenizers
that the weights were trained on), `notes` (JSON).
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from melisma.files.atomic import atomic_write
from melisma.files.legacy_names import (
    first_name,
    first_settings,
    present_name,
    present_settings,
)
from melisma.files.transformers_checkpoint import FOREIGN_ERRORS, expect_finite
from melisma.files.typed_json import expect_sizes, parse_json, typed
from melisma.values.errors import MelismaError

VERSION = 1
"""Version of the file layout; any other version is refused."""

_ROWS, _SCALES = "::rows", "::scales"
_DAMAGED = (
    "{path} is no whole checkpoint (truncated, damaged, or another kind of file): "
    "fetch or train it again"
)

SettingsT = TypeVar("SettingsT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


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
    path: Path | None = field(default=None, compare=False)
    """The file that it was read from; for messages."""


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
            _sort_metadata(temporary)
        except SafetensorError as error:  # carries the system's error as text only
            full = "No space left" in str(error)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(path)) from error


def _sort_metadata(path: Path) -> None:
    """Sorts the metadata in the header of a safetensors file, which come in random order: the same
    checkpoint is the same bytes."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # spaces fill it up, as the package writes them
            file.seek(8)
            file.write(text.ljust(length))


def read_checkpoint(path: Path, *, kind: str | None = None, finite: bool = True) -> Checkpoint:
    """Reads a checkpoint; floating-point tensors are returned as float32.

    Args:
        path: File to read.
        kind: The expected kind, None for any.
        finite: Whether NaN and infinities are refused, as in weights; measurements may hold them.

    Raises:
        MelismaError: The file is missing, truncated, damaged, not a checkpoint of Melisma, of
            another layout version or of another kind.
    """
    if not path.is_file():
        raise MelismaError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            metadata = opened.metadata() or {}
            _expect_ours(path, metadata, kind)
            raw = {name: opened.get_tensor(name) for name in list(opened.keys())}
    except MelismaError:
        raise
    except FOREIGN_ERRORS as error:
        raise MelismaError(_DAMAGED.format(path=path)) from error
    settings, fingerprints, notes = (
        _header_value(path, metadata, key, hint)
        for key, hint in (
            ("settings", dict[str, Any]),
            ("fingerprints", dict[str, str]),
            ("notes", dict[str, Any]),
        )
    )
    tensors = _as_float32(path, raw, finite)
    if "kind" not in metadata:
        raise MelismaError(_DAMAGED.format(path=path))
    return Checkpoint(
        kind=metadata["kind"],
        settings=present_settings(settings),
        tensors={present_name(name): tensor for name, tensor in tensors.items()},
        fingerprints=fingerprints,
        notes=notes,
        path=path,
    )


def _header_value(path: Path, metadata: Mapping[str, str], key: str, hint: object) -> Any:
    """A JSON value of the header, of a given type."""
    try:
        return typed(parse_json(metadata.get(key, ""), f"the entry {key}"), hint, key)
    except MelismaError as error:
        raise MelismaError(f"{_DAMAGED.format(path=path)} ({error})") from error


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


def _as_float32(path: Path, raw: Mapping[str, Tensor], finite: bool) -> dict[str, Tensor]:
    """Tensors with int8 rows dequantized; NaN and infinities are refused on request."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        plain = name.removesuffix(_ROWS)
        if name.endswith(_SCALES):
            if name.removesuffix(_SCALES) + _ROWS not in raw:
                raise MelismaError(_DAMAGED.format(path=path))
            continue
        if plain != name:
            scales = raw.get(plain + _SCALES)
            if scales is None or scales.shape != (*tensor.shape[:1], 1) or tensor.ndim != 2:
                raise MelismaError(_DAMAGED.format(path=path))
            tensors[plain] = tensor.float() * scales.float()
            exact = scales
        else:
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
            exact = tensors[name]
        if finite:
            expect_finite(path, present_name(plain), tensors[plain], exact)
    return tensors


def build_model(
    checkpoint: Checkpoint,
    settings: type[SettingsT],
    make: Callable[[SettingsT], ModuleT],
    *,
    part: str = "",
    prefix: str | None = None,
    without: Collection[str] = (),
) -> ModuleT:
    """Builds a model from a checkpoint, after its settings were compared with its tensors.

    The model is made without storage first (on the device "meta", which needs neither memory nor
    random numbers), so that damaged or hostile settings allocate nothing. Its parameters then
    become copies of the tensors on the processor: float32, whatever torch's defaults are.

    Args:
        checkpoint: The checkpoint.
        settings: Class of the model's settings, a dataclass.
        make: Makes the model of its settings. Tensors that no checkpoint holds must name their
            device; those that do not become zeros.
        part: Key of the model's settings among those of the checkpoint; empty: all of them.
        prefix: What the names of the model's tensors begin with; `part` and a dot by default.
        without: Names of tensors that are not the model's.

    Raises:
        MelismaError: The settings are no settings of this model, or the tensors do not fit them.
    """
    model = _on_meta(checkpoint, settings, make, part)
    if prefix is None:
        prefix = f"{part}." if part else ""
    stored = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix) and name not in without
    }
    expected = model.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in stored]
    faults += [f"{name} is unknown" for name in stored if name not in expected]
    faults += [
        f"{name} is {_shape(stored[name])} instead of {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in stored and stored[name].shape != tensor.shape
    ]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise _misfit(checkpoint, f"of its tensors {prefix}{faults[0]}{more}")
    model.load_state_dict(
        {
            name: stored[name].to(
                torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True
            )
            for name, tensor in expected.items()
        },
        assign=True,
    )
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                zeros = torch.zeros(buffer.shape, dtype=torch.float32, device="cpu")
                module.register_buffer(name, zeros, persistent=False)
    return model


def tensor_of(
    checkpoint: Checkpoint,
    name: str,
    shape: tuple[int | None, ...],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A tensor of a checkpoint that belongs to no module.

    Args:
        checkpoint: The checkpoint.
        name: Of the tensor.
        shape: Its shape; None for axes of any length.
        dtype: Its type.

    Raises:
        MelismaError: There is none, or it has another shape or type.
    """
    tensor = checkpoint.tensors.get(name)
    if tensor is None:
        raise _misfit(checkpoint, f"its tensor {name} is missing")
    fits = tensor.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        raise _misfit(checkpoint, f"its tensor {name} is {tensor.dtype} {_shape(tensor)}")
    return tensor


class _WithoutInitialization(TorchFunctionMode):
    """Leaves out random initialization: there is nothing to fill, and on "meta" the first random
    number would load torch's symbolic shapes, a second of every start."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of torch."""
        given = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_):
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _on_meta(
    checkpoint: Checkpoint,
    settings: type[SettingsT],
    make: Callable[[SettingsT], ModuleT],
    part: str,
) -> ModuleT:
    """The model without storage, from settings of the right types and within limits."""
    try:
        tree = checkpoint.settings[part] if part else checkpoint.settings
        checked = typed(tree, settings, part)
        expect_sizes(tree)
        _expect_widths(checked)
        with torch.device("meta"), _WithoutInitialization():
            return make(checked)
    except KeyError as error:
        raise _misfit(checkpoint, f"its settings have no {part}") from error
    # Torch and arithmetic refuse what no rule of ours foresees: negative sizes, no heads at all.
    except (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise _misfit(checkpoint, f"its settings make no model ({reason})") from error


def _expect_widths(settings: object) -> None:
    """Refuses widths of 0, unless that is their default: torch warns of tensors without numbers."""
    if not dataclasses.is_dataclass(settings):
        return
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if one.name.endswith("width") and value == 0 and one.default != 0:
            raise MelismaError(f"{one.name} is 0")
        _expect_widths(value)


def _misfit(checkpoint: Checkpoint, reason: str) -> MelismaError:
    file = f"the {checkpoint.kind} weights" if checkpoint.path is None else str(checkpoint.path)
    return MelismaError(
        f"{file} does not fit the {checkpoint.kind} model of this version: {reason}; use the "
        "Melisma version that wrote it, or train it again"
    )


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


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
