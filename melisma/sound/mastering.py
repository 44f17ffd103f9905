"""Mastering: levelling, loudness normalization, true-peak limiting, removal of DC, fades.

Input and output: `Waveform` of the same length and rate. Loudness after EBU R 128 (sections 1
and 2, with a target for headphones), limiter after the look-ahead scheme of Giannoulis, Massberg
and Reiss, "Digital Dynamic Range Compressor Design" (JAES 2012, section 4). The leveller halves
slow changes of level, and keeps attacks and the shape of phrases: a slow compressor, like an
engineer riding the fader (sections 2 and 3: feed-forward, in decibels; here with a zero-phase
detector, which neither pumps nor lags). The level of generated music drifts more than that of
recorded music (`benchmarks/levels.py`); this removes about the excess.
"""

from __future__ import annotations

import math

import numpy as np

from melisma.sound.filters import gaussian_filter1d, high_pass, minimum_filter1d, sosfiltfilt
from melisma.sound.loudness import integrated_lufs, oversampled_peaks, true_peak_db
from melisma.values import Waveform
from melisma.values.errors import MelismaError

TARGET_LUFS = -16.0
"""Chosen: what most streaming services play music at."""
CEILING_DB = -1.0
"""EBU R 128, section 2.4: maximum true peak of distributed sound."""

MARGIN_DB = 0.1
"""Distance below the ceiling, for rounding to 16 bits and peaks between the oversampled points."""
RUMBLE_HZ = 20.0
"""Lowest audible frequency: sound below it is removed as drift."""
_FADE_IN_SECONDS = 0.005
_FADE_OUT_SECONDS = 0.03
"""Chosen: too short to soften an attack, long enough to avoid a click."""
LOOK_AHEAD_SECONDS = 0.005
MAX_LIMITING_DB = 6.0
"""Chosen: a larger reduction by the limiter would be audible, so the piece stays softer instead."""
MAX_GAIN_DB = 40.0
"""Chosen: more would amplify a noise floor."""
ROUNDS = 4
LOUDNESS_TOLERANCE_DB = 0.1

LEVELLING_RATIO = 2.0
"""Compression ratio: decibels of deviation from the reference level per decibel that remains."""
LEVELLING_GAIN_DB = 6.0
"""Largest gain or attenuation."""
DETECTOR_SECONDS = 0.25
"""Standard deviation of the Gaussian over which the level is measured: slower than notes, faster
than phrases."""
REFERENCE_SECONDS = 4.0
"""Standard deviation of the Gaussian over which the reference level is measured: long crescendos
are kept."""
PAUSE_DB = 24.0
"""Level below the reference that counts as a pause, which is not amplified."""

HOP_SECONDS = 0.02
"""Hop of the level's measurement."""
_SILENCE = 1e-10


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
    check_targets(target_lufs, ceiling_db)
    steady = level(_sound(_without_drift(waveform.samples, waveform.rate_hz), waveform))
    clean = _fade(steady.samples.astype(np.float64), waveform)
    loudness = integrated_lufs(_sound(clean, waveform))
    if loudness is None:
        return _sound(clean, waveform)
    ceiling = 10.0 ** ((ceiling_db - MARGIN_DB) / 20.0)
    peaks = oversampled_peaks(clean)
    loudest_gain_db = 20.0 * math.log10(ceiling / float(peaks.max())) + MAX_LIMITING_DB
    loudest_gain_db = min(loudest_gain_db, MAX_GAIN_DB)
    gain_db = target_lufs - loudness
    result = waveform
    for _ in range(ROUNDS):
        gain_db = min(gain_db, loudest_gain_db)
        gain = 10.0 ** (gain_db / 20.0)
        result = _sound(limit(clean * gain, peaks * gain, ceiling, waveform.rate_hz), waveform)
        short_db = target_lufs - (integrated_lufs(result) or target_lufs)
        if abs(short_db) < LOUDNESS_TOLERANCE_DB or gain_db >= loudest_gain_db:
            break
        gain_db += short_db
    return _below(result, ceiling_db - MARGIN_DB / 2)


