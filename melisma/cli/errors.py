"""Error handling of the command line: exceptions become one sentence on stderr and an exit code.

Exit codes: 0, success; 2, a request that is refused (`MelismaError`) or an error of the operating
system; 130, Ctrl-C. Every other exception, including a plain `MelismaError`, is a bug of the
program and keeps its traceback. The environment variable MELISMA_TRACEBACK=1 shows all tracebacks.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer
import typer.main

from melisma.values.errors import MelismaError

USER_ERROR = 2
INTERRUPTED = 130
"""128 + SIGINT, the convention of shells."""

# The base class of all errors about arguments. Depending on its version, typer imports click or
# vendors a copy of it, but it always exports this subclass.
_ArgumentError = typer.BadParameter.__bases__[0].__bases__[0]


def run(program: typer.Typer, arguments: Sequence[str]) -> int:
    """Runs the program and prints errors on stderr.

    Args:
        program: The commands.
        arguments: Of the command line, without the program's name; none: the help page is shown.

    Returns:
        The exit code.
    """
    command = typer.main.get_command(program)
    arguments = list(arguments) or ["--help"]
    try:
        code = command.main(arguments, prog_name="melisma", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # older versions of typer raise Abort on Ctrl-C
        code = INTERRUPTED
    except Exception as error:
        sentence = error_sentence(error)
        if sentence is None or os.environ.get("MELISMA_TRACEBACK") == "1":
            raise
        print(f"melisma: {sentence}", file=sys.stderr)
        code = USER_ERROR
    if code == INTERRUPTED:
        print("melisma: interrupted; no unfinished files were left behind", file=sys.stderr)
    return code if isinstance(code, int) else 0


def error_sentence(error: Exception) -> str | None:
    """The sentence that is shown for an exception; None if it is a bug of the program."""
    if isinstance(error, _ArgumentError):
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
