"""Mastering of long pieces: as `mastering.py`, in passes over stored sound.

Every pass reads the sound in blocks with as much around them as its filters and its limiter reach,
so memory does not grow with the duration. Short pieces are mastered in memory; the tests compare
both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from melisma.sound.filters import SectionFilter, high_pass, sosfilt
from melisma.sound.loudness import (
    LoudnessMeter,
    TruePeakMeter,
    integrated_lufs,
    interpolation_reach,
    oversampled_peaks,
)
from melisma.sound.mastering import (
    CEILING_DB,
    HOP_SECONDS,
    LOOK_AHEAD_SECONDS,
    LOUDNESS_TOLERANCE_DB,
    MARGIN_DB,
    MAX_GAIN_DB,
    MAX_LIMITING_DB,
    ROUNDS,
    RUMBLE_HZ,
    TARGET_LUFS,
    check_targets,
    fade_shape,
    levelling_gains,
    limit,
    master,
)
from melisma.sound.stored import BLOCK_SECONDS, WHOLE_SAMPLES, StoredSound

_SETTLING_SECONDS = 1.0
"""After this time nothing is left of the rumble filter's initial state (its slower pole falls by
88 nepers a second)."""


def master_stored(
    sound: StoredSound, target_lufs: float = TARGET_LUFS, ceiling_db: float = CEILING_DB
) -> StoredSound:
    """Masters a piece of any length, see `master`.

    Args:
        sound: The piece.
        target_lufs: As for `master`.
        ceiling_db: As for `master`.

    Returns:
        Of the same length and rate.

    Raises:
        MelismaError: As `master`.
    """
    if _is_short(sound):
        return StoredSound.of(master(sound.waveform, target_lufs, ceiling_db))
    check_targets(target_lufs, ceiling_db)
    clean = _Clean(_levelled(_without_drift(sound)))
    loudness = clean.loudness()
    if loudness is None:
        return _stored(clean, (clean.read(*edges) for edges in clean.edges()))
    ceiling = 10.0 ** ((ceiling_db - MARGIN_DB) / 20.0)
    loudest_gain_db = 20.0 * math.log10(ceiling / clean.peak) + MAX_LIMITING_DB
    loudest_gain_db = min(loudest_gain_db, MAX_GAIN_DB)
    gain_db, result = target_lufs - loudness, sound
    for _ in range(ROUNDS):
        gain_db = min(gain_db, loudest_gain_db)
        result = _stored(clean, clean.limited(10.0 ** (gain_db / 20.0), ceiling))
        measured = stored_lufs(result)
        short_db = target_lufs - (target_lufs if measured is None else measured)
        if abs(short_db) < LOUDNESS_TOLERANCE_DB or gain_db >= loudest_gain_db:
            break
        gain_db += short_db
    over_db = stored_true_peak_db(result) - (ceiling_db - MARGIN_DB / 2)
    return result if over_db <= 0 else scaled(result, 10.0 ** (-over_db / 20.0))


def _is_short(sound: StoredSound) -> bool:
    """Whether a sound is measured and mastered in memory."""
    return sound.length * sound.channels <= WHOLE_SAMPLES


def stored_lufs(sound: StoredSound) -> float | None:
    """Integrated loudness, see `integrated_lufs`."""
    if _is_short(sound):
        return integrated_lufs(sound.waveform)
    meter = LoudnessMeter(rate_hz=sound.rate_hz, channels=sound.channels, length=sound.length)
    for block in sound.blocks():
        meter.add(block.samples)
    return meter.integrated_lufs()


def stored_true_peak_db(sound: StoredSound) -> float:
    """True peak in dB relative to full scale, see `true_peak_db`."""
    meter = TruePeakMeter()
    for block in sound.blocks():
        meter.add(block.samples)
    return meter.peak_db()


def scaled(sound: StoredSound, gain: float) -> StoredSound:
    """The sound multiplied by a gain."""
    return _stored(sound, (block.samples * gain for block in sound.blocks()))


def _stored(like: StoredSound | _Clean, blocks: Iterator[np.ndarray]) -> StoredSound:
    out = StoredSound(rate_hz=like.rate_hz, channels=like.channels)
    for block in blocks:
        out.append(block)
    return out


def _without_drift(sound: StoredSound) -> StoredSound:
    """Removes DC and everything below the audible range, with zero phase shift."""
    total = np.zeros((sound.channels, 1))
    for block in sound.blocks():
        total += block.samples.sum(axis=1, keepdims=True, dtype=np.float64)
    mean = total / max(sound.length, 1)
    section, pad = high_pass(RUMBLE_HZ, sound.rate_hz), sound.rate_hz // 10
    ahead = round(_SETTLING_SECONDS * sound.rate_hz)
    out = StoredSound(rate_hz=sound.rate_hz, channels=sound.channels)
    waiting = np.zeros((sound.channels, 0))
    for forward, is_last in _forward(sound, mean, SectionFilter(section, sound.channels), pad):
        waiting = np.concatenate([waiting, forward], axis=1)
        count = waiting.shape[1] - (pad if is_last else ahead)
        if count <= 0:
            continue
        backward = sosfilt(section, waiting[:, ::-1], steady=True)[:, ::-1]
        out.append(backward[:, :count])
        waiting = waiting[:, count:]
    return out


def _forward(
    sound: StoredSound, mean: np.ndarray, forward: SectionFilter, pad: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """The sound filtered forward, with an odd extension of `pad` samples after its end, and whether
    a block is the last; the extension before its beginning is filtered and left out."""
    first = sound.read(0, pad + 1) - mean
    extension = 2 * first[:, :1] - first[:, pad:0:-1]
    forward.settle(extension)
    forward.step(extension)
    seen = 0
    for block in sound.blocks():
        seen += block.samples.shape[1]
        samples = block.samples - mean
        if seen == sound.length:
            last = sound.read(sound.length - pad - 1, sound.length) - mean
            samples = np.concatenate([samples, 2 * last[:, -1:] - last[:, -2::-1]], axis=1)
        yield forward.step(samples), seen == sound.length


def _levelled(sound: StoredSound) -> StoredSound:
    """Halves slow deviations of the level, see `level`."""
    hop = max(1, round(HOP_SECONDS * sound.rate_hz))
    count = sound.length // hop
    size = max(1, round(BLOCK_SECONDS / HOP_SECONDS)) * hop
    powers = []
    for start in range(0, count * hop, size):
        part = sound.read(start, min(start + size, count * hop)).astype(np.float64)
        powers.append(np.square(part).mean(axis=0).reshape(-1, hop).mean(axis=1))
    gain_db = levelling_gains(np.concatenate(powers))
    centres = (np.arange(count) + 0.5) * hop

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, sound.length, size):
            part = sound.read(start, start + size).astype(np.float64)
            places = np.arange(start, start + part.shape[1])
            yield part * 10 ** (np.interp(places, centres, gain_db) / 20)

    return _stored(sound, blocks())


class _Clean:
    """Sound between levelling and limiting: without offset, faded at both ends."""

    def __init__(self, sound: StoredSound) -> None:
        self._sound, self.rate_hz, self.channels = sound, sound.rate_hz, sound.channels
        self.peak = 0.0
        total, area = np.zeros((sound.channels, 1)), 0.0
        for start, stop in self.edges():
            shape = fade_shape(sound.length, sound.rate_hz, start, stop)
            total += (sound.read(start, stop) * shape).sum(axis=1, keepdims=True)
            area += float(shape.sum())
        self._offset = total / area if area > 0 else total

    def edges(self) -> Iterator[tuple[int, int]]:
        """Start and end of every block."""
        size = round(BLOCK_SECONDS * self.rate_hz)
        for start in range(0, self._sound.length, size):
            yield start, min(start + size, self._sound.length)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples float64 [channel, sample], as far as they exist."""
        start, stop = max(start, 0), min(stop, self._sound.length)
        shape = fade_shape(self._sound.length, self.rate_hz, start, stop)
        return (self._sound.read(start, stop).astype(np.float64) - self._offset) * shape

    def loudness(self) -> float | None:
        """Integrated LUFS; measures the highest peak on the way."""
        meter = LoudnessMeter(
            rate_hz=self.rate_hz, channels=self.channels, length=self._sound.length
        )
        reach = interpolation_reach()
        for start, stop in self.edges():
            meter.add(self.read(start, stop).astype(np.float32))
            around = self.read(start - reach, stop + reach)
            first = start - max(start - reach, 0)
            peaks = oversampled_peaks(around)[first : first + stop - start]
            self.peak = max(self.peak, float(peaks.max()))
        return meter.integrated_lufs()

    def limited(self, gain: float, ceiling: float) -> Iterator[np.ndarray]:
        """The sound with a gain, limited to a ceiling, block by block."""
        reach = interpolation_reach() + 4 * round(LOOK_AHEAD_SECONDS * self.rate_hz) + 4
        for start, stop in self.edges():
            around = self.read(start - reach, stop + reach)
            first = start - max(start - reach, 0)
            loud = limit(around * gain, oversampled_peaks(around) * gain, ceiling, self.rate_hz)
            yield loud[:, first : first + stop - start]
