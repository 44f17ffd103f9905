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
EXPERIMENTS = sorted((REPOSITORY / "docs" / "experiments").glob("*.md"))
"""Dated notes: they name the commands and files of their day, only their links are checked."""
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *(page for page in sorted((REPOSITORY / "docs").rglob("*.md")) if page not in EXPERIMENTS),
    REPOSITORY / "benchmarks" / "README.md",
]
EVERYTHING = [
    *PAGES,
    *EXPERIMENTS,
    REPOSITORY / "SECURITY.md",
    *sorted((REPOSITORY / "cards").glob("*.md")),
    *sorted((REPOSITORY / ".github").rglob("*.md")),
]
LONGEST_README = 200
RUN = [REPOSITORY / "README.md", REPOSITORY / "docs" / "python.md"]
"""Pages whose Python examples the slow test runs, in this order."""


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
    if words[:1] == ["train"] and len(words) > 1:
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
    code = "\n".join(block for page in RUN for block in blocks(page, "python"))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "waltz.wav").stat().st_size > 400_000
    assert (tmp_path / "again.wav").stat().st_size > 400_000


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST-Parser make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = [line.lower() for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", line).strip().replace(" ", "-") for line in headings}


@pytest.mark.parametrize("page", EVERYTHING, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text):
        other = page.parent / target if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(other), f"{page.name} links to {target}#{anchor}"
    if page in EXPERIMENTS:
        return
    named = r"`((?:docs|benchmarks|cards|melisma|tests)/[\w/]+\.(?:md|py))`"
    for name in re.findall(named, text):
        assert (REPOSITORY / name).is_file(), f"{page.name} names {name}"


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= LONGEST_README


def test_every_verb_is_in_the_readme() -> None:
    command = typer.main.get_command(program)
    text = PAGES[0].read_text("utf-8")
    for verb in command.commands:  # pyright: ignore[reportAttributeAccessIssue] - see above
        assert f"melisma {verb}" in text
