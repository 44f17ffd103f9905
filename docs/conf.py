"""Settings of the documentation site: `sphinx-build -W -b html docs build/docs`."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

import melisma  # noqa: E402 - found by the line above

project = "Melisma"
author = copyright = "The Melisma developers"
version = release = melisma.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "package_folder",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_ext", "samples/scores"]
language = "en"

html_theme = "furo"
html_title = "Melisma"
html_static_path = ["_static"]
html_css_files = ["melisma.css"]
html_copy_source = False

myst_heading_anchors = 4
# Type aliases of one name in two folders are no error.
suppress_warnings = ["ref.python"]

# Docstrings write code between single backticks.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
