"""The field's words: what the table in docs/design.md replaces stands nowhere in the package."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "melisma").rglob("*.py"))
IN_TEXT = (
    "told", "untold", "tongue", "ear", "ears", "desk", "hearsay", "hear", "hears", "heard", "drawn",
    "draw", "draws", "wish", "wishes", "maker", "makers", "twin", "twins", "fulfil", "fulfilled",
    "occasion",
)  # fmt: skip
"""In identifiers, docstrings, comments, help and messages."""
IN_NAMES = (
    "tell", "tells", "telling", "hearing", "drawing", "drawings", "asked", "asking", "begun",
    "manner", "lesson", "lessons", "nats", "prints", "players", "past", "session",
)  # fmt: skip
"""In identifiers alone: as English words they have their place."""
HEADINGS = ("Enters:", "Leaves:")
LEGACY = {"files/legacy_names.py", "evaluate/legacy_keys.py"}
"""Files whose content is what older files say."""
SENTENCES = {
    "data/captions/human_words.py", "data/captions/scenes.py", "data/captions/sentences.py",
    "joint/negation.py",
}  # fmt: skip
"""Files with sentences of captions or prompts, in which any English word may stand."""


def words(name: str) -> list[str]:
    """The words of an identifier."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word.lower() for word in spaced.split("_") if word]


def faults(path: Path) -> list[str]:
    """Every line with a banned word."""
    found = []
    text = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        where = f"{path.name}:{token.start[0]}"
        if token.type == tokenize.NAME:
            bad = [word for word in words(token.string) if word in IN_TEXT + IN_NAMES]
        elif token.type in (tokenize.STRING, tokenize.COMMENT):
            if str(path.relative_to(REPOSITORY / "melisma")) in SENTENCES:
                continue
            plain = re.findall(r"[A-Za-z]+", re.sub(r"[_]", " ", token.string))
            bad = [word for word in plain if word.lower() in IN_TEXT]
            bad += [heading for heading in HEADINGS if heading in token.string]
        else:
            continue
        found += [f"{where} {word}" for word in bad]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPOSITORY / "melisma")))
def test_the_fields_words(path: Path) -> None:
    if str(path.relative_to(REPOSITORY / "melisma")) in LEGACY:
        return
    assert not set(words(path.stem)) & set(IN_TEXT + IN_NAMES)
    assert not faults(path)
