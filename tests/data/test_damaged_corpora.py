"""Corpora that are damaged, cut or hostile: one sentence that names the file, and no memory."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from small_corpus import groove, song, write_corpus

from melisma.data.sources import archive
from melisma.data.sources.pieces import (
    ARCHIVE_NAME,
    METADATA_NAME,
    read_midi_folder,
    read_sources,
)
from melisma.data.sources.splits import assign_splits
from melisma.symbolic import write_midi
from melisma.values.errors import MelismaError

HEADER = "file,licence,source_repo,attribution"
ROW = "a.mid,CC0,somebody/music,nobody"


def corpus(folder: Path, metadata: str | bytes) -> Path:
    """A corpus of one piece beside its metadata."""
    place = folder / "songs"
    place.mkdir()
    (place / "a.mid").write_bytes(write_midi(song()))
    data = metadata.encode() if isinstance(metadata, str) else metadata
    (place / METADATA_NAME).write_bytes(data)
    return place


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("", "has no column file"),
        ("file,source_repo,attribution\na.mid,b,c\n", "has no column licence"),
        ("licence,source_repo,attribution\nCC0,b,c\n", "has no column file"),
        (f"{HEADER}\n{ROW}\n{ROW}\n", r"line 3 of .* names a\.mid again, as line 2 does"),
        (f"{HEADER}\n../../etc/passwd,CC0,b,c\n", "is no file inside of the corpus"),
        (f"{HEADER}\n/etc/passwd,CC0,b,c\n", "is no file inside of the corpus"),
        (f"{HEADER}\n,CC0,b,c\n", 'line 2 of .*: "" is no file'),
        (f"{HEADER}\n\x00,CC0,b,c\n", "(is no file inside of the corpus|is no table)"),
        (f"{HEADER}\nb.mid,CC0,b,c\n", r"lacks b\.mid"),
        (f'{HEADER}\na.mid,"{"x" * 200_000}",b,c\n', "is no table that can be read: field larger"),
        (f"{HEADER}\na.mid,Caf\xe9,b,c\n".encode("latin-1"), "is not UTF-8 text"),
        (f"{HEADER}\na.mid,CC0,b,c\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_metadata_that_is_no_table_of_pieces(
    tmp_path: Path, metadata: str | bytes, said: str
) -> None:
    corpus(tmp_path, metadata)
    with pytest.raises(MelismaError, match=said) as caught:
        read_sources(tmp_path, licences=("CC0", "x", "Caf"))
    assert METADATA_NAME in str(caught.value)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e400", "many", "", "12.7"])
def test_numbers_that_are_none_are_measured(tmp_path: Path, number: str) -> None:
    corpus(tmp_path, f"\ufeff{HEADER},notes,seconds,bpm\n{ROW},{number},{number},{number}\n")
    (source,) = read_sources(tmp_path)
    measured = (len(song().tracks[0].notes) * len(song().tracks), song().seconds)
    found = (source.notes, source.seconds)
    assert found == ((12, 12.7) if number == "12.7" else pytest.approx(measured))
    assert source.bpm == (12.7 if number == "12.7" else None)


def test_a_line_with_fewer_or_more_cells(tmp_path: Path) -> None:
    corpus(tmp_path, f"{HEADER},title\na.mid,CC0,b\n")
    (source,) = read_sources(tmp_path)
    assert (source.attribution, source.title) == ("", None)
    (tmp_path / "songs" / METADATA_NAME).write_text(f"{HEADER}\na.mid,CC0,b,c,d,e,f\n")
    (source,) = read_sources(tmp_path)
    assert source.attribution == "c"


def packed(add: Callable[[tarfile.TarFile], None], *, pax: bool = False) -> bytes:
    """An archive that a function fills."""
    buffer = io.BytesIO()
    kind = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        add(tar)
    return zstandard.ZstdCompressor().compress(buffer.getvalue())


def member(name: str, data: bytes = b"", **fields: object) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        for field, value in fields.items():
            setattr(entry, field, value)
        tar.addfile(entry, io.BytesIO(data))

    return add


ZEROS = bytes(21_000_000)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no archive at all", "is damaged or cut short"),
        (b"", "lacks a.mid|is damaged or cut short"),
        (zstandard.ZstdCompressor().compress(b"no tar at all" * 900), "is damaged or cut short"),
        (
            packed(member("a.mid", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
            "a link or no file",
        ),
        (packed(member("a.mid", type=tarfile.LNKTYPE, linkname="b.mid")), "is a link or no file"),
        (packed(member("a.mid", type=tarfile.FIFOTYPE)), "is a link or no file"),
        (packed(member("a.mid", type=tarfile.DIRTYPE)), "is a link or no file"),
        (packed(member("a.mid", ZEROS)), "has 21 MB, at most 20 are read"),
        (
            packed(member("x", pax_headers={"comment": "x" * 3_000_000}), pax=True),
            "a header of over",
        ),
        (packed(member("n" * 3_000_000)), "a header of over"),
        (packed(member("other.mid", b"x")), r"lacks a\.mid"),
    ],
)
def test_archives_that_cannot_be_read(tmp_path: Path, data: bytes, said: str) -> None:
    place = corpus(tmp_path, f"{HEADER}\n{ROW}\n")
    (place / "a.mid").unlink()
    (place / ARCHIVE_NAME).write_bytes(data)
    with pytest.raises(MelismaError, match=said):
        read_sources(tmp_path)


def test_large_members_that_no_one_names_are_passed_over(tmp_path: Path) -> None:
    place = corpus(tmp_path, f"{HEADER}\n{ROW}\n")
    piece = (place / "a.mid").read_bytes()

    def fill(tar: tarfile.TarFile) -> None:
        member("film.avi", ZEROS)(tar)
        member("./a.mid", piece)(tar)

    (place / ARCHIVE_NAME).write_bytes(packed(fill))
    assert read_sources(tmp_path)[0].midi_bytes == piece


def test_all_members_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path, "songs", {f"{i}.mid": song() for i in range(3)})
    monkeypatch.setattr(archive, "_MAX_TOTAL_BYTES", 2 * len(write_midi(song())))
    with pytest.raises(MelismaError, match="of pieces: split the corpus"):
        read_sources(tmp_path)


def test_no_damage_of_an_archive_is_a_traceback(tmp_path: Path) -> None:
    write_corpus(tmp_path, "songs", {"a.mid": song(), "b.mid": groove()})
    path = tmp_path / "songs" / ARCHIVE_NAME
    whole = path.read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(whole)).read()
    rng = random.Random(0)
    said: list[str] = []
    for number in range(300):
        data = bytearray(plain if number % 2 else whole)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(min(len(data), 2048 if number % 3 else len(data)))] = rng.choice(
                (0, 255, 0x30, 0x37, 0x80, rng.randrange(256))
            )
        del data[rng.choice((len(data), rng.randrange(len(data)))) :]
        path.write_bytes(zstandard.ZstdCompressor().compress(bytes(data)) if number % 2 else data)
        try:
            read_sources(tmp_path)
        except MelismaError as error:
            said.append(str(error))
    assert len(said) > 100
    assert all("songs" in words for words in said)


def test_what_is_no_ordinary_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "good.mid").write_bytes(write_midi(song()))
    (tmp_path / "folder.mid").mkdir()
    os.mkfifo(tmp_path / "pipe.mid")  # reading it would wait for ever
    (tmp_path / "loop.mid").symlink_to("loop.mid")
    (tmp_path / "large.mid").write_bytes(ZEROS)
    said: list[str] = []
    (source,) = read_midi_folder(tmp_path, said.append)
    assert source.group == "good.mid"
    assert said[0].startswith("4 files were left out")


@pytest.mark.parametrize("text", ['{"a": ', "[]", '{"songs/a.mid": ["train"]}', "\xff", '{"a": 1}'])
def test_splits_that_are_damaged(tmp_path: Path, text: str) -> None:
    corpus(tmp_path, f"{HEADER}\n{ROW}\n")
    sources = read_sources(tmp_path)
    cache = tmp_path / "splits.json"
    splits = assign_splits(sources, cache)
    assert assign_splits(sources, cache) == splits
    cache.write_bytes(text.encode("latin-1"))
    with pytest.raises(MelismaError, match=r"splits\.json"):
        assign_splits(sources, cache)
