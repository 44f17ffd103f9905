"""Worker processes: every job once, progress, failures and interruption."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from melisma.data.workers import Advance, run_jobs
from melisma.files.atomic import atomic_write
from melisma.values.errors import MelismaError


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_runs_once(tmp_path: Path, workers: int) -> None:
    counts: list[int] = []

    def job(number: int, advance: Advance) -> None:
        (tmp_path / str(number)).touch(exist_ok=False)
        advance(2)

    run_jobs(job, 4, workers, counts.append)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "3"}
    assert counts[-1] == 8
    assert counts == sorted(counts)
    run_jobs(job, 0, workers)


def test_the_other_workers_finish_when_one_fails(tmp_path: Path) -> None:
    def job(number: int, advance: Advance) -> None:
        if number == 0:
            raise MelismaError("the first piece is empty")
        (tmp_path / str(number)).touch()
        advance(1)

    with pytest.raises(MelismaError, match="the first piece is empty"):
        run_jobs(job, 4, 2)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_killed_worker_is_an_error() -> None:
    def job(number: int, advance: Advance) -> None:
        del advance
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildProcessError, match="1 of 2 workers ended early by the signal SIGKILL"):
        run_jobs(job, 2, 2)


def test_a_bug_in_a_worker_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def job(number: int, advance: Advance) -> None:
        del advance
        raise KeyError(f"bug {number}")

    with pytest.raises(ChildProcessError, match="with the error above"):
        run_jobs(job, 1, 1)
    assert "KeyError: 'bug 0'" in capfd.readouterr().err


def test_interruption_stops_the_workers_and_leaves_no_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def job(number: int, advance: Advance) -> None:
        with atomic_write(tmp_path / str(number)):
            advance(1)
            time.sleep(60)

    def interrupt(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(job, 2, 2, interrupt)
    assert time.monotonic() - start < 30
    assert not list(tmp_path.iterdir())
    assert not capfd.readouterr().err
