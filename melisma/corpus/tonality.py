"""The tonality of a passage from its notes, by correlation with key profiles.

Method of Krumhansl and Schmuckler (Krumhansl, Cognitive Foundations of Musical Pitch, 1990,
chapter 4) with the profiles of Albrecht and Shanahan (Music Perception 31(1), 2013), which tell
relative major and minor apart better than the probe-tone ratings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.corpus.chords import PITCH_TO_CLASS
from melisma.corpus.performance import Performance
from melisma.corpus.rolls import pitched_roll
from melisma.values.attributes import TONALITIES
from melisma.values.tokens import FRAME_RATE_HZ

_CONTEXT_SECONDS = 20.0
"""How far around the clip the music counts as a weak prior (chosen)."""
_CONTEXT_SHARE = 0.3
"""Weight of that prior against the clip itself (chosen)."""
_BASS_WEIGHT = 0.5
"""Extra weight of a note while it is the lowest, against all notes together (chosen)."""
_ENDING_SECONDS = 2.0
_ENDING_WEIGHT = 0.5
"""Extra weight of what sounds last in the clip: passages tend to close on the tonic (chosen)."""
_LEAST_MARGIN = 0.06
"""Lead over the second best tonality below which none is named."""
_LEAST_CORRELATION = 0.6
"""Correlation with the clip's own notes below which none is named."""
_LEAST_CLASSES = 4
"""Pitch classes below which there is nothing to decide from."""

# Albrecht and Shanahan 2013, table 1: shares of the pitch classes from the tonic up.
_MAJOR = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
_MINOR = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)


def _profiles() -> np.ndarray:
    """Standardised profiles of the 24 tonalities, [24, 12]."""
    rows = np.array(
        [np.roll(profile, tonic) for profile in (_MAJOR, _MINOR) for tonic in range(12)]
    )
    return _standard(rows)


def _standard(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return centred / np.where(length > 0, length, 1.0)


_PROFILES = _profiles()


def tonality_scores(weights: np.ndarray) -> np.ndarray:
    """Correlation of pitch-class weights [12] with each of the 24 tonalities, [24]."""
    return _PROFILES @ _standard(np.asarray(weights, dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class TonalityEstimate:
    """The most likely tonality of a passage and how far it stands out."""

    tonality: str | None
    """One of `TONALITIES`, None where it is unclear."""
    best: str | None
    """The most likely one however unclear; None where nothing pitched sounds."""
    margin: float
    """Lead over the second best, in correlations."""
    brightness: float
    """Best major minus best minor score with the same tonic, in about [-1, 1]: above 0 major."""


def passage_weights(roll: np.ndarray, ending_frames: int) -> np.ndarray:
    """Pitch-class weights [12] of a roll [frame, 128]: time sounding, bass and ending stressed."""
    sounding = roll > 0
    active = sounding.any(axis=1)
    time = np.ones(len(roll))
    if active.any() and ending_frames:
        last = int(np.flatnonzero(active)[-1])
        time[max(0, last + 1 - ending_frames) : last + 1] += _ENDING_WEIGHT
    weighted = sounding * time[:, None]
    weights = (weighted @ PITCH_TO_CLASS).sum(axis=0)
    bass = PITCH_TO_CLASS[sounding.argmax(axis=1)] * (active * time)[:, None]
    bass_weights = bass.sum(axis=0)
    total = max(float(weights.sum()), 1e-9)
    return weights / total + _BASS_WEIGHT * bass_weights / max(float(bass_weights.sum()), 1e-9)


def estimate_tonality(
    performance: Performance, start_seconds: float, seconds: float
) -> TonalityEstimate:
    """The tonality of a passage, its surroundings weighing in as a weak prior."""
    context = round(_CONTEXT_SECONDS * FRAME_RATE_HZ)
    frames = max(round(seconds * FRAME_RATE_HZ), 1)
    wide = pitched_roll(performance, start_seconds - _CONTEXT_SECONDS, frames + 2 * context)
    weights = passage_weights(
        wide[context : context + frames], round(_ENDING_SECONDS * FRAME_RATE_HZ)
    )
    if not weights.any():
        return TonalityEstimate(tonality=None, best=None, margin=0.0, brightness=0.0)
    inside = tonality_scores(weights)
    scores = (inside + _CONTEXT_SHARE * tonality_scores(passage_weights(wide, 0))) / (
        1 + _CONTEXT_SHARE
    )
    second, first = np.argsort(scores)[-2:]
    margin = float(scores[first] - scores[second])
    clear = (
        margin >= _LEAST_MARGIN
        and inside[first] >= _LEAST_CORRELATION
        and np.count_nonzero(weights > 0.01) >= _LEAST_CLASSES
    )
    tonic = int(first) % 12
    return TonalityEstimate(
        tonality=TONALITIES[first] if clear else None,
        best=TONALITIES[first],
        margin=margin,
        brightness=float(scores[tonic] - scores[tonic + 12]),
    )
