"""Room reverberation, equalisation, noise and level of rendered audio.

Input and output: float32 [sample] at 24 kHz. The rooms are those of `sound/reverberation.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.fft import irfft, rfft, rfftfreq
from scipy.fft import next_fast_len

from melisma.sound.reverberation import room_response
from melisma.values.tokens import SAMPLE_RATE_HZ

WIDE, NARROW = "wide", "narrow"
"""Values of `RenderVariety.variety`: diverse audio to train the tokenizers, uniform audio to train
the token language models."""
ROOMS = 24
"""Number of rooms of the wide variety."""
NARROW_ROOMS: tuple[int, ...] = (6, 15)
"""The two rooms of the narrow variety: a studio of half a second, a hall of 1.1 s."""
MIN_DECAY_SECONDS, MAX_DECAY_SECONDS = 0.2, 1.8
PEAK = 0.97
"""Largest absolute value of a sample."""


def synthetic_room(index: int) -> np.ndarray:
    """Impulse response of one of `ROOMS` rooms, without the direct path, of energy 1.

    Decay times (60 dB) are spaced logarithmically over 0.2-1.8 s.

    Args:
        index: 0 to `ROOMS` - 1, the longest decay last.

    Returns:
        float32 [sample] at 24 kHz.
    """
    span = math.log(MAX_DECAY_SECONDS / MIN_DECAY_SECONDS)
    decay_seconds = MIN_DECAY_SECONDS * math.exp(span * index / (ROOMS - 1))
    return room_response(decay_seconds, SAMPLE_RATE_HZ, np.random.default_rng(9_000 + index))[0]


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Acoustic processing of a dry signal."""

    room: int | None
    """Index of the room; None: dry."""
    wet: float
    """Energy of the reverberation relative to the direct sound."""
    low_shelf_db: float
    high_shelf_db: float
    tilt_db: float
    """Gain per octave around 1 kHz."""
    noise_db: float | None
    """Level of pink noise relative to the music; None: no noise."""
    level_db: float
    """Gated RMS level in dB relative to full scale."""


def sample_finish(rng: np.random.Generator, variety: str, mean_velocity: float) -> Finish:
    """Sample the acoustic processing of a clip.

    Args:
        rng: Random generator.
        variety: `WIDE` or `NARROW`.
        mean_velocity: Mean MIDI velocity; a louder performance gets a higher level.

    Returns:
        The settings.
    """
    louder = float(np.clip((mean_velocity - 72.0) / 10.0, -2.5, 2.5))
    if variety == NARROW:
        return Finish(
            room=int(rng.choice(NARROW_ROOMS)),
            wet=float(rng.uniform(0.08, 0.16)),
            low_shelf_db=0.0,
            high_shelf_db=0.0,
            tilt_db=0.0,
            noise_db=None,
            level_db=-20.0 + louder + float(rng.normal(0, 0.5)),
        )
    dry = rng.random() < 0.12
    return Finish(
        room=None if dry else int(rng.integers(ROOMS)),
        wet=float(np.exp(rng.uniform(np.log(0.02), np.log(0.6)))),
        low_shelf_db=float(np.clip(rng.normal(0, 2.0), -6, 6)),
        high_shelf_db=float(np.clip(rng.normal(0, 2.5), -8, 6)),
        tilt_db=float(np.clip(rng.normal(0, 0.5), -1.2, 1.2)),
        noise_db=float(rng.uniform(-62, -38)) if rng.random() < 0.12 else None,
        level_db=-20.0 + louder + float(np.clip(rng.normal(0, 1.5), -3, 3)),
    )


def finish_sound(
    dry: np.ndarray,
    lead_in_samples: int,
    finish: Finish,
    rooms: dict[int, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Apply room, equalisation, noise and level to a dry signal.

    Args:
        dry: float [sample] at 24 kHz.
        lead_in_samples: Samples at the start to drop.
        finish: What to apply.
        rooms: Cache of impulse responses by room; extended as needed.
        rng: Random generator of the noise.

    Returns:
        float32 [sample - lead-in], at most `PEAK` in absolute value.
    """
    response = None
    if finish.room is not None:
        if finish.room not in rooms:
            rooms[finish.room] = synthetic_room(finish.room)
        response = rooms[finish.room]
    tail = 0 if response is None else len(response)
    length = _fast_length(len(dry) + tail)
    spectrum = rfft(dry, n=length)
    frequency = rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    gain = _equalisation(frequency, finish)
    if response is not None:
        gain = gain * (1.0 + math.sqrt(finish.wet) * rfft(response, n=length))
    sound = irfft(spectrum * gain, n=length)[lead_in_samples : len(dry)]
    if finish.noise_db is not None:
        sound = sound + _pink_noise(rng, len(sound)) * _gated_rms(sound) * 10 ** (
            finish.noise_db / 20
        )
    return _set_level(sound, finish.level_db)


def _equalisation(frequency: np.ndarray, finish: Finish) -> np.ndarray:
    """Amplitude at each frequency: shelves at 200 Hz and 4 kHz, a tilt, a high-pass at 22 Hz."""
    frequency = np.maximum(frequency, 1.0)
    low = finish.low_shelf_db / (1.0 + (frequency / 200.0) ** 2)
    high = finish.high_shelf_db / (1.0 + (4_000.0 / frequency) ** 2)
    tilt = finish.tilt_db * np.log2(np.clip(frequency, 60.0, 10_000.0) / 1_000.0)
    rumble = 1.0 / np.sqrt(1.0 + (22.0 / frequency) ** 4)
    return 10 ** ((low + high + tilt) / 20) * rumble


def _fast_length(length: int) -> int:
    """The smallest length of a fast Fourier transform that is at least `length`."""
    return int(cast(int, next_fast_len(length, real=True)))


def _pink_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    padded = _fast_length(length)
    spectrum = rfft(rng.standard_normal(padded))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20.0))
    noise = irfft(spectrum, n=padded)[:length]
    return noise / (float(np.std(noise)) + 1e-9)


def _gated_rms(sound: np.ndarray) -> float:
    """RMS of the 0.4 s blocks within 10 dB of the mean (the gate of ITU-R BS.1770-4)."""
    block = int(0.4 * SAMPLE_RATE_HZ)
    count = max(len(sound) // block, 1)
    energy = np.array([float(np.mean(part**2)) for part in np.array_split(sound, count)])
    gate = 0.1 * float(np.mean(energy))
    return math.sqrt(float(np.mean(energy[energy >= gate])))


def _set_level(sound: np.ndarray, level_db: float) -> np.ndarray:
    rms = _gated_rms(sound)
    if rms < 1e-6:
        return sound.astype(np.float32)
    sound = sound * (10 ** (level_db / 20) / rms)
    peak = float(np.max(np.abs(sound)))
    if peak > PEAK:
        # Soft clipping above the knee, then scaling if peaks remain.
        knee = 0.6
        above_knee = np.abs(sound) > knee
        headroom = 1.0 - knee
        rounded = knee + headroom * np.tanh((np.abs(sound[above_knee]) - knee) / headroom)
        sound[above_knee] = np.sign(sound[above_knee]) * rounded
        sound *= min(1.0, PEAK / float(np.max(np.abs(sound))))
    return sound.astype(np.float32)
