"""Audio shards on disk: clips with labels, facts and captions, for training the tokenizers.

Input: a `ClipRenderer`. Output: a folder of shards, each consisting of
`sound-00000.npy` int16 [clip, sample] (memory-mapped when read),
`labels-00000.npz` one array per field of `FrameLabels`, [clip, frame, ...], and
`rows-00000.jsonl` one line per clip: provenance, facts, captions.
A shard is put together from pieces of a few minutes of sound, `piece-00000-000.npz`, which is also
what an interrupted run loses at most. The same seed writes the same bytes with any number of
workers, however often it was interrupted. `settings.json` says what the clips were made from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from melisma.analysis.labels.frame_labels import stack_labels
from melisma.data.clips import Clip, ClipRenderer
from melisma.data.corpus_settings import begin_corpus, number_of_clips
from melisma.data.workers import Advance, progress_bar, run_jobs
from melisma.files.atomic import atomic_write, write_arrays, write_bytes
from melisma.files.shards.arrays import ARRAY_ERRORS, read_arrays
from melisma.files.shards.lock import locked
from melisma.files.typed_json import parse_json
from melisma.values import Facts
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ

CLIPS_PER_SHARD = 360
"""One hour of clips of 10 s."""
CLIPS_PER_PIECE = 24
"""Four minutes of clips of 10 s: rendered within a minute (chosen)."""


@dataclass(frozen=True, kw_only=True)
class AudioShards:
    """A corpus of clips, read from disk; clip i has the same position in all three fields."""

    sound: tuple[np.ndarray, ...]
    """One memory-mapped array per shard, int16 [clip, sample], 24 kHz."""
    labels: tuple[dict[str, np.ndarray], ...]
    """One dict of arrays [clip, frame, ...] per shard."""
    rows: tuple[dict[str, object], ...]
    """One per clip over all shards: provenance, "facts" and "captions"."""

    def __len__(self) -> int:
        return len(self.rows)

    def locate(self, clip: int) -> tuple[int, int]:
        """Find a clip.

        Args:
            clip: Index of the clip in the whole corpus.

        Returns:
            Index of its shard, and its row in the arrays of the shard.

        Raises:
            IndexError: If the corpus has no such clip.
        """
        for shard, sound in enumerate(self.sound):
            if clip < len(sound):
                return shard, clip
            clip -= len(sound)
        raise IndexError("no such clip")

    def facts(self, clip: int) -> Facts:
        """The facts about a clip."""
        return facts_from_row(self.rows[clip])

    def onsets_seconds(self, clip: int) -> np.ndarray:
        """Onset times of a clip's notes and drums from its labels, float64 [onset]."""
        shard, row = self.locate(clip)
        labels = self.labels[shard]
        has_onset = labels["onset"][row].any(axis=1) | labels["drum"][row].any(axis=1)
        return (np.flatnonzero(has_onset) + 0.5) / FRAME_RATE_HZ


def shards_description(shards: AudioShards) -> dict[str, Any]:
    """Number and hash of clips, as JSON values."""
    digest = hashlib.sha256()
    for row in shards.rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return {"number": len(shards), "hash": digest.hexdigest()[:12]}


