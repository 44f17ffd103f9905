"""Fingerprints of the melodies of training pieces: a compact index that ships with the weights.

`melody_index.py` holds every step of every piece; this stores the hashes of every seventh or eighth
run of eight steps and still finds every run of at least `GUARANTEED_STEPS` steps that a score
shares with a piece and the full index would find. Winnowing (Schleimer, Wilkerson and Aiken, SIGMOD
2003, section 3) samples the stored and the queried document alike; here all runs of the query are
looked up, so that an even spacing with half as many hashes suffices (as in BLAT: Kent, Genome
Research 2002).

Neighbouring stored runs overlap or touch, so the steps of two that match at the same distance match
without a gap: a chain of fingerprints is a run that is shared note for note, and its length a lower
bound. A single fingerprint may be a collision of its 22 bits and is not counted; two neighbours
collide in one piece in some thousands, three never.

Long repetitions within a piece (a section, a doubled part, the top line of the whole that equals
that of a part) are stored once: a run across the boundary of a repeat may be reported in parts.
Runs of scales and repeated notes are not used as seeds, as in the index.

Inputs: training pieces by name, then `Score`s. Output: a `SharedRun` for each score, and whether it
is longer than the runs that real pieces of that duration share with each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from melisma.analysis.similarity.compression import compress, decompress
from melisma.analysis.similarity.melody_index import (
    LONG_NOTES,
    RUN_STEPS,
    SharedRun,
    distinctive_runs,
    matching_pairs,
    melodic_steps,
)
from melisma.files.checkpoint import Checkpoint, read_checkpoint, tensor_of, write_checkpoint
from melisma.files.typed_json import parse_json, typed
from melisma.values import Score
from melisma.values.errors import MelismaError

KIND = "score_prints"
"""Kind of its checkpoint, and name of its file in a model's folder."""
SPACINGS = (7, 8)
"""Alternating distances between stored runs: at most `RUN_STEPS`, so that neighbours overlap or
touch; the shorter comes first."""
WINDOW = sum(SPACINGS)
"""Any window of this many consecutive runs contains two stored neighbours."""
GUARANTEED_STEPS = WINDOW + RUN_STEPS - 1
"""A shared run of at least this many steps, a copy of 24 notes, is always found."""
MAX_EXTENSION_STEPS = 2 * (max(SPACINGS) - 1)
"""Maximum number of steps by which the true run exceeds a chain, both ends together, unless a
repeat or a scale follows."""
HASH_BITS = 22
"""Chosen: 2.2 million fingerprints and the 1,500 runs of a score give 800 false matches of a single
fingerprint, and one of two neighbours in 2,600 scores."""
_HASH_BYTES = 3
REPEAT_STEPS = 40
"""Minimum length of a repeat within a piece that is stored only once (chosen: the ends of repeats
are stored again, `WINDOW - 1` runs each, so shorter ones would save nothing)."""
MAX_SEEDS = 200_000
"""Maximum number of seeds, those of the rarest fingerprints first (keeps a query under a second;
scores of a few minutes have some thousands)."""
_HASH_SETTINGS = {"run_steps": RUN_STEPS, "spacings": list(SPACINGS), "hash_bits": HASH_BITS}
"""Settings of the checkpoint; files with other settings cannot be read."""


