"""The pieces of music a corpus is made from: notation with its licence and its maker.

Enters: a folder with one folder per corpus, each holding `metadata.csv` and either `midi.tar.zst`
or the MIDI files themselves. Leaves: one `Source` per piece, its MIDI bytes in memory (30 MB for
10,000 pieces). `splits.py` decides which works are held out.
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from melisma.symbolic import read_midi
from melisma.values import Score

ARCHIVE_NAME = "midi.tar.zst"
METADATA_NAME = "metadata.csv"
COMMERCIAL_COMPOSITIONS: tuple[str, ...] = ("pop909",)
"""Corpora whose files are free but whose songs are not: never learnt from by default."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One piece: notation as bytes, and whose it is. None where the metadata say nothing."""

    identity: str
    """Unique: corpus/path inside its archive, e.g. "mutopia/midi/x.mid"."""
    corpus: str
    group: str
    """The work this file belongs to, unique within its corpus."""
    licence: str
    source_repo: str
    attribution: str
    midi_bytes: bytes = field(repr=False)
    title: str | None = None
    composer: str | None = None
    style: str | None = None
    """As the corpus writes it, e.g. "Baroque" or "funk/groove1"."""
    instruments: str | None = None
    """As the corpus writes them, e.g. "Voice, Piano"."""
    tempo: str | None = None
    """As the corpus writes it."""
    bpm: float | None = None
    """Quarter notes a minute where a person measured them (drum grooves)."""
    kind: str | None = None
    """Of drum grooves: "beat", "fill" or a pattern's kind."""
    seconds: float = 0.0
    """Length as written."""
    notes: int = 0
    """How many notes the file has."""


def read_sources(
    folder: Path,
    licences: tuple[str, ...] | None = None,
    without: tuple[str, ...] = COMMERCIAL_COMPOSITIONS,
) -> list[Source]:
    """All pieces under a folder, sorted by identity.

    `licences` keeps only rows whose licence begins with one of these (e.g. "CC0", "Public
    domain"); `without` leaves out corpora by name. Raises `ValueError` where the folder holds no
    corpus, or a corpus lacks a file that its metadata name.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: give one that holds corpora of MIDI files")
    corpora = sorted(path.parent for path in folder.glob(f"*/{METADATA_NAME}"))
    corpora = [path for path in corpora if path.name not in without]
    if not corpora:
        raise ValueError(
            f"{folder} holds no corpus: each is a folder with {METADATA_NAME} and {ARCHIVE_NAME}"
        )
    sources = [source for path in corpora for source in _read_corpus(path, licences)]
    if not sources:
        raise ValueError(f"no piece in {folder} has one of the licences {licences}")
    return sorted(sources, key=lambda source: source.identity)


def read_midi_folder(folder: Path, say: Callable[[str], None] = print) -> list[Source]:
    """Every MIDI file under a folder, sorted by path, each a work of its own; files that cannot be
    read are left out, and told of.

    Their licence is "unknown": whoever trains on them answers for it. Raises `ValueError` where
    there is none that can be read.
    """
    sources, damaged = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".mid", ".midi")):
        name = path.relative_to(folder).as_posix()
        try:
            data = path.read_bytes()
            score = read_midi(data)
        except (ValueError, OSError) as error:
            damaged.append(f"{name}: {error}")
            continue
        sources.append(
            Source(
                identity=f"{folder.name}/{name}",
                corpus=folder.name,
                group=name,
                licence="unknown",
                source_repo=folder.name,
                attribution="",
                midi_bytes=data,
                title=path.stem,
                seconds=score.seconds,
                notes=sum(len(track.notes) for track in score.tracks),
            )
        )
    if damaged:
        say(f"{len(damaged)} files were left out, e.g. {damaged[0]}")
    if not sources:
        raise ValueError(f"{folder} holds no MIDI file that can be read: give one that does")
    return sources


def read_score(source: Source) -> Score:
    """The notation of a source; `ValueError` where its bytes are damaged."""
    return read_midi(source.midi_bytes)


def _read_corpus(folder: Path, licences: tuple[str, ...] | None) -> Iterator[Source]:
    with (folder / METADATA_NAME).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if licences is not None:
        rows = [row for row in rows if row["licence"].startswith(licences)]
    wanted = {row["file"] for row in rows}
    held = _read_archive(folder / ARCHIVE_NAME, wanted) if (folder / ARCHIVE_NAME).exists() else {}
    for row in rows:
        data = held.get(row["file"])
        if data is None:
            path = folder / row["file"]
            if not path.is_file():
                raise ValueError(
                    f"{folder} lacks {row['file']}, which its {METADATA_NAME} names: "
                    "fetch the corpus again"
                )
            data = path.read_bytes()
        yield _source(folder.name, row, data)


def _read_archive(path: Path, wanted: set[str]) -> dict[str, bytes]:
    import zstandard  # of the extra "train"; composing imports this module too

    held: dict[str, bytes] = {}
    with (
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            name = member.name.removeprefix("./")
            if name in wanted:
                content = archive.extractfile(member)
                if content is not None:
                    held[name] = content.read()
    return held


def _first(row: Mapping[str, str], *columns: str) -> str | None:
    """The first of some columns that says anything."""
    for column in columns:
        text = (row.get(column) or "").strip()
        if text:
            return text
    return None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _source(corpus: str, row: Mapping[str, str], data: bytes) -> Source:
    return Source(
        identity=f"{corpus}/{row['file']}",
        corpus=corpus,
        group=_first(row, "group") or row["file"],
        licence=row["licence"],
        source_repo=row["source_repo"],
        attribution=row["attribution"],
        midi_bytes=data,
        title=_first(row, "title", "name", "work"),
        composer=_first(row, "composer", "author"),
        style=_first(row, "style", "genre"),
        instruments=_first(row, "instruments", "parts"),
        tempo=_first(row, "tempo", "tempo_range"),
        bpm=_number(_first(row, "bpm")),
        kind=_first(row, "beat_type", "kind"),
        seconds=_number(_first(row, "seconds")) or 0.0,
        notes=int(_number(_first(row, "notes")) or 0),
    )
