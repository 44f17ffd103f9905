"""Which instruments play in a score, and how well they are those that were asked for.

An instrument plays in a bar where one of its notes sounds; one that plays in a tenth of the bars or
more counts as playing. Track names are never read.

Enters: a `Score`. Leaves: shares of bars by General MIDI program or by family, and an F1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from melisma.values import Score
from melisma.values.attributes import program_family

DRUMS = 128
"""Stands for every drum kit among the programs 0-127."""
PRESENT_SHARE = 0.1
"""Share of the bars in which an instrument plays at least to count (chosen)."""
LEAST_SOUND_BEATS = 0.1
"""A note held over from the bar before counts if it lasts at least so far into this one."""


@dataclass(frozen=True, kw_only=True)
class InstrumentMatch:
    """What was asked for against what plays, 0 to 1 each."""

    precision: float
    """Share of those playing that were asked for."""
    recall: float
    """Share of those asked for that play."""
    f1: float
    """Harmonic mean of both."""


def _sounding_bars(
    start: np.ndarray, duration: np.ndarray, bar_beats: float, bars: int
) -> np.ndarray:
    """In which bars notes sound, bool [bar]."""
    first = np.clip(np.floor(start / bar_beats + 1e-6), 0, bars - 1).astype(np.int64)
    end = np.maximum(start + duration - LEAST_SOUND_BEATS, start)
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
            heard = _sounding_bars(notes.start_beats, notes.duration_beats, bar_beats, bars)
            playing[name] = playing.get(name, np.zeros(bars, dtype=bool)) | heard
    return {name: float(heard.mean()) for name, heard in playing.items()}


def program_shares(score: Score, bar_beats: float = 4.0) -> dict[int, float]:
    """Share of the bars (from beat 0 to the last onset) in which each program plays.

    Programs are those of General MIDI, 0-127; every drum kit is `DRUMS`.
    """
    names: list[int | str] = [DRUMS if t.is_drum else t.program for t in score.tracks]
    return {int(name): share for name, share in _shares(score, names, bar_beats).items()}


def family_shares(score: Score, bar_beats: float = 4.0) -> dict[str, float]:
    """Share of the bars in which each of `FAMILIES` plays; those that never do are left out."""
    names: list[int | str] = [program_family(t.program, t.is_drum) for t in score.tracks]
    return {str(name): share for name, share in _shares(score, names, bar_beats).items()}


def playing_programs(score: Score, bar_beats: float = 4.0) -> tuple[int, ...]:
    """Programs that play in a tenth of the bars or more, ascending; `DRUMS` for kits."""
    shares = program_shares(score, bar_beats)
    return tuple(sorted(name for name, share in shares.items() if share >= PRESENT_SHARE))


def playing_families(score: Score, bar_beats: float = 4.0) -> tuple[str, ...]:
    """Families that play in a tenth of the bars or more, those in most bars first."""
    shares = family_shares(score, bar_beats)
    present = [name for name, share in shares.items() if share >= PRESENT_SHARE]
    return tuple(sorted(present, key=lambda name: (-shares[name], name)))


def match_instruments(
    asked: Collection[int] | Collection[str], playing: Collection[int] | Collection[str]
) -> InstrumentMatch:
    """Precision, recall and F1 of two sets of programs or of families.

    All are 0 where nothing plays. Raises `ValueError` where nothing was asked for.
    """
    wanted, heard = set(asked), set(playing)
    if not wanted:
        raise ValueError("no instrument was asked for, so none can be missing: name one or more")
    both = len(wanted & heard)
    if not both:
        return InstrumentMatch(precision=0.0, recall=0.0, f1=0.0)
    return InstrumentMatch(
        precision=both / len(heard),
        recall=both / len(wanted),
        f1=2 * both / (len(wanted) + len(heard)),
    )
