"""Which works are held out, so that no tune stands on both sides.

Files belong together where they share a work (`group`), a composer and title, or more than 30 % of
their melodies of nine intervals (the same tune typeset twice). Joined files share one fate: a hash
of the component's smallest identity holds out about 8 %, and sets another 8 % aside for the
judges, which must not know the pieces that the generator learns from. Where few clips stand for
many works, `spread_over_works` chooses them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from melisma.data.sources.pieces import Source, read_score
from melisma.values import Notes

INTERVALS = 9
"""Length of a compared melody in intervals (chosen: ten notes name a tune)."""
SHARED = 0.3
"""Share of the shorter file's melodies that makes two files twins (chosen)."""
LEAST_MELODIES = 12
"""Files with fewer distinct melodies than this are not compared (chosen)."""
COMMON = 40
"""A melody found in more files than this is a scale or an Alberti bass and says nothing."""
HELD_PERCENT = 8
"""Share of components that is held out."""
JUDGE_PERCENT = 8
"""Share of components that only judges are trained on."""


def hashed_split(name: str) -> str:
    """ "held" or "judge" for about 8 % of names each, else "train"; the same on every machine."""
    number = int(hashlib.sha1(name.encode()).hexdigest()[:8], 16) % 100
    if number < HELD_PERCENT:
        return "held"
    return "judge" if number < HELD_PERCENT + JUDGE_PERCENT else "train"


def assign_splits(sources: Sequence[Source], cache: Path | None = None) -> dict[str, str]:
    """identity -> "train", "held" or "judge" for every source; about 20 s for 10,000 pieces.

    With a cache (JSON) the answer is read from there if it knows every source, and written there
    otherwise.
    """
    if cache is not None and cache.is_file():
        known = json.loads(cache.read_text(encoding="utf-8"))
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
        beside = cache.with_suffix(f".{os.getpid()}.part")
        beside.write_text(json.dumps(splits, indent=0, sort_keys=True), encoding="utf-8")
        os.replace(beside, cache)
    return splits


def spread_over_works(groups: Sequence[str], count: int, seed: int | None = None) -> list[int]:
    """Up to `count` rows of these works in rounds: one of each work, then a second of each ...

    In their own order, or with a seed at random within a round.
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
    """The component of each source, as the index of its root."""
    parent = list(range(len(sources)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, source in enumerate(sources):
        for name in _names(source):
            parent[root(index)] = root(first.setdefault(name, index))
    for left, right in _twins([_melodies(source) for source in sources]):
        parent[root(int(left))] = root(int(right))
    return [root(index) for index in range(len(sources))]


def _names(source: Source) -> list[tuple[str, str]]:
    names = [(source.corpus, source.group)]
    title, composer = _plain(source.title), _plain(source.composer)
    family = composer.split(" ")[0] if composer else ""
    if len(title) >= 8 and family and family not in ("anonymous", "traditional", "trad", "anon"):
        names.append((composer, title))
    return names


def _plain(text: str | None) -> str:
    if text is None:
        return ""
    letters = unicodedata.normalize("NFKD", text.lower())
    letters = "".join(c for c in letters if not unicodedata.combining(c))
    letters = re.sub(r"\([^)]*\)", " ", letters)
    return " ".join(sorted(re.findall(r"[a-z0-9]+", letters)))


def _melodies(source: Source) -> np.ndarray:
    """Distinct melodies of nine intervals as uint64 hashes, from the top line of every part."""
    try:
        score = read_score(source)
    except ValueError:
        return np.zeros(0, dtype=np.uint64)
    found = [_line_melodies(t.notes) for t in score.tracks if not t.is_drum]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.uint64)


def _line_melodies(notes: Notes) -> np.ndarray:
    """Hashes uint64 [melody] of the top line's windows of nine intervals."""
    # Notes are sorted by start, then pitch: the last of an onset is its highest.
    last = np.append(np.diff(notes.start_beats) > 1e-3, True)
    intervals = np.diff(notes.pitch[last]) + 128
    if len(intervals) < INTERVALS:
        return np.zeros(0, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(intervals, INTERVALS).astype(np.uint64)
    ordered = np.sort(windows, axis=1)
    telling = (np.diff(ordered, axis=1) > 0).sum(axis=1) >= 3  # four different intervals or more
    powers = np.uint64(1_000_003) ** np.arange(INTERVALS, dtype=np.uint64)
    return (windows[telling] * powers).sum(axis=1, dtype=np.uint64)


def _twins(melodies: Sequence[np.ndarray]) -> np.ndarray:
    """Pairs of files [pair, 2] that share more than 30 % of the smaller one's melodies."""
    sizes = np.array([len(m) for m in melodies])
    owner = np.repeat(np.arange(len(melodies)), sizes)
    found = np.concatenate(melodies) if len(melodies) else np.zeros(0, dtype=np.uint64)
    order = np.argsort(found, kind="stable")
    found, owner = found[order], owner[order]
    edges = np.flatnonzero(np.append(True, found[1:] != found[:-1])) if len(found) else found
    counts = np.diff(np.append(edges, len(found)))
    codes: list[np.ndarray] = []
    for count in range(2, COMMON + 1):
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
    near = (smaller >= LEAST_MELODIES) & (shared > SHARED * smaller)
    return np.stack([left[near], right[near]], axis=1)
