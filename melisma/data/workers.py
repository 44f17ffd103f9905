"""Worker processes for writing shards, with progress, failures and Ctrl-C.

The workers are forked, so they inherit what the caller has prepared (sources, renderers) without
pickling it. Jobs are numbers; what job i writes depends on i alone, never on the worker that runs
it, and so a corpus is the same for any number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from typing import Any, NoReturn

from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melisma.values.errors import MelismaError

Advance = Callable[[int], None]
"""Called by a job with the number of units that it has completed since the last call."""

_POLL_SECONDS = 1.0
_STOP_SECONDS = 10.0
"""How long an interrupted worker may clean up before it is killed (chosen)."""
_INTERRUPTED = 130
"""Exit status of an interrupted worker, as a shell's."""


def run_jobs(
    job: Callable[[int, Advance], None],
    jobs: int,
    workers: int,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Run `job(0, advance)` to `job(jobs - 1, advance)` in forked processes.

    Each process takes the next job when it has finished one. A job that fails ends its worker; the
    others go on, because what they write stays valid. Ctrl-C or an error in `on_progress` stops all
    workers: `KeyboardInterrupt` is raised inside their jobs, so that temporary files are deleted.

    Args:
        job: Called in a worker with the number of the job and a function that counts progress.
        jobs: Number of jobs.
        workers: Number of processes; no more than there are jobs are started.
        on_progress: Called about once a second, and at the end, with the number of units completed.

    Raises:
        MelismaError: As raised by the first job that failed with one.
        OSError: Likewise.
        ChildProcessError: A worker was killed, or failed with another error, which it has printed.
    """
    pool = _Pool(job, jobs)
    processes = [pool.process() for _ in range(min(workers, jobs))]
    try:
        for process in processes:
            process.start()
        running = processes
        while running:
            connection.wait([process.sentinel for process in running], _POLL_SECONDS)
            running = [process for process in running if process.is_alive()]
            if on_progress is not None:
                on_progress(int(pool.completed.value))
    except BaseException:
        _stop(processes)
        raise
    pool.raise_failure([process.exitcode for process in processes])


class _Pool:
    """What the workers share: the next job, the progress and the errors."""

    def __init__(self, job: Callable[[int, Advance], None], jobs: int) -> None:
        self._context = multiprocessing.get_context("fork")
        self._job, self._jobs, self._parent = job, jobs, os.getpid()
        self._next: Any = self._context.Value("q", 0)
        self.completed: Any = self._context.Value("q", 0)
        self._errors = self._context.SimpleQueue()

    def process(self) -> ForkProcess:
        """A worker that is not started yet."""
        return self._context.Process(target=self._work)

    def raise_failure(self, exit_codes: list[int | None]) -> None:
        """Raise the first error of the workers, if there was one."""
        if not self._errors.empty():
            raise self._errors.get()
        failed = [code for code in exit_codes if code]
        if not failed:
            return
        reason = "with the error above"
        if failed[0] < 0:
            name = signal.Signals(-failed[0]).name
            reason = f"by the signal {name} (a lack of memory? then use fewer workers)"
        raise ChildProcessError(
            f"{len(failed)} of {len(exit_codes)} workers ended early {reason}: run the command "
            "again, finished shards are kept"
        )

    def _work(self) -> None:
        """Run jobs until none is left; the main function of a worker."""
        # A terminal sends Ctrl-C to every process; only the parent acts on it and stops the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            while (number := self._take()) < self._jobs:
                self._job(number, self._advance)
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED)
        except (MelismaError, OSError) as error:
            self._errors.put(error)
            sys.exit(1)

    def _take(self) -> int:
        with self._next.get_lock():
            number = self._next.value
            self._next.value += 1
        return number

    def _advance(self, count: int) -> None:
        with self.completed.get_lock():
            self.completed.value += count
        if os.getppid() != self._parent:  # killed: another run may write the same files soon
            raise KeyboardInterrupt


def _interrupt(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing disturbs the cleaning up
    raise KeyboardInterrupt


def _stop(processes: list[ForkProcess]) -> None:
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.terminate()
    for process in started:
        process.join(_STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


@contextmanager
def progress_bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while the context lasts.

    Args:
        label: Text before the bar.
        total: Number of units.
        unit: Name of the units, in the plural.

    Yields:
        Function to call with the number of units completed.
    """
    columns = (
        *Progress.get_default_columns()[:2],
        TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Without a refreshing thread, because a process with threads must not be forked.
    with Progress(*columns, auto_refresh=False) as progress:
        task = progress.add_task(label, total=total)

        def report(completed: int) -> None:
            progress.update(task, completed=completed, refresh=True)

        yield report
