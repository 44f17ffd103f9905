"""Whether a followed line is a tune: noise and drums have pitches, too.

Enters: notes with the strengths and levels of the line. Leaves: one number; a tune has more than
`LEAST_EVIDENCE`, and sound whose lead is accompanied a share above `LEAST_SHARE`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from melisma.melody.salience import TRACK_RATE_HZ
from melisma.melody.transcribe import TuneNote

LEAST_EVIDENCE = -0.6
"""Measured: of 108 hums and 136 rendered instruments none lies below, of 128 noises and 120
rendered drum loops none above (half of them were fitted on; the nearest drums have -.7)."""
LEAST_SHARE = 0.2
"""Measured: noise reaches .05, rendered mixes .41 and more."""
_BIAS, _OF_STRENGTH, _OF_FALL, _OF_LENGTH, _OF_PITCH = -21.45, 17.57, 0.066, 4.38, 0.338
"""A logistic regression of synthetic hums and rendered instruments against noises and rendered
drum loops: tunes are clear, their notes last, do not die away at once, and are no bass drum."""
_STEEPEST_FALL_DB, _HIGHEST_PITCH = -100.0, 65
_CLEAR_STRENGTH, _CLEAR_SECONDS = 0.35, 0.12
_LOUD_DB = 25.0


def tune_evidence(notes: Sequence[TuneNote], strengths: np.ndarray, levels_db: np.ndarray) -> float:
    """Logarithm of the odds that a line without accompaniment is a tune; -inf without notes.

    `strengths` and `levels_db`: float [frame] of the whole line.
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
        + _OF_FALL * max(_middle(falls, lengths), _STEEPEST_FALL_DB)
        + _OF_LENGTH * np.log2(length)
        + _OF_PITCH * min(_middle(pitches, lengths), _HIGHEST_PITCH)
    )


def clear_share(notes: Sequence[TuneNote], strengths: np.ndarray, levels_db: np.ndarray) -> float:
    """Seconds of clear notes for each second of what is not faint, 0 and more."""
    spans = [_span(note) for note in notes]
    clear = sum(
        last - first
        for first, last in spans
        if last - first >= _CLEAR_SECONDS * TRACK_RATE_HZ
        and strengths[first:last].mean() > _CLEAR_STRENGTH
    )
    return float(clear / (levels_db > levels_db.max() - _LOUD_DB).sum())


def _span(note: TuneNote) -> tuple[int, int]:
    """First frame of the note and the one after its last."""
    return round(note.onset_seconds * TRACK_RATE_HZ), round(note.offset_seconds * TRACK_RATE_HZ)


def _slope(levels_db: np.ndarray) -> float:
    """Decibels a second of the straight line through them."""
    time = np.arange(len(levels_db)) / TRACK_RATE_HZ
    time = time - time.mean()
    return float(time @ levels_db / max(float(time @ time), 1e-9))


def _middle(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted median."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
