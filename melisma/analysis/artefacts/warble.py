"""Detection of warble: the pitch and level jitter that codecs and vocoders add to sustained tones.

Sustained spectral peaks are tracked from frame to frame (McAulay and Quatieri, "Speech
analysis/synthesis based on a sinusoidal representation", 1986). Jitter is the residual
of their pitch and level after fitting a polynomial of degree four over 140 ms: glides and vibrato
are close to such curves over so short a time, and a change of note ends the track. Only the
steadier tracks count, because music itself perturbs some of them (beating partials, choirs, a drum
over a tone), while a codec perturbs all. Audio so distorted that hardly a track lasts cannot be
distinguished from music without sustained tones, so neither gets a value.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from melisma.analysis.audio.frames import level_db, magnitude_frames, mono_samples
from melisma.values import Waveform

RATE_HZ = 24_000
WINDOW_SAMPLES = 2_048
HOP_SAMPLES = 480
MIN_HZ = 200.0
MAX_HZ = 4_000.0
"""Frequency range of the peaks: below it, notes are closer than the window resolves."""
RANGE_DB = 50.0
"""Peaks this far below the loudest bin of the piece do not count."""
PROMINENCE_DB = 15.0
"""Height of a tone above the mean of the 40 bins around it; noise rarely reaches it (tuned: with
20 dB, strongly warbling tones were missed)."""
REACH_BINS = 2
"""How far a peak may move from frame to frame; peaks are at least five bins apart."""
TRACK_FRAMES = 15
"""A peak is sustained if it lasts 300 ms (tuned: with 180 ms, drum bursts passed as tones)."""
FIT_FRAMES = 7
FIT_DEGREE = 4
"""Frames and degree of the polynomial (tuned: parabolas over five frames counted vibrato)."""
STEADY_SHARE = 0.15
"""Amplitude-weighted quantile of the jitter over tracks that is reported (tuned)."""
MIN_TRACKS_PER_SECOND = 25.0
"""Below this number of tracks per second no value is given: ringing drums alone usually have fewer
(tuned: with 15, four drum pieces in 220 renders measured 8 to 20)."""
JITTER_CENTS = 0.27
JITTER_DB = 0.065
"""Exceeded by about one render in fifteen after the codec (measured; a unit, not a limit)."""


def _peaks(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in cents and level in decibels of spectral peaks, [frame, bin]; nan elsewhere."""
    levels_db = level_db(magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES)).astype(np.float64)
    bin_hz = RATE_HZ / WINDOW_SAMPLES
    low, high = round(MIN_HZ / bin_hz), round(MAX_HZ / bin_hz)
    left, middle, right = (
        levels_db[:, low + shift : high + shift] for shift in (-1, 0, 1)
    )  # fmt: skip
    around = uniform_filter1d(levels_db, 41, axis=1)[:, low:high]
    highest = maximum_filter1d(levels_db, 9, axis=1)[:, low:high]
    is_peak = (middle >= highest) & (middle > left) & (middle > around + PROMINENCE_DB)
    is_peak &= middle > max(float(levels_db.max()) - RANGE_DB, -100.0)
    # A parabola through three levels (Smith and Serra, "PARSHL", 1987).
    bend = np.minimum(left - 2.0 * middle + right, -1e-9)
    shift = np.clip(0.5 * (left - right) / bend, -0.5, 0.5)
    hz = (np.arange(low, high) + shift) * bin_hz
    cents = np.where(is_peak, 1200.0 * np.log2(hz), np.nan)
    return cents, np.where(is_peak, middle - 0.25 * (left - right) * shift, np.nan)


def _track_peaks(cents: np.ndarray, levels_db: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and level of each peak that lasts `TRACK_FRAMES`, starting at each of its frames.

    Returns:
        Cents and decibels, float64 [track, TRACK_FRAMES] each.
    """
    margin = ((0, TRACK_FRAMES), (REACH_BINS, REACH_BINS))
    cents = np.pad(cents, margin, constant_values=np.nan)
    levels_db = np.pad(levels_db, margin, constant_values=np.nan)
    is_peak = np.isfinite(cents)
    frame, bin_index = np.nonzero(is_peak)
    bin_indices = [bin_index]
    reach = np.arange(-REACH_BINS, REACH_BINS + 1)
    for step in range(1, TRACK_FRAMES):
        # Peaks are so far apart that only one can be within reach.
        near = is_peak[(frame + step)[:, None], bin_index[:, None] + reach]
        survives = near.any(axis=1)
        frame, bin_index = frame[survives], (bin_index + reach[near.argmax(axis=1)])[survives]
        bin_indices = [earlier[survives] for earlier in bin_indices] + [bin_index]
    rows = frame[:, None] + np.arange(TRACK_FRAMES)
    columns = np.stack(bin_indices, axis=1)
    return cents[rows, columns], levels_db[rows, columns]


def _jitter(tracks: np.ndarray) -> np.ndarray:
    """RMS residual of polynomial fits over `FIT_FRAMES` of each row, float64 [track]."""
    time = np.linspace(-1.0, 1.0, FIT_FRAMES)
    curves = np.vander(time, FIT_DEGREE + 1)
    left = (np.eye(FIT_FRAMES) - curves @ np.linalg.pinv(curves))[FIT_FRAMES // 2]
    residual = sliding_window_view(tracks, FIT_FRAMES, axis=1) @ (left / np.linalg.norm(left))
    return np.sqrt(np.square(residual).mean(axis=1))


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, share * cumulative[-1])])


def measure_jitter(waveform: Waveform) -> tuple[float, float] | None:
    """Jitter of the steadier sustained peaks, in cents and in decibels; None for too few peaks."""
    samples = mono_samples(waveform, RATE_HZ)
    if len(samples) < 2 * WINDOW_SAMPLES or np.abs(samples).max() < 1e-4:
        return None
    cents, levels_db = _track_peaks(*_peaks(samples))
    if len(cents) < max(MIN_TRACKS_PER_SECOND * len(samples) / RATE_HZ, 1.0):
        return None
    amplitude = 10.0 ** (levels_db.mean(axis=1) / 20.0)
    return (
        _weighted_quantile(_jitter(cents), amplitude, STEADY_SHARE),
        _weighted_quantile(_jitter(levels_db), amplitude, STEADY_SHARE),
    )


def measure_warble(waveform: Waveform) -> float | None:
    """Combined jitter of pitch and level of sustained tones; about 7 % of clean renders exceed 1.

    Returns:
        Root mean square of both, each relative to its unit (`JITTER_CENTS`, `JITTER_DB`). None
        where hardly a tone is sustained: drums, silence, clips shorter than .5 s, and often tones
        distorted by a quarter tone. None does not mean that a piece is free of warble.
    """
    jitter = measure_jitter(waveform)
    if jitter is None:
        return None
    cents, decibels = jitter
    return float(np.hypot(cents / JITTER_CENTS, decibels / JITTER_DB) / np.sqrt(2.0))
