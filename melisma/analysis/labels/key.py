"""The tonality of a passage from its notes, by correlation with key profiles.

Method of Krumhansl and Schmuckler (Krumhansl, Cognitive Foundations of Musical Pitch, 1990,
chapter 4) with the profiles of Albrecht and Shanahan (Music Perception 31(1), 2013), which tell
relative major and minor apart better than the probe-tone ratings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melisma.analysis.labels.chords import PITCH_TO_CLASS
from melisma.analysis.labels.rolls import is_pitched, pitched_roll
from melisma.symbolic.performance import Performance
from melisma.values.attributes import TONALITIES
from melisma.values.tokens import FRAME_RATE_HZ

_CONTEXT_SECONDS = 20.0
"""How far around the clip the music counts as a prior (chosen)."""
_CONTEXT_SHARE = 0.6
"""Weight of that prior against the clip itself."""
_ONSET_WEIGHT = 0.5
_BASS_WEIGHT = 0.5
_TOP_WEIGHT = 0.3
_EDGE_WEIGHT = 0.1
"""Weights, against all sounding time together, of: the notes as struck, the lowest voice, the
highest voice, and the bass at the clip's very beginning and end, which tends to be the tonic.
These and the share of the context were tried on 7,000 passages whose key signature or title names
the tonality; the result hardly moves when one of them is doubled."""
_EDGE_SECONDS = (1.0, 2.0)
"""Lengths of beginning and end."""
_COMPRESSION = 0.5
"""Exponent of the weights: one long pedal note must not outweigh the scale (tried, as above)."""
_LEAST_MARGIN = 0.08
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
class LabelledKey:
    """The most likely tonality of a passage and how far it stands out."""

    tonality: str | None
    """One of `TONALITIES`, None where it is unclear."""
    best: str | None
    """The most likely one however unclear; None where nothing pitched sounds."""
    margin: float
    """Lead over the second best, in correlations."""
    brightness: float
    """Best major minus best minor score with the same tonic, in about [-1, 1]: above 0 major."""


def passage_weights(roll: np.ndarray, struck: np.ndarray) -> np.ndarray:
    """Pitch-class weights [12] of a roll [frame, 128] and the onsets by pitch class [12].

    Zeros where nothing sounds.
    """
    sounding = roll > 0
    active = np.flatnonzero(sounding.any(axis=1))
    if not len(active):
        return np.zeros(12)
    sounding = sounding[active]
    opening, ending = (round(seconds * FRAME_RATE_HZ) for seconds in _EDGE_SECONDS)
    bass = PITCH_TO_CLASS[sounding.argmax(axis=1)]
    top = PITCH_TO_CLASS[127 - sounding[:, ::-1].argmax(axis=1)]
    weights = (
        _share(sounding.sum(axis=0) @ PITCH_TO_CLASS)
        + _BASS_WEIGHT * _share(bass.sum(axis=0))
        + _TOP_WEIGHT * _share(top.sum(axis=0))
        + _ONSET_WEIGHT * _share(struck)
        + _EDGE_WEIGHT * _share(bass[:opening].sum(axis=0))
        + _EDGE_WEIGHT * _share(bass[-ending:].sum(axis=0))
    )
    return weights**_COMPRESSION


def _time_by_class(performance: Performance, start_seconds: float, seconds: float) -> np.ndarray:
    """Seconds that the notes of each pitch class sound within a passage, [12]."""
    time = np.zeros(12)
    for part in performance.parts:
        if is_pitched(part):
            begin = part.start_seconds - start_seconds
            inside = np.minimum(begin + part.duration_seconds, seconds) - np.maximum(begin, 0.0)
            time += np.bincount(part.pitch % 12, np.maximum(inside, 0.0), 12)
    return time


def _share(counts: np.ndarray) -> np.ndarray:
    return counts / max(float(counts.sum()), 1e-9)


def _struck(performance: Performance, start_seconds: float, seconds: float) -> np.ndarray:
    """Onsets by pitch class within a passage, float64 [12]."""
    counts = np.zeros(12)
    for part in performance.parts:
        if is_pitched(part):
            begins = (part.start_seconds >= start_seconds - 0.02) & (
                part.start_seconds < start_seconds + seconds - 0.02
            )
            counts += np.bincount(part.pitch[begins] % 12, minlength=12)
    return counts


def estimate_tonality(
    performance: Performance, start_seconds: float, seconds: float
) -> LabelledKey:
    """The tonality of a passage, its surroundings weighing in as a weak prior."""
    roll = pitched_roll(performance, start_seconds, max(round(seconds * FRAME_RATE_HZ), 1))
    weights = passage_weights(roll, _struck(performance, start_seconds, seconds))
    if not weights.any():
        return LabelledKey(tonality=None, best=None, margin=0.0, brightness=0.0)
    around = _time_by_class(
        performance, start_seconds - _CONTEXT_SECONDS, seconds + 2 * _CONTEXT_SECONDS
    )
    inside = tonality_scores(weights)
    prior = tonality_scores(_share(around) ** _COMPRESSION)
    scores = (inside + _CONTEXT_SHARE * prior) / (1 + _CONTEXT_SHARE)
    second, first = np.argsort(scores)[-2:]
    margin = float(scores[first] - scores[second])
    clear = (
        margin >= _LEAST_MARGIN
        and inside[first] >= _LEAST_CORRELATION
        and np.count_nonzero(weights > 0.01) >= _LEAST_CLASSES
    )
    tonic = int(first) % 12
    return LabelledKey(
        tonality=TONALITIES[first] if clear else None,
        best=TONALITIES[first],
        margin=margin,
        brightness=float(scores[tonic] - scores[tonic + 12]),
    )
