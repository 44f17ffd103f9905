"""Expressive performance of scores: tempo, transposition, human timing and dynamics.

Inputs: a `Score` (in beats) and a random generator. Output: a `Performance` (in seconds). Typeset
files without dynamics or rubato get both; recorded performances keep theirs. Timing and dynamics
follow studies of expressive performance: deviations are correlated from note to note, phrases rise
and fall, strong beats are accented (Widmer & Goebl, Computational Models of Expressive Music
Performance, JNMR 2004; Friberg et al., Overview of the KTH rule system, 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from melisma.data.render.orchestration import OrchestrationSettings, orchestrate
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
from melisma.values.errors import MelismaError

FELT_TEMPO_BPM = (50.0, 200.0)
"""Limits of the felt tempo, beats per minute."""
MIN_VELOCITY_LEVELS = 6
"""A track with fewer distinct velocities has no dynamics of its own (chosen)."""
MAX_ONSETS_HZ = 14.0
"""Tempo augmentation makes no part faster than this, in onsets per second (chosen)."""


@dataclass(frozen=True, kw_only=True)
class PerformanceSettings:
    """How a score is performed."""

    orchestration: OrchestrationSettings | None = field(default_factory=OrchestrationSettings)
    """How instruments are chosen; None keeps those of the score."""
    lead_track: int | None = None
    """Index of the lead track, if known."""
    transpose: bool = True
    """Whether to transpose to a random key, by -5 to +6 semitones."""
    humanize: bool = True
    """Whether quantised files get human timing, and files without dynamics dynamics."""
    rubato: bool = True
    """Whether files of constant tempo may get rubato."""


def sample_speed(
    score: Score, rng: np.random.Generator, min_speed: float = 0.7, max_speed: float = 1.45
) -> float:
    """Sample a tempo factor such that felt tempi are spread over 50-200 bpm.

    A target tempo is sampled log-uniformly; if the limits exclude it, the factor is sampled
    log-uniformly within the limits. No part becomes faster than 14 onsets per second.

    Args:
        score: The score.
        rng: Random generator.
        min_speed: Lowest factor.
        max_speed: Highest factor.

    Returns:
        The factor; above 1 is faster than notated.
    """
    felt = felt_bpm(score)
    max_rate = max((_onset_rate(track, score) for track in score.tracks), default=1.0)
    low = max(min_speed, FELT_TEMPO_BPM[0] / felt)
    high = min(max_speed, FELT_TEMPO_BPM[1] / felt, max(MAX_ONSETS_HZ / max_rate, 1.0))
    if high < low:  # out of bounds as notated: the nearest allowed tempo
        return float(np.clip(high if felt > 100 else low, 0.5, 2.0))
    target = math.exp(rng.uniform(*np.log(FELT_TEMPO_BPM))) / felt
    if not low <= target <= high:
        target = math.exp(rng.uniform(math.log(low), math.log(high)))
    return target


def _onset_rate(track: Track, score: Score) -> float:
    """Onsets per second in the busy passages of a part (90th percentile)."""
    onsets = np.unique(score.tempo.seconds(track.notes.start_beats))
    gaps = np.diff(onsets)
    gaps = gaps[gaps > 0.045]  # rolled chords and flams are one onset
    return 1.0 / float(np.quantile(gaps, 0.1)) if len(gaps) > 4 else 1.0


def perform(
    score: Score,
    rng: np.random.Generator,
    settings: PerformanceSettings | None = None,
    speed: float = 1.0,
) -> Performance:
    """Perform a score.

    Args:
        score: The score.
        rng: Random generator.
        settings: How to perform it; None: the defaults.
        speed: Factor on the notated tempo.

    Returns:
        The performance, in seconds from beat 0.

    Raises:
        MelismaError: If the score has no notes.
    """
    settings = settings or PerformanceSettings()
    if not any(len(track.notes) for track in score.tracks):
        raise MelismaError("the score has no notes: there is nothing to perform")
    if settings.orchestration is not None and settings.lead_track is None:
        score, lead = orchestrate(score, rng, settings.orchestration)
    else:
        lead = -1 if settings.lead_track is None else settings.lead_track
    grid = beat_grid(score)
    clock = _time_map(score, rng, speed, settings.rubato)
    shift = int(rng.integers(-5, 7)) if settings.transpose else 0
    expression = _sample_expression(rng)
    parts = []
    for index, track in enumerate(score.tracks):
        if not len(track.notes):
            continue
        leads = index == lead
        notes = track.notes
        if settings.humanize and _is_flat(notes):
            notes = _add_dynamics(notes, grid, rng, expression, track.is_drum)
        parts.append(
            _perform_track(replace(track, notes=notes), clock, rng, settings, shift, leads)
        )
    return Performance(
        parts=tuple(parts),
        beat_seconds=clock.at(grid.beats),
        bar_seconds=clock.at(grid.bars),
        metre=grid.metre,
    )


def _time_map(score: Score, rng: np.random.Generator, speed: float, rubato: bool) -> TimeMap:
    """Map from beats to seconds, with rubato if the tempo is constant and no drums play."""
    base = time_map(score, speed)
    drums = any(track.is_drum for track in score.tracks)
    steady = tempo_changes(score) < 8
    if not rubato or not steady or drums:
        return base
    steps = np.diff(base.seconds) * _rubato(base.beats[:-1], rng)
    return TimeMap(beats=base.beats, seconds=np.concatenate([[0.0], np.cumsum(steps)]))


def _rubato(beats: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Factors on the duration of each step, float64 [step]: phrase-long waves and slight drift."""
    depth = float(rng.choice((0.0, 0.012, 0.025, 0.05), p=(0.35, 0.3, 0.25, 0.1)))
    period = float(rng.choice((8.0, 12.0, 16.0, 32.0)))
    phase = rng.uniform(0, 2 * np.pi)
    swell = np.cos(2 * np.pi * beats / period + phase)
    drift = _random_walk(rng, len(beats), 0.3, 0.95)
    return np.exp(depth * (swell + 0.4 * drift))