def facts_from_row(row: dict[str, object]) -> Facts:
    """Parse the facts of a row of `rows-*.jsonl`; lists become tuples.

    Raises:
        MelismaError: If the row has no facts.
    """
    stored = row["facts"]
    if not isinstance(stored, dict):
        raise MelismaError("the row has no facts: it was not written by this program")
    columns = {str(k): tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return dataclasses.replace(Facts(), **columns)


def write_audio_shards(
    folder: Path,
    renderer: ClipRenderer,
    hours: float,
    workers: int = 1,
    clips_per_shard: int = CLIPS_PER_SHARD,
) -> None:
    """Render clips and write them as shards; what is written already is not written again.

    Clip i of shard s is `renderer.clip(s * clips_per_shard + i)`. Each worker loads the soundfonts
    anew for every piece, because what a synthesizer played before has an effect on what follows.

    Args:
        folder: Folder of the shards; created if missing.
        renderer: Renders the clips.
        hours: Total length of the clips in hours, rounded to whole clips. More hours than were
            written into the folder before extend it.
        workers: Number of processes.
        clips_per_shard: Clips in each shard; the last may have fewer.

    Raises:
        MelismaError: If a number is not positive, another process writes into the folder, or it was
            begun with other settings or more hours.
        OSError: If the folder cannot be written.
    """
    if workers < 1 or clips_per_shard < 1:
        raise MelismaError(
            f"workers ({workers}) and clips a shard ({clips_per_shard}) must be positive"
        )
    clips = number_of_clips(hours, renderer.settings.seconds)
    with locked(folder) as lock:
        settings = {**renderer.description(), "clips_per_shard": clips_per_shard}
        begin_corpus(folder, "audio shards", settings, clips, finished="rows-*.jsonl")
        shards = list(_shards(folder, clips, clips_per_shard))
        incomplete = {shard.number: shard for shard in shards if not shard.is_complete}
        _remove_pieces(folder, {piece for shard in shards for piece in shard.pieces})
        pieces = [p for shard in shards for p in shard.pieces if not p.path.is_file()]

        def finish(job: int) -> None:
            shard = incomplete[pieces[job].shard]
            if all(piece.path.is_file() for piece in shard.pieces):
                _join_pieces(folder, shard)

        for shard in incomplete.values():  # killed between the last piece and joining
            if all(piece.path.is_file() for piece in shard.pieces):
                _join_pieces(folder, shard)
        job = _PieceJob(renderer, pieces)
        with progress_bar("clips", sum(len(p.clips) for p in pieces), "clips") as report:
            run_jobs(job, len(pieces), workers, report, finish, lock)


@dataclass(frozen=True)
class _Piece:
    """Consecutive clips that are rendered together."""

    shard: int
    path: Path
    clips: range


@dataclass(frozen=True)
class _Shard:
    """A shard, and the pieces that it still needs."""

    number: int
    clips: int
    kept: int
    """Its first clips that are taken from the shard as it is."""
    pieces: tuple[_Piece, ...]

    @property
    def is_complete(self) -> bool:
        return self.kept == self.clips


def _shards(folder: Path, clips: int, clips_per_shard: int) -> Iterator[_Shard]:
    for number, first in enumerate(range(0, clips, clips_per_shard)):
        wanted = min(clips_per_shard, clips - first)
        rows = folder / f"rows-{number:05d}.jsonl"
        present = rows.read_bytes().count(b"\n") if rows.is_file() else 0
        # Whole pieces alone are kept, so that an extended corpus is that of a longer run.
        kept = wanted if present >= wanted else present // CLIPS_PER_PIECE * CLIPS_PER_PIECE
        pieces = tuple(
            _Piece(
                shard=number,
                path=folder / f"piece-{number:05d}-{start:03d}-{stop:03d}.npz",
                clips=range(first + start, first + stop),
            )
            for start in range(kept, wanted, CLIPS_PER_PIECE)
            for stop in [min(start + CLIPS_PER_PIECE, wanted)]
        )
        yield _Shard(number=number, clips=wanted, kept=kept, pieces=pieces)


def _remove_pieces(folder: Path, needed: set[_Piece]) -> None:
    """Removes pieces that an interrupted run has not needed any more."""
    paths = {piece.path for piece in needed}
    for path in folder.glob("piece-*-*-*.npz"):
        if path not in paths:
            path.unlink()


@dataclass(frozen=True)
class _PieceJob:
    """Renders pieces and writes them; runs in a worker."""

    renderer: ClipRenderer
    pieces: list[_Piece]

    def __call__(self, number: int, advance: Advance) -> None:
        piece = self.pieces[number]
        self.renderer.restart()
        clips: list[Clip] = []
        for index in piece.clips:
            clips.append(self.renderer.clip(index))
            advance(1)
        rows = "".join(json.dumps(_row(clip), ensure_ascii=False) + "\n" for clip in clips)
        labels = stack_labels([clip.labels for clip in clips])
        arrays = {_LABELS + name: array for name, array in labels.items()}
        arrays["sound"] = np.stack([clip.sound for clip in clips])
        arrays["rows"] = np.frombuffer(rows.encode("utf-8"), dtype=np.uint8)
        write_arrays(piece.path, arrays)


_LABELS = "labels/"


def _join_pieces(folder: Path, shard: _Shard) -> None:
    """Writes a shard from what is kept of it and its pieces, and removes these.

    The `rows` file, the mark of completeness, comes last.
    """
    paths = [piece.path for piece in shard.pieces]
    parts = [np.load(path) for path in paths]
    try:
        kept = _kept_clips(folder, shard)
        sound_path = folder / f"sound-{shard.number:05d}.npy"
        with atomic_write(sound_path) as temporary, temporary.open("wb") as file:
            samples = parts[0]["sound"].shape[1]
            header = {"descr": "<i2", "fortran_order": False, "shape": (shard.clips, samples)}
            np.lib.format.write_array_header_1_0(file, header)
            for sound in (kept.sound, *(part["sound"] for part in parts)):
                file.write(np.ascontiguousarray(sound, dtype="<i2").tobytes())
        names = [name for name in parts[0].files if name.startswith(_LABELS)]
        labels = {
            name.removeprefix(_LABELS): np.concatenate(
                [*kept.label(name.removeprefix(_LABELS)), *(part[name] for part in parts)]
            )
            for name in names
        }
        write_arrays(folder / f"labels-{shard.number:05d}.npz", labels, compressed=True)
        rows = kept.rows + b"".join(part["rows"].tobytes() for part in parts)
        write_bytes(folder / f"rows-{shard.number:05d}.jsonl", rows)
    finally:
        for part in parts:
            part.close()
    for path in paths:
        path.unlink()


@dataclass(frozen=True)
class _KeptClips:
    """The first clips of a shard that is extended."""

    sound: np.ndarray
    labels: dict[str, np.ndarray]
    rows: bytes

    def label(self, name: str) -> list[np.ndarray]:
        """One field of the labels; an empty list where nothing is kept."""
        return [self.labels[name]] if self.labels else []


def _kept_clips(folder: Path, shard: _Shard) -> _KeptClips:
    if not shard.kept:
        return _KeptClips(sound=np.zeros((0, 0), np.int16), labels={}, rows=b"")
    sound, labels = _read_arrays(folder, f"{shard.number:05d}", shard.kept)
    lines = (folder / f"rows-{shard.number:05d}.jsonl").read_bytes().splitlines(keepends=True)
    return _KeptClips(sound=sound, labels=labels, rows=b"".join(lines[: shard.kept]))


def _row(clip: Clip) -> dict[str, object]:
    return {
        **clip.row,
        "facts": dataclasses.asdict(clip.facts),
        "captions": list(clip.captions),
    }


def read_audio_shards(folder: Path) -> AudioShards:
    """Read the complete shards of a folder.

    Raises:
        MelismaError: If the folder has no complete shard, or a file is damaged.
    """
    paths = sorted(folder.glob("rows-*.jsonl"))
    if not paths:
        raise MelismaError(f"{folder} holds no finished shard: render a corpus into it first")
    sound, labels, rows = [], [], []
    for path in paths:
        lines = _read_rows(path)
        one, more = _read_arrays(folder, path.stem.removeprefix("rows-"), len(lines))
        sound.append(one)
        labels.append(more)
        rows.extend(lines)
    return AudioShards(sound=tuple(sound), labels=tuple(labels), rows=tuple(rows))


def _read_rows(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        row: Any = parse_json(line, f"line {number} of {path}")
        if not isinstance(row, dict):
            raise MelismaError(f"line {number} of {path} is no row: render the corpus again")
        rows.append(row)
    return rows


def _read_arrays(folder: Path, number: str, clips: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Sound and labels of the first clips of a shard; there are more while it is extended."""
    path = folder / f"sound-{number}.npy"
    advice = "delete its shard, and render it again"
    try:
        sound = np.load(path, mmap_mode="r", allow_pickle=False)
    except ARRAY_ERRORS as error:
        raise MelismaError(f"{path} is damaged: {advice}") from error
    labels = read_arrays(folder / f"labels-{number}.npz", advice)
    arrays = (sound, *labels.values())
    if sound.ndim != 2 or any(one.ndim == 0 or len(one) < clips for one in arrays):
        raise MelismaError(f"{folder} lacks clips of rows-{number}.jsonl: {advice}")
    return sound[:clips], {name: array[:clips] for name, array in labels.items()}
