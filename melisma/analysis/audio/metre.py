"""Metre estimation from audio; the metre is one of `values.METRES`.

Four accent signals (bass onsets, treble onsets, rises in level, harmonic changes) are
autocorrelated at fractions and multiples of the beat: accents that recur after three beats but not
after two indicate triple metre, those that recur after a third of the beat compound metre (Brown,
"Determination of the meter of musical scores by autocorrelation", 1993; Gouyon and Herrera,
"Determination of the meter of musical audio signals", 2003). Harmonies that recur after whole bars
are further evidence. A logistic regression weighs these features. 2/4 and 4/4 are perceptually of
one kind, and the choice between them is little more than a guess.

Input: a `Waveform`, optionally with its tempo (of the perceived beat: a dotted quarter in 6/8).
Output: a `MetreEstimate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from melisma.analysis.audio.frames import autocorrelation, cell_levels_db, mono_samples
from melisma.analysis.audio.key import HOP_SAMPLES as CHROMA_HOP_SAMPLES
from melisma.analysis.audio.key import RATE_HZ as CHROMA_RATE_HZ
from melisma.analysis.audio.key import measure_chroma
from melisma.analysis.audio.onsets import (
    ENVELOPE_RATE_HZ,
    HOP_SAMPLES,
    RATE_HZ,
    above_surroundings,
    onset_bands,
)
from melisma.analysis.audio.tempo import GROUPS, measure_tempo
from melisma.analysis.calibration import calibrated
from melisma.values import Waveform
from melisma.values.attributes import METRE_KINDS, METRES
from melisma.values.errors import MelismaError

CHROMA_FRAME_HZ = CHROMA_RATE_HZ / CHROMA_HOP_SAMPLES
LAG_BEATS = np.array([1 / 3, 1 / 2, 2 / 3, 1, 4 / 3, 3 / 2, 2, 3, 4, 6, 8])
"""Lags in beats at which the accent signals are autocorrelated."""
HARMONY_BEATS = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
"""Lags in beats at which harmonies are compared."""
SMEAR_FRAMES = 2.0
"""Standard deviation of the Gaussian smoothing (chosen: performers deviate by 20 ms)."""
NEIGHBOUR_FRAMES = 3
"""Chroma frames compared before and after a point in time (chosen: a quarter second)."""
LEVEL_FLOOR_DB = -60.0
"""Floor of the level relative to the loudest frame."""
MIN_SECONDS = 4.0
"""Shorter pieces have no metre: repetition takes at least two bars (chosen)."""
MIN_DEVIATION = 1e-6
"""Standard deviation below which an accent signal is constant."""
ACCENT_WEIGHTS = np.array(
    [
        [
            [0.0, 0.6, -0.4, 0.1, 0.1, 0.3, 1.0, 1.0, -1.0, 0.1, -1.6],
            [-0.1, 0.4, -0.2, -0.5, -0.1, -0.2, -0.7, -0.3, 0.1, -0.2, -0.5],
            [0.2, 0.7, -0.1, 0.7, 0.0, -1.0, -0.6, -0.9, -1.3, 0.2, -1.3],
            [-1.4, 0.1, 0.0, -0.1, -0.3, 1.1, 0.4, 0.1, -0.5, -0.1, -0.2],
        ],
        [
            [0.4, -0.2, -0.1, 0.8, 0.1, -0.5, -0.7, 1.8, -2.0, 0.8, -1.4],
            [0.0, -0.1, -0.4, 0.5, -0.1, -0.6, -1.0, 1.0, -1.1, 0.8, -0.8],
            [1.4, 0.3, -0.5, 0.6, 0.5, -0.2, -1.1, 0.7, -1.6, 1.5, -1.7],
            [-0.6, -0.4, -0.2, 0.0, 0.1, 0.2, -1.0, 2.4, -1.5, 1.1, -1.4],
        ],
        [
            [1.6, -1.0, 0.8, 0.8, 1.6, -1.1, -0.1, 0.7, -1.3, -0.1, -1.3],
            [1.3, -0.7, 1.3, 0.1, 1.6, -0.7, -0.5, 0.0, -0.1, -0.1, -0.8],
            [0.3, -0.3, -0.2, 0.5, 0.4, -0.8, -0.7, -0.6, -1.0, 0.7, -0.8],
            [-1.4, -1.1, 0.0, 0.4, 0.1, 0.3, -0.3, 0.7, -1.0, 0.6, -0.7],
        ],
    ]
)
HARMONY_WEIGHTS = np.array(
    [
        [-0.5, -0.3, -0.4, -0.1, 0.2, 0.4],
        [0.1, -0.4, -0.1, -0.9, 0.2, -0.6],
        [-0.3, 0.0, -0.8, 0.1, -0.1, 0.7],
    ]
)
CONSTANTS = np.array([1.2, 0.8, 0.8])
METRES_AGAINST_4_4: tuple[str, ...] = ("2/4", "3/4", "6/8")
"""Weights by metre relative to 4/4 (in the order of `METRES_AGAINST_4_4`), accent signal and lag,
and constants. Fitted (logistic regression, each metre weighted by the inverse square root of its
frequency, rounded) to 869 clips of 10 s of the pieces reserved for evaluation models, at their true
tempo. On 180 clips of other works with another soundfont the kind is correct in .91 if the tempo is
given and in .87 if it is measured; 6/8 is missed most often."""


@dataclass(frozen=True, kw_only=True)
class MetreEstimate:
    """An estimated metre with the probabilities of all metres."""

    metre: str | None
    """One of `METRES`; None if nothing repeats (silence, a held note) or under four seconds."""
    confidence: float
    """0 to 1: calibrated accuracy at this raw probability."""
    kind_confidence: float
    """0 to 1: the same for the kind alone (duple, triple, compound)."""
    probabilities: Mapping[str, float]
    """Raw probability of each of `METRES`; empty if `metre` is None."""


NO_METRE = MetreEstimate(metre=None, confidence=0.0, kind_confidence=0.0, probabilities={})


def _harmony_changes(chroma: np.ndarray) -> np.ndarray:
    """Cosine distance between the harmony before and after each frame, 0 to 1, [frame]."""
    width = NEIGHBOUR_FRAMES
    sums = np.cumsum(np.pad(chroma, ((width + 1, width), (0, 0)), mode="edge"), axis=0)
    sums = sums[width:] - sums[:-width]
    sums = sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9)
    before, after = sums[: len(chroma)], sums[width : width + len(chroma)]
    return 1.0 - (before * after).sum(axis=1)


def _level(waveform: Waveform) -> np.ndarray:
    """Level of each hop in decibels relative to the loudest, float64 [frame]."""
    level = cell_levels_db(mono_samples(waveform, RATE_HZ), HOP_SAMPLES)
    return np.maximum(level - level.max(), LEVEL_FLOOR_DB)


def _accent_signals(waveform: Waveform, chroma: np.ndarray) -> np.ndarray:
    """Zero-mean accent signals of bass, treble, level and harmony, float64 [4, frame]."""
    flux = onset_bands(waveform).astype(np.float64)
    frames = np.arange(len(flux))
    level = _level(waveform)
    chroma_frames = np.arange(len(chroma)) * (ENVELOPE_RATE_HZ / CHROMA_FRAME_HZ)
    bass, treble = (flux[:, low:high].mean(axis=1) for low, high in (GROUPS[0], GROUPS[2]))
    rows = np.stack(
        [
            bass,
            treble,
            np.interp(frames, np.arange(len(level)), level),
            np.interp(frames, chroma_frames, _harmony_changes(chroma)),
        ]
    )
    raised = above_surroundings(rows, SMEAR_FRAMES)
    centred = raised - raised.mean(axis=1, keepdims=True)
    return centred * (centred.std(axis=1, keepdims=True) > MIN_DEVIATION)


def _accent_features(signals: np.ndarray, beat_seconds: float) -> np.ndarray:
    """Autocorrelation of the signals at `LAG_BEATS`, float64 [4, lag]; 0 beyond the piece."""
    frames = np.arange(signals.shape[1])
    lags = LAG_BEATS * beat_seconds * ENVELOPE_RATE_HZ
    rows = autocorrelation(signals)
    return np.stack([np.interp(lags, frames, row, right=0.0) for row in rows])


def _harmony_features(chroma: np.ndarray, beat_seconds: float) -> np.ndarray:
    """Similarity of harmonies at `HARMONY_BEATS`, float64 [lag]: 1 identical, 0 as any pair."""
    shares = chroma / (np.linalg.norm(chroma, axis=1, keepdims=True) + 1e-9)
    shares = shares - shares.mean(axis=0)
    power = float(np.square(shares).sum()) / len(shares) + 1e-9
    features = np.zeros(len(HARMONY_BEATS))
    for index, lag in enumerate(np.round(HARMONY_BEATS * beat_seconds * CHROMA_FRAME_HZ)):
        later = shares[int(lag) :]
        if len(later):
            product = float((later * shares[: len(later)]).sum())
            features[index] = product / max(len(later), len(shares) // 4) / power
    return features


def _metre_features(waveform: Waveform, tempo_bpm: float) -> np.ndarray | None:
    """Features of the logistic regression, float64 [50]; None if nothing repeats.

    Autocorrelation of bass, treble, level and harmony at `LAG_BEATS`, then similarity of harmonies
    at `HARMONY_BEATS`.
    """
    if waveform.seconds < MIN_SECONDS:
        return None
    chroma = measure_chroma(waveform)
    signals = _accent_signals(waveform, chroma)
    if not signals[:2].any():
        return None
    beat_seconds = 60.0 / tempo_bpm
    accents = _accent_features(signals, beat_seconds)
    return np.concatenate([accents.ravel(), _harmony_features(chroma, beat_seconds)])


def _metre_probabilities(features: np.ndarray) -> np.ndarray:
    """Raw probability of each of `METRES` from `_metre_features`, float64 [4]."""
    weights = np.concatenate([ACCENT_WEIGHTS.reshape(3, -1), HARMONY_WEIGHTS], axis=1)
    logits = dict(zip(METRES_AGAINST_4_4, weights @ features + CONSTANTS, strict=True))
    row = np.array([logits.get(metre, 0.0) for metre in METRES])
    odds = np.exp(row - row.max())
    return odds / odds.sum()


def measure_metre(waveform: Waveform, tempo_bpm: float | None = None) -> MetreEstimate:
    """Estimates the metre of a piece of at least four seconds from its accents.

    Args:
        waveform: audio of any sample rate.
        tempo_bpm: tempo of the perceived beat (a dotted quarter in 6/8) if it is known. If None it
            is measured; an estimate at half or double tempo then also affects the metre.

    Returns:
        `NO_METRE` where nothing repeats.

    Raises:
        MelismaError: for a tempo that is not positive.
    """
    if tempo_bpm is not None and not tempo_bpm > 0:
        raise MelismaError(f"a tempo is a positive number of beats a minute, not {tempo_bpm}")
    if tempo_bpm is None:
        tempo_bpm = measure_tempo(waveform).bpm
    features = None if tempo_bpm is None else _metre_features(waveform, tempo_bpm)
    if features is None:
        return NO_METRE
    probability = _metre_probabilities(features)
    best = METRES[int(np.argmax(probability))]
    same_kind = [METRE_KINDS[metre] == METRE_KINDS[best] for metre in METRES]
    return MetreEstimate(
        metre=best,
        confidence=calibrated("metre", float(probability.max())),
        kind_confidence=calibrated("kind of metre", float(probability[same_kind].sum())),
        probabilities=dict(zip(METRES, probability.tolist(), strict=True)),
    )
