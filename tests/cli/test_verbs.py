"""Help pages, other names of options and commands, completion, `python -m melisma`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from melisma.cli.errors import run
from melisma.cli.options import GROUPS
from melisma.cli.program import program
from melisma.cli.verbs import ADVICE, OTHER_NAMES, SENTENCES, VERBS

REPOSITORY = Path(__file__).parents[2]
COMMANDS: dict[str, Any] = typer.main.get_command(program).commands  # type: ignore[attr-defined]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence on stderr; the exit code is 2."""
    assert run(program, words) == 2
    message = capsys.readouterr().err
    assert message.startswith("melisma: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("generate a --tempo 90", "did you mean --bpm?"),
        ("compose a --tempo 90", "did you mean --bpm?"),
        ("generate a --length 9", "did you mean --duration?"),
        ("generate a --len=9", "did you mean --duration?"),
        ("generate a --Duration 9", "did you mean --duration?"),
        ("compose a --best_of 9", "did you mean --best-of?"),
        ("generate a --durration 9", "did you mean --duration?"),
        ("generate a --out x.wav", "did you mean --output?"),
        ("render a.mid --reverb hall", "did you mean --room?"),
        ("generate a -n 3", "did you mean --count?"),
        ("generate a --steps 50", "--best-of gives better pieces"),
        ("generate a --temp .9", "did you mean --temperature or --temperature-semantic?"),
        ("generate a --instruments flute", "or use `melisma compose`"),
        ("generate a --bars 8", "audio has no bars: use --duration"),
        ("generate a --lyrics la", "nothing is sung here"),
        ("generate a -v", "a progress bar is shown"),
        ("generate a --zzz", "`melisma generate --help` lists those that it has"),
        ("--tempo 90 generate a", "has no option --tempo"),
        ("genrate a", "did you mean generate?"),
        ("Generate a", "did you mean generate?"),
        ("play a", "--stream --output -"),
        ("list", "`melisma models` lists the models"),
        ("transcribe hum.wav", "`melisma compose --melody RECORDING`"),
        ("waltz", "a prompt follows"),
        ("help genrate", "did you mean generate?"),
    ],
)
def test_what_is_meant_is_said(words: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer in said(capsys, *words.split())


@pytest.mark.parametrize("verb", ["generate", "compose"])
@pytest.mark.parametrize("option", ["--time-signature", "--metre", "--meter"])
def test_old_names_are_understood(
    verb: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "17/4" in said(capsys, verb, "a", option, "17/4")
    assert "17/4" in said(capsys, verb, "a", f"{option}=17/4")
    assert run(program, [verb, "--help"]) == 0
    assert "--metre" not in capsys.readouterr().out


def test_after_two_dashes_a_prompt_is_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'no model "nope"' in said(capsys, "generate", "--model", "nope", "--", "--metre")


def test_advice_names_what_there_is() -> None:
    known = {
        name for command in COMMANDS.values() for param in command.params for name in param.opts
    }
    for names in (*ADVICE.values(), OTHER_NAMES.values()):
        assert set(names) - {"--sampling", "--without"} <= known
    for text in (*SENTENCES.values(), *VERBS.values()):
        words = text.replace("`", " ").replace(",", " ").replace(":", " ").split()
        named = {word for word in words if word.startswith("--") and len(word) > 2}
        assert named <= known | {"--version", "--set"}, text
    assert not set(VERBS) & set(COMMANDS)
    assert not set(ADVICE) & set(OTHER_NAMES)


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_help_pages_come_in_groups(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, [verb, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"Usage: melisma {verb} [OPTIONS]")
    heads = [line[:-1] for line in page.splitlines() if line.endswith(":") and line[0] != " "]
    assert heads == [one for one in ("Arguments", *GROUPS, "Options") if one in heads]
    assert "<" not in page
    assert "{" not in page
    assert run(program, ["help", verb]) == 0
    assert capsys.readouterr().out == page


def test_help_alone_is_the_page_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(program, ["help"]) == 0
    page = capsys.readouterr().out
    assert run(program, ["--help"]) == 0
    assert capsys.readouterr().out == page
    for verb in COMMANDS:
        assert f"  {verb} " in page


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("melisma gen", ["generate"]),
        ("melisma generate --en", ["--engine"]),
        ("melisma generate --engine s", ["sound", "score"]),
        ("melisma render x.mid --room h", ["hall"]),
        ("melisma compose --time", ["--time-signature"]),
    ],
)
def test_shells_complete(
    typed: str, found: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("_MELISMA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert run(program, []) == 0
    assert capsys.readouterr().out.split() == found


def test_completion_can_be_installed(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path), "SHELL": "/bin/bash",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }  # fmt: skip
    words = [sys.executable, "-m", "melisma", "--show-completion", "bash"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_MELISMA_COMPLETE=complete_bash" in done.stdout


def test_the_package_runs_as_a_module() -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", "melisma", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("melisma ")
    words = [sys.executable, "-m", "melisma", "generate"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("melisma: no prompt was given")
