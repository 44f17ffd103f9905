"""Fuzzing of every reader and of the command line: mutated valid files, in child processes.

Run: `python benchmarks/fuzz.py --subjects readers --count 50000` and `python benchmarks/fuzz.py
--subjects commands --count 10000`; `--seed` chooses others. Nothing may come out but a result or a
sentence: no other exception, no crash, no hang. Every fault is printed with the number of its
input, `--only NUMBER` runs it again, and `--keep FOLDER` keeps the files. One in `--alone` inputs
of commands runs as a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Threads of OpenMP do not survive a fork: their pool must not exist before.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [
    str(ROOT),
    *(str(ROOT.parent / "tests" / one) for one in ("generation", "evaluate", "symbolic")),
]

from studies.fuzz_subjects import Subject, commands, readers  # noqa: E402 - the path comes first

from melisma.values.errors import MelismaError  # noqa: E402

READ, REFUSED = "read", "refused"
"""The two outcomes that are right."""
HANG_SECONDS = 120
"""Longest time of the processor that one input may take (chosen: twice what it takes to render an
hour of music, the most that is allowed); ten times as long on the clock, as the machine may be
busy."""
MEMORY_BYTES = 8 * 2**30
"""Address space of a child process: what wants more is a fault, and spares the machine."""


class HangError(BaseException):
    """An input that takes longer than `HANG_SECONDS`; no handler of the program catches it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One input that a reader did not treat well."""

    number: int
    subject: str
    words: str
    """The exception and its place, or how the process ended."""


def _stop(*_: object) -> None:
    raise HangError


def input_of(
    subjects: Sequence[Subject], seed: int, number: int, place: Path
) -> tuple[Subject, Path]:
    """Writes one mutated input.

    Args:
        subjects: All subjects.
        seed: Of the whole run.
        number: Of the input.
        place: Folder for the file.

    Returns:
        Its subject and its path.
    """
    rng = np.random.default_rng([seed, number])
    weights = np.array([one.weight for one in subjects], dtype=np.float64)
    subject = subjects[int(rng.choice(len(subjects), p=weights / weights.sum()))]
    file = subject.files[int(rng.integers(len(subject.files)))]
    path = place / file.name
    path.write_bytes(subject.mutate(file.read_bytes(), rng))
    return subject, path


def tried(read: Callable[[Path], object], path: Path) -> str:
    """Reads one input: "read", "refused", or what else happened."""
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    signal.alarm(10 * HANG_SECONDS)
    try:
        read(path)
    except (MelismaError, OSError):
        return REFUSED
    except HangError:
        return f"hangs at {_place(sys.exc_info()[1])}"
    except BaseException as error:  # native extensions have their own kinds
        text = str(error).split("\n")[0][:120]
        return f"{type(error).__name__}: {text} ({_place(error)})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return READ


def _place(error: BaseException | None) -> str:
    """File and line of the package in which an exception arose."""
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}melisma{os.sep}" in frame.filename]
    last = (own or list(frames))[-1]
    return f"{last.filename.split(f'{os.sep}melisma{os.sep}')[-1]}:{last.lineno}"


def run_numbers(
    subjects: Sequence[Subject], seed: int, numbers: Sequence[int], place: Path, report: int
) -> None:
    """Tries inputs in this process; writes the number of each, and its fault, to a descriptor."""
    for one in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(one, _stop)
    warnings.simplefilter("ignore")
    parent = os.getppid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for number in numbers:
        os.write(report, f"\n{number}\t".encode())
        subject, path = input_of(subjects, seed, number, place)
        found = " ".join(tried(subject.read, path).split())
        os.write(report, f"{subject.name}\t{found}".encode("utf-8", "replace"))
        if os.getppid() != parent:  # nobody listens any more
            return


def in_child(
    subjects: Sequence[Subject], seed: int, numbers: Sequence[int], place: Path
) -> tuple[list[Fault], int, int]:
    """Tries inputs in a child process until one ends it.

    Returns:
        The faults, how many inputs were tried, and how many of them were read.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            run_numbers(subjects, seed, numbers, place, writing)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = _until_silent(pipe.fileno(), child).decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    lines = [line.split("\t") for line in text.split("\n") if line]
    faults = [
        Fault(number=int(line[0]), subject=line[1], words=line[2])
        for line in lines
        if len(line) > 2 and line[2] not in (READ, REFUSED)
    ]
    if status and lines and len(lines[-1]) < 3:
        words = f"ends the process ({os.waitstatus_to_exitcode(status)})"
        faults.append(Fault(number=int(lines[-1][0]), subject="?", words=words))
    return faults, len(lines), sum(line[2:] == [READ] for line in lines)


