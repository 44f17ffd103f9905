"""Prints of the melodies of training pieces: small enough to lie beside the weights.

`melody_index.py` holds every step of every piece; this keeps the hashes of every seventh or eighth
run of eight steps and still finds every run of `GUARANTEED_STEPS` steps that a score shares with a
piece and the index would find. Winnowing (Schleimer, Wilkerson and Aiken, SIGMOD 2003, section 3)
chooses alike in what is stored and in what is asked; here all runs of the asked score are looked
up, so that an even spacing suffices, with half as many (as in BLAT: Kent, Genome Research 2002).

Neighbours among the stored runs overlap or touch, so the steps of two that match at the same
distance match without a hole: a chain of prints is a run that is shared note for note, and its
length a lower bound. A lone print may be a collision of its 22 bits and counts for nothing; that
two neighbours are happens to one piece in some thousands, and three never.

What a piece repeats at length (a section, a doubled part, the top line of the whole where it is
that of a part) is stored once: a run that leads over the seam of a repeat may be told in parts.
Runs of scales and repeated notes start no match, as in the index.

Enters: training pieces by name, then `Score`s. Leaves: a `SharedRun` for each, and whether it is
longer than real pieces of that duration share with each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from melisma.analysis.similarity.melody_index import (
    LONG_NOTES,
    RUN_STEPS,
    SharedRun,
    equal_pairs,
    melodic_steps,
    telling_runs,
)
from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.files.compression import packed, unpacked
from melisma.values import Score

KIND = "score_prints"
"""What its checkpoint is called, and its file in a model's folder."""
SPACINGS = (7, 8)
"""Distances between stored runs in turn; at most `RUN_STEPS`, so that neighbours overlap or touch,
and the first the shorter."""
WINDOW = sum(SPACINGS)
"""Of so many neighbouring runs two stored neighbours are part."""
GUARANTEED_STEPS = WINDOW + RUN_STEPS - 1
"""A shared run of so many steps, a copy of 24 notes, is found."""
LONGEST_EXTENSION_STEPS = 2 * (max(SPACINGS) - 1)
"""A chain's run goes on for at most so many steps more, both ends together, where neither a repeat
nor a scale follows."""
HASH_BITS = 22
"""Chosen: 2.2 million prints and 1,500 runs of a score make 800 false matches of one print, and one
of two neighbours in 2,600 scores."""
_HASH_BYTES = 3
REPEAT_STEPS = 40
"""A stretch from this length on that its piece has had before is stored once (chosen: the ends of
repeats are stored again, `WINDOW - 1` runs each, and shorter ones would save nothing)."""
MOST_SEEDS = 200_000
"""Matches of single prints that are followed; beyond, those of the rarest prints (keeps a query
under a second; scores of a few minutes have some thousands)."""
_TAKEN = {"run_steps": RUN_STEPS, "spacings": list(SPACINGS), "hash_bits": HASH_BITS}


@dataclass(frozen=True, kw_only=True)
class FingerprintLimits:
    """What real pieces of some durations share with the training pieces: more is too near."""

    seconds: tuple[float, ...]
    """Durations that were measured, ascending."""
    notes: tuple[float, ...]
    """Longest shared run in notes, of each duration: the quantile over pieces."""
    share: tuple[float, ...]
    """Share of steps in shared runs, likewise."""
    quantile: float
    """Of the pieces so many stay at or below the limits, 0 to 1."""
    pieces: tuple[int, ...]
    """How many were measured of each duration."""
    seed: int
    """What the pieces were drawn with."""

    def __post_init__(self) -> None:
        columns = (self.seconds, self.notes, self.share, self.pieces)
        if not self.seconds or len({len(column) for column in columns}) != 1:
            raise ValueError("limits need one duration or more, and a value of each for all")
        if list(self.seconds) != sorted(set(self.seconds)):
            raise ValueError(f"the durations of limits ascend, these do not: {self.seconds}")

    @classmethod
    def of(cls, told: dict[str, Any] | None) -> FingerprintLimits | None:
        """From their JSON form; `TypeError` where it is another."""
        if told is None:
            return None
        columns: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        return cls(**columns)

    def at(self, seconds: float) -> tuple[float, float]:
        """(notes, share) for a duration: on a line between those measured, theirs beyond them."""
        return (
            float(np.interp(seconds, self.seconds, self.notes)),
            float(np.interp(seconds, self.seconds, self.share)),
        )

    def excess(self, shared: SharedRun, seconds: float) -> float:
        """How much a score of so many seconds shares, in units of the limits: the greater of run
        and share; above 1 is too near."""
        notes, share = self.at(seconds)
        return max(shared.notes / max(notes, 1.0), shared.share / max(share, 1e-3))


