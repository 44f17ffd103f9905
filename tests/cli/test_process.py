"""The process: signals, standard streams and exit codes, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from melisma.cli.process import guarded, prepare_streams, stopping_signals

def main(work):
    prepare_streams()
    with stopping_signals():
        code = guarded(work)
    sys.exit(code)

def run_command(command):
    import typer
    from melisma.cli.errors import run
    app = typer.Typer()
    app.command()(command)
    return run(app, ["--"])
"""
WRITING = """
def write():
    from melisma.files.atomic import atomic_write
    with atomic_write(Path("song.wav")) as temporary:
        temporary.write_bytes(b"half")
        print("ready", flush=True)
        time.sleep(60)
main(lambda: run_command(write))
"""
IMPORTING = """
def work():
    print("ready", flush=True)
    time.sleep(60)
main(work)
"""
TURNED = """
def work():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise ImportError("a library turned it into an error of its own") from None
main({})
"""
STUBBORN = """
def write():
    from melisma.files.atomic import atomic_write
    with atomic_write(Path("song.wav")) as temporary:
        temporary.write_bytes(b"half")
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("cleaning", flush=True)
            time.sleep(60)
main(lambda: run_command(write))
"""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(body)]


def started(body: str, folder: Path, *before: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*before, *script(body)], cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(process, "ready")
    return process


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("SIGINT", 130, "interrupted"),
        ("SIGTERM", 143, "terminated (SIGTERM)"),
        ("SIGHUP", 129, "hung up (SIGHUP)"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [WRITING, IMPORTING, TURNED.format("work"), TURNED.format("lambda: run_command(work)")],
    ids=["writing", "importing", "turned while importing", "turned while running"],
)
def test_a_signal_ends_the_program_with_a_sentence(
    body: str, name: str, code: int, words: str, tmp_path: Path
) -> None:
    process = started(body, tmp_path)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said.strip() == f"melisma: {words}; no unfinished files were left behind"
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_interrupts_what_clears_up(tmp_path: Path) -> None:
    process = started(STUBBORN, tmp_path)
    process.send_signal(signal.SIGTERM)
    wait_for(process, "cleaning")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    body = """
    def work():
        print("ready", flush=True)
        time.sleep(1)
        return 0
    main(work)
    """
    process = started(body, tmp_path, "nohup")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_signal_while_the_process_exits_changes_nothing(tmp_path: Path) -> None:
    body = """
    import atexit
    def leave():
        print("ready", flush=True)
        time.sleep(1)
    atexit.register(leave)
    main(lambda: 0)
    """
    process = started(body, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    "module",
    ["melisma.cli.program", "typer", "melisma.cli.commands.train", "melisma.nn.idle_threads"],
)
def test_ctrl_c_during_the_imports_is_a_sentence(module: str, tmp_path: Path) -> None:
    """A finder of modules presses Ctrl-C when a module is looked for."""
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder)
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "melisma", "doctor", "--nonsense"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    said = "melisma: interrupted; no unfinished files were left behind\n"
    assert (done.returncode, done.stdout, done.stderr.lstrip("\n")) == (130, "", said)


PRINTING = """
import json
from melisma.cli.receipts import print_json
def work():
    print("caf\\u00e9 \\U0001f3bb \\u66f2.wav  (\\u2019)")
    print(os.fsdecode(b"latin-\\xe9.wav"))
    print_json({"prompt": "caf\\u00e9 \\U0001f3bb"})
    print("stderr \\u00e9 \\U0001f3bb", file=sys.stderr)
    return 0
main(lambda: run_command(work))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp437"},
        {"PYTHONIOENCODING": "utf-8:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C"},
    ],
    ids=str,
)
def test_the_encoding_of_a_terminal_never_turns_done_work_into_an_error(
    settings: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        script(PRINTING), env=os.environ | settings, cwd=tmp_path, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    assert b".wav" in done.stdout
    assert b"latin-\xe9.wav" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    document = done.stdout[done.stdout.index(b"{") :]
    encoding = settings.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
    assert "caf" in document.decode(encoding)


FLOOD = """
def work():
    for _ in range(100_000):
        print("a line that somebody reads")
    return 0
main(lambda: run_command(work))
"""


def test_a_reader_that_goes_away_ends_the_program_silently(tmp_path: Path) -> None:
    process = subprocess.Popen(
        script(FLOOD), cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a system without /dev/full")
def test_output_that_cannot_be_written_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            script(PRINTING), cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == (
            "melisma: standard output could not be written: no space left on device"
        )
        silent = subprocess.run(
            script(PRINTING), cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, check=False
        )
        assert silent.returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_place_for_files_of_ours(closed: str, tmp_path: Path) -> None:
    body = """
    def work():
        from melisma.files.atomic import write_bytes
        write_bytes(Path("song.wav"), b"sound")
        print("written")
        print("a warning", file=sys.stderr)
        return 0
    main(lambda: run_command(work))
    """
    (tmp_path / "program.py").write_text(PRELUDE + textwrap.dedent(body))
    command = f"exec {sys.executable} program.py {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "song.wav").read_bytes() == b"sound"
