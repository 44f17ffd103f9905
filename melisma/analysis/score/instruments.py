"""Instruments of a score, and their precision and recall against requested instruments.

An instrument plays in a bar if one of its notes sounds there; one that plays in at least a tenth of
the bars counts as playing. Track names are never read.

Input: a `Score`. Output: shares of bars by General MIDI program or by family, and an F1 score.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from melisma.values import Score
from melisma.values.attributes import program_family
from melisma.values.errors import MelismaError

DRUMS = 128
"""Stands for every drum kit, beside the programs 0-127."""
PRESENT_SHARE = 0.1
"""Minimum share of the bars in which an instrument plays (chosen)."""
MIN_SOUND_BEATS = 0.1
"""A note held over from the previous bar counts if it lasts at least this long in this one."""


@dataclass(frozen=True, kw_only=True)
class InstrumentMatch:
    """Requested against playing instruments, 0 to 1 each."""

    precision: float
    """Share of the playing instruments that were requested."""
    recall: float
    """Share of the requested instruments that play."""
    f1: float
    """Harmonic mean of both."""


def _sounding_bars(
    start: np.ndarray, duration: np.ndarray, bar_beats: float, bars: int
) -> np.ndarray:
    """Bars in which notes sound, bool [bar]."""
    first = np.clip(np.floor(start / bar_beats + 1e-6), 0, bars - 1).astype(np.int64)
    end = np.maximum(start + duration - MIN_SOUND_BEATS, start)
    last = np.clip(np.floor(end / bar_beats + 1e-6), first, bars - 1).astype(np.int64)
    steps = np.bincount(first, minlength=bars + 1) - np.bincount(last + 1, minlength=bars + 1)
    return np.cumsum(steps)[:bars] > 0


def _shares(score: Score, names: list[int | str], bar_beats: float) -> dict[int | str, float]:
    """Share of the bars in which each name's tracks play; `names` has one for each track."""
    starts = [track.notes.start_beats for track in score.tracks if len(track.notes)]
    if not starts:
        return {}
    bars = int(max(float(start.max()) for start in starts) // bar_beats) + 1
    playing: dict[int | str, np.ndarray] = {}
    for name, track in zip(names, score.tracks, strict=True):
        notes = track.notes
        if len(notes):
            sounding = _sounding_bars(notes.start_beats, notes.duration_beats, bar_beats, bars)
            playing[name] = playing.get(name, np.zeros(bars, dtype=bool)) | sounding
    return {name: float(sounding.mean()) for name, sounding in playing.items()}


def program_shares(score: Score, bar_beats: float = 4.0) -> dict[int, float]:
    """Share of the bars (from beat 0 to the last onset) in which each program plays.

    Keys are General MIDI programs, 0-127; every drum kit is `DRUMS`.
    """
    names: list[int | str] = [DRUMS if t.is_drum else t.program for t in score.tracks]
    return {int(name): share for name, share in _shares(score, names, bar_beats).items()}


def family_shares(score: Score, bar_beats: float = 4.0) -> dict[str, float]:
    """Share of the bars in which each of `FAMILIES` plays; families that never play are omitted."""
    names: list[int | str] = [program_family(t.program, t.is_drum) for t in score.tracks]
    return {str(name): share for name, share in _shares(score, names, bar_beats).items()}


def playing_programs(score: Score, bar_beats: float = 4.0) -> tuple[int, ...]:
    """Programs that play in at least a tenth of the bars, ascending; `DRUMS` for drum kits."""
    shares = program_shares(score, bar_beats)
    return tuple(sorted(name for name, share in shares.items() if share >= PRESENT_SHARE))


def playing_families(score: Score, bar_beats: float = 4.0) -> tuple[str, ...]:
    """Families that play in at least a tenth of the bars, most frequent first."""
    shares = family_shares(score, bar_beats)
    present = [name for name, share in shares.items() if share >= PRESENT_SHARE]
    return tuple(sorted(present, key=lambda name: (-shares[name], name)))


def match_instruments(
    requested: Collection[int] | Collection[str], playing: Collection[int] | Collection[str]
) -> InstrumentMatch:
    """Precision, recall and F1 of playing against requested programs or families.

    All three are 0 where nothing plays.

    Raises:
        MelismaError: if no instrument is requested.
    """
    expected, detected = set(requested), set(playing)
    if not expected:
        raise MelismaError("no instrument was requested, so none can be missing: name one or more")
    both = len(expected & detected)
    if not both:
        return InstrumentMatch(precision=0.0, recall=0.0, f1=0.0)
    return InstrumentMatch(
        precision=both / len(detected),
        recall=both / len(expected),
        f1=2 * both / (len(expected) + len(detected)),
    )
