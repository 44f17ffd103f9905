"""A corpus small enough for tests: a song, a quartet, a piano piece and a groove, on disk."""

from __future__ import annotations

import csv
import importlib.util
import io
import tarfile
from pathlib import Path

import numpy as np
import zstandard

from melisma.symbolic import write_midi
from melisma.values import Metre, Notes, Score, TempoMap, Track


def soundfont() -> Path:
    """The General MIDI soundfont that pretty_midi brings."""
    found = importlib.util.find_spec("pretty_midi")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "TimGM6mb.sf2"


def line(
    pitches: list[int],
    program: int,
    *,
    step: float = 1.0,
    is_drum: bool = False,
    name: str = "",
    velocity: int = 80,
) -> Track:
    """A part that plays one pitch after another, each `step` beats long."""
    count = len(pitches)
    notes = Notes(
        start_beats=np.arange(count) * step,
        duration_beats=np.full(count, step),
        pitch=np.array(pitches, dtype=np.int64),
        velocity=np.full(count, velocity, dtype=np.int64),
    )
    return Track(notes=notes, program=program, is_drum=is_drum, name=name)


def score(*tracks: Track, bpm: float = 100.0, numerator: int = 4, denominator: int = 4) -> Score:
    """A score at one tempo and metre."""
    return Score(
        tracks=tracks,
        tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, bpm)),
        metres=(Metre(beat=0.0, numerator=numerator, denominator=denominator),),
    )


TUNE = [60, 62, 64, 67, 65, 64, 62, 59, 60, 64, 69, 67, 72, 71, 67, 65] * 3


def song() -> Score:
    """48 beats of a voice over a piano."""
    return score(
        line([pitch + 7 for pitch in TUNE], 52, name="Voice"),
        line([pitch - 12 for pitch in TUNE], 0, name="Piano"),
    )


def quartet(shift: int) -> Score:
    """48 beats for four strings; the first violin has another tune for every shift."""
    tune = list(np.roll(np.array(TUNE) * (1 + shift % 2), shift) % 24 + 67)
    return score(
        line([int(p) for p in tune], 40, name="Violin I"),
        line([p + 3 for p in TUNE], 40, name="Violin II"),
        line([p - 5 for p in TUNE], 41, name="Viola"),
        line([p - 17 for p in TUNE], 42, name="Violoncello"),
    )


def groove() -> Score:
    """16 beats of kick, hat, snare, hat."""
    return score(line([36, 42, 38, 42] * 8, 0, step=0.5, is_drum=True))


def write_corpus(folder: Path, name: str, scores: dict[str, Score], archive: bool = True) -> None:
    """Writes metadata.csv and the pieces, as an archive or as files."""
    place = folder / name
    place.mkdir(parents=True)
    columns = ["file", "group", "title", "composer", "licence", "source_repo", "attribution",
               "seconds", "notes", "beat_type", "bpm"]  # fmt: skip
    with (place / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for path, piece in scores.items():
            writer.writerow(
                {
                    "file": path,
                    "group": Path(path).stem.split("_")[0],
                    "title": Path(path).stem,
                    "composer": "Nobody Known",
                    "licence": "CC0 1.0" if path < "n" else "CC BY 4.0",
                    "source_repo": "somebody/music",
                    "attribution": "nobody",
                    "seconds": f"{piece.seconds:.1f}",
                    "notes": sum(len(track.notes) for track in piece.tracks),
                    "beat_type": "beat" if name == "groove" else "",
                    "bpm": "100" if name == "groove" else "",
                }
            )
    if not archive:
        for path, piece in scores.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(write_midi(piece))
        return
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, piece in scores.items():
            data = write_midi(piece)
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    compressed = zstandard.ZstdCompressor().compress(packed.getvalue())
    (place / "midi.tar.zst").write_bytes(compressed)
