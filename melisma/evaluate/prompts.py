"""Lists of prompts, and pairing of the files of a folder with prompts.

Lists are text (a prompt per line, "#" starts a comment), CSV with a column `prompt` or `caption`,
or JSON lines with `prompt`; the other columns of a row are its facts. MusicCaps is read as
published (Agostinelli et al., 2301.11325, section 4.2: captions of ten-second clips; the listening
test used its genre-balanced subset). Files are matched by name where the list names them, else by
the numbers that `melisma generate` puts before the names, else by order; without a list by the
prompt in the file's own tags.

Input: paths. Output: `PromptRow`s and `PairedPiece`s, and sentences about what did not match.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from melisma.files import AUDIO_ENDINGS, read_provenance
from melisma.files.audio.formats import MIDI_ENDINGS
from melisma.files.provenance import provenance_from_fields
from melisma.symbolic.midi import midi_bytes
from melisma.symbolic.tags import read_midi_tags
from melisma.values.errors import MelismaError
from melisma.values.prompt import clean_text, decode_text, split_lines

SOUND_ENDINGS: tuple[str, ...] = AUDIO_ENDINGS
LIST_NAMES: tuple[str, ...] = ("prompts.csv", "prompts.jsonl", "prompts.txt")
"""Lists that are looked up in the folder itself; the first that exists is taken."""
MUSICCAPS_SUBSETS: Mapping[str, str | None] = {
    "balanced": "is_balanced_subset",
    "eval": "is_audioset_eval",
    "all": None,
}
"""Name of a subset -> the column that marks its rows."""
_WORDS_COLUMNS = ("prompt", "caption")
_FILE_COLUMNS = ("file", "ytid")
_MOST_NAMED = 5
"""Largest number of names in a sentence; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """One row of a list of prompts."""

    words: str
    file: str | None = None
    """Name or stem of the file that belongs to it; None where the list does not name one."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The other columns, e.g. {"tempo_bpm": 90.0}; only text where the list is CSV."""


@dataclass(frozen=True, kw_only=True)
class PairedPiece:
    """A file with its prompt."""

    path: Path
    name: str
    """Path below the folder, with "/"; pieces of two folders are matched by it."""
    words: str | None
    """The prompt; None where it is not known."""
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_prompts(path: Path, subset: str = "balanced") -> list[PromptRow]:
    """Reads a list of prompts.

    Args:
        path: A file; the ending decides the format: .csv, .jsonl, else a prompt per line.
        subset: Where the file is MusicCaps, by its columns: which subset (`read_musiccaps`).

    Raises:
        FileNotFoundError: If there is no such file.
        MelismaError: If the list is malformed or empty.
    """
    text = _read_text(path)
    ending = path.suffix.lower()
    if ending == ".csv":
        columns = split_lines(text)[0]
        if "ytid" in columns and "aspect_list" in columns:
            return read_musiccaps(path, subset)
        rows = [_csv_row(path, row) for row in _read_csv(path, text)]
    elif ending in (".jsonl", ".ndjson"):
        lines = enumerate(split_lines(text), start=1)
        rows = [_json_row(path, number, line) for number, line in lines if line.strip()]
    else:
        lines = (line.strip() for line in split_lines(text))
        rows = [PromptRow(words=line) for line in lines if line and not line.startswith("#")]
    rows = [row for row in rows if row.words]
    if not rows:
        raise MelismaError(f"{path} holds no prompt: write one on each line")
    return rows


def read_musiccaps(path: Path, subset: str = "balanced") -> list[PromptRow]:
    """Reads the captions of a subset of MusicCaps.

    Args:
        path: The published CSV file.
        subset: One of `MUSICCAPS_SUBSETS`.

    Returns:
        Rows whose `file` is the clip's identifier and whose `facts` are `aspects` and
        `start_seconds`.

    Raises:
        FileNotFoundError: If there is no such file.
        MelismaError: For another subset, or a file that is not MusicCaps.
    """
    if subset not in MUSICCAPS_SUBSETS:
        known = ", ".join(MUSICCAPS_SUBSETS)
        raise MelismaError(f'MusicCaps has no subset "{subset}": give one of {known}')
    flag = MUSICCAPS_SUBSETS[subset]
    found = _read_csv(path, _read_text(path))
    needed = {"ytid", "start_s", "caption", "aspect_list", *([flag] if flag else [])}
    if missing := sorted(needed - set(found[0] if found else ())):
        raise MelismaError(f"{path} is not MusicCaps: it has no column {', '.join(missing)}")
    rows = [
        PromptRow(
            words=" ".join(row["caption"].split()),
            file=row["ytid"],
            facts={"aspects": _aspects(row["aspect_list"]), "start_seconds": _seconds(path, row)},
        )
        for row in found
        if flag is None or row[flag].strip().lower() == "true"
    ]
    if not rows:
        raise MelismaError(f'{path} has no row of the subset "{subset}"')
    return rows


