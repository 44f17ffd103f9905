"""The program called in this process, for tests: what it prints and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from melisma.cli.errors import run
from melisma.cli.program import program


@dataclass(frozen=True)
class Outcome:
    """What a call gave."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def command_of(capsys: pytest.CaptureFixture[str]) -> Command:
    """The program as a function of its arguments."""

    def command(*words: object) -> Outcome:
        code = run(program, [str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command
