"""The reference set of scores: stored measurements of real held-out pieces.

Excerpts with their known attributes and the measurements of the same functions that judge outputs:
the ceilings of every row, and the form, copies and instruments of real music. The notes themselves
are not stored.

Input: `Pair`s of `score_adherence`. Output: a `ScoreReference`, as a value and as a file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from melisma.evaluate.legacy_keys import (
    MEASURED_KEY,
    REQUESTED_KEY,
    STRUCTURE_KEYS,
    TRADITION_KEY,
    TRADITIONS_KEY,
)
from melisma.evaluate.metrics.score_adherence import (
    MeasuredScoreAttributes,
    Pair,
    RequestedScoreAttributes,
)
from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.files.typed_json import typed
from melisma.values.errors import MelismaError

KIND = "score reference"
FILE_NAME = "score_reference.safetensors"
"""Its file in a model's folder."""


@dataclass(frozen=True, kw_only=True)
class ScoreReference:
    """Measured real pieces."""

    name: str
    """Description of the pieces."""
    pairs: tuple[Pair, ...]

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of everything in it."""
        text = json.dumps([self.name, _rows(self.pairs)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """JSON values under the keys of the file, which are also hashed in the digest; probabilities of
    traditions are left out, because their classifier is not shipped."""
    rows = []
    for request, measurement in pairs:
        requested = dataclasses.asdict(request)
        measured = dataclasses.asdict(dataclasses.replace(measurement, traditions=None))
        requested[TRADITION_KEY] = requested.pop("tradition")
        measured[TRADITIONS_KEY] = measured.pop("traditions")
        structure = measured["structure"]
        measured["structure"] = {STRUCTURE_KEYS.get(k, k): v for k, v in structure.items()}
        rows.append({REQUESTED_KEY: requested, MEASURED_KEY: measured})
    return json.loads(json.dumps(rows))


def write_score_reference(path: Path, reference: ScoreReference) -> None:
    """Writes one file, atomically."""
    checkpoint = Checkpoint(
        kind=KIND,
        settings={"name": reference.name, "digest": reference.digest},
        tensors={"count": torch.tensor([len(reference.pairs)], dtype=torch.long, device="cpu")},
        notes={"rows": _rows(reference.pairs)},
    )
    write_checkpoint(path, checkpoint)


def read_score_reference(path: Path) -> ScoreReference:
    """Reads a file of `write_score_reference`; `MelismaError` for anything else."""
    checkpoint = read_checkpoint(path, kind=KIND, finite=False)
    try:
        rows = typed(checkpoint.notes.get("rows"), list[dict[str, dict[str, Any]]], "rows")
        return ScoreReference(
            name=typed(checkpoint.settings.get("name"), str, "name"),
            pairs=tuple(
                (
                    _read_requested(row.get(REQUESTED_KEY, {})),
                    _read_measured(row.get(MEASURED_KEY, {})),
                )
                for row in rows
            ),
        )
    except MelismaError as error:
        raise MelismaError(f"{path} is no whole reference set ({error}): make it again") from error


def _read_requested(row: dict[str, Any]) -> RequestedScoreAttributes:
    return typed(_renamed(row, {TRADITION_KEY: "tradition"}), RequestedScoreAttributes)


def _read_measured(row: dict[str, Any]) -> MeasuredScoreAttributes:
    structure = typed(row.get("structure"), dict[str, Any], "structure")
    names = {key: name for name, key in STRUCTURE_KEYS.items()}
    fields = {**row, "structure": _renamed(structure, names)}
    # Probabilities of traditions are never stored: their classifier is not shipped.
    if fields.get(TRADITIONS_KEY) is not None:
        raise MelismaError(f"{TRADITIONS_KEY} is not null")
    return typed(_renamed(fields, {TRADITIONS_KEY: "traditions"}), MeasuredScoreAttributes)


def _renamed(row: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in row.items()}
