"""Log of a training: `log.jsonl`, one line of figures each, and TensorBoard files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from melisma.files.atomic import explained_errors, write_bytes

LOG_NAME = "log.jsonl"
_BEGIN = b'{"update"'


class Log:
    """Log of figures: `log.jsonl`, and TensorBoard files if TensorBoard is installed.

    A run that was killed and goes on leaves the log of one that was not: what had been logged since
    its last checkpoint is removed, and so is a line that was cut.
    """

    def __init__(self, folder: Path, number: int) -> None:
        """Opens the log.

        Args:
            folder: Of the run.
            number: Updates that are done; lines of later ones are removed.

        Raises:
            OSError: The log cannot be written.
        """
        self._path = folder / LOG_NAME
        self._board_folder = folder / "tensorboard"
        _forget_later(self._path, number)
        self._lines = self._path.open("ab", buffering=0)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # part of the extra "train"
            self._board = None
        else:
            self._board = SummaryWriter(str(self._board_folder), purge_step=number + 1)

    def write(self, number: int, figures: Mapping[str, float]) -> None:
        """Adds the figures of update `number`; values that are not finite become null.

        Raises:
            OSError: The disk is full, for example.
        """
        clean = {k: (v if math.isfinite(v) else None) for k, v in figures.items()}
        line = json.dumps({"update": number, "time": round(time.time(), 1)} | clean) + "\n"
        with explained_errors(self._path):
            self._lines.write(line.encode())
        if self._board is not None:
            with explained_errors(self._board_folder):
                for name, value in figures.items():
                    self._board.add_scalar(name, value, number)

    def close(self) -> None:
        """Closes the files."""
        self._lines.close()
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log, in order."""
    return [json.loads(line) for line in _whole_lines(path)]


def _forget_later(path: Path, number: int) -> None:
    """Removes the lines of later updates than `number`, and what is no whole line."""
    if not path.is_file():
        return
    kept = [line for line in _whole_lines(path) if json.loads(line)["update"] <= number]
    text = b"".join(line + b"\n" for line in kept)
    if text != path.read_bytes():
        write_bytes(path, text)


def _whole_lines(path: Path) -> list[bytes]:
    """The lines that are JSON; where the next one was glued to a cut line, that next one."""
    lines = []
    for text in path.read_bytes().split(b"\n"):
        whole = text[max(text.rfind(_BEGIN), 0) :]
        try:
            entry = json.loads(whole)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("update"), int):
            lines.append(whole)
    return lines