def _seconds(path: Path, row: Mapping[str, str]) -> float:
    try:
        return float(row["start_s"])
    except ValueError:
        raise MelismaError(
            f'{path} has a start of "{row["start_s"]}", which is no number of seconds'
        ) from None


def _read_text(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: check the name")
    return decode_text(path.read_bytes(), str(path))


def _read_csv(path: Path, text: str) -> list[dict[str, str]]:
    """Rows of a table; missing cells of a short row are empty."""
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), restval="")
        return [{str(name).strip(): cell for name, cell in row.items()} for row in table]
    except csv.Error as error:
        raise MelismaError(f"{path} is no CSV table: {error}") from error


def _csv_row(path: Path, row: Mapping[str, str]) -> PromptRow:
    column = next((name for name in _WORDS_COLUMNS if name in row), None)
    if column is None:
        raise MelismaError(
            f"{path} has no column named prompt or caption: its first line names them"
        )
    name = next((row[name].strip() for name in _FILE_COLUMNS if row.get(name, "").strip()), None)
    others = {*_FILE_COLUMNS, column, "None"}
    facts = {key: cell for key, cell in row.items() if key not in others and cell}
    return PromptRow(words=" ".join(row[column].split()), file=name, facts=facts)


def _json_row(path: Path, number: int, line: str) -> PromptRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # also numbers and nesting without measure
        raise MelismaError(f"line {number} of {path} is not JSON: {error}") from error
    column = next((name for name in _WORDS_COLUMNS if isinstance(row, dict) and name in row), None)
    if column is None or not isinstance(row[column], str):
        raise MelismaError(f'line {number} of {path} has no prompt: write {{"prompt": "..."}}')
    name = next((row[name] for name in _FILE_COLUMNS if isinstance(row.get(name), str)), None)
    facts = {
        clean_text(key): clean_text(value) if isinstance(value, str) else value
        for key, value in row.items()
        if key not in (*_FILE_COLUMNS, column)
    }
    return PromptRow(words=" ".join(clean_text(row[column]).split()), file=name, facts=facts)


def _aspects(cell: str) -> tuple[str, ...]:
    """The aspect list, stored as a Python list; empty where it is malformed."""
    try:
        value = ast.literal_eval(cell)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return ()
    words = value if isinstance(value, list) else []
    return tuple(clean_text(one) for one in words if isinstance(one, str))


def pair_prompts(
    folder: Path,
    prompts_file: Path | None = None,
    endings: Sequence[str] = (*SOUND_ENDINGS, *MIDI_ENDINGS),
) -> tuple[list[PairedPiece], list[str]]:
    """Pairs every piece of a folder with its prompt.

    Args:
        folder: Folder of sound or MIDI files.
        prompts_file: A list of prompts (`read_prompts`); by default one in the folder itself
            (`LIST_NAMES`), else the tags of the files.
        endings: Endings of the files that are pieces.

    Returns:
        All pieces, those without a prompt with `words` None (metrics that need no prompt still
        apply), and sentences about what did not match.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If it is a file.
        MelismaError: If the folder has no piece with one of `endings`, or none of the list.
    """
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is one file: give the folder that holds it")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: check the name")
    files = find_pieces(folder, endings)
    if not files:
        raise MelismaError(
            f"{folder} holds no piece: files ending in {', '.join(endings)} are read"
        )
    lists = [folder / name for name in LIST_NAMES if (folder / name).is_file()]
    chosen = prompts_file or (lists[0] if lists else None)
    if chosen is None:
        return _pair_tags(folder, files)
    rows = read_prompts(chosen)
    if any(row.file for row in rows):
        answers, problems = _by_name(folder, files, rows)
    else:
        answers, problems = _by_order(files, rows)
    if not answers:
        raise MelismaError(f"no prompt of {chosen} belongs to a file in {folder}: check the names")
    pieces = [
        PairedPiece(
            path=path,
            name=path.relative_to(folder).as_posix(),
            words=rows[answers[path]].words if path in answers else None,
            facts=rows[answers[path]].facts if path in answers else {},
        )
        for path in files
    ]
    answered = set(answers.values())
    unanswered = [row.words for index, row in enumerate(rows) if index not in answered]
    if unanswered:
        problems.append(
            f"{_counted(unanswered, 'prompt', 'has', 'have')} no file: {_some(unanswered)}"
        )
    return pieces, [*problems, *_without_prompt(pieces)]


