"""`melisma help`: the help page of the program or of one command."""

from __future__ import annotations

from typing import Annotated

import typer

from melisma.cli.verbs import verb_advice
from melisma.values.errors import MelismaError


def help_page(
    ctx: typer.Context,
    verb: Annotated[
        str | None, typer.Argument(metavar="COMMAND", help="A command, e.g. generate.")
    ] = None,
) -> None:
    """Show the help page of a command."""
    above = ctx.parent
    assert above is not None
    if verb is None:
        print(above.get_help())
        return
    commands = above.command.commands  # pyright: ignore[reportAttributeAccessIssue] - a group
    if verb not in commands:
        raise MelismaError(verb_advice(verb, list(commands)))
    command = commands[verb]
    page = command.make_context(verb, [], parent=above, resilient_parsing=True)
    print(command.get_help(page))
