"""MIDI files read by us and by mido: the same notes at the same times, with the same programs?

Run: `python benchmarks/midi_reading.py --midi CORPORA` reads every MIDI file under a folder
(`--count 500`: that many, sampled) with both and counts those that are equal note by note, those
that differ in programs or durations only, and the rest, of which the first ones are named. Two
differences are meant: notes under a pedal last longer in ours (mido only reports pedals), and a
track that sets a program keeps it where another one on its channel sets another. The exit code is
1 if a file that mido reads is refused, or has other notes (onset, pitch or velocity).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from studies.mido_reading import NoteRow, mido_notes

from melisma.data.sources.pieces import METADATA_NAME, read_sources
from melisma.files.audio.formats import MIDI_ENDINGS
from melisma.symbolic import read_midi
from melisma.symbolic.midi.reading import MIN_NOTE_BEATS
from melisma.values.errors import MelismaError

MOST_NAMED = 5


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every MIDI file: of corpora, archives included, else of the folder."""
    if any(folder.glob(f"*/{METADATA_NAME}")):
        for source in read_sources(folder, without=()):
            yield source.identity, source.midi_bytes
        return
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in MIDI_ENDINGS:
            yield str(path.relative_to(folder)), path.read_bytes()


def our_notes(data: bytes) -> list[NoteRow]:
    """The same rows as `mido_notes` gives."""
    return sorted(
        (track.program, track.is_drum, *row)
        for track in read_midi(data).tracks
        for row in zip(
            track.notes.start_beats.tolist(),
            track.notes.duration_beats.tolist(),
            track.notes.pitch.tolist(),
            track.notes.velocity.tolist(),
            strict=True,
        )
    )


def verdict(data: bytes) -> str:
    """How the two readings of a file compare."""
    try:
        theirs = mido_notes(data)
    except (OSError, ValueError, EOFError):
        theirs = None
    try:
        ours = our_notes(data)
    except MelismaError:
        return "refused by both" if theirs is None else "refused by us alone"
    if theirs is None:
        return "read by us alone"
    if not ours and not theirs:
        return "equal"
    mine, other = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    other[:, 3] = np.maximum(other[:, 3], MIN_NOTE_BEATS)
    if mine.shape != other.shape or not same(mine[:, [2, 4, 5]], other[:, [2, 4, 5]]):
        return "other notes"
    if not same(mine[:, [2, 4, 5, 0, 1]], other[:, [2, 4, 5, 0, 1]]):
        return "other programs"
    return "equal" if same(mine, other) else "other durations"


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tables have the same rows, in any order, within a millionth of a quarter."""
    tables = [np.round(table, 6) for table in (one, other)]
    first, second = (table[np.lexsort(table.T)] for table in tables)
    return bool(np.allclose(first, second, atol=2e-6))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--midi", type=Path, required=True, help="a folder of MIDI files or corpora"
    )
    parser.add_argument("--count", type=int, help="read only so many, sampled; default: all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = list(files(given.midi))
    if given.count is not None and given.count < len(found):
        chosen = np.random.default_rng(given.seed).permutation(len(found))[: given.count]
        found = [found[index] for index in sorted(chosen.tolist())]
    counts: Counter[str] = Counter()
    for name, data in found:
        how = verdict(data)
        counts[how] += 1
        if how != "equal" and counts[how] <= MOST_NAMED:
            print(f"{how}: {name}", flush=True)
    print("| reading | files |\n|---|---|")
    for how, count in counts.most_common():
        print(f"| {how} | {count} |")
    return int(counts["refused by us alone"] + counts["other notes"] > 0)


if __name__ == "__main__":
    sys.exit(main())
