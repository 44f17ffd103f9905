"""Error handling of the command line: exceptions become one sentence on stderr and an exit code.

Exit codes: 0, success; 2, a request that is refused (`MelismaError`) or an error of the operating
system; 128 and the number of the signal after Ctrl-C (130), SIGTERM (143) and SIGHUP (129), and
where the reader of standard output went away (141). Every other exception, a plain `ValueError`
too, is a bug of the program and keeps its traceback. The environment variable MELISMA_TRACEBACK=1
shows all tracebacks.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer
import typer.main

from melisma.cli.arguments import as_given
from melisma.cli.process import (
    BROKEN_PIPE,
    finished_output,
    leave_output,
    stopped,
    was_stopped,
)
from melisma.cli.verbs import ArgumentError
from melisma.values.errors import MelismaError

USER_ERROR = 2
INTERRUPTED = 130
"""128 + SIGINT: what typer returns on Ctrl-C."""
_MOST_NAMED = 4
"""Most files that an error message names as written."""


def run(program: typer.Typer, arguments: Sequence[str]) -> int:
    """Runs the program and prints errors on stderr.

    Args:
        program: The commands.
        arguments: Of the command line, without the program's name; none: the help page is shown.

    Returns:
        The exit code.
    """
    if "melisma.files.atomic" in sys.modules:  # by an earlier call in this process
        from melisma.files.atomic import forget_writes

        forget_writes()
    command = typer.main.get_command(program)
    arguments = list(arguments) or ["--help"]
    try:
        code = command.main(arguments, prog_name="melisma", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # older versions of typer raise Abort on Ctrl-C
        code = INTERRUPTED
    except SystemExit as error:
        if error.code != 1:  # typer has completed a word for the shell
            return error.code if isinstance(error.code, int) else 0
        leave_output()  # typer's answer where the reader of the output went away
        return BROKEN_PIPE
    except Exception as error:
        if was_stopped():  # a library turned the interruption into an error of its own
            return stopped()
        sentence = error_sentence(error)
        if sentence is None or os.environ.get("MELISMA_TRACEBACK") == "1":
            raise
        print(f"melisma: {as_given(sentence)}{written_before()}", file=sys.stderr)
        code = USER_ERROR
    if code == INTERRUPTED:
        return stopped()
    code, sentence = finished_output(code if isinstance(code, int) else 0)
    if sentence is not None:
        print(f"melisma: {sentence}{written_before()}", file=sys.stderr)
    return code


def written_before() -> str:
    """What an error message adds where files of the same call were finished before the error."""
    if "melisma.files.atomic" not in sys.modules:
        return ""
    from melisma.files.atomic import recorded_writes

    paths = [str(path) for path in recorded_writes()]
    if not paths:
        return ""
    if len(paths) > _MOST_NAMED:
        return f"; {len(paths)} files were written before, the last one is {paths[-1]}"
    return f"; written before: {', '.join(paths)}"


def error_sentence(error: Exception) -> str | None:
    """The sentence that is shown for an exception; None if it is a bug of the program."""
    if isinstance(error, ArgumentError):
        message = error.format_message()  # pyright: ignore[reportAttributeAccessIssue] - see above
        return _one_line(message)
    if isinstance(error, UnicodeDecodeError):
        return "the file is not UTF-8 text: save it as UTF-8"
    if isinstance(error, MelismaError):
        return _one_line(str(error))
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("melisma"):
        return (
            f"the Python package {error.name} is missing: install Melisma with the packages for "
            "data preparation and training, pip install 'melisma[train]' (from a checkout: "
            "'.[train]')"
        )
    if isinstance(error, MemoryError):
        return "there is not enough memory: request fewer or shorter pieces at once"
    if isinstance(error, OSError):
        return _one_line(_system_error_sentence(error))
    return None


def _system_error_sentence(error: OSError) -> str:
    """Errors raised by Melisma unchanged; those of the system with the name of the file."""
    if error.errno is None or error.filename is None:
        return error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return f"the disk of {error.filename} is full: free some space"
    reason = (error.strerror or "unknown error").lower()
    return f"{error.filename} cannot be used: {reason}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
