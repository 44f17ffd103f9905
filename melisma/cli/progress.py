"""A progress bar with the remaining time, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[float], None]
"""Called with the completed fraction of the work, from 0 to 1."""


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Progress]:
    """Shows a progress bar while the context lasts.

    Args:
        label: Text beside the bar.
        quiet: Whether nothing is shown; nor is it where stderr is no terminal.

    Yields:
        The function to call with the completed fraction; until its first call the bar only shows
        activity.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    console = Console(stderr=True)
    display = Display(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
    with display:
        task = display.add_task(label, total=None)

        def report(fraction: float) -> None:
            display.update(task, completed=min(max(fraction, 0.0), 1.0), total=1.0)

        yield report
