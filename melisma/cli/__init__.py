"""The command line: one file per command, which turns options into a request and runs it.

It may import every other folder, but heavy modules only inside the commands, so that help pages and
all errors about bad arguments appear without loading torch. Read `cli/commands/generate.py` first;
`errors.py` is the only place that turns exceptions into messages and exit codes, and `process.py`
is where the process begins and ends.
"""

from __future__ import annotations

import sys

from melisma.cli.process import guarded, prepare_streams, stopping_signals


def main() -> None:
    """Runs the program with the arguments of the command line and exits with its exit code."""
    prepare_streams()
    with stopping_signals():
        code = guarded(_run)
    sys.exit(code)


def _run() -> int:
    from melisma.cli.errors import run
    from melisma.cli.program import program
    from melisma.nn.idle_threads import limit_spinning

    limit_spinning()
    return run(program, sys.argv[1:])


__all__ = ["main"]
