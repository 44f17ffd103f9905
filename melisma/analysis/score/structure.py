"""How a score is built: harmony, groove, repetition and texture, as numbers.

They mean something only beside those of real music of the same kind: a good piece is neither all
repetition nor none. Pitch-class entropy and groove similarity are those of Wu and Yang, "The Jazz
Transformer on the front line" (2008.01307), section 4; scale consistency that of Mogren
(1611.09904), section 4.3, with minor scales added; the others are ours.

Enters: a `Score` and the length of its bars. Leaves: a `ScoreStructure`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.analysis.score.key import pitched_notes
from melisma.values import Score

PLACES = 64
"""Places of a bar that a groove tells apart (section 4.2 of the paper)."""
TWIN_SIMILARITY = 0.8
"""Two bars at least so alike are near twins (chosen: a few notes differ)."""
NGRAM = 4
"""Steps (interval and rhythm) of the melodies whose repetition is counted (chosen)."""
TICKS_A_BEAT = 12
"""Grid of rhythms: twelfths of a quarter hold sixteenths and triplets."""
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 8, 11))
"""Major, natural minor and harmonic minor from the tonic."""


@dataclass(frozen=True, kw_only=True)
class ScoreStructure:
    """Figures of one score; 0 where there is nothing to count."""

    pitch_entropy_1: float
    """Mean entropy of the pitch classes struck in a bar, bits (0 to 3.58)."""
    pitch_entropy_4: float
    """The same over four bars."""
    groove_similarity: float
    """Mean share of the 64 places of the bar at which two bars agree in striking or not; over all
    pairs of bars with notes."""
    twin_share: float
    """Share of the bars with notes that have a near twin elsewhere in the piece."""
    earlier_similarity: float
    """Mean over bars of the greatest similarity to an earlier bar, 0 to 1."""
    empty_share: float
    """Share of the bars in which nothing begins."""
    scale_consistency: float
    """Share of the notes within the scale that holds most of them."""
    polyphony: float
    """Mean number of pitched notes that sound together, where any does."""
    notes_a_bar: float
    """Notes that begin in a bar, drums included."""
    repetition: float
    """Share of the top line's four-step melodies that were heard before in the piece."""


