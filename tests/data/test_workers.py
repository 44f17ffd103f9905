"""Worker processes: every job once, progress, failures and interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from small_jobs import Hang, NativeThreads, Touch, has_a_bug, kill_itself

from melisma.data.workers import run_jobs
from melisma.files.shards.lock import locked
from melisma.values.errors import MelismaError


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_runs_once(tmp_path: Path, workers: int) -> None:
    counts: list[int] = []
    done: list[int] = []
    run_jobs(Touch(tmp_path), 4, workers, counts.append, done.append)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "3"}
    assert counts[-1] == 8
    assert counts == sorted(counts)
    assert sorted(done) == [0, 1, 2, 3]
    run_jobs(Touch(tmp_path), 0, workers)


def test_the_other_workers_finish_when_one_fails(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match="the first piece is empty"):
        run_jobs(Touch(tmp_path, failing=0), 4, 2)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_killed_worker_is_an_error() -> None:
    with pytest.raises(ChildProcessError, match="1 of 2 workers ended early by the signal SIGKILL"):
        run_jobs(kill_itself, 2, 2)


def test_a_bug_in_a_worker_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ChildProcessError, match="2 of 2 workers ended early with the error above"):
        run_jobs(has_a_bug, 2, 2)
    assert "KeyError: 'bug 0'" in capfd.readouterr().err
    with pytest.raises(KeyError, match="bug 0"):
        run_jobs(has_a_bug, 1, 1)


def test_interruption_stops_the_workers_and_leaves_no_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(count: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(Hang(tmp_path), 2, 2, interrupt)
    assert time.monotonic() - start < 30
    assert not list(tmp_path.iterdir())
    assert not capfd.readouterr().err


def test_native_threads_of_this_process_do_not_matter(tmp_path: Path) -> None:
    """They once did: a forked worker waited for ever for threads that it did not have."""
    (tmp_path / "alone").mkdir()
    run_jobs(NativeThreads(tmp_path / "alone"), 2, 1)
    run_jobs(NativeThreads(tmp_path), 2, 2)
    assert (tmp_path / "1").read_text() == (tmp_path / "alone" / "1").read_text()


_PARENT = """
import sys
sys.path[:0] = {paths}
from pathlib import Path
from small_jobs import Beat
from melisma.data.workers import run_jobs
from melisma.files.shards.lock import locked
folder = Path({folder!r})
with locked(folder) as lock:
    run_jobs(Beat(folder), 2, 2, lock=lock)
"""
"""A script without a guard: its workers must not run it again."""


@pytest.mark.slow
def test_workers_end_with_their_parent_and_the_lock_with_them(tmp_path: Path) -> None:
    here = Path(__file__).resolve().parent
    script = tmp_path / "script.py"
    folder = tmp_path / "out"
    paths = [str(here), str(here.parents[1])]
    script.write_text(_PARENT.format(paths=paths, folder=str(folder)))
    parent = subprocess.Popen([sys.executable, str(script)])
    beats = [folder / "beat-0", folder / "beat-1"]
    give_up = time.monotonic() + 60
    while not all(path.exists() for path in beats) and time.monotonic() < give_up:
        time.sleep(0.1)
    with pytest.raises(MelismaError, match=rf"in use by process {parent.pid} on "), locked(folder):
        pass
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    with locked(folder):  # at once, as a restarting shell would
        written = [path.read_text() for path in beats]
        time.sleep(0.5)
        assert [path.read_text() for path in beats] == written
    workers = {int(line) for text in written for line in text.split()}
    assert len(workers) == 2
    for pid in workers:
        with suppress(psutil.NoSuchProcess):
            assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
