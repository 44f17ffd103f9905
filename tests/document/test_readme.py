"""What README and docs tell people to type is true: verbs, options, files, names exist."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from melisma.cli.program import program
from melisma.recipes.names import RECIPES, SIZES

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "benchmarks" / "README.md",
]
EVERYTHING = [*PAGES, *sorted((REPOSITORY / "cards").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def command_lines(page: Path) -> list[str]:
    """Every command of the shell blocks, and those in `backticks` that begin with a program."""
    text = page.read_text("utf-8")
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines += re.findall(r"`((?:melisma|python benchmarks/)[^`\n]*)`", text)
    whole = (line.strip() for line in lines if line.strip() and not line.startswith("#"))
    return [part.strip() for line in whole for part in re.split(r"&&|; ", line)]


def melisma_commands(pages: list[Path]) -> list[list[str]]:
    """Arguments of every complete `melisma` command; "VERB" stands for any."""
    found = []
    for page in pages:
        for line in command_lines(page):
            words = shlex.split(line)
            if words and words[0].rpartition("/")[2] == "melisma" and "VERB" not in words:
                found.append(words[1:])
    return found


def benchmark_commands(pages: list[Path]) -> list[list[str]]:
    found = []
    for page in pages:
        for line in command_lines(page):
            words = shlex.split(line)
            if len(words) > 1 and words[0] == "python" and words[1].startswith("benchmarks/"):
                found.append(words[1:])
    return found


def test_there_are_commands_to_check() -> None:
    verbs = {words[0] for words in melisma_commands(PAGES) if words}
    assert verbs >= {"generate", "inspect", "encode", "decode", "prepare", "train"}
    assert len(benchmark_commands(EVERYTHING)) >= 8


@pytest.mark.parametrize("words", melisma_commands(PAGES), ids=" ".join)
def test_the_program_understands_every_command(words: list[str]) -> None:
    command = typer.main.get_command(program)
    verbs = command.commands  # pyright: ignore[reportAttributeAccessIssue] - a group, typed as one
    if words and not words[0].startswith("-"):
        assert words[0] in verbs, f"there is no verb {words[0]}"
        if len(words) > 1:
            verbs[words[0]].make_context(words[0], list(words[1:]))
    if words[0] == "train" and len(words) > 1:
        assert words[1] in RECIPES
        sizes = [word.removeprefix("size=") for word in words if word.startswith("size=")]
        assert set(sizes) <= set(SIZES)


@pytest.mark.parametrize("words", benchmark_commands(EVERYTHING), ids=" ".join)
def test_benchmarks_and_their_options_exist(words: list[str]) -> None:
    source = REPOSITORY / words[0]
    known = {"--help"}
    for path in (source, source.parent / "held_clips.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', path.read_text("utf-8")))
    assert {word for word in words if word.startswith("--")} <= known


def python_examples() -> list[str]:
    return [block for page in PAGES for block in blocks(page, "python")]


@pytest.mark.parametrize("code", python_examples())
def test_python_examples_name_what_exists(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("melisma"):
            continue
        found = importlib.util.find_spec(str(node.module))
        assert found is not None
        assert found.origin is not None
        text = Path(found.origin).read_text("utf-8")
        for alias in node.names:
            assert re.search(rf"\b{alias.name}\b", text), f"{node.module} has no {alias.name}"


@pytest.mark.slow
def test_python_examples_run(tmp_path: Path) -> None:
    code = "\n".join(blocks(PAGES[0], "python"))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "waltz.wav").stat().st_size > 400_000
    assert (tmp_path / "again.wav").stat().st_size > 400_000


def test_links_and_named_files_exist() -> None:
    for page in EVERYTHING:
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for name in re.findall(r"`((?:docs|benchmarks|cards|melisma)/[\w/]+\.(?:md|py))`", text):
            assert (REPOSITORY / name).is_file(), f"{page.name} names {name}"


def test_every_verb_is_in_the_readme() -> None:
    command = typer.main.get_command(program)
    text = PAGES[0].read_text("utf-8")
    for verb in command.commands:  # pyright: ignore[reportAttributeAccessIssue] - see above
        assert f"melisma {verb}" in text
