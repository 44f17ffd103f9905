"""Warble: the watery unrest that codecs and vocoders put into held tones.

Sustained spectral peaks are followed from frame to frame (McAulay and Quatieri, "Speech
analysis/synthesis based on a sinusoidal representation", 1986). What a polynomial of
degree four over 140 ms does not explain of their pitch and level is jitter: glides and vibrato are
nearly such curves over so short a time, a change of note ends the peak. Of all peaks the steadier
ones count, because music itself shakes some (partials that beat, choirs, a drum over a tone), a
codec all. Sound so torn that hardly a peak lasts cannot be told from music that holds no tone, so
both have no figure.
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
LOWEST_HZ = 200.0
HIGHEST_HZ = 4_000.0
"""Peaks of this range: below, notes lie closer than the window can tell apart."""
RANGE_DB = 50.0
"""Peaks so far below the loudest bin of the piece do not count."""
PROMINENCE_DB = 15.0
"""A tone stands so far above the mean of 40 bins around it; noise hardly ever (tuned: with 20 dB
badly warbling tones were lost)."""
REACH_BINS = 2
"""How far a peak may move from frame to frame; peaks lie five bins apart at least."""
TRACK_FRAMES = 15
"""A peak is sustained where it lasts 300 ms (tuned: over 180 ms bursts of drums passed for it)."""
FIT_FRAMES = 7
FIT_DEGREE = 4
"""Frames and degree of the polynomial (tuned: parabolas over five frames let vibrato through)."""
STEADY_SHARE = 0.15
"""The quantile of jitter over peaks, by amplitude, that counts (tuned)."""
LEAST_PER_SECOND = 25.0
"""Fewer sustained stretches a second say nothing: the ring of drums alone has fewer as a rule
(tuned: with 15, four pieces of drums in 220 renders read 8 to 20)."""
JITTER_CENTS = 0.27
JITTER_DB = 0.065
"""About what one render in fifteen exceeds after the codec (measured; a unit, no limit)."""


def _peaks(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in cents and level in decibels of spectral peaks, [frame, bin]; nan elsewhere."""
    levels_db = level_db(magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES)).astype(np.float64)
    bin_hz = RATE_HZ / WINDOW_SAMPLES
    low, high = round(LOWEST_HZ / bin_hz), round(HIGHEST_HZ / bin_hz)
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


def _follow(cents: np.ndarray, levels_db: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and level of each peak that lasts `TRACK_FRAMES`, from each of its frames on."""
    margin = ((0, TRACK_FRAMES), (REACH_BINS, REACH_BINS))
    cents = np.pad(cents, margin, constant_values=np.nan)
    levels_db = np.pad(levels_db, margin, constant_values=np.nan)
    is_peak = np.isfinite(cents)
    frame, place = np.nonzero(is_peak)
    places = [place]
    reach = np.arange(-REACH_BINS, REACH_BINS + 1)
    for step in range(1, TRACK_FRAMES):
        # Peaks lie so far apart that only one can be within reach.
        near = is_peak[(frame + step)[:, None], place[:, None] + reach]
        kept = near.any(axis=1)
        frame, place = frame[kept], (place + reach[near.argmax(axis=1)])[kept]
        places = [earlier[kept] for earlier in places] + [place]
    rows = frame[:, None] + np.arange(TRACK_FRAMES)
    columns = np.stack(places, axis=1)
    return cents[rows, columns], levels_db[rows, columns]


def _jitter(tracks: np.ndarray) -> np.ndarray:
    """Root mean square of what fits over `FIT_FRAMES` leave of each row, float64 [track]."""
    time = np.linspace(-1.0, 1.0, FIT_FRAMES)
    curves = np.vander(time, FIT_DEGREE + 1)
    left = (np.eye(FIT_FRAMES) - curves @ np.linalg.pinv(curves))[FIT_FRAMES // 2]
    rest = sliding_window_view(tracks, FIT_FRAMES, axis=1) @ (left / np.linalg.norm(left))
    return np.sqrt(np.square(rest).mean(axis=1))


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(running, share * running[-1])])


def measure_jitter(waveform: Waveform) -> tuple[float, float] | None:
    """Jitter of the steadier sustained peaks, in cents and in decibels; None where few sound."""
    samples = mono_samples(waveform, RATE_HZ)
    if len(samples) < 2 * WINDOW_SAMPLES or np.abs(samples).max() < 1e-4:
        return None
    cents, levels_db = _follow(*_peaks(samples))
    if len(cents) < max(LEAST_PER_SECOND * len(samples) / RATE_HZ, 1.0):
        return None
    amplitude = 10.0 ** (levels_db.mean(axis=1) / 20.0)
    return (
        _quantile(_jitter(cents), amplitude, STEADY_SHARE),
        _quantile(_jitter(levels_db), amplitude, STEADY_SHARE),
    )


def measure_warble(waveform: Waveform) -> float | None:
    """Jitter of pitch and level of held tones together; about 7 % of clean renders exceed 1.

    The root mean square of both, each over its usual limit. None where hardly a tone is held:
    drums, silence, clips of less than .5 s, and often tones torn by a quarter tone. None is no
    praise.
    """
    jitter = measure_jitter(waveform)
    if jitter is None:
        return None
    cents, decibels = jitter
    return float(np.hypot(cents / JITTER_CENTS, decibels / JITTER_DB) / np.sqrt(2.0))
