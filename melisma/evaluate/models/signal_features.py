"""Features of a window of sound by signal processing alone: timbre, attacks, pulse, harmony, level.

Nothing here is trained and nothing is taken from a reference set. Six blocks:

* cepstrum: 20 coefficients of 40 mel bands in decibels (Davis and Mermelstein, 1980), mean and
  standard deviation over time;
* attacks: rise from frame to frame in four regions of bands, mean and standard deviation (spectral
  flux);
* modulation: strength of the level's fluctuation in three regions, by octaves from .5 to 32 Hz;
* harmony: autocorrelation around the circle of pitch classes, of the mean chroma and of single
  frames; its entropy; how fast it changes. A transposed window has the same features: the
  distance compares kinds of harmony, not keys;
* shape: spectral centroid, 85 % roll-off and flatness;
* level: standard deviation, range and crest.

Input: samples float [sample] at 24 kHz, two seconds or more (octaves from .5 Hz). Output: float32
[`FIGURES`], each divided by its constant of `SCALES`.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from scipy.fft import dct

from melisma.analysis.audio.frames import level_db, magnitude_frames, mel_filters

VERSION = 1
"""To be raised with any change of a formula of this file; it is part of the fingerprint."""
RATE_HZ = 24_000
WINDOW_SAMPLES = 1_024
HOP_SAMPLES = 240
"""43 ms windows at 100 Hz: attacks need the rate, timbre the window."""
FRAME_RATE_HZ = RATE_HZ / HOP_SAMPLES
BANDS = 40
COEFFICIENTS = 20
FLOOR = 1e-4
"""Magnitude that counts as silence (-80 dB below full scale)."""
ATTACK_EDGES = (0, 8, 16, 26, 40)
"""Regions of mel bands for attacks: up to about 610, 1550 and 3700 Hz, and all above."""
MODULATION_EDGES = (0, 10, 22, 40)
"""Regions of mel bands for the modulation: up to about 800 and 2700 Hz, and all above."""
OCTAVES_HZ = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
CHROMA_WINDOW_SAMPLES = 8_192
CHROMA_HOP_SAMPLES = 2_400
"""341 ms windows resolve semitones from about 100 Hz up."""
CHROMA_RANGE_HZ = (80.0, 2_000.0)
CHANGE_FRAMES = 5
"""Distance of the chroma frames that are compared: half a second."""

BLOCKS: tuple[tuple[str, int], ...] = (
    ("cepstrum mean", COEFFICIENTS),
    ("cepstrum spread", COEFFICIENTS),
    ("attacks", 2 * (len(ATTACK_EDGES) - 1)),
    ("modulation", (len(MODULATION_EDGES) - 1) * (len(OCTAVES_HZ) - 1)),
    ("harmony", 14),
    ("shape", 6),
    ("level", 3),
)
"""Blocks and their widths; they are part of the fingerprint."""
FIGURES = sum(width for _, width in BLOCKS)
"""Length of a vector of features."""


def signal_figures(samples: np.ndarray) -> np.ndarray:
    """Features of one window.

    Args:
        samples: Mono sound at `RATE_HZ`, float [sample].

    Returns:
        float32 [`FIGURES`], finite for silence.
    """
    samples = np.asarray(samples, dtype=np.float64)
    magnitudes = magnitude_frames(samples, WINDOW_SAMPLES, HOP_SAMPLES).astype(np.float64)
    levels = level_db(np.maximum(magnitudes @ _bands(), FLOOR))
    cepstrum = np.asarray(dct(levels, norm="ortho", axis=1))[:, :COEFFICIENTS]
    raw = np.concatenate(
        [
            cepstrum.mean(axis=0),
            cepstrum.std(axis=0),
            _attacks(levels),
            _modulation(levels),
            _harmony(samples),
            _shape(magnitudes),
            _level(magnitudes),
        ]
    )
    return (raw / SCALES).astype(np.float32)


@lru_cache(maxsize=1)
def _bands() -> np.ndarray:
    """Mel filters, float32 [bin, band]."""
    return mel_filters(RATE_HZ, WINDOW_SAMPLES, BANDS, 40.0, 11_000.0)


def _attacks(levels: np.ndarray) -> np.ndarray:
    """Band levels in dB [frame, band] -> mean and standard deviation of the rise in each region,
    [8]."""
    rise = np.maximum(levels[2:] - levels[:-2], 0.0)
    regions = _regions(rise, ATTACK_EDGES)
    return np.concatenate([regions.mean(axis=0), regions.std(axis=0)])


def _regions(bands: np.ndarray, edges: tuple[int, ...]) -> np.ndarray:
    """[frame, band] -> mean of each region, [frame, region]."""
    means = [bands[:, low:high].mean(axis=1) for low, high in itertools.pairwise(edges)]
    return np.stack(means, axis=1)


def _modulation(levels: np.ndarray) -> np.ndarray:
    """Band levels in dB [frame, band] -> fluctuation in dB by region and octave, [18]."""
    regions = _regions(levels, MODULATION_EDGES)
    window = np.hanning(len(regions) + 1)[:-1, None]
    lines = np.abs(np.fft.rfft((regions - regions.mean(axis=0)) * window, axis=0))
    power = np.square(lines * 2.0 / window.sum())
    lines_hz = np.fft.rfftfreq(len(regions), 1.0 / FRAME_RATE_HZ)
    octave = np.searchsorted(OCTAVES_HZ, lines_hz, side="right") - 1
    sums = [power[octave == one].sum(axis=0) for one in range(len(OCTAVES_HZ) - 1)]
    # A hundredth of a decibel is no fluctuation.
    return 10.0 * np.log10(np.stack(sums, axis=1).ravel() + 1e-4)


@lru_cache(maxsize=1)
def _pitch_classes() -> tuple[np.ndarray, np.ndarray]:
    """Spectral lines in range, and the weight of each in every pitch class, [line, 12]."""
    lines_hz = np.fft.rfftfreq(CHROMA_WINDOW_SAMPLES, 1.0 / RATE_HZ)
    chosen = np.flatnonzero((lines_hz >= CHROMA_RANGE_HZ[0]) & (lines_hz <= CHROMA_RANGE_HZ[1]))
    pitches = 69.0 + 12.0 * np.log2(lines_hz[chosen] / 440.0)
    apart = (pitches[:, None] - np.arange(12) + 6.0) % 12.0 - 6.0
    return chosen, np.exp(-0.5 * np.square(apart / 0.3))


def _harmony(samples: np.ndarray) -> np.ndarray:
    """Samples -> features of the chroma that are invariant to transposition, [14]."""
    lines, shares = _pitch_classes()
    magnitudes = magnitude_frames(samples, CHROMA_WINDOW_SAMPLES, CHROMA_HOP_SAMPLES)
    chroma = magnitudes[:, lines].astype(np.float64) @ shares
    chroma = chroma - chroma.min(axis=1, keepdims=True)
    chroma = chroma / (chroma.sum(axis=1, keepdims=True) + 1e-4)
    mean = chroma.mean(axis=0)
    even = mean / max(float(mean.sum()), 1e-9)
    entropy = -(even * np.log(even + 1e-9)).sum()
    change = np.abs(chroma[CHANGE_FRAMES:] - chroma[:-CHANGE_FRAMES]).sum(axis=1).mean()
    return np.concatenate([_circle(mean), _circle(chroma).mean(axis=0), [entropy, change]])


def _circle(chroma: np.ndarray) -> np.ndarray:
    """[..., 12] -> autocorrelation at 1 to 6 semitones over that at 0, [..., 6]."""
    power = np.square(chroma).sum(axis=-1)[..., None] + 1e-6
    lags = [(chroma * np.roll(chroma, lag, axis=-1)).sum(axis=-1) for lag in range(1, 7)]
    return np.stack(lags, axis=-1) / power


def _shape(magnitudes: np.ndarray) -> np.ndarray:
    """Magnitudes [frame, bin] -> mean and standard deviation of centroid and roll-off (octaves) and
    flatness (dB), [6]."""
    power = np.square(magnitudes) + 1e-10
    lines_hz = np.fft.rfftfreq(WINDOW_SAMPLES, 1.0 / RATE_HZ)
    total = power.sum(axis=1)
    centre = np.log2((power @ lines_hz) / total + 1.0)
    edge = (power.cumsum(axis=1) < 0.85 * total[:, None]).sum(axis=1)
    flatness = 10.0 * (np.log10(power).mean(axis=1) - np.log10(power.mean(axis=1)))
    shape = np.stack(
        [centre, np.log2(lines_hz[np.minimum(edge, len(lines_hz) - 1)] + 1.0), flatness]
    )
    return np.concatenate([shape.mean(axis=1), shape.std(axis=1)])


def _level(magnitudes: np.ndarray) -> np.ndarray:
    """Magnitudes [frame, bin] -> standard deviation, range from the 10th to the 95th percentile,
    and peak over mean of the level in dB, [3]."""
    amplitude = np.sqrt(np.square(magnitudes).sum(axis=1))
    levels = level_db(np.maximum(amplitude, FLOOR))
    low, high = np.percentile(levels, [10, 95])
    mean = level_db(np.maximum(np.sqrt(np.square(amplitude).mean(keepdims=True)), FLOOR))[0]
    return np.array([levels.std(), high - low, levels.max() - mean])


SCALES = np.array([
    # cepstrum mean
    48, 32, 18, 12, 8.9, 8.2, 6.7, 6, 5.3, 4.2, 4, 3.8, 3.7, 3.6, 3.5, 3.4, 3.4, 3.1, 3, 3,
    # cepstrum spread
    22, 8.3, 4.9, 3, 2.3, 1.8, 1.7, 1.7, 1.6, 1.6, 1.7, 1.7, 1.9, 2.2, 2.2, 2.4, 2.3, 2.3, 2.3, 2.1,
    # attacks
    0.5, 0.37, 0.35, 0.57, 1.5, 1.3, 1.6, 2,
    # modulation
    6.6, 6.2, 5.5, 5.2, 5.3, 4.6, 6.8, 6.8, 6.1, 5.1, 4.7, 4.3, 7.1, 6.9, 6.9, 6.4, 6.5, 6,
    # harmony
    0.19, 0.17, 0.14, 0.13, 0.13, 0.16, 0.18, 0.16, 0.14, 0.12, 0.11, 0.13, 0.14, 0.23,
    # shape
    0.72, 0.84, 8.6, 0.41, 0.53, 2.4,
    # level
    4.1, 11, 3.2,
])  # fmt: skip
"""Divisor of each feature, in the units of its block (measured once: the standard deviation over
900 windows of five seconds of 300 held-out renders at -20 LUFS), so that all count about alike.
Frozen: other constants would be another embedding."""
