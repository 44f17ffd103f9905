"""The program `melisma`: its commands. `cli/process.py` runs it."""

from __future__ import annotations

from typing import Annotated

import typer

import melisma
from melisma.cli.commands.codec import decode, encode
from melisma.cli.commands.compose import compose
from melisma.cli.commands.demo import demo
from melisma.cli.commands.doctor import doctor
from melisma.cli.commands.evaluate import evaluate
from melisma.cli.commands.generate import generate
from melisma.cli.commands.help import help_page
from melisma.cli.commands.inspect import inspect
from melisma.cli.commands.models import models
from melisma.cli.commands.prepare import prepare
from melisma.cli.commands.render import render
from melisma.cli.commands.train import train
from melisma.cli.verbs import Verb, VerbGroup

program = typer.Typer(
    name="melisma",
    cls=VerbGroup,
    help="Generate music from text, as audio and as scores. The weights come with the program.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    generate, compose, render, inspect, encode, decode, models, doctor, demo, prepare, train,
    evaluate,
):  # fmt: skip
    program.command(command.__name__, cls=Verb)(command)
program.command("help", cls=Verb)(help_page)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"melisma {melisma.__version__}")
        raise typer.Exit


@program.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Generate music from text, as audio and as scores. The weights come with the program."""
