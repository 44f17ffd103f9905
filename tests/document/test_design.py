"""The law in docs/design.md and the house agree: floors, forbidden names, sizes."""

from __future__ import annotations

import ast
import collections
import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "melisma"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = {"utils", "util", "misc", "helpers", "helper", "common", "base", "manager"}
LONGEST_FILE = 500
LONGEST_FUNCTION = 60
MOST_NAMES, MOST_MODULES = 12, 12


def folders() -> set[str]:
    files = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    return files | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def contract_layers() -> list[set[str]]:
    """Folders of each floor, the highest first."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [set(re.findall(r"\w+", layer)) for layer in layers]


def table_floors() -> dict[str, int]:
    """Folder -> floor, as the table of docs/design.md says."""
    text = (REPOSITORY / "docs" / "design.md").read_text("utf-8")
    rows = re.findall(r"^\| (-?\d+) \| `(\w+)`", text, re.MULTILINE)
    return {folder: int(floor) for floor, folder in rows}


def test_the_table_and_the_contract_have_the_same_floors() -> None:
    floors = table_floors()
    by_floor = [
        {name for name in floors if floors[name] == n} for n in sorted(set(floors.values()))
    ]
    assert list(reversed(by_floor)) == contract_layers()


def test_every_folder_has_a_floor_and_those_planned_have_no_code() -> None:
    text = (REPOSITORY / "docs" / "design.md").read_text("utf-8")
    planned = set(re.findall(r"^\| -?\d+ \| `(\w+)` \*", text, re.MULTILINE))
    assert folders() == set(table_floors()) - planned


def test_no_file_has_a_name_that_says_nothing() -> None:
    for path in SOURCES:
        assert path.stem not in FORBIDDEN, path
        assert not FORBIDDEN & set(path.relative_to(PACKAGE).parts), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_walls_of_files_functions_and_folders(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{node.name} has {lines} lines"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "shelve"} & {name.split(".")[0] for name in names}
    if path.name == "__init__.py":
        found = re.search(r"__all__ = \[(.*?)\]", text, re.DOTALL)
        assert found is None or len(re.findall(r'"\w+"', found[1])) <= MOST_NAMES


def children(folder: Path) -> list[str]:
    """Modules and sub-folders of a folder of the package."""
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    return modules + [path.parent.name for path in folder.glob("*/__init__.py")]


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in PACKAGE.rglob("*/__init__.py")),
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_walls_of_folders(folder: Path) -> None:
    names = children(folder)
    assert len(names) <= MOST_MODULES, f"{len(names)} modules in {folder}"
    prefixes = collections.Counter(name.split("_")[0] for name in names)
    shared = [prefix for prefix, count in prefixes.items() if count >= 3]
    assert not shared, f"a prefix is a folder in disguise: {shared} in {folder}"


def test_class_names_are_unique() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    twice = {name: found for name, found in homes.items() if len(found) > 1}
    assert not twice


def walks() -> list[tuple[int, str]]:
    """(depth, file) of every line of the walks."""
    text = (REPOSITORY / "docs" / "walks.md").read_text("utf-8")
    rows = re.findall(r"^( *)- `(melisma/[\w/.]+)`", text, re.MULTILINE)
    return [(len(spaces) // 2, name) for spaces, name in rows]


def floor_of(name: str) -> int:
    return table_floors()[Path(name).parts[1].removesuffix(".py")]


def imported(name: str) -> set[str]:
    """Files that a file imports, at its top or inside its functions."""
    found = set()
    for node in ast.walk(ast.parse((REPOSITORY / name).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("melisma"):
            modules = [node.module or "", *(f"{node.module}.{one.name}" for one in node.names)]
            for module in modules:
                path = module.replace(".", "/")
                found |= {f"{path}.py", f"{path}/__init__.py"}
    return found


def test_walks_follow_the_imports_and_never_go_up() -> None:
    path: list[str] = []
    rows = walks()
    assert len(rows) > 50
    for depth, name in rows:
        assert (REPOSITORY / name).is_file(), name
        path = [*path[:depth], name]
        if depth:
            assert name in imported(path[-2]), f"{path[-2]} does not import {name}"
            assert floor_of(name) <= floor_of(path[-2]), f"{path[-2]} -> {name} goes up"


def test_the_walks_name_files_that_exist() -> None:
    text = (REPOSITORY / "docs" / "walks.md").read_text("utf-8")
    for name in re.findall(r"`(melisma/[\w/.]+)`", text):
        assert (REPOSITORY / name).exists(), name


def test_one_generate_call_is_a_short_spine() -> None:
    rows = walks()
    stop = next(i for i, (depth, _) in enumerate(rows) if i and not depth)
    assert len(rows[:stop]) <= 12


def test_no_word_has_two_entries_in_the_glossary() -> None:
    text = (REPOSITORY / "docs" / "glossary.md").read_text("utf-8")
    words = [
        word
        for row in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
        for word in row.split(", ")
        if row not in ("word", "---")
    ]
    assert len(words) > 40
    assert len(words) == len(set(words))


def test_every_shipped_weight_has_a_card() -> None:
    for weights in sorted((PACKAGE / "weights").glob("*/*.safetensors")):
        card = REPOSITORY / "cards" / f"{weights.stem}.md"
        assert card.is_file(), card
