"""Runs that are killed: what is doubled, lost or left behind when they are started again.

Run: `python benchmarks/kills.py` kills every small job at each of its kill points, starts it again,
and compares its folder with that of a run that nobody killed. `--points 12` takes 12 of them for
each job. `--workers 50` also kills the main process of 50 runs with workers at random moments and
starts each again at once, and starts two runs on one folder at once 50 times. The exit code is 1
if anything differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

# Threads do not survive a fork: their pool must not exist before.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), *(str(ROOT.parent / "tests" / one) for one in ("data", "train"))]

from studies.kill_points import (  # noqa: E402 - the path comes first
    JOBS,
    KillPoints,
    make_small,
    prepare_inputs,
    score_job,
    snapshot,
)

from melisma.values.errors import MelismaError  # noqa: E402

REFUSED = 3
"""Exit code of a process that was refused in one sentence."""


def forked(work: Callable[[], object]) -> int:
    """Starts a process that does some work; returns its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
    except MelismaError as error:
        print(error, file=sys.stderr)
        code = REFUSED
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def code_of(child: int) -> int:
    """Waits for a process; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def points_of(name: str, inputs: Path, folder: Path) -> int:
    """Runs a job without a kill, and counts its kill points."""
    note = folder.with_suffix(".count")

    def work() -> None:
        points = KillPoints(None)
        points.install()
        JOBS[name](inputs, folder)
        note.write_text(str(points.passed))

    assert code_of(forked(work)) == 0
    return int(note.read_text())


def killed_at(name: str, inputs: Path, folder: Path, fatal: int) -> None:
    """Runs a job that is killed at one of its points, and starts it again."""

    def work() -> None:
        KillPoints(fatal).install()
        JOBS[name](inputs, folder)

    code = code_of(forked(work))
    assert code == -signal.SIGKILL, f"{name} ended with {code} before point {fatal}"
    code = code_of(forked(lambda: JOBS[name](inputs, folder)))
    assert code == 0, f"{name} ended with {code} when it was started after a kill at {fatal}"


def differences(folder: Path, expected: dict[str, bytes]) -> list[str]:
    """Names of the files that differ, are missing or are left over."""
    found = snapshot(folder)
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def kill_everywhere(inputs: Path, folder: Path, most: int | None) -> int:
    """Kills every job at its points, prints a line for each job, and returns the faults."""
    faults = 0
    for number, name in enumerate(JOBS):
        whole = folder / f"whole-{number}"
        count = points_of(name, inputs, whole)
        expected = snapshot(whole)
        chosen = sorted({*np.linspace(1, count, min(count, most or count)).round().astype(int)})
        wrong = []
        for fatal in map(int, chosen):
            place = folder / f"killed-{number}-{fatal}"
            killed_at(name, inputs, place, fatal)
            if named := differences(place, expected):
                wrong.append(f"  killed at {fatal}: {', '.join(named)}")
        print(f"{name}: {len(wrong)} of {len(chosen)} kills left other bytes", *wrong, sep="\n")
        faults += len(wrong)
    return faults


def kill_with_workers(inputs: Path, folder: Path, trials: int) -> int:
    """Kills runs with workers, and starts two at once; prints and returns the faults."""
    rng = np.random.default_rng(0)
    started = time.monotonic()
    assert code_of(forked(lambda: score_job(inputs, folder / "whole", 2))) == 0
    seconds = time.monotonic() - started
    expected = snapshot(folder / "whole")
    wrong = {"killed and started again at once": 0, "two at once": 0}
    kills = refused = 0
    for trial in range(trials):
        place = folder / f"killed-{trial}"
        child = forked(lambda place=place: score_job(inputs, place, 2))
        time.sleep(float(rng.uniform(0, seconds)))
        os.kill(child, signal.SIGKILL)
        kills += code_of(child) != 0
        again = code_of(forked(lambda place=place: score_job(inputs, place, 2)))
        wrong["killed and started again at once"] += again != 0 or bool(
            differences(place, expected)
        )

        place = folder / f"twice-{trial}"
        pair = [forked(lambda place=place: score_job(inputs, place, 2)) for _ in range(2)]
        codes = sorted(map(code_of, pair))
        refused += codes == [0, REFUSED]
        is_right = codes in ([0, REFUSED], [0, 0]) and not differences(place, expected)
        wrong["two at once"] += not is_right
    for name, count in wrong.items():
        print(f"{name}: {count} of {trials} doubled or lost")
    print(f"({kills} were killed before they ended, and {refused} second runs were refused)")
    return sum(wrong.values())


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, help="most kill points of each job")
    parser.add_argument("--workers", type=int, default=0, help="runs with workers to kill")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="melisma-kills-") as temporary:
        folder = Path(temporary)
        make_small()
        prepare_inputs(folder / "inputs")
        (folder / "points").mkdir()
        faults = kill_everywhere(folder / "inputs", folder / "points", arguments.points)
        if arguments.workers:
            (folder / "workers").mkdir()
            faults += kill_with_workers(folder / "inputs", folder / "workers", arguments.workers)
    sys.exit(min(faults, 1))


if __name__ == "__main__":
    main()
