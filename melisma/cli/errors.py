"""The one place where exceptions become a sentence on stderr and an exit code.

0: all is well; 2: a request that is refused (`MelismaError`) or the system's refusal; 130: Ctrl-C.
With the environment variable MELISMA_TRACEBACK=1 the traceback comes too. Anything else, a
`ValueError` of a library too, is a fault of the program and keeps its traceback.
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
"""128 + SIGINT, as shells count."""

# The base of all messages about arguments; typer brings its own copy of click or imports it,
# depending on its version, but always exports this descendant.
_ArgumentError = typer.BadParameter.__bases__[0].__bases__[0]


def run(program: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the program and return its exit code, having said on stderr what went wrong.

    Without arguments it shows its help.
    """
    command = typer.main.get_command(program)
    words = list(arguments) or ["--help"]
    try:
        code = command.main(words, prog_name="melisma", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # as it came, or as older typers pass it on
        code = INTERRUPTED
    except Exception as error:
        sentence = spoken(error)
        if sentence is None or os.environ.get("MELISMA_TRACEBACK") == "1":
            raise
        print(f"melisma: {sentence}", file=sys.stderr)
        code = USER_ERROR
    if code == INTERRUPTED:
        print("melisma: stopped; nothing unfinished was left behind", file=sys.stderr)
    return code if isinstance(code, int) else 0


def spoken(error: Exception) -> str | None:
    """One sentence for a person, None where the error is no one's mistake but ours."""
    if isinstance(error, _ArgumentError):
        message = error.format_message()  # pyright: ignore[reportAttributeAccessIssue] - see above
        return _one_line(message)
    if isinstance(error, UnicodeDecodeError):
        return "the file is not text in UTF-8: save it so"
    if isinstance(error, MelismaError):
        return _one_line(str(error))
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("melisma"):
        return (
            f"the Python package {error.name} is missing: install Melisma with what preparing and "
            "training need, pip install 'melisma[train]' (from a checkout: '.[train]')"
        )
    if isinstance(error, MemoryError):
        return "there is not enough memory: ask for less at once"
    if isinstance(error, OSError):
        return _one_line(_system_sentence(error))
    return None


def _system_sentence(error: OSError) -> str:
    """Ours as it is; the system's own with the name of the file."""
    if error.errno is None or error.filename is None:
        return error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return f"the disk that holds {error.filename} is full: free some space"
    reason = (error.strerror or "it failed").lower()
    return f"{error.filename} cannot be used: {reason}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
