"""The felt tempo of a piece, in quarter notes a minute.

Envelopes of several frequency ranges (onsets.py) are compared with themselves (autocorrelation)
and with sinusoids (Fourier tempogram; Grosche and Mueller, "Extracting predominant local pulse
information", 2011); each candidate tempo is scored by how much periodicity lies at its beat, at
its halves and at its bars, under a log-normal prior (Ellis, "Beat tracking by dynamic
programming", 2007, section 2.2). The winner is then refined by the phase of its harmonics over
the whole clip, which makes ten seconds enough for a fraction of a percent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from melisma.measure.onsets import BANDS, ENVELOPE_RATE_HZ, onset_bands
from melisma.values import Waveform

SLOWEST_BPM = 40.0
FASTEST_BPM = 220.0
CANDIDATES = 428
"""Evenly spaced in log tempo between the limits: .4 % apart."""
PRIOR_CENTRE_BPM = 105.0
PRIOR_OCTAVES = 0.85
"""Centre and standard deviation of the prior (tuned on renders of real scores)."""
GROUPS = ((0, 14), (14, 40), (40, BANDS))
"""Bands of bass (to 430 Hz), middle (to 2.2 kHz) and treble, whose envelopes are kept apart."""


@dataclass(frozen=True, kw_only=True)
class TempoEstimate:
    """A tempo with its rivals."""

    bpm: float | None
    """Quarter notes a minute; None where nothing repeats (silence, a held note)."""
    confidence: float
    """0-1: the periodicity found at this tempo."""
    alternatives: tuple[float, ...]
    """Other plausible tempi in bpm, the likelier first; usually half, double or a third."""


def tempo_candidates() -> np.ndarray:
    """Candidate tempi in bpm, float64 [candidate], ascending."""
    return np.geomspace(SLOWEST_BPM, FASTEST_BPM, CANDIDATES)


def _envelopes(waveform: Waveform) -> np.ndarray:
    """Zero-mean, unit-variance onset envelopes, float64 [group, frame]."""
    flux = onset_bands(waveform).astype(np.float64)
    groups = [flux[:, low:high].mean(axis=1) for low, high in GROUPS]
    groups.append(flux.mean(axis=1))
    rows = []
    for row in groups:
        smooth = gaussian_filter1d(row, 1.0)
        centred = np.maximum(smooth - uniform_filter1d(smooth, 101), 0.0)
        centred = centred - centred.mean()
        rows.append(centred / (centred.std() + 1e-9) if row.max() > 1e-3 else centred * 0.0)
    return np.stack(rows)


def _autocorrelation(envelopes: np.ndarray) -> np.ndarray:
    """Unbiased autocorrelation, mean over groups, float64 [lag]; 1 at lag 0."""
    length = envelopes.shape[1]
    size = 2 ** int(np.ceil(np.log2(2 * length)))
    power = np.abs(np.fft.rfft(envelopes, size, axis=1)) ** 2
    raw = np.fft.irfft(power, size, axis=1)[:, :length]
    overlap = np.arange(length, 0, -1)
    unbiased = raw / np.maximum(overlap, length // 4)
    return (unbiased / (unbiased[:, :1] + 1e-9)).mean(axis=0)


def _fourier(envelopes: np.ndarray, frequencies_hz: np.ndarray) -> np.ndarray:
    """Magnitude at any frequency, mean over groups, float64 [frequency]; 1 for a pure sinusoid."""
    length = envelopes.shape[1]
    window = np.hanning(length)
    time = np.arange(length) / ENVELOPE_RATE_HZ
    basis = np.exp(-2j * np.pi * frequencies_hz[:, None] * time[None])
    values = np.abs((envelopes * window) @ basis.T) * (np.sqrt(2.0) / window.sum())
    return values.mean(axis=0)


def tempo_scores(waveform: Waveform) -> np.ndarray:
    """Periodicity of each of `tempo_candidates`, before the prior: float64 [candidate]."""
    envelopes = _envelopes(waveform)
    tempi = tempo_candidates()
    correlation = _autocorrelation(envelopes)
    lags = np.arange(len(correlation))
    beat_frames = ENVELOPE_RATE_HZ * 60.0 / tempi
    comb = np.zeros(len(tempi))
    for multiple, weight in ((1, 1.0), (2, 0.6), (3, 0.15), (4, 0.5)):
        comb += weight * np.interp(beat_frames * multiple, lags, correlation, right=0.0)
    beat_hz = tempi / 60.0
    pulse = np.zeros(len(tempi))
    for harmonic, weight in ((1, 1.0), (2, 0.7), (3, 0.1), (4, 0.4)):
        pulse += weight * _fourier(envelopes, beat_hz * harmonic)
    return np.maximum(comb / 2.25, 0.0) + pulse / 2.2


def _refine(envelopes: np.ndarray, bpm: float) -> float:
    """The tempo within 3 % at which the harmonics of the beat are strongest over the clip."""
    nearby = bpm * np.linspace(0.97, 1.03, 121)
    strength = np.zeros(len(nearby))
    for harmonic in (1, 2, 4):
        strength += _fourier(envelopes, nearby / 60.0 * harmonic) ** 2
    best = int(np.argmax(strength))
    if best in (0, len(nearby) - 1):
        return bpm
    left, middle, right = strength[best - 1 : best + 2]
    shift = 0.5 * (left - right) / (left - 2 * middle + right - 1e-12)
    return float(nearby[best] + shift * (nearby[1] - nearby[0]))


def measure_tempo(waveform: Waveform) -> TempoEstimate:
    """The felt tempo of a piece of at least about three seconds."""
    envelopes = _envelopes(waveform)
    if not envelopes.any() or waveform.seconds < 2.0:
        return TempoEstimate(bpm=None, confidence=0.0, alternatives=())
    tempi = tempo_candidates()
    periodicity = tempo_scores(waveform)
    prior = np.exp(-0.5 * (np.log2(tempi / PRIOR_CENTRE_BPM) / PRIOR_OCTAVES) ** 2)
    scores = periodicity * prior
    peaks = [
        i
        for i in range(1, len(scores) - 1)
        if scores[i] >= scores[i - 1] and scores[i] > scores[i + 1]
    ]
    peaks.sort(key=lambda i: -scores[i])
    if not peaks:
        return TempoEstimate(bpm=None, confidence=0.0, alternatives=())
    refined: list[float] = []
    for peak in peaks[:8]:
        bpm = _refine(envelopes, float(tempi[peak]))
        if all(abs(np.log2(bpm / other)) > 0.05 for other in refined):
            refined.append(bpm)
    confidence = float(np.clip(periodicity[peaks[0]] / 2.0, 0.0, 1.0))
    return TempoEstimate(bpm=refined[0], confidence=confidence, alternatives=tuple(refined[1:4]))