def _columns(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Start in beats and pitch of all notes; drums lie 128 above their key, [note] each."""
    starts = [np.zeros(0), *(track.notes.start_beats for track in score.tracks)]
    pitches = [np.zeros(0), *(t.notes.pitch + 128 * t.is_drum for t in score.tracks)]
    return np.concatenate(starts), np.concatenate(pitches).astype(np.int64)


def _entropies(start: np.ndarray, pitch: np.ndarray, window_beats: float) -> float:
    """Mean entropy in bits of the pitch classes in each window that has any."""
    if not len(pitch):
        return 0.0
    window = np.floor(start / window_beats + 1e-6).astype(np.int64)
    counts = np.zeros((int(window.max()) + 1, 12))
    np.add.at(counts, (window, pitch % 12), 1.0)
    counts = counts[counts.any(axis=1)]
    share = counts / counts.sum(axis=1, keepdims=True)
    return float(-(share * np.log2(np.maximum(share, 1e-12))).sum(axis=1).mean())


def _groove(start: np.ndarray, bar: np.ndarray, bars: int, bar_beats: float) -> float:
    """Mean agreement of the striking places over all pairs of bars with notes."""
    struck = np.zeros((bars, PLACES), dtype=np.float32)
    place = np.round((start / bar_beats - bar) * PLACES).astype(np.int64)
    struck[bar, np.clip(place, 0, PLACES - 1)] = 1.0
    struck = struck[struck.any(axis=1)]
    if len(struck) < 2:
        return 0.0
    count = struck.sum(axis=1)
    differing = count[:, None] + count[None] - 2.0 * struck @ struck.T
    above = np.triu_indices(len(struck), 1)
    return float(1.0 - differing[above].mean() / PLACES)


def bar_similarity(score: Score, bar_beats: float) -> np.ndarray:
    """How alike each two bars are, float64 [bar, bar]: of what is struck in either (sixteenth and
    pitch or drum), the share struck in both. 0 where either bar is empty."""
    start, pitch = _columns(score)
    if not len(start):
        return np.zeros((0, 0))
    bar = np.floor(start / bar_beats + 1e-6).astype(np.int64)
    sixteenth = np.round((start - bar * bar_beats) * 4).astype(np.int64)
    _, column = np.unique(sixteenth * 256 + pitch, return_inverse=True)
    struck = np.zeros((int(bar.max()) + 1, int(column.max()) + 1), dtype=np.float32)
    struck[bar, column] = 1.0
    both = (struck @ struck.T).astype(np.float64)
    count = np.diagonal(both)
    either = count[:, None] + count[None] - both
    return both / np.maximum(either, 1.0)


def _scale_consistency(pitch: np.ndarray) -> float:
    if not len(pitch):
        return 0.0
    counts = np.bincount(pitch % 12, minlength=12)
    best = max(
        counts[(np.array(scale) + tonic) % 12].sum() for scale in _SCALES for tonic in range(12)
    )
    return float(best / counts.sum())


def _polyphony(start: np.ndarray, duration: np.ndarray, pitch: np.ndarray) -> float:
    """Mean number of sounding notes over the frames (twelfths of a beat) with any."""
    if not len(pitch):
        return 0.0
    first = np.round(start * TICKS_A_BEAT).astype(np.int64)
    last = np.maximum(np.round((start + duration) * TICKS_A_BEAT).astype(np.int64), first + 1)
    size = int(last.max()) + 1
    sounding = np.cumsum(np.bincount(first, minlength=size) - np.bincount(last, minlength=size))
    return float(sounding[sounding > 0].mean())


def top_line(start: np.ndarray, pitch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest note of each onset: ticks (twelfths of a beat, ascending) and pitch, [onset]."""
    tick = np.round(start * TICKS_A_BEAT).astype(np.int64)
    order = np.lexsort((pitch, tick))
    last = np.append(np.diff(tick[order]) > 0, True) if len(tick) else np.zeros(0, dtype=bool)
    return tick[order][last], pitch[order][last]


def _repetition(start: np.ndarray, pitch: np.ndarray) -> float:
    tick, line = top_line(start, pitch)
    if len(tick) < NGRAM + 2:
        return 0.0
    step = (np.diff(line) + 128) * 1_000 + np.minimum(np.diff(tick), 999)
    grams = np.lib.stride_tricks.sliding_window_view(step, NGRAM)
    return float(1.0 - len(np.unique(grams, axis=0)) / len(grams))


def measure_score_structure(score: Score, bar_beats: float = 4.0) -> ScoreStructure:
    """The figures of a score whose bars have `bar_beats` quarter notes, counted from beat 0."""
    start, every = _columns(score)
    pitched_start, duration, pitch = pitched_notes(score)
    bar = np.floor(start / bar_beats + 1e-6).astype(np.int64)
    bars = int(bar.max()) + 1 if len(bar) else 0
    begun = np.bincount(bar, minlength=bars) > 0
    similarity = bar_similarity(score, bar_beats)
    np.fill_diagonal(similarity, 0.0)
    filled = np.flatnonzero(begun)
    later = filled[1:]
    return ScoreStructure(
        pitch_entropy_1=_entropies(pitched_start, pitch, bar_beats),
        pitch_entropy_4=_entropies(pitched_start, pitch, 4 * bar_beats),
        groove_similarity=_groove(start, bar, bars, bar_beats) if bars else 0.0,
        twin_share=float((similarity[filled].max(axis=1) >= TWIN_SIMILARITY).mean())
        if bars
        else 0.0,
        earlier_similarity=float(np.tril(similarity, -1)[later].max(axis=1).mean())
        if len(later)
        else 0.0,
        empty_share=float(1.0 - begun.mean()) if bars else 0.0,
        scale_consistency=_scale_consistency(pitch),
        polyphony=_polyphony(pitched_start, duration, pitch),
        notes_a_bar=len(every) / bars if bars else 0.0,
        repetition=_repetition(pitched_start, pitch),
    )
