"""Structural metrics of a score: harmony, groove, repetition and texture.

They are meaningful only in comparison with real music of the same kind: a good piece is neither all
repetition nor without any. Pitch-class entropy and groove similarity are those of Wu and Yang, "The
Jazz Transformer on the front line" (2008.01307), section 4; scale consistency that of Mogren
(1611.09904), section 4.3, with minor scales added; the others are ours.

Inputs: a `Score` and the length of its bars. Output: a `ScoreStructure`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.analysis.score.key import pitched_notes
from melisma.values import Score

GROOVE_POSITIONS = 64
"""Positions of a bar in a groove pattern (section 4.2 of the paper)."""
NEAR_DUPLICATE_SIMILARITY = 0.8
"""Minimum similarity of two near-duplicate bars (chosen: a few notes differ)."""
NGRAM = 4
"""Steps (interval and rhythm) of the melodies whose repetition is counted (chosen)."""
TICKS_PER_BEAT = 12
"""Rhythmic grid: twelfths of a quarter represent sixteenths and triplets."""
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 8, 11))
"""Major, natural minor and harmonic minor from the tonic."""


@dataclass(frozen=True, kw_only=True)
class ScoreStructure:
    """Structural metrics of one score; 0 where there is nothing to count."""

    pitch_entropy_1: float
    """Mean entropy of the pitch classes of the onsets in a bar, in bits (0 to 3.58)."""
    pitch_entropy_4: float
    """The same over four bars."""
    groove_similarity: float
    """Mean share of the 64 positions of the bar at which two bars agree in having an onset or not;
    over all pairs of bars with notes."""
    near_duplicate_share: float
    """Share of the bars with notes that have a near-duplicate elsewhere in the piece."""
    earlier_similarity: float
    """Mean over bars of the greatest similarity to an earlier bar, 0 to 1."""
    empty_share: float
    """Share of the bars without a note onset."""
    scale_consistency: float
    """Share of the notes within the best-fitting scale."""
    polyphony: float
    """Mean number of simultaneous pitched notes, where any sounds."""
    notes_a_bar: float
    """Mean number of note onsets per bar, drums included."""
    repetition: float
    """Share of the four-step melodic n-grams of the top line that occurred before in the piece."""


def _columns(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Start in beats and pitch of all notes, [note] each; drum keys are offset by 128."""
    starts = [np.zeros(0), *(track.notes.start_beats for track in score.tracks)]
    pitches = [np.zeros(0), *(t.notes.pitch + 128 * t.is_drum for t in score.tracks)]
    return np.concatenate(starts), np.concatenate(pitches).astype(np.int64)


def _entropies(start: np.ndarray, pitch: np.ndarray, window_beats: float) -> float:
    """Mean entropy in bits of the pitch classes over the windows with notes."""
    if not len(pitch):
        return 0.0
    window = np.floor(start / window_beats + 1e-6).astype(np.int64)
    counts = np.zeros((int(window.max()) + 1, 12))
    np.add.at(counts, (window, pitch % 12), 1.0)
    counts = counts[counts.any(axis=1)]
    share = counts / counts.sum(axis=1, keepdims=True)
    return float(-(share * np.log2(np.maximum(share, 1e-12))).sum(axis=1).mean())


def _groove(start: np.ndarray, bar: np.ndarray, bars: int, bar_beats: float) -> float:
    """Mean agreement of the onset positions over all pairs of bars with notes."""
    struck = np.zeros((bars, GROOVE_POSITIONS), dtype=np.float32)
    position = np.round((start / bar_beats - bar) * GROOVE_POSITIONS).astype(np.int64)
    struck[bar, np.clip(position, 0, GROOVE_POSITIONS - 1)] = 1.0
    struck = struck[struck.any(axis=1)]
    if len(struck) < 2:
        return 0.0
    count = struck.sum(axis=1)
    differing = count[:, None] + count[None] - 2.0 * struck @ struck.T
    above = np.triu_indices(len(struck), 1)
    return float(1.0 - differing[above].mean() / GROOVE_POSITIONS)


def bar_similarity(score: Score, bar_beats: float) -> np.ndarray:
    """Pairwise similarity of bars: the Jaccard index of their (sixteenth, pitch or drum) onsets.

    Returns:
        float64 [bar, bar]; 0 where either bar is empty.
    """
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
    """Mean number of sounding notes over the frames (twelfths of a beat) with any note."""
    if not len(pitch):
        return 0.0
    first = np.round(start * TICKS_PER_BEAT).astype(np.int64)
    last = np.maximum(np.round((start + duration) * TICKS_PER_BEAT).astype(np.int64), first + 1)
    size = int(last.max()) + 1
    sounding = np.cumsum(np.bincount(first, minlength=size) - np.bincount(last, minlength=size))
    return float(sounding[sounding > 0].mean())


def top_line(start: np.ndarray, pitch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest note of each onset: ticks (twelfths of a beat, ascending) and pitch, [onset]."""
    tick = np.round(start * TICKS_PER_BEAT).astype(np.int64)
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
    """Structural metrics of a score whose bars have `bar_beats` quarter notes, from beat 0."""
    start, pitches = _columns(score)
    pitched_start, duration, pitch = pitched_notes(score)
    bar = np.floor(start / bar_beats + 1e-6).astype(np.int64)
    bars = int(bar.max()) + 1 if len(bar) else 0
    has_onset = np.bincount(bar, minlength=bars) > 0
    similarity = bar_similarity(score, bar_beats)
    np.fill_diagonal(similarity, 0.0)
    filled = np.flatnonzero(has_onset)
    later = filled[1:]
    return ScoreStructure(
        pitch_entropy_1=_entropies(pitched_start, pitch, bar_beats),
        pitch_entropy_4=_entropies(pitched_start, pitch, 4 * bar_beats),
        groove_similarity=_groove(start, bar, bars, bar_beats) if bars else 0.0,
        near_duplicate_share=float(
            (similarity[filled].max(axis=1) >= NEAR_DUPLICATE_SIMILARITY).mean()
        )
        if bars
        else 0.0,
        earlier_similarity=float(np.tril(similarity, -1)[later].max(axis=1).mean())
        if len(later)
        else 0.0,
        empty_share=float(1.0 - has_onset.mean()) if bars else 0.0,
        scale_consistency=_scale_consistency(pitch),
        polyphony=_polyphony(pitched_start, duration, pitch),
        notes_a_bar=len(pitches) / bars if bars else 0.0,
        repetition=_repetition(pitched_start, pitch),
    )
