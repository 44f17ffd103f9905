"""The command line: one file per command, which turns options into a request and runs it.

It may import every other folder, but heavy modules only inside the commands, so that help pages and
all errors about bad arguments appear without loading torch. Read `cli/commands/generate.py` first;
`errors.py` is the only place that turns exceptions into messages and exit codes.
"""

from melisma.cli.program import main

__all__ = ["main"]
