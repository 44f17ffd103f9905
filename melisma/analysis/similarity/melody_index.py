"""Index of melodies: the longest run of notes that a score shares with a training piece.

The lines of a piece (the top line of the whole, the top and the lowest line of every track) become
steps: the interval to the next note and the ratio of consecutive inter-onset intervals. Steps are
invariant to transposition and tempo. Runs of eight steps of all training pieces are hashed and
sorted; matches of a new piece are found by bisection (seeds) and extended in both directions to
their exact ends. Runs with few different intervals (scales, repeated notes) are not used as seeds.
The results are meaningful only in comparison with held-out real pieces of the same length.

Inputs: training pieces by name, then `Score`s. Output: a `SharedRun` for each score.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from melisma.values import Notes, Score

RUN_STEPS = 8
"""Steps of a hashed run (chosen: nine notes; ten notes identify a tune)."""
MIN_DISTINCT_INTERVALS = 3
"""Minimum number of different intervals in a seed."""
TICKS_PER_BEAT = 12
"""Rhythmic grid: twelfths of a quarter note represent sixteenths and triplets."""
RATIO_STEPS = 8
"""Codes per doubling of an inter-onset interval: dotted and tripled ones have different codes."""
MAX_MATCHES = 400
"""A run that occurs more often than this is a common figure and not used as a seed (chosen)."""
MAX_SEEDS = 40_000
"""Maximum number of seeds, those of the rarest runs first (keeps a query under a second)."""
LONG_NOTES = 16
"""Minimum length of the runs that count in `SharedRun.share` (chosen: four bars of quarters)."""
_END = 0
"""Separator between lines; no step has this code."""
_CHUNK = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """The longest run of notes that a piece shares with a training piece."""

    notes: int
    """Length in notes with equal intervals and rhythm; 0 if no run of nine notes is shared."""
    piece: str | None
    """Name of a training piece that contains it."""
    share: float
    """Share of the steps of all lines in shared runs of at least 16 notes, 0 to 1."""


def _line_steps(tick: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Codes of the steps of one line, uint16 [notes - 2]; never 0."""
    if len(tick) < 3:
        return np.zeros(0, dtype=np.uint16)
    durations = np.diff(tick).astype(np.float64)
    ratio = np.round(RATIO_STEPS * np.log2(durations[1:] / durations[:-1]))
    interval = np.clip(np.diff(pitch)[1:], -127, 127) + 128
    return (interval * 256 + np.clip(ratio, -127, 127) + 128).astype(np.uint16)


