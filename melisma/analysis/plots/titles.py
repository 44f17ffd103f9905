"""Titles of plots: any text on one line, in letters that the font has."""

from __future__ import annotations

import re
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

MISSING = "…"
"""Stands for letters that the font lacks, such as emoji."""


def title_line(text: str, longest: int) -> str:
    """A title as matplotlib takes it.

    Blanks are joined, letters that the font lacks are replaced by an ellipsis, and "$", which
    would start a formula, is escaped.

    Args:
        text: Any text.
        longest: Most characters.

    >>> title_line("for $5 a waltz", 40)
    'for \\\\$5 a waltz'
    """
    characters = _characters()
    shown = "".join(one if ord(one) in characters else "\0" for one in " ".join(text.split()))
    line = re.sub("\0+", MISSING, shown)
    line = line if len(line) <= longest else line[: longest - 1] + MISSING
    return line.replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    """Code points of the letters in the font of titles."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