def _random_walk(rng: np.random.Generator, count: int, step: float, decay: float) -> np.ndarray:
    """First-order autoregressive process with coefficient `decay`, float64 [count]."""
    innovations = step * rng.standard_normal(count)
    from scipy.signal import lfilter  # its import takes half a second

    return cast(np.ndarray, lfilter([1.0], [1.0, -decay], innovations))


@dataclass(frozen=True, kw_only=True)
class _Expression:
    """Random parameters of one expressive performance."""

    level: float
    """Mean velocity."""
    arc: float
    """Velocity by which a phrase rises above its middle."""
    accent: float
    """Velocity added to a downbeat."""
    phrase_beats: float
    noise: float
    duration_factor: float
    """Factor on the notated duration."""


def _sample_expression(rng: np.random.Generator) -> _Expression:
    return _Expression(
        level=float(rng.uniform(48, 100)),
        arc=float(rng.uniform(3, 13)),
        accent=float(rng.uniform(2, 10)),
        phrase_beats=float(rng.choice((8.0, 12.0, 16.0))),
        noise=float(rng.uniform(2, 6)),
        duration_factor=float(
            rng.choice((0.55, 0.8, 0.95, 1.0, 1.03), p=(0.1, 0.2, 0.3, 0.3, 0.1))
        ),
    )


def shape_flat_tracks(score: Score, rng: np.random.Generator) -> Score:
    """Add dynamics (phrases, accents, contour) to tracks that have none.

    Durations are unchanged and no random deviations are added: a score model would learn the noise.
    """
    grid, expression = beat_grid(score), replace(_sample_expression(rng), noise=0.0)
    tracks = []
    for track in score.tracks:
        notes = track.notes
        if len(notes) and _is_flat(notes):
            shaped = _add_dynamics(notes, grid, rng, expression, track.is_drum)
            notes = replace(notes, velocity=shaped.velocity)
        tracks.append(replace(track, notes=notes))
    return replace(score, tracks=tuple(tracks))


def _is_flat(notes: Notes) -> bool:
    return len(np.unique(notes.velocity)) < MIN_VELOCITY_LEVELS


def _add_dynamics(
    notes: Notes, grid: BeatGrid, rng: np.random.Generator, expression: _Expression, drums: bool
) -> Notes:
    """Add dynamics from phrases, metre, pitch contour and noise; scale the durations."""
    start = notes.start_beats
    notated = notes.velocity - float(np.mean(notes.velocity))
    phrase = np.sin(np.pi * ((start / expression.phrase_beats) % 1.0)) - 0.6
    accent = np.where(
        _is_on_grid(start, grid.bars), 1.0, np.where(_is_on_grid(start, grid.beats), 0.4, -0.3)
    )
    contour = 0.0 if drums else 0.25 * (notes.pitch - float(np.mean(notes.pitch)))
    noise = _random_walk(rng, len(start), 0.7, 0.6)
    velocity = (
        expression.level
        + notated
        + (0.3 if drums else 1.0) * expression.arc * phrase
        + expression.accent * accent
        + contour
        + expression.noise * noise
    )
    duration_factor = 1.0 if drums else expression.duration_factor
    return replace(
        notes,
        velocity=np.clip(np.round(velocity), 12, 124).astype(np.int64),
        duration_beats=notes.duration_beats * duration_factor,
    )


def _is_on_grid(positions: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Whether each position is within 1/16 beat of a grid point, bool [note]."""
    if not len(grid):
        return np.zeros(len(positions), dtype=bool)
    nearest = np.clip(np.searchsorted(grid, positions + 0.0625) - 1, 0, len(grid) - 1)
    return np.abs(positions - grid[nearest]) <= 0.0625


def _perform_track(
    track: Track,
    clock: TimeMap,
    rng: np.random.Generator,
    settings: PerformanceSettings,
    shift: int,
    leads: bool,
) -> Part:
    notes = track.notes
    start = clock.at(notes.start_beats)
    end = clock.at(notes.start_beats + notes.duration_beats)
    on_grid = np.mean(np.abs(notes.start_beats * 24 - np.round(notes.start_beats * 24)) < 0.02)
    if settings.humanize and on_grid > 0.8:
        spread = float(rng.uniform(0.002, 0.006 if track.is_drum else 0.011))
        walk = _random_walk(rng, len(start), 0.5, 0.8)
        offset = spread * np.clip(walk, -2.5, 2.5) + rng.normal(0, 0.002, len(start))
        offset -= 0.006 if leads else 0.0  # the melody is slightly early (Goebl 2001)
        start, end = start + offset, end + offset
    return as_part(track, start, end, shift=shift, leads=leads)
