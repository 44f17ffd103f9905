"""JSON from outside: what has the types of its hints comes through, all else is a sentence."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melisma.files.typed_json import (
    MAX_INTEGER,
    expect_sizes,
    numbers,
    parse_json,
    read_json,
    some_fields,
    typed,
)
from melisma.values.errors import MelismaError


@dataclass(frozen=True)
class Inner:
    """Part of a document."""

    name: str
    sizes: tuple[int, ...] = ()
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    """A document."""

    inner: Inner
    share: float
    pair: tuple[int, str] | None = None
    notes: Mapping[str, float | str] = field(default_factory=dict[str, "float | str"])
    parts: list[Inner] = field(default_factory=list[Inner])
    loud: bool = False


INNERS = st.builds(
    Inner,
    name=st.text(st.characters(codec="utf-8")),
    sizes=st.lists(st.integers(-MAX_INTEGER, MAX_INTEGER)).map(tuple),
    kind=st.sampled_from(["a", "b"]),
)
REALS = st.floats(-1e18, 1e18)
OUTERS = st.builds(
    Outer,
    inner=INNERS,
    share=REALS,
    pair=st.none() | st.tuples(st.integers(0, 9), st.just("x")),
    notes=st.dictionaries(st.text(st.characters(codec="utf-8")), REALS | st.just("text")),
    parts=st.lists(INNERS, max_size=3),
    loud=st.booleans(),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3),
    max_leaves=8,
)


@given(OUTERS)
def test_a_document_comes_back(document: Outer) -> None:
    text = json.dumps(dataclasses.asdict(document))
    assert typed(parse_json(text, "it"), Outer) == document


@given(ANYTHING, OUTERS, st.data())
def test_any_other_value_is_refused_or_has_its_type(
    value: object, document: Outer, data: st.DataObject
) -> None:
    tree: Any = json.loads(json.dumps(dataclasses.asdict(document)))
    name = data.draw(st.sampled_from(sorted(tree)))
    tree[name] = value
    try:
        found = typed(tree, Outer)
    except MelismaError as error:
        said, found = str(error), None
        said.encode()
    else:
        said = name
        assert typed(json.loads(json.dumps(dataclasses.asdict(found))), Outer) == found
        assert math.isfinite(found.share)
    assert name in said


@given(ANYTHING)
def test_nothing_but_a_sentence_comes_of_a_wrong_document(value: object) -> None:
    for hint in (Outer, Inner, list[Inner], dict[str, Any], tuple[int, str], int | str, None):
        try:
            typed(value, hint)
        except MelismaError as error:
            str(error).encode()
    for check in (numbers, lambda one: some_fields(one, Inner)):
        try:
            check(value)
        except MelismaError as error:
            str(error).encode()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "inner is missing"),
        ({"inner": {"name": 5}, "share": 1}, "inner.name is the number 5, where a text is needed"),
        ({"inner": {"name": "x"}, "share": True}, "share is true, where a number is needed"),
        ({"inner": {"name": "x"}, "share": math.nan}, "share is the number nan"),
        ({"inner": {"name": "x"}, "share": 1, "other": 1}, "other is unknown"),
        ({"inner": {"name": "x", "sizes": [1, 2.5]}, "share": 1}, r"inner.sizes\[1\] is the num"),
        ({"inner": {"name": "x", "kind": "c"}, "share": 1}, 'where "a" or "b" is needed'),
        ({"inner": {"name": "\udcff"}, "share": 1}, "inner.name is no valid Unicode text"),
        ({"inner": {"name": "x"}, "share": 10**400}, "share is a number beyond all limits"),
        ({"inner": {"name": "x"}, "share": "y" * 99}, 'is the text "y{30}…", where a number'),
        ([], "it is a list, where an object is needed"),
    ],
)
def test_messages_name_the_place(document: object, words: str) -> None:
    with pytest.raises(MelismaError, match=words):
        typed(document, Outer)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "[" * 100_000, "1" * 5_000, "\x00", b"\xff"])
def test_what_is_no_json_is_said_to_be_none(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match=r"this is not JSON"):
        parse_json(text, "this")
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MelismaError, match=r"a\.json is not JSON"):
        read_json(path)


def test_a_file_without_measure_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(2**25 + 1)
    with pytest.raises(MelismaError, match=r"a\.json is too large to be read"):
        read_json(path)


def test_numbers_may_be_missing() -> None:
    found = numbers({"a": 1, "b": None, "c": math.nan, "d": 0.5})
    assert (found["a"], found["d"]) == (1.0, 0.5)
    assert math.isnan(found["b"])
    assert math.isnan(found["c"])
    for wrong in ({"a": "x"}, {"a": math.inf}, {"a": [1]}, [1], None):
        with pytest.raises(MelismaError):
            numbers(wrong)


def test_sizes_have_limits() -> None:
    expect_sizes({"width": 2**24, "layers": 1024, "deep": {"heads": 8}, "causal": True, "x": "y"})
    for wrong in ({"width": 2**24 + 1}, {"deep": {"layers": 1025}}, {"width": -1}):
        with pytest.raises(MelismaError, match=r"are allowed"):
            expect_sizes(wrong)
