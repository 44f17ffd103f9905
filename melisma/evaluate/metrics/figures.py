"""Rows of a table of metrics, as Markdown for people and JSON for machines.

Every row holds the command that made it, chance and ceiling, so that no number stands alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melisma.evaluate.metrics.statistics import Interval
from melisma.files.atomic import write_bytes
from melisma.files.typed_json import numbers, read_json, typed
from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of the table."""

    what: str
    value: float
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % bootstrap interval."""
    chance: float | None = None
    """The value for guessing."""
    ceiling: float | None = None
    """The same metric of held-out real renders after the codec's round trip."""
    count: int = 0
    """Number of pieces."""
    unit: str = ""
    command: str = ""
    """What to run for this row."""
    details: dict[str, float | str] = field(default_factory=dict)

    @property
    def share_of_ceiling(self) -> float | None:
        """Value over ceiling; None where there is none."""
        if self.ceiling is None or self.ceiling == 0:
            return None
        return self.value / self.ceiling


def figure_of(
    what: str,
    interval: Interval,
    *,
    chance: float | None = None,
    ceiling: float | None = None,
    unit: str = "",
    command: str = "",
    details: dict[str, float | str] | None = None,
) -> Figure:
    """Makes a row from an interval; the other arguments are fields of `Figure`."""
    return Figure(
        what=what,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        chance=chance,
        ceiling=ceiling,
        count=interval.count,
        unit=unit,
        command=command,
        details=details or {},
    )


HEADER = (
    "| what | value | 95 % | chance | ceiling | of ceiling | n |\n|---|---|---|---|---|---|---|"
)


def format_number(value: float | None, unit: str = "") -> str:
    """A number rounded to about three digits, and its unit; empty for None."""
    if value is None:
        return ""
    digits = 3 if abs(value) < 1.5 else 2 if abs(value) < 20 else 1
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def markdown_row(figure: Figure) -> str:
    """One line of the table under `HEADER`."""
    interval = (
        f"{format_number(figure.low)} to {format_number(figure.high)}"
        if figure.low is not None and figure.high is not None
        else ""
    )
    cells = [
        figure.what,
        format_number(figure.value, figure.unit),
        interval,
        format_number(figure.chance),
        format_number(figure.ceiling),
        format_number(figure.share_of_ceiling),
        str(figure.count) if figure.count else "",
    ]
    return "| " + " | ".join(cells) + " |"


def markdown_table(figures: Sequence[Figure]) -> str:
    """A Markdown table of rows, with its header."""
    return "\n".join([HEADER, *(markdown_row(figure) for figure in figures)])


def write_figures(path: Path, figures: Sequence[Figure]) -> None:
    """Writes rows as a JSON list; the folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dataclasses.asdict(figure) for figure in figures]
    text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=True)
    write_bytes(path, (text + "\n").encode("utf-8"))


def read_figures(path: Path) -> list[Figure]:
    """Reads a file of `write_figures`; `MelismaError` for anything else."""
    try:
        rows = typed(read_json(path), list[dict[str, Any]])
        return [parse_figure(row, f"[{number}]") for number, row in enumerate(rows)]
    except MelismaError as error:
        raise MelismaError(f"{path} holds no figures ({error}): run its benchmark again") from error


def parse_figure(row: Mapping[str, Any], where: str) -> Figure:
    """A row from JSON values, in which null and NaN stand for numbers that are missing.

    Args:
        row: The fields of a `Figure`.
        where: Place of the row in the document, for messages.

    Raises:
        MelismaError: A field is missing, unknown or of another type.
    """
    details = typed(row.get("details", {}), dict[str, Any], f"{where}.details")
    texts = {name: one for name, one in details.items() if isinstance(one, str)}
    rest = {name: one for name, one in details.items() if name not in texts}
    [value] = numbers({"value": row.get("value")}, where).values()
    read = typed({**row, "value": 0.0, "details": {}}, Figure, where)
    return dataclasses.replace(
        read, value=value, details={**texts, **numbers(rest, f"{where}.details")}
    )
