"""Which stretch of a score becomes a clip.

Enters: a `Score`. Leaves: a shorter `Score` that begins at a bar line, and where in it the clip
begins. Cutting first keeps every later step fast, and makes tempo and metre those of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from melisma.data.render.expressive_performance import draw_speed
from melisma.data.render.orchestration import take
from melisma.symbolic.beats import beat_grid
from melisma.values import Metre, Score, TempoMap

TRIES = 10
"""Stretches looked at before the fullest is taken."""
FEWEST_ONSETS_HZ = 0.8
"""A stretch with fewer onsets a second is looked past."""
LONGEST_REST_SECONDS = 2.2
"""A stretch with a longer gap between onsets is looked past."""
AT_BAR_SHARE = 0.5
"""Probability that a clip begins just before a bar line; otherwise anywhere."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of a score."""

    score: Score
    """From a bar line on; its beat 0 is `first_beat` of the whole."""
    first_beat: float
    clip_beat: float
    """Where the clip begins, in beats of `score`."""
    speed: float
    """Factor on the tempo."""


def choose_window(
    score: Score, seconds: float, rng: np.random.Generator, narrowest: float, widest: float
) -> Window:
    """A stretch with music in it that fills `seconds` at a tempo factor within the limits.

    A score shorter than the clip is repeated (by whole bars) first. Raises `ValueError` where the
    score holds no note.
    """
    score = _long_enough(score, seconds * widest + 4.0)
    bars = beat_grid(score).bars
    bars = bars if len(bars) else np.zeros(1)
    onsets = np.sort(np.concatenate([track.notes.start_beats for track in score.tracks]))
    onset_seconds = np.unique(np.round(score.tempo.seconds(onsets), 2))
    bar_seconds = score.tempo.seconds(bars)
    last = onset_seconds[-1] + 1.5 - seconds
    candidates = np.flatnonzero(bar_seconds <= max(last, bar_seconds[0]))
    best, most = int(candidates[0]), -1
    for _ in range(TRIES):
        bar = int(rng.choice(candidates))
        begin = bar_seconds[bar]
        inside = onset_seconds[(onset_seconds >= begin) & (onset_seconds < begin + seconds)]
        edges = np.concatenate([[begin], inside, [begin + seconds]])
        if len(inside) > most:
            best, most = bar, len(inside)
        if (
            len(inside) >= FEWEST_ONSETS_HZ * seconds
            and np.diff(edges).max() < LONGEST_REST_SECONDS
        ):
            best = bar
            break
    local = _cut_seconds(score, bars, bar_seconds, best, seconds)
    speed = draw_speed(local, rng, narrowest, widest)
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


def settle_downbeat(score: Score) -> Score:
    """The score with its bar lines where its music puts them.

    Conversions lose pickups: a piece that begins with an upbeat then has every bar line early.
    Where a score keeps one metre and long and low notes clearly fall elsewhere than on its bar
    lines (1.8 times the weight), a short first bar is added. Other scores return unchanged.
    """
    metre = score.metres[0]
    if len(score.metres) > 1 or metre.denominator not in (2, 4, 8):
        return score
    unit = 1.5 if metre.numerator in (6, 9, 12) and metre.denominator == 8 else 0.5
    places = round(metre.bar_beats / unit)
    if places < 2:
        return score
    weight = np.zeros(places)
    for track in score.tracks:
        notes = track.notes
        place = (notes.start_beats % metre.bar_beats) / unit
        on_grid = np.abs(place - np.round(place)) < 0.08
        heavy = np.minimum(notes.duration_beats, metre.bar_beats) * np.where(notes.pitch < 55, 2, 1)
        np.add.at(weight, np.round(place[on_grid]).astype(int) % places, heavy[on_grid])
    best = int(weight.argmax())
    if weight[best] < 1.8 * weight[0] or weight[best] < 0.4 * weight.sum():
        return score
    return replace(score, metres=(metre, replace(metre, beat=best * unit)))


def cut_score(score: Score, first_beat: float, stop_beat: float) -> Score:
    """The notes that sound in [first, stop), with beat 0 at `first_beat`; tempo and metres too.

    Notes held over from before begin at 0; notes that outlast the stretch keep their length.
    """
    tracks = []
    for track in score.tracks:
        notes = track.notes
        end = notes.start_beats + notes.duration_beats
        inside = take(notes, (notes.start_beats < stop_beat) & (end > first_beat + 1e-6))
        start = np.maximum(inside.start_beats - first_beat, 0.0)
        until = inside.start_beats + inside.duration_beats - first_beat
        order = np.lexsort((inside.pitch, start))
        moved = replace(inside, start_beats=start, duration_beats=np.maximum(until - start, 1e-3))
        tracks.append(replace(track, notes=take(moved, order)))
    held = np.searchsorted(score.tempo.beats, first_beat, side="right") - 1
    within = slice(held, max(int(np.searchsorted(score.tempo.beats, stop_beat)), held + 1))
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


def _long_enough(score: Score, seconds: float) -> Score:
    """The score, repeated by whole bars until it lasts `seconds`."""
    length = score.seconds
    if length >= seconds or length <= 0:
        return score
    bar = max(score.metres[0].bar_beats, 0.25)
    period = max(np.ceil((score.end_beats - 0.02) / bar), 1.0) * bar
    times = min(int(np.ceil(seconds / max(length, 0.5))), 64)
    tracks = []
    for track in score.tracks:
        notes = track.notes
        repeats = np.repeat(np.arange(times), len(notes)) * period
        tiled = replace(
            notes,
            start_beats=np.tile(notes.start_beats, times) + repeats,
            duration_beats=np.tile(notes.duration_beats, times),
            pitch=np.tile(notes.pitch, times),
            velocity=np.tile(notes.velocity, times),
        )
        tracks.append(
            replace(track, notes=take(tiled, np.lexsort((tiled.pitch, tiled.start_beats))))
        )
    return replace(score, tracks=tuple(tracks))
