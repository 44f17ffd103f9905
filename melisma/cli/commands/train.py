"""`melisma train`: run a recipe, from prepared data to weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from melisma.cli import options
from melisma.values.errors import MelismaError, unknown_name
from melisma.values.model_ref import COMPUTE_PRECISIONS, is_device


def train(
    recipe: Annotated[
        str, typer.Argument(help='Name of a recipe; "all" runs the whole chain of recipes.')
    ],
    data: Annotated[
        Path,
        typer.Option(help="A folder that `melisma prepare` wrote.", rich_help_panel=options.WHAT),
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="The folder of the run; created if missing.", rich_help_panel=options.OUTPUT
        ),
    ],
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --output exactly where it stopped.",
            rich_help_panel=options.HOW,
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting; can be repeated.",
            rich_help_panel=options.HOW,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="Device: auto, cpu, cuda or cuda:N.", rich_help_panel=options.ADVANCED),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the computation: auto (by device), float32 or bfloat16.",
            rich_help_panel=options.ADVANCED,
        ),
    ] = "auto",
) -> None:
    """Train a model with a recipe."""
    changes = parse_changes(settings or [])
    if not data.is_dir():
        raise FileNotFoundError(f"there is no folder {data}: create one with `melisma prepare`")
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: give the name of a folder")
    if resume and not output.exists():
        raise FileNotFoundError(f"there is no run in {output} to resume: leave out --resume")
    if not is_device(device):
        raise MelismaError(unknown_name("device", device, ("auto", "cpu", "cuda", "cuda:N")))
    if precision not in COMPUTE_PRECISIONS:
        raise MelismaError(unknown_name("precision", precision, COMPUTE_PRECISIONS))

    from melisma.nn.precision import set_compute_precision
    from melisma.recipes import run_recipe

    set_compute_precision(precision)
    run_recipe(recipe, data=data, output=output, resume=resume, changes=changes, device=device)


def parse_changes(words: list[str]) -> dict[str, str]:
    """Overridden settings, by their dotted names, from words like "loop.updates=500".

    Raises:
        MelismaError: A word is not of this form.
    """
    changes = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[a-z_]\w*(\.[a-z_]\w*)*", name.strip()):
            raise MelismaError(f'"{word}" is not a setting: use the form loop.updates=500')
        changes[name.strip()] = value.strip()
    return changes
