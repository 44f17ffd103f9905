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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from melisma.analysis.score.metre import MetreEvidence
from melisma.analysis.score.structure import ScoreStructure
from melisma.analysis.similarity.melody_index import SharedRun
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
        tensors={"count": torch.tensor([len(reference.pairs)])},
        notes={"rows": _rows(reference.pairs)},
    )
    write_checkpoint(path, checkpoint)


def read_score_reference(path: Path) -> ScoreReference:
    """Reads a file of `write_score_reference`; `MelismaError` for anything else."""
    checkpoint = read_checkpoint(path, kind=KIND)
    return ScoreReference(
        name=checkpoint.settings["name"],
        pairs=tuple(
            (_read_requested(row[REQUESTED_KEY]), _read_measured(row[MEASURED_KEY]))
            for row in checkpoint.notes["rows"]
        ),
    )


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _structure_fields(row: dict[str, Any]) -> dict[str, Any]:
    names = {key: name for name, key in STRUCTURE_KEYS.items()}
    return {names.get(key, key): value for key, value in row.items()}


def _read_requested(row: dict[str, Any]) -> RequestedScoreAttributes:
    fields = {name: value for name, value in row.items() if name != TRADITION_KEY}
    return RequestedScoreAttributes(**_tuples(fields), tradition=row[TRADITION_KEY])


def _read_measured(row: dict[str, Any]) -> MeasuredScoreAttributes:
    metre, shared = row["metre"], row["shared"]
    return MeasuredScoreAttributes(
        **_tuples(
            {name: value for name, value in row.items() if name != TRADITIONS_KEY}
            | {
                "traditions": row[TRADITIONS_KEY],
                "metre": None if metre is None else MetreEvidence(**metre),
                "shared": None if shared is None else SharedRun(**shared),
                "structure": ScoreStructure(**_structure_fields(row["structure"])),
            }
        )
    )
