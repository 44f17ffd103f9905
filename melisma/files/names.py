"""File names from words."""

from __future__ import annotations

import re

_LONGEST_NAME = 60


def slug(words: str) -> str:
    """A file name from the words of a prompt, e.g. "a-gentle-waltz"."""
    plain = re.sub(r"[^\w]+", "-", words.lower()).strip("-_")
    return plain[:_LONGEST_NAME].rstrip("-") or "piece"
