"""`melisma models`: the available models, with their memory and speed on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import check_integer, check_real
from melisma.cli.receipts import print_json
from melisma.values.model_ref import PRECISIONS

if TYPE_CHECKING:
    from melisma.engine.resources.memory import Rates
    from melisma.generation.catalogue import ModelFacts


def models(
    folders: Annotated[
        list[str] | None,
        typer.Argument(help="Further models to list: folders of trained or published weights."),
    ] = None,
    duration: options.ForecastDuration = 30.0,
    as_json: options.Json = False,
    threads: options.Threads = None,
) -> None:
    """List the models, with their memory and speed on this machine."""
    check_real("--duration", duration, 1, 600)
    check_integer("--threads", threads, 1, 1024)
    from melisma.engine.resources.hardware import memory, processor
    from melisma.engine.resources.micro_benchmark import measure_rates
    from melisma.generation.catalogue import known_models

    found = known_models(folders or [])
    rates = measure_rates(threads or processor().threads)
    available = memory().available_bytes
    rows = [_row(facts, duration, rates, available) for facts in found]
    if as_json:
        machine = {"threads": rates.threads, "available_bytes": available, "seconds": duration}
        print_json({"machine": machine, "models": rows})
        return
    print("\n".join([*_model_table(rows), "", *_speed_table(rows, duration, rates, available)]))


def _row(
    facts: ModelFacts, seconds: float, rates: Rates, available: int | None
) -> dict[str, object]:
    """The JSON object of a model."""
    from melisma.engine.resources.memory import (
        Workload,
        estimate_memory,
        fits,
        recommended_precision,
        sampling_seconds,
    )

    workload = Workload(seconds=seconds, pieces=facts.usual_candidates)
    needs = {name: estimate_memory(facts.sizes, name, workload).bytes for name in PRECISIONS}
    speeds: dict[str, float] = {}
    if facts.single:  # of three-stage models, decoding and ranking take longer than sampling
        taken = {name: sampling_seconds(facts.sizes, name, workload, rates) for name in PRECISIONS}
        speeds = {name: round(seconds / taken[name], 2) for name in PRECISIONS}
    return {
        "name": facts.name,
        "kind": facts.kind,
        "melody": facts.melody,
        "licence": facts.licence,
        "commercial_use": facts.commercial,
        "parameters": facts.parameters,
        "disk_bytes": facts.disk_bytes,
        "folder": None if facts.folder is None else str(facts.folder),
        "precisions": {
            name: {
                "memory_bytes": needs[name],
                "fits": fits(needs[name], available),
                "times_real_time": speeds.get(name),
            }
            for name in PRECISIONS
        },
        "recommended": recommended_precision(needs, speeds, available),
    }


def _model_table(rows: list[dict[str, object]]) -> list[str]:
    """Table of name, kind, size and licence."""
    cells = [("model", "kind", "size", "disk", "licence")]
    for row in rows:
        mark = "" if row["folder"] else "+"
        cells.append(
            (
                str(row["name"]),
                str(row["kind"]),
                _short(row["parameters"]),
                mark + _short(row["disk_bytes"]),
                str(row["licence"]),
            )
        )
    lines = _aligned(cells, "<<>><")
    if any(not row["commercial_use"] for row in rows):
        lines.append(
            "CC BY-NC 4.0: no commercial use of the weights or of music generated with them."
        )
    if any(row["folder"] is None for row in rows):
        lines.append("+ not downloaded yet: this much is downloaded on first use.")
    return lines


def _speed_table(
    rows: list[dict[str, object]], seconds: float, rates: Rates, available: int | None
) -> list[str]:
    """Table of memory and speed in each precision."""
    from melisma.engine.resources.hardware import busy_programs
    from melisma.engine.resources.memory import gigabytes

    free = "" if available is None else f"; {gigabytes(available)} of memory are free"
    threads = f"{rates.threads} thread{'s' * (rates.threads > 1)}"
    lines = [
        f"For {seconds:g} s of music: memory in GB, and speed relative to real time (x).",
        f"Measured on {threads} with {gigabytes(rates.read_bandwidth)}/s{free}.",
    ]
    if (busy := busy_programs()) is not None:
        lines.append(f"Other programs caused a load of {busy:.1f}: without them it is faster.")
    cells: list[tuple[str, ...]] = [("model", *PRECISIONS)]
    for row in rows:
        precisions = row["precisions"]
        assert isinstance(precisions, Mapping)
        cells.append(
            (
                str(row["name"]).split("@")[0].removeprefix("facebook/"),
                *(_figure(precisions[name], row["recommended"] == name) for name in PRECISIONS),
            )
        )
    return [
        *lines,
        *_aligned(cells, "<>>>>"),
        '* recommended; "no": does not fit. Speed of sampling alone, not given (-) for',
        "three-stage models; `melisma doctor --model NAME` measures decoding, too.",
    ]


def _figure(precision: Mapping[str, float | bool | None], recommended: bool) -> str:
    """A cell: gigabytes, speed, and a star if recommended."""
    needed = f"{(precision['memory_bytes'] or 0) / 1e9:.1f}"
    speed = precision["times_real_time"]
    words = "-"
    if not precision["fits"]:
        words = "no"
    elif speed is not None:
        words = f"{speed:.1f}x" if speed >= 0.95 else f"{speed:.2f}x"
    return f"{needed} {words:>5}{'*' if recommended else ' '}"


def _aligned(cells: list[tuple[str, ...]], sides: str) -> list[str]:
    """Lines of a table; `sides` aligns each column, "<" left or ">" right."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(sides))]
    return [
        "  ".join(
            f"{word:{side}{width}}" for word, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def _short(count: object) -> str:
    """A number in millions (M) or billions (G)."""
    assert isinstance(count, int)
    return f"{count / 1e9:.1f}G" if count >= 999_500_000 else f"{count / 1e6:.0f}M"
