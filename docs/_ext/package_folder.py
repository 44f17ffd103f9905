"""What the documentation site needs beyond Sphinx's own extensions.

The directive `package-folder` documents every module of one folder of the package. Docstrings are
plain text with code between backticks: they become valid reStructuredText. Links to Markdown files
outside `docs/` lead to the pages that include them.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from typing import ClassVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

OUTSIDE = {
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "CHANGELOG.md": "changelog",
    "benchmarks/README.md": "benchmarks",
    "cards/attributions.md": "attributions",
}
"""Files outside `docs/` -> pages of `docs/project` that include them."""
SECTIONS = {"Args", "Attributes", "Example", "Examples", "Note", "Raises", "Returns", "Yields"}
"""Headings of docstrings that napoleon knows."""
_LIST_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) ")


def module_names(package: str) -> list[str]:
    """The modules of a folder of the package, its own first, then by name."""
    module = import_module(package)
    if not hasattr(module, "__path__"):
        return [package]
    root = Path(next(iter(module.__path__)))
    names = [package]
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join([package, *(part for part in parts if part != "__init__")])
        if name != package:
            names.append(name)
    return sorted(names)


class PackageFolder(SphinxDirective):
    """`.. package-folder:: melisma.codec`: all of its modules, one section each."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """The sections, parsed from one `automodule` for each module."""
        package = self.arguments[0]
        is_folder = hasattr(import_module(package), "__path__")
        blocks = []
        for name in module_names(package):
            if name == package and is_folder:
                blocks.append(f".. automodule:: {name}\n   :no-members:\n")
                continue
            title = name.removeprefix("melisma.")
            heading = f"{title}\n{'-' * len(title)}"
            blocks.append(f"{heading}\n\n.. automodule:: {name}\n   :members:\n")
        return self.parse_text_to_nodes("\n".join(blocks), allow_section_headings=True)


def _escape(text: str) -> str:
    """Plain text outside backticks, so that `*`, `|` and a trailing `_` mean themselves."""
    pieces = re.split(r"(``.*?``|`[^`]*`)", text, flags=re.DOTALL)
    pieces[1::2] = [re.sub(r"^(`+)\s*(.*?)\s*(`+)$", r"\1\2\3", code) for code in pieces[1::2]]
    for index in range(0, len(pieces), 2):
        piece = re.sub(r"([*|])(?!\s)", r"\\\1", pieces[index])
        piece = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", piece)
        # Code ends before a blank or a mark: `Clip`s is two words to reStructuredText.
        piece = f"\\ {piece}" if index and re.match(r"\w", piece) else piece
        pieces[index] = piece
    return "".join(pieces)


def _is_preformatted(lines: list[str], index: int) -> bool:
    """Whether a table, a diagram or a list of names that must keep its lines starts here."""
    if lines[index].startswith("|"):
        return True
    if not lines[index].startswith("    ") or not index:
        return False
    before = [line for line in lines[:index] if line.strip()]
    if not before or before[-1].startswith(" "):
        return False
    heading = before[-1].rstrip()
    return not lines[index - 1].strip() or (
        heading.endswith(":") and heading.removesuffix(":") not in SECTIONS
    )


def _blocks(lines: list[str]) -> list[tuple[bool, list[str]]]:
    """The lines in runs, each with whether it is preformatted."""
    blocks: list[tuple[bool, list[str]]] = []
    index = 0
    while index < len(lines):
        start, preformatted = index, _is_preformatted(lines, index)
        mark = "|" if lines[index].startswith("|") else " "
        index += 1
        while preformatted and index < len(lines):
            if not (lines[index].startswith(mark) or (mark == " " and not lines[index].strip())):
                break
            index += 1
        if preformatted or not blocks or blocks[-1][0]:
            blocks.append((preformatted, []))
        blocks[-1][1].extend(lines[start:index])
    return blocks


def make_safe(lines: list[str]) -> list[str]:
    """Lines of a docstring as reStructuredText.

    Tables and indented diagrams become literal blocks; elsewhere marks are escaped and each list
    gets a blank line before it.
    """
    safe: list[str] = []
    for preformatted, block in _blocks(lines):
        if preformatted:
            body = indent(dedent("\n".join(block)), "   ").rstrip().split("\n")
            safe += ["", ".. code-block:: text", "", *body, ""]
            continue
        for line in _escape("\n".join(block)).split("\n"):
            starts_list = _LIST_ITEM.match(line) and safe and safe[-1].strip()
            if starts_list and not line.startswith(" ") and not _LIST_ITEM.match(safe[-1]):
                safe.append("")
            safe.append(line)
    return safe


def on_docstring(
    _app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Called by autodoc for each docstring, before napoleon reads its sections."""
    lines[:] = make_safe(lines)
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")  # otherwise napoleon takes what stands before a colon for a type


def on_tree(_app: Sphinx, tree: nodes.document) -> None:
    """Annotations such as `bytes` are no references to attributes of that name."""
    for node in list(tree.findall(pending_xref)):
        target = str(node.get("reftarget", ""))
        if node.get("refdomain") == "py" and target.islower() and "." not in target:
            node.replace_self(nodes.emphasis("", target))


def on_source(app: Sphinx, name: str, source: list[str]) -> None:
    """Links that leave `docs/` go to the page that includes their target."""
    page = Path(app.srcdir) / f"{name}.md"

    def inside(match: re.Match[str]) -> str:
        target = (page.parent / match[1]).resolve()
        for outside, inner in OUTSIDE.items():
            if target == Path(app.srcdir).parent / outside:
                up = "../" * name.count("/")
                return f"]({up}project/{inner}.md{match[2] or ''})"
        return match[0]

    if page.is_file():
        source[0] = re.sub(r"\]\(([^)#:\s]+\.md)(#[^)]*)?\)", inside, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive and the hooks."""
    app.add_directive("package-folder", PackageFolder)
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    app.connect("doctree-read", on_tree)
    app.connect("source-read", on_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
