"""How long a stretch of a piece is a copy: the longest run of notes it shares with training pieces.

Lines of a piece (the top line of the whole, the top and the lowest line of every track) become
steps: the interval to the next note and how much longer or shorter the next wait is than the one
before. Steps know neither transposition nor tempo. Runs of eight steps of all training pieces are
hashed and sorted; what a new piece shares with them is found by bisection and followed to both
sides to its exact end. Runs in which hardly anything happens (scales, repeated notes) start no
match. The figure means something only beside that of held-out real pieces of the same length.

Enters: training pieces by name, then `Score`s. Leaves: a `SharedRun` for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from melisma.values import Notes, Score

RUN_STEPS = 8
"""Steps of a hashed run (chosen: nine notes; a tune of ten notes has a name, see `twins.py`)."""
FEWEST_INTERVALS = 3
"""A hashed run has at least so many different intervals."""
TICKS_A_BEAT = 12
"""Grid of the waits: twelfths of a quarter note hold sixteenths and triplets."""
RATIO_STEPS = 8
"""A doubled wait is so many codes more: dotted, tripled and doubled waits have different codes."""
MAX_MATCHES = 400
"""A run found at more places than this is a figure of speech and starts no match (chosen)."""
MOST_SEEDS = 40_000
"""Matches followed at once; beyond, those of the rarest runs (keeps a piece under a second)."""
LONG_NOTES = 16
"""Shared runs from this length on count in `SharedRun.share` (chosen: four bars of quarters)."""
_END = 0
"""No step has this code; it stands between lines."""
_CHUNK = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """The longest run of notes that a piece shares with a training piece."""

    notes: int
    """Its length in notes, intervals and rhythm alike; 0 where nothing of nine notes is shared."""
    piece: str | None
    """Name of a training piece that has it."""
    share: float
    """Share of the steps of all lines that lie in shared runs of 16 notes or more, 0 to 1."""


def _line_steps(tick: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Codes of the steps of one line, uint16 [notes - 2]; 0 never."""
    if len(tick) < 3:
        return np.zeros(0, dtype=np.uint16)
    waits = np.diff(tick).astype(np.float64)
    ratio = np.round(RATIO_STEPS * np.log2(waits[1:] / waits[:-1]))
    interval = np.clip(np.diff(pitch)[1:], -127, 127) + 128
    return (interval * 256 + np.clip(ratio, -127, 127) + 128).astype(np.uint16)


