"""The command line: one file per verb, each turning words into values and calling one function.

Floor 9: may import everything below, heavy things only inside the commands, so that help pages and
all messages about bad arguments come without loading torch. Read `cli/commands/generate.py` first;
`errors.py` is the only place that turns exceptions into sentences and exit codes.
"""

from melisma.cli.program import main

__all__ = ["main"]
