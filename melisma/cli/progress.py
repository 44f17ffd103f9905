"""A progress bar with the time left, on stderr, for a person who watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[float], None]
"""Called with the finished share of the work, from 0 to 1."""


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Progress]:
    """Yield the function to call with the finished part; silent where nobody watches.

    Until the first call the bar only shows that something is going on.
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

        def report(part: float) -> None:
            display.update(task, completed=min(max(part, 0.0), 1.0), total=1.0)

        yield report