def _edge_lines(notes: Notes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Onsets in ticks, and the highest and lowest pitch of each, int64 [onset] each."""
    tick = np.round(notes.start_beats * TICKS_PER_BEAT).astype(np.int64)
    order = np.lexsort((notes.pitch, tick))
    tick, pitch = tick[order], notes.pitch[order]
    first = np.append(True, np.diff(tick) > 0)
    last = np.append(first[1:], True)
    return tick[first], pitch[last], pitch[first]


def _joined(score: Score) -> Notes | None:
    """All pitched notes of a score in one part; None if a single track has them all."""
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
    """Steps of all lines of a score, each line followed by the separator 0: uint16 [step]."""
    end = np.full(1, _END, dtype=np.uint16)
    lines: list[np.ndarray] = []
    joined = _joined(score)
    parts = [track.notes for track in score.tracks if not track.is_drum and len(track.notes)]
    for notes in [*parts, *([joined] if joined is not None else [])]:
        tick, top, low = _edge_lines(notes)
        lines += [_line_steps(tick, top), end]
        if notes is not joined and (top != low).any():
            lines += [_line_steps(tick, low), end]
    return np.concatenate(lines) if lines else np.zeros(0, dtype=np.uint16)


def distinctive_runs(steps: np.ndarray) -> np.ndarray:
    """Whether each run of `RUN_STEPS` steps has `MIN_DISTINCT_INTERVALS` intervals, bool [run]."""
    if len(steps) < RUN_STEPS:
        return np.zeros(0, dtype=bool)
    intervals = np.lib.stride_tricks.sliding_window_view((steps >> 8).astype(np.uint8), RUN_STEPS)
    changes = np.diff(np.sort(intervals, axis=1), axis=1) > 0
    return changes.sum(axis=1) >= MIN_DISTINCT_INTERVALS - 1


def matching_pairs(
    queries: np.ndarray, stored: np.ndarray, *, max_occurrences: int, max_pairs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds pairs of equal hashes, the rarest first.

    Args:
        queries: hashes to look up, [query].
        stored: sorted hashes, [hash].
        max_occurrences: hashes stored more often than this are ignored.
        max_pairs: maximum number of pairs.

    Returns:
        Indices into `queries` and into `stored`, int64 [pair] each.
    """
    first = np.searchsorted(stored, queries, side="left")
    count = np.searchsorted(stored, queries, side="right") - first
    kept = np.flatnonzero((count > 0) & (count <= max_occurrences))
    kept = kept[np.argsort(count[kept], kind="stable")]
    kept = kept[np.cumsum(count[kept]) <= max_pairs]
    count = count[kept]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(kept, count), np.repeat(first[kept], count) + within


def _hashes(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the distinctive runs, int64 [run], and their hashes, uint64 [run]."""
    positions, hashes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
    powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, RUN_STEPS + 1, dtype=np.uint64)
    for start in range(0, max(len(steps) - RUN_STEPS + 1, 0), _CHUNK):
        chunk = steps[start : start + _CHUNK + RUN_STEPS - 1]
        windows = np.lib.stride_tricks.sliding_window_view(chunk, RUN_STEPS)
        kept = np.flatnonzero((windows != _END).all(axis=1) & distinctive_runs(chunk))
        value = np.zeros(len(kept), dtype=np.uint64)
        for offset, power in enumerate(powers):
            value += chunk[kept + offset].astype(np.uint64) * power
        positions.append(kept + start)
        hashes.append(value ^ (value >> np.uint64(31)))
    return np.concatenate(positions), np.concatenate(hashes)


class MelodyIndex:
    """Searchable steps of many pieces; about 50 bytes per note."""

    def __init__(self, pieces: Iterable[tuple[str, Score]]) -> None:
        """Indexes names and scores, 10,000 in about half a minute; the scores are not stored."""
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
        positions, hashes = _hashes(self._steps)
        order = np.argsort(hashes, kind="stable")
        self._positions = positions[order].astype(np.int32)
        self._hashes = hashes[order]

    def __len__(self) -> int:
        return len(self._names)

    def _seeds(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of equal runs in the piece and in the index, int64 [seed] each."""
        query, hashes = _hashes(steps)
        which, index = matching_pairs(
            hashes, self._hashes, max_occurrences=MAX_MATCHES, max_pairs=MAX_SEEDS
        )
        return query[which], self._positions[index].astype(np.int64)

    def longest_run(self, score: Score, without: str | None = None) -> SharedRun:
        """The longest run that a score shares with any piece except the one named `without`."""
        steps = np.concatenate([np.full(1, _END, dtype=np.uint16), melodic_steps(score)])
        real = int((steps != _END).sum())
        query, reference = self._seeds(steps)
        if without is not None:
            owner = np.searchsorted(self._begins, reference, side="right") - 1
            names = np.array(self._names)
            other = names[owner] != without
            query, reference = query[other], reference[other]
        # Only the first seed of a run is extended: its diagonal is new, or has a gap before it.
        order = np.lexsort((query, reference - query))
        query, reference = query[order], reference[order]
        first_of_run = np.append(True, (np.diff(query) != 1) | (np.diff(reference) != 1))[
            : len(query)
        ]
        query, reference = query[first_of_run], reference[first_of_run]
        if not len(query):
            return SharedRun(notes=0, piece=None, share=0.0)
        before = self._extend(steps, query - 1, reference - 1, -1)
        after = self._extend(steps, query, reference, 1)
        length = before + after
        best = int(np.argmax(length))
        if length[best] < RUN_STEPS:  # a hash collision
            return SharedRun(notes=0, piece=None, share=0.0)
        long = length + 1 >= LONG_NOTES
        covered = np.zeros(len(steps) + 1, dtype=np.int64)
        np.add.at(covered, (query - before)[long], 1)
        np.subtract.at(covered, (query + after)[long], 1)
        owner = int(np.searchsorted(self._begins, reference[best], side="right")) - 1
        return SharedRun(
            notes=int(length[best]) + 1,
            piece=self._names[owner],
            share=float((np.cumsum(covered) > 0).sum()) / max(real, 1),
        )

    def _extend(
        self, steps: np.ndarray, query: np.ndarray, reference: np.ndarray, direction: int
    ) -> np.ndarray:
        """Number of equal steps from each pair of positions in one direction, int64 [seed]."""
        length = np.zeros(len(query), dtype=np.int64)
        active = np.arange(len(query))
        while len(active):
            query_step = query[active] + direction * length[active]
            reference_step = reference[active] + direction * length[active]
            inside = (
                (query_step >= 0)
                & (query_step < len(steps))
                & (reference_step >= 0)
                & (reference_step < len(self._steps))
            )
            active, query_step, reference_step = (
                active[inside],
                query_step[inside],
                reference_step[inside],
            )
            equal = (steps[query_step] == self._steps[reference_step]) & (steps[query_step] != _END)
            active = active[equal]
            length[active] += 1
        return length