def check_targets(target_lufs: float, ceiling_db: float) -> None:
    """Checks loudness and ceiling.

    Raises:
        MelismaError: One of them is out of range.
    """
    if not -60.0 <= target_lufs < 0.0:
        raise MelismaError(f"a target loudness lies between -60 and 0 LUFS, not {target_lufs}")
    if not -30.0 <= ceiling_db <= 0.0:
        raise MelismaError(f"a ceiling lies between -30 and 0 dB, not {ceiling_db}")


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
    return sosfiltfilt(high_pass(RUMBLE_HZ, rate_hz), centred, pad)


def fade_shape(length: int, rate_hz: int, start: int, stop: int) -> np.ndarray:
    """Part of the shape of the fades: raised cosines at both ends, each at most a quarter.

    Args:
        length: Samples of the whole sound.
        rate_hz: Its sample rate.
        start: First sample of the part.
        stop: The sample after its last.

    Returns:
        float64 [sample].
    """
    shape = np.ones(stop - start)
    for seconds, at_start in ((_FADE_IN_SECONDS, True), (_FADE_OUT_SECONDS, False)):
        count = min(round(seconds * rate_hz), length // 4)
        if count == 0:
            continue
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count)
        if at_start:
            inside = max(0, min(count, stop) - start)
            shape[:inside] *= ramp[start : start + inside]
        else:
            first = max(start, length - count)
            if first < stop:
                shape[first - start :] *= ramp[::-1][first - length + count : stop - length + count]
    return shape


def _fade(samples: np.ndarray, like: Waveform) -> np.ndarray:
    """Fades both ends, without DC offset."""
    length = samples.shape[-1]
    shape = fade_shape(length, like.rate_hz, 0, length)
    area = float(shape.sum())
    offset = (samples * shape).sum(axis=-1, keepdims=True) / area if area > 0 else 0.0
    return (samples - offset) * shape


def limit(samples: np.ndarray, peaks: np.ndarray, ceiling: float, rate_hz: int) -> np.ndarray:
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
    half = max(1, round(LOOK_AHEAD_SECONDS * rate_hz))
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


def level(waveform: Waveform) -> Waveform:
    """Halves slow deviations of the level from that of its surroundings.

    Args:
        waveform: Any number of channels, which share the gain.

    Returns:
        Of the same length and rate.
    """
    samples = waveform.samples.astype(np.float64)
    hop = max(1, round(HOP_SECONDS * waveform.rate_hz))
    count = samples.shape[1] // hop
    if count < 2:
        return waveform
    power = np.square(samples[:, : count * hop]).mean(axis=0).reshape(count, hop).mean(axis=1)
    gain_db = levelling_gains(power)
    centres = (np.arange(count) + 0.5) * hop
    gains = 10 ** (np.interp(np.arange(samples.shape[1]), centres, gain_db) / 20)
    return Waveform(samples=(samples * gains).astype(np.float32), rate_hz=waveform.rate_hz)


def levelling_gains(power: np.ndarray) -> np.ndarray:
    """Mean squares float64 [hop] of 20 ms each -> gains in decibels, float64 [hop]."""
    near = gaussian_filter1d(power, DETECTOR_SECONDS / HOP_SECONDS)
    level_db = 10 * np.log10(near + _SILENCE)
    # The reference level is that of the sound, without the pauses.
    weight = power / (power + 10 ** (-PAUSE_DB / 10) * power.max() + _SILENCE)
    width = REFERENCE_SECONDS / HOP_SECONDS
    total = gaussian_filter1d(weight, width, mode="reflect")
    reference_db = gaussian_filter1d(weight * level_db, width, mode="reflect") / (total + _SILENCE)
    deviation_db = level_db - reference_db
    gain_db = np.clip(
        -deviation_db * (1 - 1 / LEVELLING_RATIO), -LEVELLING_GAIN_DB, LEVELLING_GAIN_DB
    )
    # The gain fades to 0 dB in a pause, so that noise is not amplified.
    sounding = np.clip((deviation_db + PAUSE_DB) / (PAUSE_DB / 2), 0.0, 1.0)
    return gaussian_filter1d(gain_db * sounding, DETECTOR_SECONDS / HOP_SECONDS)
