"""Train, held-out and judge splits without leakage: no melody is in two splits.

Files are connected if they share a work (`group`), a composer and title, or more than 30 % of their
melodies of nine intervals (near-duplicates: the same melody typeset twice). All files of a
connected component get the same split: a hash of the component's smallest identity holds out about
8 %, and reserves another 8 % for the judges (evaluation models), which must not be trained on the
generator's training pieces. `spread_over_works` selects a few clips that represent many works.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from melisma.data.sources.pieces import Source, read_score
from melisma.files.atomic import write_bytes
from melisma.files.typed_json import read_json
from melisma.values import Notes
from melisma.values.errors import MelismaError

MELODY_INTERVALS = 9
"""Length of a compared melody in intervals (chosen: ten notes identify a melody)."""
DUPLICATE_SHARE = 0.3
"""Two files are near-duplicates above this share of the smaller one's melodies (chosen)."""
MIN_MELODIES = 12
"""Files with fewer distinct melodies are not compared (chosen)."""
MAX_FILES_PER_MELODY = 40
"""A melody in more files than this is a common figure (scale, Alberti bass) and is ignored."""
HELD_PERCENT = 8
"""Percentage of components that is held out."""
JUDGE_PERCENT = 8
"""Percentage of components on which only judges are trained."""

_SPLITS = ("train", "held", "judge")


def hashed_split(name: str) -> str:
    """Deterministic split of a name: "held" and "judge" for about 8 % each, otherwise "train"."""
    number = int(hashlib.sha1(name.encode()).hexdigest()[:8], 16) % 100
    if number < HELD_PERCENT:
        return "held"
    return "judge" if number < HELD_PERCENT + JUDGE_PERCENT else "train"


def assign_splits(sources: Sequence[Source], cache: Path | None = None) -> dict[str, str]:
    """Assign every source to a split; takes about 20 s for 10,000 pieces.

    Args:
        sources: All pieces.
        cache: JSON file. It is read if it contains every source, and written otherwise.

    Returns:
        Identity -> "train", "held" or "judge".

    Raises:
        MelismaError: If the cache is damaged.
    """
    if cache is not None and cache.is_file():
        known = _read_splits(cache)
        if all(source.identity in known for source in sources):
            return {source.identity: known[source.identity] for source in sources}
    roots = _components(sources)
    smallest: dict[int, str] = {}
    for root, source in zip(roots, sources, strict=True):
        smallest[root] = min(smallest.get(root, source.identity), source.identity)
    splits = {
        source.identity: hashed_split(smallest[root])
        for root, source in zip(roots, sources, strict=True)
    }
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(cache, json.dumps(splits, indent=0, sort_keys=True).encode("utf-8"))
    return splits


def _read_splits(path: Path) -> dict[str, str]:
    known = read_json(path)
    if not isinstance(known, dict) or any(split not in _SPLITS for split in known.values()):
        raise MelismaError(
            f"{path} holds no splits of pieces: delete it, and they are assigned again"
        )
    return known


def spread_over_works(groups: Sequence[str], count: int, seed: int | None = None) -> list[int]:
    """Select rows evenly over works: one row of each work, then a second of each, and so on.

    Args:
        groups: Work of each row.
        count: Largest number of rows.
        seed: Seed of a random order; None: the given order.

    Returns:
        Indices of the selected rows, at most `count`.
    """
    numbers = np.arange(len(groups))
    if seed is not None:
        numbers = np.random.default_rng(seed).permutation(numbers)
    rounds: dict[str, int] = {}
    ranked = []
    for row in map(int, numbers):
        ranked.append((rounds.get(groups[row], 0), row))
        rounds[groups[row]] = ranked[-1][0] + 1
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])[:count]]


def _components(sources: Sequence[Source]) -> list[int]:
    """Connected component of each source, as the index of its root (union-find)."""
    parent = list(range(len(sources)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, source in enumerate(sources):
        for name in _work_keys(source):
            parent[root(index)] = root(first.setdefault(name, index))
    for left, right in _near_duplicates([_melodies(source) for source in sources]):
        parent[root(int(left))] = root(int(right))
    return [root(index) for index in range(len(sources))]


def _work_keys(source: Source) -> list[tuple[str, str]]:
    names = [(source.corpus, source.group)]
    title, composer = _normalized_words(source.title), _normalized_words(source.composer)
    family = composer.split(" ")[0] if composer else ""
    if len(title) >= 8 and family and family not in ("anonymous", "traditional", "trad", "anon"):
        names.append((composer, title))
    return names


def _normalized_words(text: str | None) -> str:
    if text is None:
        return ""
    normalized = unicodedata.normalize("NFKD", text.lower())
    normalized = "".join(c for c in normalized if not unicodedata.combining(c))
    normalized = re.sub(r"\([^)]*\)", " ", normalized)
    return " ".join(sorted(re.findall(r"[a-z0-9]+", normalized)))


def _melodies(source: Source) -> np.ndarray:
    """Hashes of the distinct melodies of nine intervals in the top lines, uint64 [melody]."""
    try:
        score = read_score(source)
    except MelismaError:
        return np.zeros(0, dtype=np.uint64)
    found = [_line_melodies(t.notes) for t in score.tracks if not t.is_drum]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.uint64)


def _line_melodies(notes: Notes) -> np.ndarray:
    """Hashes of the windows of nine intervals of the top line, uint64 [melody]."""
    # Notes are sorted by start, then pitch: the last note of an onset is the highest.
    last = np.append(np.diff(notes.start_beats) > 1e-3, True)
    intervals = np.diff(notes.pitch[last]) + 128
    if len(intervals) < MELODY_INTERVALS:
        return np.zeros(0, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(intervals, MELODY_INTERVALS).astype(
        np.uint64
    )
    ordered = np.sort(windows, axis=1)
    distinctive = (np.diff(ordered, axis=1) > 0).sum(axis=1) >= 3  # four or more different ones
    powers = np.uint64(1_000_003) ** np.arange(MELODY_INTERVALS, dtype=np.uint64)
    return (windows[distinctive] * powers).sum(axis=1, dtype=np.uint64)


def _near_duplicates(melodies: Sequence[np.ndarray]) -> np.ndarray:
    """Pairs of files that share more than 30 % of the smaller one's melodies, int64 [pair, 2]."""
    sizes = np.array([len(m) for m in melodies])
    owner = np.repeat(np.arange(len(melodies)), sizes)
    found = np.concatenate(melodies) if len(melodies) else np.zeros(0, dtype=np.uint64)
    order = np.argsort(found, kind="stable")
    found, owner = found[order], owner[order]
    edges = np.flatnonzero(np.append(True, found[1:] != found[:-1])) if len(found) else found
    counts = np.diff(np.append(edges, len(found)))
    codes: list[np.ndarray] = []
    for count in range(2, MAX_FILES_PER_MELODY + 1):
        starts = edges[counts == count]
        if not len(starts):
            continue
        block = owner[starts[:, None].astype(np.int64) + np.arange(count)]
        left, right = np.triu_indices(count, 1)
        codes.append((block[:, left] * len(melodies) + block[:, right]).ravel())
    if not codes:
        return np.zeros((0, 2), dtype=np.int64)
    pair, shared = np.unique(np.concatenate(codes), return_counts=True)
    left, right = pair // len(melodies), pair % len(melodies)
    smaller = np.minimum(sizes[left], sizes[right])
    duplicate = (smaller >= MIN_MELODIES) & (shared > DUPLICATE_SHARE * smaller)
    return np.stack([left[duplicate], right[duplicate]], axis=1)