@dataclass(frozen=True, kw_only=True)
class FingerprintLimits:
    """Amount that real pieces share with the training pieces by duration: more is too similar."""

    seconds: tuple[float, ...]
    """Measured durations, ascending."""
    notes: tuple[float, ...]
    """Longest shared run in notes for each duration: the quantile over pieces."""
    share: tuple[float, ...]
    """Share of steps in shared runs for each duration: the quantile over pieces."""
    quantile: float
    """Share of the pieces at or below the limits, 0 to 1."""
    pieces: tuple[int, ...]
    """Number of pieces measured for each duration."""
    seed: int
    """Seed with which the pieces were chosen."""

    def __post_init__(self) -> None:
        columns = (self.seconds, self.notes, self.share, self.pieces)
        if not self.seconds or len({len(column) for column in columns}) != 1:
            raise MelismaError("limits need one or more durations, and all values for each")
        if list(self.seconds) != sorted(set(self.seconds)):
            raise MelismaError(f"the durations of limits must ascend, not be {self.seconds}")

    def at(self, seconds: float) -> tuple[float, float]:
        """Limits (notes, share) for a duration, linearly interpolated, constant beyond the ends."""
        return (
            float(np.interp(seconds, self.seconds, self.notes)),
            float(np.interp(seconds, self.seconds, self.share)),
        )

    def excess(self, shared: SharedRun, seconds: float) -> float:
        """The greater of run length and share relative to the limits; above 1 is too similar.

        Args:
            shared: the longest run of a score.
            seconds: duration of the score.
        """
        notes, share = self.at(seconds)
        return max(shared.notes / max(notes, 1.0), shared.share / max(share, 1e-3))


