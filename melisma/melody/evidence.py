"""Classification of a tracked pitch line as melody or not: noise and drums have pitches, too.

Inputs: notes with the salience and level of the line. Output: a score; a solo melody exceeds
`MIN_EVIDENCE`, the lead of a mix has a clear share above `MIN_CLEAR_SHARE`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melisma.melody.salience import TRACK_RATE_HZ
from melisma.melody.transcribe import TuneNote

MIN_EVIDENCE = -0.6
"""Measured: none of 108 hums and 136 rendered instruments lies below, none of 128 noises and 120
rendered drum loops above (half of them were used for fitting; the nearest drums have -.7)."""
MIN_CLEAR_SHARE = 0.2
"""Measured: noise reaches .05, rendered mixes .41 and more."""
_BIAS, _OF_STRENGTH, _OF_FALL, _OF_LENGTH, _OF_PITCH = -21.45, 17.57, 0.066, 4.38, 0.338
"""Coefficients of a logistic regression of synthetic hums and rendered instruments against noises
and rendered drum loops: melodies are clear, their notes are long, decay slowly, and are higher than
a bass drum."""
_STEEPEST_FALL_DB, _HIGHEST_PITCH = -100.0, 65
_CLEAR_STRENGTH, _CLEAR_SECONDS = 0.35, 0.12
_LOUD_DB = 25.0


def tune_evidence(notes: Sequence[TuneNote], strengths: np.ndarray, levels_db: np.ndarray) -> float:
    """Log odds that an unaccompanied line is a melody.

    Args:
        notes: Notes of the line.
        strengths: Salience of the line, float [frame].
        levels_db: Level of the audio, float [frame].

    Returns:
        Log odds; -inf without notes.
    """
    if not notes:
        return -np.inf
    spans = [_span(note) for note in notes]
    lengths = np.array([last - first for first, last in spans]) / TRACK_RATE_HZ
    clear = np.array([strengths[first:last].mean() for first, last in spans])
    falls = np.array([_slope(levels_db[first:last]) for first, last in spans])
    pitches = np.array([note.pitch for note in notes])
    length = float((lengths**2).sum() / lengths.sum())
    return float(
        _BIAS
        + _OF_STRENGTH * (lengths @ clear) / lengths.sum()
        + _OF_FALL * max(_weighted_median(falls, lengths), _STEEPEST_FALL_DB)
        + _OF_LENGTH * np.log2(length)
        + _OF_PITCH * min(_weighted_median(pitches, lengths), _HIGHEST_PITCH)
    )


def clear_share(notes: Sequence[TuneNote], strengths: np.ndarray, levels_db: np.ndarray) -> float:
    """Duration of clear notes as a fraction of the audio that is not quiet, 0 or more.

    Args:
        notes: Notes of the line.
        strengths: Salience of the line, float [frame].
        levels_db: Level of the audio, float [frame].
    """
    spans = [_span(note) for note in notes]
    clear = sum(
        last - first
        for first, last in spans
        if last - first >= _CLEAR_SECONDS * TRACK_RATE_HZ
        and strengths[first:last].mean() > _CLEAR_STRENGTH
    )
    return float(clear / (levels_db > levels_db.max() - _LOUD_DB).sum())


def _span(note: TuneNote) -> tuple[int, int]:
    """First frame of a note and the one after its last."""
    return round(note.onset_seconds * TRACK_RATE_HZ), round(note.offset_seconds * TRACK_RATE_HZ)


def _slope(levels_db: np.ndarray) -> float:
    """Slope of the regression line in decibels per second."""
    time = np.arange(len(levels_db)) / TRACK_RATE_HZ
    time = time - time.mean()
    return float(time @ levels_db / max(float(time @ time), 1e-9))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted median."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
