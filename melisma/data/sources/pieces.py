"""Source pieces: MIDI notation with licence, composer and other metadata.

Input: a folder with one folder per corpus, each with `metadata.csv` and either `midi.tar.zst` or
the MIDI files themselves. Output: one `Source` per piece with its MIDI bytes in memory (30 MB for
10,000 pieces). `splits.py` decides which works are held out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from melisma.data.sources.archive import read_archive
from melisma.files.audio.formats import MIDI_ENDINGS
from melisma.symbolic import read_midi
from melisma.symbolic.midi.reading import MAX_BYTES, midi_bytes
from melisma.values import Score
from melisma.values.errors import MelismaError

ARCHIVE_NAME = "midi.tar.zst"
METADATA_NAME = "metadata.csv"
COMMERCIAL_COMPOSITIONS: tuple[str, ...] = ("pop909",)
"""Corpora of free files of copyrighted songs: excluded from training by default."""
_REQUIRED = ("file", "licence", "source_repo", "attribution")
"""Columns that every corpus has."""


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
            metadata, its metadata or its archive is damaged, or no piece has one of the licences.
        OSError: If a file cannot be read.
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
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in MIDI_ENDINGS):
        name = path.relative_to(folder).as_posix()
        try:
            data = midi_bytes(path)
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
    rows = _read_metadata(folder / METADATA_NAME)
    if licences is not None:
        rows = [row for row in rows if row["licence"].startswith(licences)]
    names = {row["file"] for row in rows}
    archive = folder / ARCHIVE_NAME
    files = read_archive(archive, names, MAX_BYTES) if archive.exists() else {}
    for row in rows:
        data = files.get(row["file"])
        if data is None:
            data = _read_piece(folder, row["file"])
        yield _source(folder.name, row, data)


def _read_metadata(path: Path) -> list[dict[str, str]]:
    """The rows of a corpus's metadata, each with the required columns."""
    rows: list[dict[str, str]] = []
    lines: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise MelismaError(
                    f"{path} has no column {missing[0]}: a corpus names {', '.join(_REQUIRED)} of "
                    "every piece"
                )
            for found in reader:
                # Cells beyond the columns have no name; those that a line lacks are None.
                row = {name: value or "" for name, value in found.items() if name is not None}
                where = f"line {reader.line_num} of {path}"
                _check_name(row["file"], where)
                if row["file"] in lines:
                    raise MelismaError(
                        f"{where} names {row['file']} again, as line {lines[row['file']]} does: "
                        "name every file once"
                    )
                lines[row["file"]] = reader.line_num
                rows.append(row)
    except UnicodeDecodeError as error:
        raise MelismaError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except csv.Error as error:
        raise MelismaError(f"{path} is no table that can be read: {error}") from error
    return rows


def _check_name(name: str, where: str) -> None:
    """Refuses names that lead out of the corpus, and what is no name."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise MelismaError(f'{where}: "{name}" is no file inside of the corpus')


def _read_piece(folder: Path, name: str) -> bytes:
    """The bytes of a piece beside its metadata."""
    path = folder / name
    if not path.is_file():
        raise MelismaError(
            f"{folder} lacks {name}, which its {METADATA_NAME} names: fetch the corpus again"
        )
    try:
        return midi_bytes(path)
    except MelismaError as error:
        raise MelismaError(f"{path}: {error}") from error


def _first(row: Mapping[str, str], *columns: str) -> str | None:
    """The first non-empty value among some columns."""
    for column in columns:
        text = (row.get(column) or "").strip()
        if text:
            return text
    return None


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _measured(data: bytes) -> tuple[float, int]:
    """(notated seconds, number of notes) of a MIDI file; zeros where it cannot be read."""
    try:
        score = read_midi(data)
    except MelismaError:
        return 0.0, 0
    return score.seconds, sum(len(track.notes) for track in score.tracks)


def _source(corpus: str, row: Mapping[str, str], data: bytes) -> Source:
    seconds, notes = _number(_first(row, "seconds")), _number(_first(row, "notes"))
    if seconds is None or notes is None:
        measured_seconds, measured_notes = _measured(data)
        seconds = measured_seconds if seconds is None else seconds
        notes = measured_notes if notes is None else notes
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
        seconds=seconds,
        notes=int(notes),
    )
