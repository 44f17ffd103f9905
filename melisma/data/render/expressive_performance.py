"""From notation to a performance: tempo, transposition, human timing and dynamics.

Enters: a `Score` (beats) and a numpy Generator. Leaves: a `Performance` (seconds). Files typeset
without dynamics or rubato get both; files played by people keep theirs. Timing follows what studies
of expressive performance report: deviations are correlated from note to note, phrases rise and
fall, strong beats are stressed (Widmer & Goebl, Computational Models of Expressive Music
Performance, JNMR 2004; Friberg et al., Overview of the KTH rule system, 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from melisma.data.render.orchestration import Casting, orchestrate
from melisma.symbolic.beats import BeatGrid, beat_grid, felt_bpm
from melisma.symbolic.performance import (
    Part,
    Performance,
    TimeMap,
    as_part,
    tempo_changes,
    time_map,
)
from melisma.values import Notes, Score, Track

FELT_TEMPO_BPM = (50.0, 200.0)
"""The felt tempo stays within these, beats a minute."""
FLAT_LEVELS = 6
"""Fewer distinct velocities than this: the file has no dynamics of its own (chosen)."""
FASTEST_ONSETS_HZ = 14.0
"""Tempo augmentation makes no part faster than this, onsets a second (chosen)."""


@dataclass(frozen=True, kw_only=True)
class Playing:
    """How a score is played."""

    casting: Casting | None = field(default_factory=Casting)
    """How instruments are drawn; None keeps those of the score."""
    lead_track: int | None = None
    """The leading track where it is known."""
    transpose: bool = True
    """Whether to move to a random tonality, -5 to +6 semitones."""
    human: bool = True
    """Whether flat files get human timing and dynamics."""
    rubato: bool = True
    """Whether steady files may breathe in tempo."""


def draw_speed(
    score: Score, rng: np.random.Generator, narrowest: float = 0.7, widest: float = 1.45
) -> float:
    """A factor on the tempo (above 1 is faster) that spreads felt tempi over 50-200 bpm.

    A target is drawn evenly in log tempo; where it lies out of reach, the factor is drawn within
    reach. No part becomes faster than 14 onsets a second.
    """
    felt = felt_bpm(score)
    fastest = max((_onset_rate(track, score) for track in score.tracks), default=1.0)
    low = max(narrowest, FELT_TEMPO_BPM[0] / felt)
    high = min(widest, FELT_TEMPO_BPM[1] / felt, max(FASTEST_ONSETS_HZ / fastest, 1.0))
    if high < low:  # out of bounds as written: the nearest tempo that is in
        return float(np.clip(high if felt > 100 else low, 0.5, 2.0))
    target = math.exp(rng.uniform(*np.log(FELT_TEMPO_BPM))) / felt
    if not low <= target <= high:
        target = math.exp(rng.uniform(math.log(low), math.log(high)))
    return target


def _onset_rate(track: Track, score: Score) -> float:
    """Onsets a second where a part is busy (the 90th percentile)."""
    onsets = np.unique(score.tempo.seconds(track.notes.start_beats))
    gaps = np.diff(onsets)
    gaps = gaps[gaps > 0.045]  # rolled chords and flams are one onset
    return 1.0 / float(np.quantile(gaps, 0.1)) if len(gaps) > 4 else 1.0


def perform(
    score: Score, rng: np.random.Generator, playing: Playing | None = None, speed: float = 1.0
) -> Performance:
    """The score as played, `speed` times as fast as written.

    Raises `ValueError` where the score holds no note.
    """
    playing = playing or Playing()
    if not any(len(track.notes) for track in score.tracks):
        raise ValueError("the score holds no note: there is nothing to perform")
    if playing.casting is not None and playing.lead_track is None:
        score, lead = orchestrate(score, rng, playing.casting)
    else:
        lead = -1 if playing.lead_track is None else playing.lead_track
    grid = beat_grid(score)
    clock = _time_map(score, rng, speed, playing.rubato)
    shift = int(rng.integers(-5, 7)) if playing.transpose else 0
    manner = _draw_manner(rng)
    parts = []
    for index, track in enumerate(score.tracks):
        if not len(track.notes):
            continue
        leads = index == lead
        notes = track.notes
        if playing.human and _is_flat(notes):
            notes = _shape(notes, grid, rng, manner, track.is_drum)
        parts.append(_play(replace(track, notes=notes), clock, rng, playing, shift, leads))
    return Performance(
        parts=tuple(parts),
        beat_seconds=clock.at(grid.beats),
        bar_seconds=clock.at(grid.bars),
        metre=grid.metre,
    )


def _time_map(score: Score, rng: np.random.Generator, speed: float, rubato: bool) -> TimeMap:
    """Beats -> seconds, with rubato where the file is steady."""
    plain = time_map(score, speed)
    drums = any(track.is_drum for track in score.tracks)
    steady = tempo_changes(score) < 8
    if not rubato or not steady or drums:
        return plain
    steps = np.diff(plain.seconds) * _breath(plain.beats[:-1], rng)
    return TimeMap(beats=plain.beats, seconds=np.concatenate([[0.0], np.cumsum(steps)]))


def _breath(beats: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Factors on the length of each step [step]: phrase-wide swells and a little drift."""
    depth = float(rng.choice((0.0, 0.012, 0.025, 0.05), p=(0.35, 0.3, 0.25, 0.1)))
    period = float(rng.choice((8.0, 12.0, 16.0, 32.0)))
    phase = rng.uniform(0, 2 * np.pi)
    swell = np.cos(2 * np.pi * beats / period + phase)
    drift = _wander(rng, len(beats), 0.3, 0.95)
    return np.exp(depth * (swell + 0.4 * drift))


