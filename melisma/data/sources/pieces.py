"""Source pieces: MIDI notation with licence, composer and other metadata.

Input: a folder with one folder per corpus, each with `metadata.csv` and either `midi.tar.zst` or
the MIDI files themselves. Output: one `Source` per piece with its MIDI bytes in memory (30 MB for
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
from melisma.values.errors import MelismaError

ARCHIVE_NAME = "midi.tar.zst"
METADATA_NAME = "metadata.csv"
COMMERCIAL_COMPOSITIONS: tuple[str, ...] = ("pop909",)
"""Corpora of free files of copyrighted songs: excluded from training by default."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One piece: a MIDI file and its metadata; None: not stated in the metadata."""

    identity: str
    """Unique identifier: corpus/path in its archive, e.g. "mutopia/midi/x.mid"."""
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
    """As given in the corpus, e.g. "Baroque" or "funk/groove1"."""
    instruments: str | None = None
    """As given in the corpus, e.g. "Voice, Piano"."""
    tempo: str | None = None
    """As given in the corpus."""
    bpm: float | None = None
    """Quarter notes per minute, if annotated by a person (drum grooves)."""
    kind: str | None = None
    """For drum grooves: "beat", "fill" or the kind of the pattern."""
    seconds: float = 0.0
    """Notated length."""
    notes: int = 0
    """Number of notes in the file."""


def read_sources(
    folder: Path,
    licences: tuple[str, ...] | None = None,
    without: tuple[str, ...] = COMMERCIAL_COMPOSITIONS,
) -> list[Source]:
    """Read all pieces of all corpora in a folder.

    Args:
        folder: Folder with one folder per corpus.
        licences: Keep only pieces whose licence begins with one of these (e.g. "CC0", "Public
            domain"); None: all.
        without: Names of corpora to exclude.

    Returns:
        The pieces, sorted by identity.

    Raises:
        MelismaError: If the folder is missing or has no corpus, a corpus lacks a file named in its
            metadata, or no piece has one of the licences.
    """
    if not folder.is_dir():
        raise MelismaError(
            f"there is no folder {folder}: give one that holds corpora of MIDI files"
        )
    corpora = sorted(path.parent for path in folder.glob(f"*/{METADATA_NAME}"))
    corpora = [path for path in corpora if path.name not in without]
    if not corpora:
        raise MelismaError(
            f"{folder} holds no corpus: each is a folder with {METADATA_NAME} and {ARCHIVE_NAME}"
        )
    sources = [source for path in corpora for source in _read_corpus(path, licences)]
    if not sources:
        raise MelismaError(f"no piece in {folder} has one of the licences {licences}")
    return sorted(sources, key=lambda source: source.identity)


def read_midi_folder(folder: Path, report: Callable[[str], None] = print) -> list[Source]:
    """Read all MIDI files under a folder as separate works with the licence "unknown".

    The user is responsible for the right to train on them.

    Args:
        folder: Folder to search recursively.
        report: Called with a message if files were unreadable and are skipped.

    Returns:
        The pieces, sorted by path.

    Raises:
        MelismaError: If the folder has no readable MIDI file.
    """
    sources, skipped = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".mid", ".midi")):
        name = path.relative_to(folder).as_posix()
        try:
            data = path.read_bytes()
            score = read_midi(data)
        except (MelismaError, OSError) as error:
            skipped.append(f"{name}: {error}")
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
    if skipped:
        report(f"{len(skipped)} files were left out, e.g. {skipped[0]}")
    if not sources:
        raise MelismaError(f"{folder} holds no MIDI file that can be read: give one that does")
    return sources


def read_score(source: Source) -> Score:
    """Parse the notation of a source.

    Raises:
        MelismaError: If the MIDI bytes are invalid.
    """
    return read_midi(source.midi_bytes)


def _read_corpus(folder: Path, licences: tuple[str, ...] | None) -> Iterator[Source]:
    with (folder / METADATA_NAME).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if licences is not None:
        rows = [row for row in rows if row["licence"].startswith(licences)]
    names = {row["file"] for row in rows}
    files = _read_archive(folder / ARCHIVE_NAME, names) if (folder / ARCHIVE_NAME).exists() else {}
    for row in rows:
        data = files.get(row["file"])
        if data is None:
            path = folder / row["file"]
            if not path.is_file():
                raise MelismaError(
                    f"{folder} lacks {row['file']}, which its {METADATA_NAME} names: "
                    "fetch the corpus again"
                )
            data = path.read_bytes()
        yield _source(folder.name, row, data)


def _read_archive(path: Path, names: set[str]) -> dict[str, bytes]:
    import zstandard  # part of the extra "train"; composing imports this module too

    files: dict[str, bytes] = {}
    with (
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            name = member.name.removeprefix("./")
            if name in names:
                content = archive.extractfile(member)
                if content is not None:
                    files[name] = content.read()
    return files


def _first(row: Mapping[str, str], *columns: str) -> str | None:
    """The first non-empty value among some columns."""
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
