"""Selection of the excerpt of a score that becomes a clip.

Input: a `Score`. Output: a shorter `Score` that begins at a bar line, and the start of the clip in
it. Cutting first makes all later steps fast, and tempo and metre those of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.data.render.expressive_performance import sample_speed
from melisma.data.render.orchestration import select_notes
from melisma.symbolic.beats import beat_grid
from melisma.values import Metre, Score, TempoMap

ATTEMPTS = 10
"""Excerpts tried before the one with the most onsets is taken."""
MIN_ONSETS_HZ = 0.8
"""An excerpt with fewer onsets per second is rejected."""
MAX_REST_SECONDS = 2.2
"""An excerpt with a longer gap between onsets is rejected."""
AT_BAR_SHARE = 0.5
"""Probability that a clip begins just before a bar line; otherwise anywhere in the bar."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """An excerpt of a score."""

    score: Score
    """Begins at a bar line; its beat 0 is `first_beat` of the whole score."""
    first_beat: float
    clip_beat: float
    """Start of the clip, in beats of `score`."""
    speed: float
    """Factor on the tempo."""


def choose_window(
    score: Score, seconds: float, rng: np.random.Generator, min_speed: float, max_speed: float
) -> Window:
    """Choose a random excerpt with enough notes, and a tempo factor.

    A score shorter than the clip is first repeated by whole bars.

    Args:
        score: The whole score, with at least one note.
        seconds: Length of the clip.
        rng: Random generator.
        min_speed: Lowest factor on the tempo.
        max_speed: Highest factor on the tempo.

    Returns:
        The excerpt; it lasts at least `seconds` from `clip_beat` on.

    Raises:
        MelismaError: If the score has no notes.
    """
    score = _repeat_to_length(score, seconds * max_speed + 4.0)
    bars = beat_grid(score).bars
    bars = bars if len(bars) else np.zeros(1)
    onsets = np.sort(np.concatenate([track.notes.start_beats for track in score.tracks]))
    onset_seconds = np.unique(np.round(score.tempo.seconds(onsets), 2))
    bar_seconds = score.tempo.seconds(bars)
    last = onset_seconds[-1] + 1.5 - seconds
    candidates = np.flatnonzero(bar_seconds <= max(last, bar_seconds[0]))
    best, most_onsets = int(candidates[0]), -1
    for _ in range(ATTEMPTS):
        bar = int(rng.choice(candidates))
        begin = bar_seconds[bar]
        inside = onset_seconds[(onset_seconds >= begin) & (onset_seconds < begin + seconds)]
        edges = np.concatenate([[begin], inside, [begin + seconds]])
        if len(inside) > most_onsets:
            best, most_onsets = bar, len(inside)
        if len(inside) >= MIN_ONSETS_HZ * seconds and np.diff(edges).max() < MAX_REST_SECONDS:
            best = bar
            break
    excerpt = _cut_seconds(score, bars, bar_seconds, best, seconds)
    speed = sample_speed(excerpt, rng, min_speed, max_speed)
    first = max(best - 1, 0)
    bar_beats = float(np.median(np.diff(bars))) if len(bars) > 1 else 4.0
    at_bar = rng.random() < AT_BAR_SHARE
    offset = -float(rng.uniform(0.02, 0.1)) if at_bar else float(rng.uniform(0, bar_beats))
    clip_beat = max(float(bars[best] - bars[first]) + offset, 0.0)
    start_seconds = float(score.tempo.seconds(np.array(bars[first] + clip_beat)))
    stop = float(score.tempo.position_beats(np.array(start_seconds + seconds * speed * 1.1 + 0.5)))
    cut = cut_score(score, float(bars[first]), stop + bar_beats)
    return Window(score=cut, first_beat=float(bars[first]), clip_beat=clip_beat, speed=speed)


def _cut_seconds(
    score: Score, bars: np.ndarray, bar_seconds: np.ndarray, bar: int, seconds: float
) -> Score:
    stop = float(score.tempo.position_beats(np.array(bar_seconds[bar] + seconds)))
    return cut_score(score, float(bars[bar]), stop)


def correct_downbeats(score: Score) -> Score:
    """Move the bar lines of a score to its downbeats.

    File conversions lose pickups: all bar lines of a piece that begins with an upbeat are then too
    early. If a score has a single metre, and long and low notes clearly fall on another position
    than its bar lines (1.8 times the weight), a short first bar is added. Other scores are returned
    unchanged.
    """
    metre = score.metres[0]
    if len(score.metres) > 1 or metre.denominator not in (2, 4, 8):
        return score
    unit = 1.5 if metre.numerator in (6, 9, 12) and metre.denominator == 8 else 0.5
    positions = round(metre.bar_beats / unit)
    if positions < 2:
        return score
    weight = np.zeros(positions)
    for track in score.tracks:
        notes = track.notes
        position = (notes.start_beats % metre.bar_beats) / unit
        on_grid = np.abs(position - np.round(position)) < 0.08
        weights = np.minimum(notes.duration_beats, metre.bar_beats) * np.where(
            notes.pitch < 55, 2, 1
        )
        np.add.at(weight, np.round(position[on_grid]).astype(int) % positions, weights[on_grid])
    best = int(weight.argmax())
    if weight[best] < 1.8 * weight[0] or weight[best] < 0.4 * weight.sum():
        return score
    return replace(score, metres=(metre, replace(metre, beat=best * unit)))


def cut_score(score: Score, first_beat: float, stop_beat: float) -> Score:
    """Cut an excerpt out of a score, with its tempo and metres.

    Args:
        score: The whole score.
        first_beat: Beat at which the excerpt begins; its beat 0.
        stop_beat: Beat before which it ends.

    Returns:
        The notes that sound in [first_beat, stop_beat). Notes held from before begin at 0; notes
        that last beyond the end keep their length. Tracks without notes are dropped.
    """
    tracks = []
    for track in score.tracks:
        notes = track.notes
        end = notes.start_beats + notes.duration_beats
        inside = select_notes(notes, (notes.start_beats < stop_beat) & (end > first_beat + 1e-6))
        start = np.maximum(inside.start_beats - first_beat, 0.0)
        until = inside.start_beats + inside.duration_beats - first_beat
        order = np.lexsort((inside.pitch, start))
        moved = replace(inside, start_beats=start, duration_beats=np.maximum(until - start, 1e-3))
        tracks.append(replace(track, notes=select_notes(moved, order)))
    active = np.searchsorted(score.tempo.beats, first_beat, side="right") - 1
    within = slice(active, max(int(np.searchsorted(score.tempo.beats, stop_beat)), active + 1))
    tempo = TempoMap(
        beats=np.maximum(score.tempo.beats[within] - first_beat, 0.0), bpm=score.tempo.bpm[within]
    )
    return replace(
        score,
        tracks=tuple(track for track in tracks if len(track.notes)),
        tempo=tempo,
        metres=_cut_metres(score.metres, first_beat, stop_beat),
    )


def _cut_metres(metres: tuple[Metre, ...], first: float, stop: float) -> tuple[Metre, ...]:
    before = [metre for metre in metres if metre.beat <= first + 1e-6] or [metres[0]]
    after = [metre for metre in metres if first + 1e-6 < metre.beat < stop]
    return tuple(
        replace(metre, beat=max(metre.beat - first, 0.0)) for metre in [before[-1], *after]
    )


def _repeat_to_length(score: Score, seconds: float) -> Score:
    """Repeat a score by whole bars until it lasts `seconds`."""
    length = score.seconds
    if length >= seconds or length <= 0:
        return score
    bar = max(score.metres[0].bar_beats, 0.25)
    period = max(np.ceil((score.end_beats - 0.02) / bar), 1.0) * bar
    repetitions = min(int(np.ceil(seconds / max(length, 0.5))), 64)
    tracks = []
    for track in score.tracks:
        notes = track.notes
        offsets = np.repeat(np.arange(repetitions), len(notes)) * period
        tiled = replace(
            notes,
            start_beats=np.tile(notes.start_beats, repetitions) + offsets,
            duration_beats=np.tile(notes.duration_beats, repetitions),
            pitch=np.tile(notes.pitch, repetitions),
            velocity=np.tile(notes.velocity, repetitions),
        )
        tracks.append(
            replace(track, notes=select_notes(tiled, np.lexsort((tiled.pitch, tiled.start_beats))))
        )
    return replace(score, tracks=tuple(tracks))