def find_pieces(folder: Path, endings: Sequence[str]) -> list[Path]:
    """The files below a folder with these endings (in any case), in natural order (2 before 10);
    hidden ones are left out."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: _natural(path.relative_to(folder).as_posix()))


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _by_name(
    folder: Path, files: list[Path], rows: list[PromptRow]
) -> tuple[dict[Path, int], list[str]]:
    """File -> row, where the list names its files: by path, else by name, else by stem."""
    by_name: dict[str, list[Path]] = {}
    for path in files:
        for name in {path.relative_to(folder).as_posix(), path.name, path.stem}:
            by_name.setdefault(name, []).append(path)
    answers: dict[Path, int] = {}
    doubtful, repeated = [], []
    for index, row in enumerate(rows):
        found = by_name.get((row.file or "").removeprefix("./"), [])
        if len(found) > 1:
            doubtful.append(row.file or "")
        elif found and found[0] in answers:
            repeated.append(row.file or "")
        elif found:
            answers[found[0]] = index
    problems = []
    if doubtful:
        problems.append(f"several files could be meant by {_some(doubtful)}: none was taken")
    if repeated:
        problems.append(f"the list names {_some(repeated)} twice: the first prompt was taken")
    return answers, problems


def _by_order(files: list[Path], rows: list[PromptRow]) -> tuple[dict[Path, int], list[str]]:
    """File -> row, by the numbers before the names where all have one, else by order."""
    numbers = [re.match(r"[0-9]+", path.name) for path in files]
    found = [int(match[0]) for match in numbers if match]
    first = 0 if 0 in found else 1
    if len(set(found)) == len(files) and max(found) - first < len(rows):
        return {path: n - first for path, n in zip(files, found, strict=True)}, []
    answers = {path: index for index, path in enumerate(files[: len(rows)])}
    if len(files) == len(rows):
        return answers, []
    return answers, [
        f"there are {len(files)} files and {len(rows)} prompts, and not every name starts with a "
        "number of its own: they were paired in order, so check the pairs, or name the files in a "
        "column file of the list"
    ]


def _pair_tags(folder: Path, files: list[Path]) -> tuple[list[PairedPiece], list[str]]:
    pieces, problems = [], []
    for path in files:
        words = None
        try:
            words = tagged_prompt(path)
        except (MelismaError, OSError) as error:
            problems.append(str(error))
        name = path.relative_to(folder).as_posix()
        pieces.append(PairedPiece(path=path, name=name, words=words))
    return pieces, [*problems, *_without_prompt(pieces)]


def tagged_prompt(path: Path) -> str | None:
    """The prompt in the tags of a sound or MIDI file that Melisma wrote; None where it has none.

    Raises:
        FileNotFoundError: If there is no such file.
        MelismaError: If it is not a sound or MIDI file.
    """
    if path.suffix.lower() in MIDI_ENDINGS:
        tags = read_midi_tags(midi_bytes(path))
        provenance = None if tags is None else provenance_from_fields(tags)
    else:
        provenance = read_provenance(path)
    return None if provenance is None else " ".join(clean_text(provenance.prompt).split()) or None


def _without_prompt(pieces: list[PairedPiece]) -> list[str]:
    names = [piece.name for piece in pieces if piece.words is None]
    if not names:
        return []
    return [
        f"{_counted(names, 'file', 'has', 'have')} no prompt, so only metrics without text can be "
        f"measured: {_some(names)}"
    ]


def _counted(found: list[str], noun: str, one: str, many: str) -> str:
    return f"1 {noun} {one}" if len(found) == 1 else f"{len(found)} {noun}s {many}"


def _some(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = len(names) - _MOST_NAMED
    shown = ", ".join(f'"{name}"' for name in names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