def _until_silent(pipe: int, child: int) -> bytes:
    """What a child writes until it ends; it is killed when native code hangs."""
    import select

    text = b""
    while True:
        ready, _, _ = select.select([pipe], [], [], 12 * HANG_SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
            return text
        part = os.read(pipe, 65_536)
        if not part:
            return text
        text += part


def fuzz(subjects: Sequence[Subject], seed: int, numbers: Sequence[int]) -> list[Fault]:
    """Tries inputs in child processes of 500 each, and shows how far it is."""
    faults: list[Fault] = []
    done, read, begun = 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while done < len(numbers):
            found, count, good = in_child(subjects, seed, numbers[done : done + 500], Path(folder))
            faults += found
            done, read = done + max(count, 1), read + good
            for one in found:
                print(f"{one.number}\t{one.subject}\t{one.words}", flush=True)
            took = f"{time.monotonic() - begun:.0f} s"
            print(f"{done}/{len(numbers)} in {took}, {read} read", flush=True)
    return faults


def run_alone(seed: int, number: int, place: Path) -> Fault | None:
    """Tries one command as a process of its own."""
    command = [sys.executable, __file__, "--subjects", "commands", "--only", str(number)]
    command += ["--seed", str(seed), "--place", str(place)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=300, check=False
    )
    if done.returncode == 0 and "Traceback" not in done.stderr:
        return None
    return Fault(number=number, subject="alone", words=(done.stdout + done.stderr)[-300:])


def main() -> int:
    """Fuzzes and reports; the exit code says whether there was a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--subjects", choices=("readers", "commands"), default="readers")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="number of the one input to try, here")
    parser.add_argument("--keep", type=Path, help="folder for the files of faults")
    parser.add_argument("--alone", type=int, default=0, help="one in so many as its own process")
    parser.add_argument("--place", type=Path, help="folder with the valid files, kept")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = wanted.place or Path(folder)
        subjects = (readers if wanted.subjects == "readers" else commands)(place)
        for subject in subjects:
            for file in subject.files:
                subject.read(file)
        if wanted.only is not None:
            subject, path = input_of(subjects, wanted.seed, wanted.only, Path(folder))
            print(subject.name, path.name)
            try:
                subject.read(path)
            except (MelismaError, OSError) as error:
                print(f"refused: {error}")
            return 0
        numbers = range(wanted.first, wanted.first + wanted.count)
        faults = fuzz(subjects, wanted.seed, numbers)
        if wanted.alone:
            alone = [run_alone(wanted.seed, n, place) for n in numbers[:: wanted.alone]]
            faults += [one for one in alone if one is not None]
        if wanted.keep is not None:
            wanted.keep.mkdir(parents=True, exist_ok=True)
            for one in faults:
                _, path = input_of(subjects, wanted.seed, one.number, Path(folder))
                shutil.copy(path, wanted.keep / f"{one.number}-{path.name}")
    kinds = Counter(f"{one.subject}: {one.words}" for one in faults)
    for kind, count in kinds.most_common():
        print(f"{count:5d}  {kind}")
    print(f"{len(faults)} faults in {wanted.count} inputs ({wanted.subjects}, seed {wanted.seed})")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
