"""Names of files from words, free names, and where names lead."""

from __future__ import annotations

import os
import random
import sys
import unicodedata
from pathlib import Path

import pytest

from melisma.files.names import (
    descriptor_of,
    destination,
    free_path,
    is_special,
    name_limit,
    replaced_paths,
    shortened,
    slug,
    stem_bytes,
)

ALPHABETS = (
    "abc XYZ",
    "äöü ßé",
    "忧伤的钢琴曲",
    "𠀀𠀁𝄞𝅘𝅥",
    "🎻🎹 ",
    "\u0301\u200b\u202e\ud800\udcff",
    "../\\\0:*?\n-_.",
)


def words_of(rng: random.Random) -> str:
    alphabet = "".join(rng.sample(ALPHABETS, rng.randint(1, 3)))
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 200)))


def test_any_words_become_a_name_that_a_file_can_have(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(400):
        words = words_of(rng)
        name = slug(words, stem_bytes(tmp_path))
        assert len(os.fsencode(name)) <= 180
        assert len(name) <= 60
        assert not set(name) & set("/\\\0. ")
        assert name[0] not in "-_"
        assert not any(unicodedata.category(letter) == "Cs" for letter in name)
        path = tmp_path / f"1000-{name}-4294967295-1000.flac"
        path.write_bytes(b"")
        path.unlink()
    assert slug("A gentle waltz, slowly!") == "a-gentle-waltz-slowly"
    assert slug("🎻 ...") == "piece"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_names_cannot_hold_are_left_out(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: encoding)
    name = slug("café 曲 waltz")
    name.encode(encoding)
    assert name.endswith("waltz")
    assert slug("曲") == ("曲" if encoding == "utf-8" else "piece")


def test_free_names_count_up_and_stay_within_the_limit(tmp_path: Path) -> None:
    rng = random.Random(1)
    limit = name_limit(tmp_path)
    for letters in ("a", "é", "曲", "𠀀"):
        stem = shortened(letters * 255, limit - 4)
        found = [tmp_path / f"{stem}.wav"]
        for _ in range(12):
            path = free_path(found[0], found if rng.random() < 0.5 else ())
            assert not path.exists()
            assert path.suffix == ".wav"
            path.write_bytes(b"")
            found.append(path)
    (tmp_path / "dangling.wav").symlink_to("none.wav")
    assert free_path(tmp_path / "dangling.wav").name == "dangling-2.wav"
    assert name_limit(tmp_path / "not" / "yet" / "made") == limit


def test_where_a_name_leads(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/dev/stdout")
    (tmp_path / "again").symlink_to("out")
    assert descriptor_of(tmp_path / "again") == 1
    assert descriptor_of(Path("/dev/stderr")) == 2
    assert descriptor_of(Path("/dev/fd/63")) == 63
    assert descriptor_of(Path(f"/proc/{os.getpid()}/fd/7")) == 7
    assert descriptor_of(tmp_path / "x.wav") is None
    assert descriptor_of(Path("/dev/null")) is None
    assert is_special(Path("/dev/null"))
    assert is_special(tmp_path / "again")
    assert not is_special(tmp_path)
    assert not is_special(tmp_path / "none")
    (tmp_path / "link").symlink_to("target")
    assert destination(tmp_path / "link") == (tmp_path / "target").resolve()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="leads back to itself"):
        destination(tmp_path / "circle")


def test_what_is_replaced_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    (tmp_path / "link").symlink_to("x")
    os.mkfifo(tmp_path / "pipe")
    paths = [tmp_path / name for name in ("x", "link", "pipe", "none")]
    assert replaced_paths(*paths, tmp_path, None) == [str(path) for path in paths[:2]]
