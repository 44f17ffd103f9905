"""The reference of composed scores: real held-out pieces, measured once and kept.

Openings of pieces with what is known of them, and what the same functions that judge outputs find
in them: the ceilings of every row, and what form, copies and players are like in real music. The
notes themselves are not kept.

Enters: `Pair`s of `score_adherence`. Leaves: a `ScoreReference`, as a value and as a file.
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
from melisma.evaluate.metrics.score_adherence import (
    MeasuredScoreAttributes,
    Pair,
    RequestedScoreAttributes,
)
from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

KIND = "score reference"
FILE_NAME = "score_reference.safetensors"
"""Where a model's folder keeps it."""


@dataclass(frozen=True, kw_only=True)
class ScoreReference:
    """Measured real pieces."""

    name: str
    """What they are, in words."""
    pairs: tuple[Pair, ...]

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of everything in it."""
        text = json.dumps([self.name, _rows(self.pairs)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """JSON values under the names of the file's layout, of which the digest is; what the tradition
    classifier found, which is not shipped, is left out."""
    rows = []
    for requested, measured in pairs:
        asked = dataclasses.asdict(requested)
        found = dataclasses.asdict(dataclasses.replace(measured, traditions=None))
        asked["maker"], found["makers"] = asked.pop("tradition"), found.pop("traditions")
        rows.append({"wish": asked, "heard": found})
    return json.loads(json.dumps(rows))


def write_score_reference(path: Path, reference: ScoreReference) -> None:
    """Writes one file, whole or not at all."""
    checkpoint = Checkpoint(
        kind=KIND,
        settings={"name": reference.name, "digest": reference.digest},
        tensors={"count": torch.tensor([len(reference.pairs)])},
        notes={"rows": _rows(reference.pairs)},
    )
    write_checkpoint(path, checkpoint)


def read_score_reference(path: Path) -> ScoreReference:
    """Reads a file of `write_score_reference`; `ValueError` where it is something else."""
    checkpoint = read_checkpoint(path, kind=KIND)
    return ScoreReference(
        name=checkpoint.settings["name"],
        pairs=tuple((_wish(row["wish"]), _heard(row["heard"])) for row in checkpoint.notes["rows"]),
    )


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _wish(row: dict[str, Any]) -> RequestedScoreAttributes:
    fields = {name: value for name, value in row.items() if name != "maker"}
    return RequestedScoreAttributes(**_tuples(fields), tradition=row["maker"])


def _heard(row: dict[str, Any]) -> MeasuredScoreAttributes:
    metre, shared = row["metre"], row["shared"]
    return MeasuredScoreAttributes(
        **_tuples(
            {name: value for name, value in row.items() if name != "makers"}
            | {
                "traditions": row["makers"],
                "metre": None if metre is None else MetreEvidence(**metre),
                "shared": None if shared is None else SharedRun(**shared),
                "structure": ScoreStructure(**row["structure"]),
            }
        )
    )
