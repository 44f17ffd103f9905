"""`melisma train`: run a recipe, from a prepared folder to weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from melisma.values.errors import MelismaError

_PRECISIONS = ("auto", "float32", "bfloat16")
"""`nn.precision.COMPUTE_PRECISIONS`, which loads torch."""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def train(
    recipe: Annotated[str, typer.Argument(help='The name of a recipe, or "all" for the chain.')],
    data: Annotated[Path, typer.Option(help="The folder that `melisma prepare` wrote.")],
    output: Annotated[Path, typer.Option(help="The folder of the run; it is made if missing.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on exactly where the run in the folder stopped.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeat for more."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="Arithmetic: auto (what the device does well), float32 or bfloat16."),
    ] = "auto",
) -> None:
    """Train a model by a recipe."""
    changes = read_changes(settings or [])
    if not data.is_dir():
        raise FileNotFoundError(f"there is no folder {data}: write one with `melisma prepare`")
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: give the name of a folder")
    if not output.exists() and not output.parent.is_dir():
        raise FileNotFoundError(
            f"the folder {output.parent} does not exist: create it, or choose another"
        )
    if resume and not output.exists():
        raise FileNotFoundError(f"there is no run in {output} to go on with: leave out --resume")
    if not _DEVICE.fullmatch(device):
        raise MelismaError(f'no device "{device}": known are auto, cpu, cuda and cuda:N')
    if precision not in _PRECISIONS:
        raise MelismaError(f'no precision "{precision}": known are {", ".join(_PRECISIONS)}')

    from melisma.nn.precision import set_compute_precision
    from melisma.recipes import run_recipe

    set_compute_precision(precision)
    run_recipe(recipe, data=data, output=output, resume=resume, changes=changes, device=device)


def read_changes(words: list[str]) -> dict[str, str]:
    """Settings by their dotted names from words like "loop.updates=500"."""
    changes = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[a-z_]\w*(\.[a-z_]\w*)*", name.strip()):
            raise MelismaError(f'"{word}" is no setting: write one like loop.updates=500')
        changes[name.strip()] = value.strip()
    return changes