def _edge_lines(notes: Notes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Onsets in ticks, and the highest and the lowest pitch of each, int64 [onset]."""
    tick = np.round(notes.start_beats * TICKS_A_BEAT).astype(np.int64)
    order = np.lexsort((notes.pitch, tick))
    tick, pitch = tick[order], notes.pitch[order]
    first = np.append(True, np.diff(tick) > 0)
    last = np.append(first[1:], True)
    return tick[first], pitch[last], pitch[first]


def _joined(score: Score) -> Notes | None:
    """All pitched notes of a score in one part; None where one track has them all."""
    parts = [track.notes for track in score.tracks if not track.is_drum and len(track.notes)]
    if len(parts) < 2:
        return None
    return Notes(
        start_beats=np.concatenate([p.start_beats for p in parts]),
        duration_beats=np.concatenate([p.duration_beats for p in parts]),
        pitch=np.concatenate([p.pitch for p in parts]),
        velocity=np.concatenate([p.velocity for p in parts]),
    )


def melodic_steps(score: Score) -> np.ndarray:
    """Steps of all lines of a score, each line followed by 0: uint16 [step]."""
    end = np.full(1, _END, dtype=np.uint16)
    lines: list[np.ndarray] = []
    whole = _joined(score)
    parts = [track.notes for track in score.tracks if not track.is_drum and len(track.notes)]
    for notes in [*parts, *([whole] if whole is not None else [])]:
        tick, top, low = _edge_lines(notes)
        lines += [_line_steps(tick, top), end]
        if notes is not whole and (top != low).any():
            lines += [_line_steps(tick, low), end]
    return np.concatenate(lines) if lines else np.zeros(0, dtype=np.uint16)


def telling_runs(steps: np.ndarray) -> np.ndarray:
    """Which runs of `RUN_STEPS` steps have `FEWEST_INTERVALS` different intervals, bool [run]."""
    if len(steps) < RUN_STEPS:
        return np.zeros(0, dtype=bool)
    intervals = np.lib.stride_tricks.sliding_window_view((steps >> 8).astype(np.uint8), RUN_STEPS)
    changes = np.diff(np.sort(intervals, axis=1), axis=1) > 0
    return changes.sum(axis=1) >= FEWEST_INTERVALS - 1


def equal_pairs(
    asked: np.ndarray, stored: np.ndarray, *, most_places: int, most_pairs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places of equal hashes, in `asked` and in `stored`, which is sorted: int64 [pair] each.

    A hash that is stored at more than `most_places` places pairs with nothing; of the others the
    rarest come first, and there are `most_pairs` at most.
    """
    first = np.searchsorted(stored, asked, side="left")
    count = np.searchsorted(stored, asked, side="right") - first
    kept = np.flatnonzero((count > 0) & (count <= most_places))
    kept = kept[np.argsort(count[kept], kind="stable")]
    kept = kept[np.cumsum(count[kept]) <= most_pairs]
    count = count[kept]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(kept, count), np.repeat(first[kept], count) + within


def _hashes(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the telling runs, int64 [run], and their hashes, uint64 [run]."""
    places, hashes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
    powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, RUN_STEPS + 1, dtype=np.uint64)
    for start in range(0, max(len(steps) - RUN_STEPS + 1, 0), _CHUNK):
        chunk = steps[start : start + _CHUNK + RUN_STEPS - 1]
        windows = np.lib.stride_tricks.sliding_window_view(chunk, RUN_STEPS)
        kept = np.flatnonzero((windows != _END).all(axis=1) & telling_runs(chunk))
        value = np.zeros(len(kept), dtype=np.uint64)
        for offset, power in enumerate(powers):
            value += chunk[kept + offset].astype(np.uint64) * power
        places.append(kept + start)
        hashes.append(value ^ (value >> np.uint64(31)))
    return np.concatenate(places), np.concatenate(hashes)


class MelodyIndex:
    """The steps of many pieces, searchable. About 50 bytes for every note of the pieces."""

    def __init__(self, pieces: Iterable[tuple[str, Score]]) -> None:
        """`pieces` are names and scores, 10,000 in about half a minute; they are not kept."""
        self._names: list[str] = []
        begins: list[int] = []
        found: list[np.ndarray] = [np.full(1, _END, dtype=np.uint16)]
        total = 1
        for name, score in pieces:
            steps = melodic_steps(score)
            self._names.append(name)
            begins.append(total)
            found.append(steps)
            total += len(steps)
        self._begins = np.array(begins, dtype=np.int64)
        self._steps = np.concatenate(found)
        places, hashes = _hashes(self._steps)
        order = np.argsort(hashes, kind="stable")
        self._places = places[order].astype(np.int32)
        self._hashes = hashes[order]

    def __len__(self) -> int:
        return len(self._names)

    def _seeds(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of places, in the piece and in the index, whose runs are alike, [seed] each."""
        mine, hashes = _hashes(steps)
        which, place = equal_pairs(
            hashes, self._hashes, most_places=MAX_MATCHES, most_pairs=MOST_SEEDS
        )
        return mine[which], self._places[place].astype(np.int64)

    def longest_run(self, score: Score, without: str | None = None) -> SharedRun:
        """The longest run that a score shares with any piece but the one named `without`."""
        steps = np.concatenate([np.full(1, _END, dtype=np.uint16), melodic_steps(score)])
        real = int((steps != _END).sum())
        mine, theirs = self._seeds(steps)
        if without is not None:
            owner = np.searchsorted(self._begins, theirs, side="right") - 1
            names = np.array(self._names)
            other = names[owner] != without
            mine, theirs = mine[other], theirs[other]
        # Of the seeds of one run only the first is followed: its diagonal is new, or has a gap.
        order = np.lexsort((mine, theirs - mine))
        mine, theirs = mine[order], theirs[order]
        fresh = np.append(True, (np.diff(mine) != 1) | (np.diff(theirs) != 1))[: len(mine)]
        mine, theirs = mine[fresh], theirs[fresh]
        if not len(mine):
            return SharedRun(notes=0, piece=None, share=0.0)
        before = self._follow(steps, mine - 1, theirs - 1, -1)
        after = self._follow(steps, mine, theirs, 1)
        length = before + after
        best = int(np.argmax(length))
        if length[best] < RUN_STEPS:  # only a collision of hashes
            return SharedRun(notes=0, piece=None, share=0.0)
        long = length + 1 >= LONG_NOTES
        covered = np.zeros(len(steps) + 1, dtype=np.int64)
        np.add.at(covered, (mine - before)[long], 1)
        np.subtract.at(covered, (mine + after)[long], 1)
        owner = int(np.searchsorted(self._begins, theirs[best], side="right")) - 1
        return SharedRun(
            notes=int(length[best]) + 1,
            piece=self._names[owner],
            share=float((np.cumsum(covered) > 0).sum()) / max(real, 1),
        )

    def _follow(
        self, steps: np.ndarray, mine: np.ndarray, theirs: np.ndarray, direction: int
    ) -> np.ndarray:
        """How many steps agree from each pair of places on, int64 [seed]."""
        length = np.zeros(len(mine), dtype=np.int64)
        going = np.arange(len(mine))
        while len(going):
            here = mine[going] + direction * length[going]
            there = theirs[going] + direction * length[going]
            inside = (here >= 0) & (here < len(steps)) & (there >= 0) & (there < len(self._steps))
            going, here, there = going[inside], here[inside], there[inside]
            alike = (steps[here] == self._steps[there]) & (steps[here] != _END)
            going = going[alike]
            length[going] += 1
        return length
