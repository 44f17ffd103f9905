"""The documentation site covers the package, and builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
LARGEST_PICTURE_BYTES = 300_000


def floors() -> list[list[str]]:
    """Folders of each floor, the highest first; planned ones in parentheses, as in the contract."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [re.findall(r"\(?\w+\)?", layer) for layer in layers]


def test_every_folder_has_a_page_of_the_reference() -> None:
    folders = {name for floor in floors() for name in floor if not name.startswith("(")}
    pages = {path.stem for path in (DOCS / "api").glob("*.rst")} - {"public"}
    assert pages == folders
    index = (DOCS / "api" / "index.md").read_text("utf-8")
    assert all(f"({name}.rst)" in index and f"\n{name}\n" in index for name in folders)
    for name in folders:
        text = (DOCS / "api" / f"{name}.rst").read_text("utf-8")
        assert f".. package-folder:: melisma.{name}\n" in text


def test_the_diagram_has_the_floors_of_the_contract() -> None:
    text = (DOCS / "images" / "architecture.svg").read_text("utf-8")
    boxes = re.findall(r'<text [^>]*y="(\d+)" text-anchor="middle"[^>]*>(\w+)</text>', text)
    drawn: dict[int, list[str]] = {}
    for height, name in boxes:
        drawn.setdefault(int(height), []).append(name)
    expected = [[name.strip("()") for name in floor] for floor in floors()]
    assert [drawn[height] for height in sorted(drawn)] == expected


def test_pictures_are_small_and_used() -> None:
    text = "".join(page.read_text("utf-8") for page in DOCS.rglob("*.md"))
    for picture in (DOCS / "images").iterdir():
        assert picture.stat().st_size <= LARGEST_PICTURE_BYTES, picture.name
        assert f"images/{picture.name}" in text


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, str(DOCS), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