def _runs(steps: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `length` steps, uint64 [run], and whether each is within one line."""
    count = max(len(steps) - length + 1, 0)
    value = np.zeros(count, dtype=np.uint64)
    within_line = np.ones(count, dtype=bool)
    powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, length + 1, dtype=np.uint64)
    for offset, power in enumerate(powers):
        code = steps[offset : offset + count]
        value += code.astype(np.uint64) * power
        within_line &= code != 0
    # The finaliser of SplitMix64 (Steele, Lea and Flood 2014): all bits affect the top bits.
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31)), within_line


def _run_hashes(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """22-bit hash of every run, uint32, whether it is within one line, and whether distinctive.

    Returns:
        uint32 [run], bool [run], bool [run].
    """
    value, within_line = _runs(steps, RUN_STEPS)
    run_hashes = (value >> np.uint64(64 - HASH_BITS)).astype(np.uint32)
    return run_hashes, within_line, within_line & distinctive_runs(steps)


def _inside_repeats(steps: np.ndarray, runs: int) -> np.ndarray:
    """Whether each run lies inside a repeat of an earlier passage of the piece, bool [run].

    Inside means at least `WINDOW - 1` runs from either end: any `WINDOW` consecutive runs are then
    either all kept, or all part of one passage that also occurs earlier.
    """
    value, within_line = _runs(steps, REPEAT_STEPS)
    position = np.flatnonzero(within_line)
    _, first, which = np.unique(value[position], return_index=True, return_inverse=True)
    distance_back = position - position[first[which]]
    repeated = np.flatnonzero(distance_back > 0)
    inside = np.zeros(runs + 1, dtype=np.int64)
    if not len(repeated):
        return inside[:-1] > 0
    position, distance_back = position[repeated], distance_back[repeated]
    begins = np.flatnonzero(
        np.append(True, (np.diff(position) != 1) | (np.diff(distance_back) != 0))
    )
    ends = np.append(begins[1:], len(position)) - 1
    margin = WINDOW - 1
    np.add.at(inside, position[begins] + margin, 1)
    np.subtract.at(inside, position[ends] + REPEAT_STEPS - RUN_STEPS - margin + 1, 1)
    return np.cumsum(inside)[:-1] > 0


def _select(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Selects the fingerprints of a piece.

    The first and the last distinctive run of a passage are fingerprints, the spacing restarts at
    each of them and continues for seven runs beyond: of any `WINDOW` runs with a distinctive one, a
    distinctive one and its neighbour are then stored.

    Returns:
        Hashes, uint32 [fingerprint], and distance in steps from the previous fingerprint, uint8
        [fingerprint], 0 if they are not linked.
    """
    run_hashes, within_line, distinctive = _run_hashes(steps)
    if not len(run_hashes):
        return run_hashes, np.zeros(0, dtype=np.uint8)
    kept = within_line & ~_inside_repeats(steps, len(run_hashes))
    distinctive = distinctive & kept
    beyond = min(SPACINGS)
    kept &= np.convolve(distinctive, np.ones(2 * beyond + 1, dtype=np.int64))[beyond:-beyond] > 0

    def borders(mask: np.ndarray) -> np.ndarray:
        padded = np.concatenate([[False], mask, [False]])
        return mask & ~(padded[:-2] & padded[2:])

    position = np.arange(len(kept))
    anchor = np.maximum.accumulate(np.where(borders(kept) | borders(distinctive), position, -1))
    chosen = np.flatnonzero(kept & np.isin((position - anchor) % WINDOW, (0, SPACINGS[0])))
    gap = np.diff(chosen, prepend=-RUN_STEPS - 1)
    holes = np.cumsum(~kept)[chosen]
    gap[(gap > RUN_STEPS) | (np.diff(holes, prepend=-1) > 0)] = 0
    return run_hashes[chosen], gap.astype(np.uint8)


class MelodyFingerprints:
    """Searchable fingerprints of many pieces; 13 bytes each in memory, fewer than 3 in the file."""

    def __init__(
        self,
        *,
        hashes: np.ndarray,
        gaps: np.ndarray,
        counts: np.ndarray,
        titles: Mapping[str, str],
        limits: FingerprintLimits | None = None,
    ) -> None:
        """Indexes fingerprints.

        Args:
            hashes: of all pieces, concatenated, uint32 [fingerprint].
            gaps: distance in steps from the previous fingerprint, uint8 [fingerprint].
            counts: number of fingerprints of each piece, int32 [piece].
            titles: titles of all pieces by name, in that order.
            limits: what real pieces share with these pieces.
        """
        if not len(hashes) == len(gaps) == counts.sum() or len(counts) != len(titles):
            raise MelismaError("the numbers of fingerprints, gaps and pieces do not match")
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
        """Computes the fingerprints of pieces, in about a millisecond per piece.

        Args:
            pieces: unique names and scores.
            titles: titles by name; a piece without one is reported by its name.

        Raises:
            MelismaError: for two pieces of one name.
        """
        names: list[str] = []
        hashes: list[np.ndarray] = [np.zeros(0, dtype=np.uint32)]
        gaps: list[np.ndarray] = [np.zeros(0, dtype=np.uint8)]
        for name, score in pieces:
            found, gap = _select(melodic_steps(score))
            names.append(name)
            hashes.append(found)
            gaps.append(gap)
        if len(set(names)) != len(names):
            raise MelismaError("two pieces have the same name: every piece needs its own")
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
        """Number of fingerprints."""
        return len(self._hashes)

    def title(self, piece: str) -> str:
        """Title of a piece; its name if it is not in the index."""
        return self._titles.get(piece, piece)

    def write(self, path: Path) -> None:
        """Writes the fingerprints atomically; errors as `files.atomic_write`."""
        # Little-endian words without their high byte.
        words = self._hashes.astype("<u4").view(np.uint8).reshape(-1, 4)
        tensors = {
            "hashes": compress(words[:, :_HASH_BYTES].tobytes()),
            "gaps": compress(self._gaps.tobytes()),
            "counts": compress(self._counts.astype("<i4").tobytes()),
            "titles": compress(json.dumps(self._titles).encode()),
        }
        notes = {"limits": None if self.limits is None else asdict(self.limits)}
        write_checkpoint(
            path, Checkpoint(kind=KIND, settings=_HASH_SETTINGS, tensors=tensors, notes=notes)
        )

    @classmethod
    def read(cls, path: Path) -> MelodyFingerprints:
        """Reads the result of `write`; `MelismaError` for anything else."""
        checkpoint = read_checkpoint(path, kind=KIND)
        if checkpoint.settings != _HASH_SETTINGS:
            raise MelismaError(
                f"{path} holds fingerprints with the settings {checkpoint.settings}, not "
                f"{_HASH_SETTINGS}: use the Melisma version that wrote them, or make them again"
            )
        try:
            stored = {
                name: tensor_of(checkpoint, name, (None,), torch.uint8)
                for name in ("counts", "hashes", "gaps", "titles")
            }
            counts = np.frombuffer(decompress(stored["counts"]), dtype="<i4").astype(np.int32)
            total = int(counts.sum(dtype=np.int64))
            if counts.min(initial=0) < 0:
                raise MelismaError("a piece has a negative number of fingerprints")
            hashes = np.frombuffer(decompress(stored["hashes"], _HASH_BYTES * total), np.uint8)
            words = np.pad(hashes.reshape(-1, _HASH_BYTES), ((0, 0), (0, 4 - _HASH_BYTES)))
            return cls(
                hashes=words.view("<u4")[:, 0].astype(np.uint32),
                gaps=np.frombuffer(decompress(stored["gaps"], total), dtype=np.uint8),
                counts=counts,
                titles=typed(parse_json(decompress(stored["titles"]), "titles"), dict[str, str]),
                limits=typed(checkpoint.notes.get("limits"), FingerprintLimits | None, "limits"),
            )
        except ValueError as error:  # of our checks and of NumPy's
            raise MelismaError(
                f"the fingerprints in {path} are damaged: fetch or make them again"
            ) from error

    def nearest(self, score: Score, without: str | None = None) -> SharedRun:
        """The longest run that a score certainly shares with any piece except `without`.

        Its length is a lower bound: the true run may be `MAX_EXTENSION_STEPS` longer. Runs shorter
        than ten notes are never reported, runs of at least `GUARANTEED_STEPS` steps always.
        """
        steps = melodic_steps(score)
        run_hashes, within_line, distinctive = _run_hashes(steps)
        # No fingerprint has this value: runs across two lines match nothing.
        run_hashes[~within_line] = 1 << HASH_BITS
        query, reference = self._seeds(run_hashes, distinctive, without)
        before = self._extend(run_hashes, query, reference, -1)
        after = self._extend(run_hashes, query, reference, 1)
        begin, end = query - before, query + after + RUN_STEPS
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
            piece=self._names[int(self._owner(reference[best]))],
            share=float((np.cumsum(covered) > 0).sum()) / max(int((steps != 0).sum()), 1),
        )

    def _owner(self, positions: np.ndarray) -> np.ndarray:
        """Indices of the pieces that fingerprints at these positions belong to."""
        return np.searchsorted(self._begins, positions, side="right") - 1

    def _seeds(
        self, run_hashes: np.ndarray, distinctive: np.ndarray, without: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of a distinctive run of the score and an equal fingerprint, int64 [seed] each."""
        queries = np.flatnonzero(distinctive)
        which, index = matching_pairs(
            run_hashes[queries], self._sorted, max_occurrences=MAX_SEEDS, max_pairs=MAX_SEEDS
        )
        query, reference = queries[which], self._order[index].astype(np.int64)
        if without in self._titles:
            other = self._owner(reference) != self._names.index(without)
            query, reference = query[other], reference[other]
        return query, reference

    def _extend(
        self, run_hashes: np.ndarray, query: np.ndarray, reference: np.ndarray, direction: int
    ) -> np.ndarray:
        """Steps between each seed and the last linked fingerprint that matches, int64 [seed]."""
        distance = np.zeros(len(query), dtype=np.int64)
        active, at = np.arange(len(query)), reference
        while len(active):
            # The gap of a fingerprint is its distance from the previous one.
            link = at + 1 if direction > 0 else at
            gap = np.where(
                link < self.fingerprints, self._gaps[np.minimum(link, self.fingerprints - 1)], 0
            )
            at = at + direction
            here = query[active] + direction * (distance[active] + gap)
            equal = (gap > 0) & (here >= 0) & (here < len(run_hashes))
            equal &= run_hashes[np.where(equal, here, 0)] == self._hashes[np.where(equal, at, 0)]
            active, at, gap = active[equal], at[equal], gap[equal]
            distance[active] += gap
        return distance
