"""The program `melisma`: its commands, and `main`, the entry point of the installed script."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import melisma
from melisma.cli.commands.compose import compose
from melisma.cli.commands.decode import decode
from melisma.cli.commands.doctor import doctor
from melisma.cli.commands.encode import encode
from melisma.cli.commands.evaluate import evaluate
from melisma.cli.commands.generate import generate
from melisma.cli.commands.inspect import inspect
from melisma.cli.commands.models import models
from melisma.cli.commands.prepare import prepare
from melisma.cli.commands.render import render
from melisma.cli.commands.train import train
from melisma.cli.errors import run
from melisma.nn.idle_threads import limit_spinning

program = typer.Typer(
    name="melisma",
    help="Generate music from text, as audio and as scores. The weights come with the program.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    generate, compose, render, inspect, encode, decode, models, doctor, prepare, train, evaluate,
):  # fmt: skip
    program.command(command.__name__)(command)


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


def main() -> None:
    """Runs the program with the arguments of the command line and exits with its exit code."""
    limit_spinning()
    sys.exit(run(program, sys.argv[1:]))
