"""Mastering: loudness normalization, true-peak limiting, removal of DC, fades at both ends.

Input and output: `Waveform` of the same length and rate. Loudness after EBU R 128 (sections 1
and 2, with a target for headphones), limiter after the look-ahead scheme of Giannoulis, Massberg
and Reiss, "Digital Dynamic Range Compressor Design" (JAES 2012, section 4).
"""

from __future__ import annotations

import math

import numpy as np

from melisma.sound.filters import high_pass, minimum_filter1d, sosfiltfilt
from melisma.sound.leveller import level
from melisma.sound.loudness import integrated_lufs, oversampled_peaks, true_peak_db
from melisma.values import Waveform
from melisma.values.errors import MelismaError

TARGET_LUFS = -16.0
"""Chosen: what most streaming services play music at."""
CEILING_DB = -1.0
"""EBU R 128, section 2.4: maximum true peak of distributed sound."""

_MARGIN_DB = 0.1
"""Distance below the ceiling, for rounding to 16 bits and peaks between the oversampled points."""
_RUMBLE_HZ = 20.0
"""Lowest audible frequency: sound below it is removed as drift."""
_FADE_IN_SECONDS = 0.005
_FADE_OUT_SECONDS = 0.03
"""Chosen: too short to soften an attack, long enough to avoid a click."""
_LOOK_AHEAD_SECONDS = 0.005
_MAX_LIMITING_DB = 6.0
"""Chosen: a larger reduction by the limiter would be audible, so the piece stays softer instead."""
_MAX_GAIN_DB = 40.0
"""Chosen: more would amplify a noise floor."""
_ROUNDS = 4
_LOUDNESS_TOLERANCE_DB = 0.1


def master(
    waveform: Waveform, target_lufs: float = TARGET_LUFS, ceiling_db: float = CEILING_DB
) -> Waveform:
    """Masters a piece: removes DC and drift, levels, fades the ends, normalizes and limits.

    Silence stays silent. A piece whose peaks are too far above its loudness ends up softer than the
    target instead of being limited too strongly.

    Args:
        waveform: The piece.
        target_lufs: Integrated loudness, from -60 to below 0.
        ceiling_db: Maximum true peak, from -30 to 0.

    Raises:
        MelismaError: Target or ceiling out of range.
    """
    if not -60.0 <= target_lufs < 0.0:
        raise MelismaError(f"a target loudness lies between -60 and 0 LUFS, not {target_lufs}")
    if not -30.0 <= ceiling_db <= 0.0:
        raise MelismaError(f"a ceiling lies between -30 and 0 dB, not {ceiling_db}")
    steady = level(_sound(_without_drift(waveform.samples, waveform.rate_hz), waveform))
    clean = _fade(steady.samples.astype(np.float64), waveform)
    loudness = integrated_lufs(_sound(clean, waveform))
    if loudness is None:
        return _sound(clean, waveform)
    ceiling = 10.0 ** ((ceiling_db - _MARGIN_DB) / 20.0)
    peaks = oversampled_peaks(clean)
    loudest_gain_db = 20.0 * math.log10(ceiling / float(peaks.max())) + _MAX_LIMITING_DB
    loudest_gain_db = min(loudest_gain_db, _MAX_GAIN_DB)
    gain_db = target_lufs - loudness
    result = waveform
    for _ in range(_ROUNDS):
        gain_db = min(gain_db, loudest_gain_db)
        gain = 10.0 ** (gain_db / 20.0)
        result = _sound(_limit(clean * gain, peaks * gain, ceiling, waveform.rate_hz), waveform)
        short_db = target_lufs - (integrated_lufs(result) or target_lufs)
        if abs(short_db) < _LOUDNESS_TOLERANCE_DB or gain_db >= loudest_gain_db:
            break
        gain_db += short_db
    return _below(result, ceiling_db - _MARGIN_DB / 2)


def _sound(samples: np.ndarray, like: Waveform) -> Waveform:
    return Waveform(samples=samples.astype(np.float32), rate_hz=like.rate_hz)


def _without_drift(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Removes DC and everything below the audible range, with zero phase shift."""
    samples = samples.astype(np.float64)
    if samples.shape[-1] < 2:
        return np.zeros_like(samples)
    centred = samples - samples.mean(axis=-1, keepdims=True)
    if not centred.any():
        return centred
    pad = min(samples.shape[-1] - 1, rate_hz // 10)
    return sosfiltfilt(high_pass(_RUMBLE_HZ, rate_hz), centred, pad)


def _fade(samples: np.ndarray, like: Waveform) -> np.ndarray:
    """Raised-cosine fades at both ends, each at most a quarter of the sound, without DC offset."""
    length = samples.shape[-1]
    shape = np.ones(length)
    for seconds, at_start in ((_FADE_IN_SECONDS, True), (_FADE_OUT_SECONDS, False)):
        count = min(round(seconds * like.rate_hz), length // 4)
        if count == 0:
            continue
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count)
        if at_start:
            shape[:count] *= ramp
        else:
            shape[-count:] *= ramp[::-1]
    area = float(shape.sum())
    offset = (samples * shape).sum(axis=-1, keepdims=True) / area if area > 0 else 0.0
    return (samples - offset) * shape


def _limit(samples: np.ndarray, peaks: np.ndarray, ceiling: float, rate_hz: int) -> np.ndarray:
    """Look-ahead limiter.

    The gain that each peak needs is held over a window (moving minimum) and then smoothed with a
    window of the same width, so that the average at a peak contains only gains low enough for it.

    Args:
        samples: float64 [channel, sample].
        peaks: See `oversampled_peaks`.
        ceiling: Amplitude.
        rate_hz: Sample rate.
    """
    if peaks.max() <= ceiling:
        return samples
    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-12))
    half = max(1, round(_LOOK_AHEAD_SECONDS * rate_hz))
    held = minimum_filter1d(needed, 2 * half + 1)
    window = np.hanning(2 * half + 3)[1:-1]
    padded = np.pad(held, half, mode="edge")
    smooth = np.convolve(padded, window / window.sum(), mode="valid")
    return samples * np.clip(smooth, 0.0, 1.0)


def _below(waveform: Waveform, ceiling_db: float) -> Waveform:
    """Attenuates the whole piece if a true peak is still above the ceiling."""
    over_db = true_peak_db(waveform) - ceiling_db
    if over_db <= 0:
        return waveform
    return _sound(waveform.samples * 10.0 ** (-over_db / 20.0), waveform)
