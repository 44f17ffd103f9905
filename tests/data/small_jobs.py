"""Jobs of workers, which are imported by the workers: closures of a test cannot be."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from melisma.data.workers import Advance
from melisma.files.atomic import atomic_write
from melisma.values.errors import MelismaError


@dataclass(frozen=True)
class Touch:
    """Creates a file for each job, once."""

    folder: Path
    failing: int | None = None
    """Job that fails."""

    def __call__(self, number: int, advance: Advance) -> None:
        if number == self.failing:
            raise MelismaError("the first piece is empty")
        (self.folder / str(number)).touch(exist_ok=False)
        advance(2)


def kill_itself(number: int, advance: Advance) -> None:
    """Job 1 is killed."""
    del advance
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def has_a_bug(number: int, advance: Advance) -> None:
    """Every job fails with an error that is no refusal."""
    del advance
    raise KeyError(f"bug {number}")


@dataclass(frozen=True)
class Hang:
    """Writes a file for a minute."""

    folder: Path

    def __call__(self, number: int, advance: Advance) -> None:
        with atomic_write(self.folder / str(number)):
            advance(1)
            time.sleep(60)


@dataclass(frozen=True)
class NativeThreads:
    """Multiplies matrices with the threads of OpenMP, which a forked process would wait for."""

    folder: Path

    def __call__(self, number: int, advance: Advance) -> None:
        import torch

        torch.set_num_threads(2)
        matrix = torch.ones(600, 600)
        (self.folder / str(number)).write_text(str(float((matrix @ matrix).sum())))
        advance(1)


@dataclass(frozen=True)
class Beat:
    """Appends to a file of its own, ten times a second, for a minute."""

    folder: Path

    def __call__(self, number: int, advance: Advance) -> None:
        for _ in range(600):
            with (self.folder / f"beat-{number}").open("a") as file:
                file.write(f"{os.getpid()}\n")
            advance(1)
            time.sleep(0.1)
