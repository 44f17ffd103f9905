"""Features of a window of notes by which `tradition_classifier.py` recognises who wrote it.

They see pitches relative to the tonic (`analysis.score.key`), onsets within the beat, and texture.
They do not see programs, tracks, drums, velocities, tempo, bar lines or written durations, because
these would identify a corpus by how its files were converted.

Input: a `Score`. Output: windows of it, and for each a vector float32 [`WIDTH`].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from melisma.analysis.score.key import measure_score_tonality, pitched_notes
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.attributes import TONALITIES

WINDOW_BEATS = 64.0
"""Length of a window in quarter notes: 16 bars of 4/4, 32 of 2/4."""
WIDTH = 2067
"""Length of a vector of features."""
FEWEST_NOTES = 40
"""Windows with fewer notes are left out."""
TICKS_A_BEAT = 12
WAITS = np.array([1, 2, 3, 4, 6, 8, 9, 12, 18, 24, 36, 48])
"""Classes of the time between onsets, in twelfths of a quarter note."""
LAGS = np.array([6, 12, 18, 24, 36, 48, 72, 96, 192])
"""Lags of the autocorrelation of onsets, in twelfths of a quarter note."""
_BORDERS = np.array([-4.5, -2.5, -0.5, 0.5, 2.5, 4.5])
"""Borders of classes of intervals in semitones: leap, third, step down, none, step, third, leap
up."""
_MOVES = len(_BORDERS) + 1
_MOST_TOGETHER = 7


@dataclass(frozen=True, kw_only=True)
class _OnsetWindow:
    """A window as onsets; pitches are absolute, the tonic is given beside them."""

    tick: np.ndarray
    """Onset of each note, int64 [note], ascending."""
    pitch: np.ndarray
    """MIDI pitch, int64 [note], ascending within an onset."""
    moments: np.ndarray
    """Distinct onsets, int64 [onset]."""
    top: np.ndarray
    """Highest pitch of each onset, int64 [onset]."""
    low: np.ndarray
    """Lowest pitch of each onset, int64 [onset]."""
    group: np.ndarray
    """Onset of each note, int64 [note]."""
    tonic: int
    minor: bool


def score_windows(score: Score, window_beats: float = WINDOW_BEATS) -> list[Score]:
    """Consecutive windows of a score that hold `FEWEST_NOTES` pitched notes or more.

    Args:
        score: A piece; one shorter than a window and a half is one window.
        window_beats: Length of a window in quarter notes.

    Returns:
        Windows with one track each, whose first beat is beat 0.
    """
    start, duration, pitch = pitched_notes(score)
    if not len(start):
        return []
    span = float(start.max() - start.min()) + 1e-6
    count = max(int(span // window_beats), 1)
    edges = start.min() + np.arange(count + 1) * window_beats
    edges[-1] = edges[-1] if span > 1.5 * window_beats else np.inf
    windows = [
        _cut(start, duration, pitch, first, last) for first, last in pairwise(edges.tolist())
    ]
    return [window for window in windows if window is not None]


def _cut(
    start: np.ndarray, duration: np.ndarray, pitch: np.ndarray, first: float, last: float
) -> Score | None:
    inside = np.flatnonzero((start >= first - 1e-6) & (start < last - 1e-6))
    if len(inside) < FEWEST_NOTES:
        return None
    inside = inside[np.lexsort((pitch[inside], start[inside]))]
    # Whole beats are subtracted: onsets keep their position within the beat.
    notes = Notes(
        start_beats=start[inside] - np.floor(first),
        duration_beats=duration[inside],
        pitch=pitch[inside],
        velocity=np.full(len(inside), 64),
    )
    tempo = TempoMap(beats=np.zeros(1), bpm=np.full(1, 60.0))
    return Score(tracks=(Track(notes=notes, program=0, is_drum=False),), tempo=tempo)


def _window(score: Score) -> _OnsetWindow | None:
    start, _, pitch = pitched_notes(score)
    tick = np.round(start * TICKS_A_BEAT).astype(np.int64)
    both = np.unique(tick * 128 + pitch)  # doublings in unison are one note
    tick, pitch = both // 128, both % 128
    moments, group = np.unique(tick, return_inverse=True)
    tonality = measure_score_tonality(score).tonality
    if tonality is None or len(moments) < 4:
        return None
    first = np.append(True, np.diff(group) > 0)
    last = np.append(first[1:], True)
    index = TONALITIES.index(tonality)
    return _OnsetWindow(
        tick=tick,
        pitch=pitch,
        moments=moments,
        top=pitch[last],
        low=pitch[first],
        group=group,
        tonic=index % 12,
        minor=index >= 12,
    )


def _share(counts: np.ndarray) -> np.ndarray:
    """Square roots of relative frequencies (Hellinger), flat; zeros where nothing was counted."""
    flat = np.asarray(counts, dtype=np.float64).ravel()
    return np.sqrt(flat / max(float(flat.sum()), 1e-9))


def _count(index: np.ndarray, size: int) -> np.ndarray:
    return _share(np.bincount(np.clip(index, 0, size - 1), minlength=size))


def _pairs(left: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    return _share(np.bincount(left * size + right, minlength=size * size))


def _melody(line: np.ndarray, wait: np.ndarray, tonic: int) -> list[np.ndarray]:
    """Intervals, their classes in pairs and threes, degrees, rhythm and transitions of one voice
    [onset]."""
    interval = np.diff(line)
    move = np.digitize(interval, _BORDERS)
    degree = (line - tonic) % 12
    rhythm = np.argmin(np.abs(wait[:, None] - WAITS), axis=1)
    threes = (move[:-2] * _MOVES + move[1:-1]) * _MOVES + move[2:]
    return [
        _count(interval + 13, 27),
        _pairs(move[:-1], move[1:], _MOVES),
        _share(np.bincount(threes, minlength=_MOVES**3)),
        _count(degree, 12),
        _pairs(degree[:-1], degree[1:], 12),
        _count(rhythm, len(WAITS)),
        _pairs(rhythm[:-1], rhythm[1:], len(WAITS)),
    ]


def _voice(window: _OnsetWindow, pitch: np.ndarray) -> list[np.ndarray]:
    """Features of the highest or lowest voice, from its onsets on its side of the median pitch."""
    middle = float(np.median(window.pitch))
    own = pitch >= middle if pitch is window.top else pitch <= middle
    moments, line = window.moments[own], pitch[own]
    return _melody(line, np.diff(moments), window.tonic)


def _chords(window: _OnsetWindow) -> list[np.ndarray]:
    """Notes of one onset: intervals above the lowest, their number, degrees of the bass and of
    all."""
    above = window.pitch - window.low[window.group]
    together = np.bincount(window.group)
    degree = (window.pitch - window.tonic) % 12
    bass = (window.low - window.tonic) % 12
    struck = np.zeros((len(window.moments), 12))
    struck[window.group, degree] = 1.0
    rich = together >= 3
    counted = rich[window.group]
    quality = np.bincount(above[counted] % 12, minlength=12)
    by_bass = np.zeros((12, 12))
    np.add.at(by_bass, (bass[window.group][counted], degree[counted]), 1.0)
    return [
        _count(above, 40),
        _count(together - 1, _MOST_TOGETHER + 1),
        _count(degree, 12),
        _share(quality),
        _share(by_bass),
        _share(struck.T @ struck),
    ]


def _rhythm(window: _OnsetWindow) -> list[np.ndarray]:
    """Positions of onsets in the beat, times between them, and their autocorrelation."""
    waits = np.argmin(np.abs(np.diff(window.moments)[:, None] - WAITS), axis=1)
    busy = np.bincount(window.moments // TICKS_A_BEAT - window.moments[0] // TICKS_A_BEAT)
    length = int(window.moments[-1] - window.moments[0]) + 1
    train = np.bincount(window.moments - window.moments[0], minlength=length).astype(np.float64)
    train -= train.mean()
    power = float((train**2).sum()) + 1e-9
    again = [float((train[lag:] * train[:-lag]).sum()) / power for lag in LAGS if lag < length]
    return [
        _count(window.moments % TICKS_A_BEAT, TICKS_A_BEAT),
        _count(window.tick % TICKS_A_BEAT, TICKS_A_BEAT),
        _count(waits, len(WAITS)),
        _pairs(waits[:-1], waits[1:], len(WAITS)),
        _count(busy, 9),
        np.array(again + [0.0] * (len(LAGS) - len(again))),
    ]


def _texture(window: _OnsetWindow) -> list[np.ndarray]:
    """Register, span, contrary motion, repetition: plain numbers, and histograms of registers."""
    top, low = window.top.astype(np.float64), window.low.astype(np.float64)
    up, down = np.sign(np.diff(top)), np.sign(np.diff(low))
    motion = (up + 1) * 3 + down + 1
    beats = (window.moments[-1] - window.moments[0]) / TICKS_A_BEAT + 1.0
    numbers = [
        (top.mean() - 70.0) / 10.0,
        (low.mean() - 50.0) / 10.0,
        top.std() / 10.0,
        low.std() / 10.0,
        (top - low).mean() / 12.0,
        np.log2(len(window.pitch) / beats),
        np.log2(len(window.moments) / beats),
        len(np.unique(window.pitch)) / 40.0,
        float(window.minor),
        float(np.mean(np.diff(top) == 0)),
    ]
    return [
        np.array(numbers),
        _count(motion.astype(np.int64), 9),
        _count((window.pitch - 24) // 6, 14),
        _count((window.top - 24) // 6, 14),
    ]


def window_features(window: Score) -> np.ndarray | None:
    """Features of one window, float32 [`WIDTH`]; None for fewer than four onsets or no clear key.

    Args:
        window: One of `score_windows`.
    """
    onsets = _window(window)
    if onsets is None:
        return None
    parts = [
        *_voice(onsets, onsets.top),
        *_voice(onsets, onsets.low),
        *_chords(onsets),
        *_rhythm(onsets),
        *_texture(onsets),
    ]
    return np.concatenate(parts).astype(np.float32)
