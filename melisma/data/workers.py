"""Worker processes for writing shards, with progress, failures and Ctrl-C.

A worker is a fresh process of the interpreter, never a fork: a forked process inherits the locks of
native threads (of OpenMP, for example), but not the threads, and may wait for them for ever. Jobs
are numbers; what job i writes depends on i alone, never on the worker that runs it, and so a corpus
is the same for any number of workers. Workers end with their parent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, reduction
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NoReturn

from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from melisma.values.errors import MelismaError

Advance = Callable[[int], None]
"""Called by a job with the number of units that it has completed since the last call."""
Job = Callable[[int, Advance], None]
"""What a worker does: called with the number of the job. For several workers it is pickled, so its
class is defined at the top of a module."""

_POLL_SECONDS = 1.0
_STOP_SECONDS = 10.0
"""How long an interrupted worker may clean up before it is killed (chosen)."""
_INTERRUPTED = 130
"""Exit status of an interrupted worker, as a shell's."""
_PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent dies."""


def run_jobs(
    job: Job,
    jobs: int,
    workers: int,
    on_progress: Callable[[int], None] | None = None,
    on_done: Callable[[int], None] | None = None,
    lock: int | None = None,
) -> None:
    """Run `job(0, advance)` to `job(jobs - 1, advance)`, in this process or in workers.

    Each worker takes the next job when it has finished one. A job that fails ends its worker; the
    others go on, because what they write stays valid. Ctrl-C or an error in one of the functions
    given stops all workers: `KeyboardInterrupt` is raised inside their jobs, so that temporary
    files are deleted.

    Args:
        job: The jobs.
        jobs: Number of jobs.
        workers: Number of processes; no more than there are jobs are started. With one, the jobs
            run in this process.
        on_progress: Called about once a second, and at the end, with the number of units completed.
        on_done: Called in this process with the number of each job that is finished.
        lock: File descriptor of a lock that is held as long as any worker lives.

    Raises:
        MelismaError: As raised by the first job that failed with one.
        OSError: Likewise.
        ChildProcessError: A worker was killed, or failed with another error, which it has printed.
    """
    counts = _Counts(on_progress or _ignore, on_done or _ignore)
    if min(workers, jobs) <= 1:
        for number in range(jobs):
            job(number, counts.advance)
            counts.finish(number)
            counts.report()
        return
    pool = [_Worker(job, lock) for _ in range(min(workers, jobs))]
    pending = iter(range(jobs))
    try:
        for worker in pool:
            worker.start(next(pending))
        running = pool
        while running:
            ready = connection.wait([worker.messages for worker in running], _POLL_SECONDS)
            for worker in running:
                if worker.messages in ready:
                    worker.answer(counts, pending)
            running = [worker for worker in running if not worker.ended]
            counts.report()
    except BaseException:
        _stop(pool)
        raise
    _raise_failure(pool)


def _ignore(_number: int) -> None:
    """For those who do not want to know."""


class _Counts:
    """Progress and finished jobs, and who is to know."""

    def __init__(self, on_progress: Callable[[int], None], on_done: Callable[[int], None]) -> None:
        self._completed = 0
        self._on_progress, self.finish = on_progress, on_done

    def advance(self, count: int) -> None:
        self._completed += count

    def report(self) -> None:
        self._on_progress(self._completed)


class _Worker:
    """A worker process, seen from its parent."""

    def __init__(self, job: Job, lock: int | None) -> None:
        self.messages, theirs = multiprocessing.Pipe()
        self._theirs: Connection[Any, Any] | None = theirs
        self.ended = False
        self.error: MelismaError | OSError | None = None
        held = None if lock is None or os.name == "nt" else _HeldOpen(lock)
        context = multiprocessing.get_context("spawn")
        self.process: SpawnProcess = context.Process(
            target=_work, args=(_Parent(os.getpid()), held, job, theirs)
        )

    def start(self, number: int) -> None:
        """Starts the process with its first job."""
        with _without_ctrl_c(), _without_main_module():
            self.process.start()
        assert self._theirs is not None
        self._theirs.close()  # or the end of the worker would not be seen
        self.messages.send(number)

    def answer(self, counts: _Counts, pending: Iterator[int]) -> None:
        """Receives one message; a worker that has finished a job gets the next."""
        try:
            kind, value = self.messages.recv()
            if kind == "finished":
                counts.finish(value)
                self.messages.send(next(pending, None))
        except (EOFError, OSError):  # it has ended
            self.ended = True
            self.process.join()
            return
        if kind == "advanced":
            counts.advance(value)
        elif kind == "failed":
            self.error = value


def _raise_failure(pool: list[_Worker]) -> None:
    """Raise the first error of the workers, if there was one."""
    for worker in pool:
        if worker.error is not None:
            raise worker.error
    failed = [code for worker in pool if (code := worker.process.exitcode)]
    if not failed:
        return
    reason = "with the error above"
    if failed[0] < 0:
        name = signal.Signals(-failed[0]).name
        reason = f"by the signal {name} (a lack of memory? then use fewer workers)"
    raise ChildProcessError(
        f"{len(failed)} of {len(pool)} workers ended early {reason}: run the command again, "
        "finished shards are kept"
    )


def _stop(pool: list[_Worker]) -> None:
    started = [worker.process for worker in pool if worker.process.pid is not None]
    for process in started:
        process.terminate()
    for process in started:
        process.join(_STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


# --- In the worker -------------------------------------------------------------------------------


def _work(
    parent: _Parent, held: _HeldOpen | None, job: Job, messages: Connection[Any, Any]
) -> None:
    """Run jobs until none is left; the main function of a worker.

    The arguments are unpickled in this order: a worker whose parent dies while it still imports
    what its job needs ends at once.
    """
    del held  # its descriptor stays open until the process ends
    # A terminal sends Ctrl-C to every process; only the parent acts on it and stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)

    def advance(count: int) -> None:
        if os.getppid() != parent.number:
            raise KeyboardInterrupt
        messages.send(("advanced", count))

    try:
        while (number := messages.recv()) is not None:
            job(number, advance)
            messages.send(("finished", number))
    except (KeyboardInterrupt, EOFError):
        sys.exit(_INTERRUPTED)
    except (MelismaError, OSError) as error:
        with suppress(OSError):  # the parent is gone
            messages.send(("failed", error))
        sys.exit(1)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing disturbs the cleaning up
    raise KeyboardInterrupt


@dataclass(frozen=True)
class _Parent:
    """The process that started a worker, which ends when its parent does, however that ends."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _parent_to_end_with, (self.number,)


def _parent_to_end_with(number: int) -> _Parent:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != number:  # it died before the line above
        sys.exit(_INTERRUPTED)
    return _Parent(number)


@dataclass(frozen=True)
class _HeldOpen:
    """A file descriptor that a worker inherits."""

    descriptor: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, (reduction.DupFd(self.descriptor),)


def _inherited(copy: Any) -> _HeldOpen:
    return _HeldOpen(copy.detach())


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Blocks SIGINT, which a new process inherits: it ends silently even while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hides the main module, which multiprocessing would import again in a new process.

    A script that calls this package would run a second time there, unless it is guarded by
    `if __name__ == "__main__"`. Jobs do not need it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


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
    with Progress(*columns, auto_refresh=False) as progress:
        task = progress.add_task(label, total=total)

        def report(completed: int) -> None:
            progress.update(task, completed=completed, refresh=True)

        yield report