def _wander(rng: np.random.Generator, count: int, step: float, memory: float) -> np.ndarray:
    """A random walk that returns to 0, float64 [count]: each value keeps `memory` of the last."""
    drawn = step * rng.standard_normal(count)
    from scipy.signal import lfilter  # whose import takes half a second

    return cast(np.ndarray, lfilter([1.0], [1.0, -memory], drawn))


@dataclass(frozen=True, kw_only=True)
class _Manner:
    """How one performance is shaped."""

    level: float
    """Mean velocity."""
    arc: float
    """Velocity between the middle and the top of a phrase."""
    accent: float
    """Velocity that a downbeat adds."""
    phrase_beats: float
    noise: float
    touch: float
    """Share of the written duration that sounds."""


def _draw_manner(rng: np.random.Generator) -> _Manner:
    return _Manner(
        level=float(rng.uniform(48, 100)),
        arc=float(rng.uniform(3, 13)),
        accent=float(rng.uniform(2, 10)),
        phrase_beats=float(rng.choice((8.0, 12.0, 16.0))),
        noise=float(rng.uniform(2, 6)),
        touch=float(rng.choice((0.55, 0.8, 0.95, 1.0, 1.03), p=(0.1, 0.2, 0.3, 0.3, 0.1))),
    )


def shape_flat_tracks(score: Score, rng: np.random.Generator) -> Score:
    """The score with dynamics where its tracks have none of their own: phrases, accents, contour.

    Durations stay as written, and nothing wavers: a model of notes would learn noise for music.
    """
    grid, manner = beat_grid(score), replace(_draw_manner(rng), noise=0.0)
    tracks = []
    for track in score.tracks:
        notes = track.notes
        if len(notes) and _is_flat(notes):
            shaped = _shape(notes, grid, rng, manner, track.is_drum)
            notes = replace(notes, velocity=shaped.velocity)
        tracks.append(replace(track, notes=notes))
    return replace(score, tracks=tuple(tracks))


def _is_flat(notes: Notes) -> bool:
    return len(np.unique(notes.velocity)) < FLAT_LEVELS


def _shape(
    notes: Notes, grid: BeatGrid, rng: np.random.Generator, manner: _Manner, drums: bool
) -> Notes:
    """Notes with dynamics: phrases, metre, contour and noise."""
    start = notes.start_beats
    written = notes.velocity - float(np.mean(notes.velocity))
    phrase = np.sin(np.pi * ((start / manner.phrase_beats) % 1.0)) - 0.6
    accent = np.where(
        _falls_on(start, grid.bars), 1.0, np.where(_falls_on(start, grid.beats), 0.4, -0.3)
    )
    contour = 0.0 if drums else 0.25 * (notes.pitch - float(np.mean(notes.pitch)))
    noise = _wander(rng, len(start), 0.7, 0.6)
    velocity = (
        manner.level
        + written
        + (0.3 if drums else 1.0) * manner.arc * phrase
        + manner.accent * accent
        + contour
        + manner.noise * noise
    )
    touch = 1.0 if drums else manner.touch
    return replace(
        notes,
        velocity=np.clip(np.round(velocity), 12, 124).astype(np.int64),
        duration_beats=notes.duration_beats * touch,
    )


def _falls_on(positions: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Whether each position lies within 1/16 beat of a point of the grid, bool [note]."""
    if not len(grid):
        return np.zeros(len(positions), dtype=bool)
    nearest = np.clip(np.searchsorted(grid, positions + 0.0625) - 1, 0, len(grid) - 1)
    return np.abs(positions - grid[nearest]) <= 0.0625


def _play(
    track: Track,
    clock: TimeMap,
    rng: np.random.Generator,
    playing: Playing,
    shift: int,
    leads: bool,
) -> Part:
    notes = track.notes
    start = clock.at(notes.start_beats)
    end = clock.at(notes.start_beats + notes.duration_beats)
    on_grid = np.mean(np.abs(notes.start_beats * 24 - np.round(notes.start_beats * 24)) < 0.02)
    if playing.human and on_grid > 0.8:
        spread = float(rng.uniform(0.002, 0.006 if track.is_drum else 0.011))
        wander = _wander(rng, len(start), 0.5, 0.8)
        offset = spread * np.clip(wander, -2.5, 2.5) + rng.normal(0, 0.002, len(start))
        offset -= 0.006 if leads else 0.0  # melody leads a little (Goebl 2001)
        start, end = start + offset, end + offset
    return as_part(track, start, end, shift=shift, leads=leads)