def _runs(steps: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `length` steps, uint64 [run], and which lie within one line, bool."""
    count = max(len(steps) - length + 1, 0)
    value = np.zeros(count, dtype=np.uint64)
    whole = np.ones(count, dtype=bool)
    powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, length + 1, dtype=np.uint64)
    for offset, power in enumerate(powers):
        code = steps[offset : offset + count]
        value += code.astype(np.uint64) * power
        whole &= code != 0
    # The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the sum moves the top.
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31)), whole


def _prints_of(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every run: 22 bits of its hash, uint32; whether it is in one line, and telling, bool."""
    value, whole = _runs(steps, RUN_STEPS)
    short = (value >> np.uint64(64 - HASH_BITS)).astype(np.uint32)
    return short, whole, whole & telling_runs(steps)


def _repeated(steps: np.ndarray, runs: int) -> np.ndarray:
    """Which runs lie inside a stretch that the piece has had before, bool [run].

    Inside means `WINDOW - 1` runs from either end: any `WINDOW` neighbouring runs are then either
    all kept, or all part of one stretch that stands earlier as well.
    """
    value, whole = _runs(steps, REPEAT_STEPS)
    place = np.flatnonzero(whole)
    _, first, which = np.unique(value[place], return_index=True, return_inverse=True)
    back = place - place[first[which]]
    again = np.flatnonzero(back > 0)
    inside = np.zeros(runs + 1, dtype=np.int64)
    if not len(again):
        return inside[:-1] > 0
    place, back = place[again], back[again]
    begins = np.flatnonzero(np.append(True, (np.diff(place) != 1) | (np.diff(back) != 0)))
    ends = np.append(begins[1:], len(place)) - 1
    margin = WINDOW - 1
    np.add.at(inside, place[begins] + margin, 1)
    np.subtract.at(inside, place[ends] + REPEAT_STEPS - RUN_STEPS - margin + 1, 1)
    return np.cumsum(inside)[:-1] > 0


def _stored(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The prints of a piece: hashes, uint32 [print], and how many steps each stands behind the one
    before, uint8 [print], 0 where no step links them.

    The first and the last telling run of a passage are prints, the spacing begins anew at each, and
    goes on for seven runs beyond them: of any `WINDOW` runs of which one is telling, a telling one
    and its neighbour are then stored.
    """
    short, whole, telling = _prints_of(steps)
    if not len(short):
        return short, np.zeros(0, dtype=np.uint8)
    kept = whole & ~_repeated(steps, len(short))
    telling = telling & kept
    beyond = min(SPACINGS)
    kept &= np.convolve(telling, np.ones(2 * beyond + 1, dtype=np.int64))[beyond:-beyond] > 0

    def borders(mask: np.ndarray) -> np.ndarray:
        padded = np.concatenate([[False], mask, [False]])
        return mask & ~(padded[:-2] & padded[2:])

    place = np.arange(len(kept))
    anchor = np.maximum.accumulate(np.where(borders(kept) | borders(telling), place, -1))
    chosen = np.flatnonzero(kept & np.isin((place - anchor) % WINDOW, (0, SPACINGS[0])))
    gap = np.diff(chosen, prepend=-RUN_STEPS - 1)
    holes = np.cumsum(~kept)[chosen]
    gap[(gap > RUN_STEPS) | (np.diff(holes, prepend=-1) > 0)] = 0
    return short[chosen], gap.astype(np.uint8)


class MelodyFingerprints:
    """Prints of many pieces, searchable; 13 bytes a print in memory, fewer than 3 in the file."""

    def __init__(
        self,
        *,
        hashes: np.ndarray,
        gaps: np.ndarray,
        counts: np.ndarray,
        titles: Mapping[str, str],
        limits: FingerprintLimits | None = None,
    ) -> None:
        """`hashes` uint32 [print] and `gaps` uint8 [print] of all pieces, one after the other;
        `counts` int32 [piece]: how many each has; `titles` of all pieces by name, in that order."""
        if not len(hashes) == len(gaps) == counts.sum() or len(counts) != len(titles):
            raise ValueError("prints, gaps and pieces do not belong together")
        self._hashes, self._gaps, self._counts = hashes, gaps, counts
        self._titles = dict(titles)
        self._names = list(titles)
        self._begins = np.cumsum(counts) - counts
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._sorted = hashes[self._order]
        self.limits = limits

    @classmethod
    def build(
        cls, pieces: Iterable[tuple[str, Score]], titles: Mapping[str, str] | None = None
    ) -> MelodyFingerprints:
        """Prints of pieces with their names; what is told of each is its title, or else its name.
        About a millisecond a piece."""
        names: list[str] = []
        hashes: list[np.ndarray] = [np.zeros(0, dtype=np.uint32)]
        gaps: list[np.ndarray] = [np.zeros(0, dtype=np.uint8)]
        for name, score in pieces:
            found, behind = _stored(melodic_steps(score))
            names.append(name)
            hashes.append(found)
            gaps.append(behind)
        if len(set(names)) != len(names):
            raise ValueError("two pieces have the same name: every piece needs its own")
        return cls(
            hashes=np.concatenate(hashes),
            gaps=np.concatenate(gaps),
            counts=np.array([len(found) for found in hashes[1:]], dtype=np.int32),
            titles={name: (titles or {}).get(name, name) for name in names},
        )

    def __len__(self) -> int:
        return len(self._names)

    @property
    def fingerprints(self) -> int:
        """How many prints there are."""
        return len(self._hashes)

    def title(self, piece: str) -> str:
        """What is told of a piece; its name where it is not among them."""
        return self._titles.get(piece, piece)

    def write(self, path: Path) -> None:
        """Writes the prints, whole or not at all; errors as `files.replacing`."""
        # Little-endian words without their high byte.
        words = self._hashes.astype("<u4").view(np.uint8).reshape(-1, 4)
        tensors = {
            "hashes": packed(words[:, :_HASH_BYTES].tobytes()),
            "gaps": packed(self._gaps.tobytes()),
            "counts": packed(self._counts.astype("<i4").tobytes()),
            "titles": packed(json.dumps(self._titles).encode()),
        }
        notes = {"limits": None if self.limits is None else asdict(self.limits)}
        write_checkpoint(path, Checkpoint(kind=KIND, settings=_TAKEN, tensors=tensors, notes=notes))

    @classmethod
    def read(cls, path: Path) -> MelodyFingerprints:
        """Reads what `write` wrote; `ValueError` with one sentence where it is something else."""
        checkpoint = read_checkpoint(path, kind=KIND)
        if checkpoint.settings != _TAKEN:
            raise ValueError(
                f"{path} holds prints taken as {checkpoint.settings}, here they are {_TAKEN}: "
                "use the Melisma version that wrote them, or make them again"
            )
        try:
            stored = checkpoint.tensors
            counts = np.frombuffer(unpacked(stored["counts"]), dtype="<i4").astype(np.int32)
            prints = int(counts.sum())
            hashes = np.frombuffer(unpacked(stored["hashes"], _HASH_BYTES * prints), np.uint8)
            words = np.pad(hashes.reshape(-1, _HASH_BYTES), ((0, 0), (0, 4 - _HASH_BYTES)))
            return cls(
                hashes=words.view("<u4")[:, 0].astype(np.uint32),
                gaps=np.frombuffer(unpacked(stored["gaps"], prints), dtype=np.uint8),
                counts=counts,
                titles=json.loads(unpacked(stored["titles"])),
                limits=FingerprintLimits.of(checkpoint.notes["limits"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the prints in {path} are damaged: fetch or make them again"
            ) from error

    def nearest(self, score: Score, without: str | None = None) -> SharedRun:
        """The longest run that a score is sure to share with any piece but the one named `without`.

        Its notes are a lower bound: the run may be `LONGEST_EXTENSION_STEPS` longer. None shorter
        than ten notes is told, and all of `GUARANTEED_STEPS` steps or more are found.
        """
        steps = melodic_steps(score)
        short, whole, telling = _prints_of(steps)
        # No print has this value: runs that cross a line match nothing.
        short[~whole] = 1 << HASH_BITS
        mine, theirs = self._seeds(short, telling, without)
        before = self._follow(short, mine, theirs, -1)
        after = self._follow(short, mine, theirs, 1)
        begin, end = mine - before, mine + after + RUN_STEPS
        length = end - begin
        linked = before + after > 0
        if not linked.any():
            return SharedRun(notes=0, piece=None, share=0.0)
        best = int(np.argmax(np.where(linked, length, 0)))
        long = linked & (length + 1 >= LONG_NOTES)
        covered = np.zeros(len(steps) + 1, dtype=np.int64)
        np.add.at(covered, begin[long], 1)
        np.subtract.at(covered, end[long], 1)
        return SharedRun(
            notes=int(length[best]) + 1,
            piece=self._names[int(self._owner(theirs[best]))],
            share=float((np.cumsum(covered) > 0).sum()) / max(int((steps != 0).sum()), 1),
        )

    def _owner(self, prints: np.ndarray) -> np.ndarray:
        """Numbers of the pieces that prints belong to."""
        return np.searchsorted(self._begins, prints, side="right") - 1

    def _seeds(
        self, short: np.ndarray, telling: np.ndarray, without: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a telling run of the score and a print that are alike, int64 [seed] each."""
        asked = np.flatnonzero(telling)
        which, place = equal_pairs(
            short[asked], self._sorted, most_places=MOST_SEEDS, most_pairs=MOST_SEEDS
        )
        mine, theirs = asked[which], self._order[place].astype(np.int64)
        if without in self._titles:
            other = self._owner(theirs) != self._names.index(without)
            mine, theirs = mine[other], theirs[other]
        return mine, theirs

    def _follow(
        self, short: np.ndarray, mine: np.ndarray, theirs: np.ndarray, direction: int
    ) -> np.ndarray:
        """How many steps lie between each seed and the last linked print that matches, [seed]."""
        distance = np.zeros(len(mine), dtype=np.int64)
        going, at = np.arange(len(mine)), theirs
        while len(going):
            # The gap of a print says how far it is from the one before.
            link = at + 1 if direction > 0 else at
            gap = np.where(
                link < self.fingerprints, self._gaps[np.minimum(link, self.fingerprints - 1)], 0
            )
            at = at + direction
            here = mine[going] + direction * (distance[going] + gap)
            alike = (gap > 0) & (here >= 0) & (here < len(short))
            alike &= short[np.where(alike, here, 0)] == self._hashes[np.where(alike, at, 0)]
            going, at, gap = going[alike], at[alike], gap[alike]
            distance[going] += gap
        return distance
