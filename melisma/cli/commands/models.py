"""`melisma models`: which models there are, and what this machine can do with each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import PRECISIONS, real, whole

if TYPE_CHECKING:
    from melisma.engine.resources.memory import Rates
    from melisma.generation.catalogue import ModelFacts


def models(
    folders: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of trainings or of published checkpoints, to list as well."),
    ] = None,
    duration: options.Duration = 30.0,
    as_json: options.Json = False,
    threads: options.Threads = None,
) -> None:
    """List the models, and what this machine can do with each."""
    real("--duration", duration, 1, 600)
    whole("--threads", threads, 1, 1024)
    from melisma.engine.resources.hardware import memory, processor
    from melisma.engine.resources.micro_benchmark import measure_rates
    from melisma.generation.catalogue import known_models

    found = known_models(folders or [])
    rates = measure_rates(threads or processor().threads)
    available = memory().available_bytes
    rows = [_row(facts, duration, rates, available) for facts in found]
    if as_json:
        machine = {"threads": rates.threads, "available_bytes": available, "seconds": duration}
        print(json.dumps({"machine": machine, "models": rows}, indent=2, ensure_ascii=False))
        return
    print("\n".join([*_what_there_is(rows), "", *_what_it_takes(rows, duration, rates, available)]))


def _row(
    facts: ModelFacts, seconds: float, rates: Rates, available: int | None
) -> dict[str, object]:
    """A model as JSON has it."""
    from melisma.engine.resources.memory import (
        Workload,
        estimate_memory,
        fits,
        recommended_precision,
        sampling_seconds,
    )

    asked = Workload(seconds=seconds, pieces=facts.usual_candidates)
    needs = {name: estimate_memory(facts.sizes, name, asked).bytes for name in PRECISIONS}
    speeds: dict[str, float] = {}
    if facts.single:  # in stages, decoding and ranking take longer than drawing
        taken = {name: sampling_seconds(facts.sizes, name, asked, rates) for name in PRECISIONS}
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


def _what_there_is(rows: list[dict[str, object]]) -> list[str]:
    """Name, kind, size and licence, aligned."""
    cells = [("model", "kind", "size", "disk", "licence")]
    for row in rows:
        away = "" if row["folder"] else "+"
        cells.append(
            (
                str(row["name"]),
                str(row["kind"]),
                _short(row["parameters"]),
                away + _short(row["disk_bytes"]),
                str(row["licence"]),
            )
        )
    lines = _aligned(cells, "<<>><")
    if any(not row["commercial_use"] for row in rows):
        lines.append("CC BY-NC 4.0: no commercial use, neither of the weights nor of their music.")
    if any(row["folder"] is None for row in rows):
        lines.append("+ is not here: so many bytes are fetched when it is first asked for.")
    return lines


def _what_it_takes(
    rows: list[dict[str, object]], seconds: float, rates: Rates, available: int | None
) -> list[str]:
    """Memory and speed in each precision, aligned."""
    from melisma.engine.resources.hardware import busy_programs
    from melisma.engine.resources.memory import gigabytes

    room = "" if available is None else f"; {gigabytes(available)} of memory are free"
    threads = f"{rates.threads} thread{'s' * (rates.threads > 1)}"
    lines = [
        f"For {seconds:g} s of music: gigabytes of memory, and how many times real time.",
        f"Measured on {threads}, which read {gigabytes(rates.read_bandwidth)}/s{room}.",
    ]
    if (busy := busy_programs()) is not None:
        lines.append(f"{busy:.1f} programs were running meanwhile: alone it is faster.")
    cells: list[tuple[str, ...]] = [("model", *PRECISIONS)]
    for row in rows:
        told = row["precisions"]
        assert isinstance(told, Mapping)
        cells.append(
            (
                str(row["name"]).split("@")[0].removeprefix("facebook/"),
                *(_figure(told[name], row["recommended"] == name) for name in PRECISIONS),
            )
        )
    return [
        *lines,
        *_aligned(cells, "<>>>>"),
        '* is the one to take, "no" does not fit. Speed is of drawing tokens alone:',
        "`melisma doctor --model NAME` tries decoding too, and our stages (-).",
    ]


def _figure(told: Mapping[str, float | bool | None], best: bool) -> str:
    needed = f"{(told['memory_bytes'] or 0) / 1e9:.1f}"
    speed = told["times_real_time"]
    words = "-"
    if not told["fits"]:
        words = "no"
    elif speed is not None:
        words = f"{speed:.1f}x" if speed >= 0.95 else f"{speed:.2f}x"
    return f"{needed} {words:>5}{'*' if best else ' '}"


def _aligned(cells: list[tuple[str, ...]], sides: str) -> list[str]:
    """Rows of a table, two blanks between columns that are as wide as their widest entry."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(sides))]
    return [
        "  ".join(
            f"{word:{side}{width}}" for word, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def _short(count: object) -> str:
    """Numbers or bytes, in millions or thousands of millions."""
    assert isinstance(count, int)
    return f"{count / 1e9:.1f}G" if count >= 999_500_000 else f"{count / 1e6:.0f}M"
