"""Synthetic room impulse responses.

Output: float32 [channel, sample]. A room consists of a dozen early reflections and exponentially
decaying noise whose treble decays faster (Schroeder, Natural sounding artificial
reverberation, JAES 1962; Moorer, About this reverberation business, 1979).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.fft import irfft, rfft, rfftfreq

from melisma.values.errors import MelismaError

ROOMS: dict[str, tuple[float, float] | None] = {
    "dry": None,
    "studio": (0.45, -13.0),
    "hall": (1.7, -9.0),
}
"""Rooms of the renderer: (decay time in seconds, level in dB relative to the direct sound), or None
for no room (chosen)."""
HIGHEST_HZ = 16_000.0
"""Upper limit of a room's response (chosen: air and walls absorb higher frequencies)."""
_REFLECTIONS = 12


def room_response(
    decay_seconds: float, rate_hz: int, rng: np.random.Generator, channels: int = 1
) -> np.ndarray:
    """A random impulse response without the direct sound.

    Channels share the room's size and colour; their noise and reflections are independent, as at
    two microphones.

    Args:
        decay_seconds: Reverberation time RT60, 0.05 to 10 s.
        rate_hz: Sample rate.
        rng: Random generator.
        channels: Number of channels.

    Returns:
        float32 [channel, sample]; each channel has an energy of 1.

    Raises:
        MelismaError: Decay time out of range.
    """
    if not 0.05 <= decay_seconds <= 10.0:
        raise MelismaError(f"a room decays in 0.05 to 10 seconds, not {decay_seconds}")
    length = int(decay_seconds * 1.1 * rate_hz)
    predelay = 0.002 + 0.012 * decay_seconds * rng.uniform(0.5, 1.5)
    treble = rng.uniform(0.35, 0.7)
    responses = [
        _response(decay_seconds, predelay, treble, length, rate_hz, rng) for _ in range(channels)
    ]
    return np.stack(responses).astype(np.float32)


def _response(
    decay_seconds: float,
    predelay_seconds: float,
    treble: float,
    length: int,
    rate_hz: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Impulse response of one channel, float64 [sample], with an energy of 1."""
    seconds = np.arange(length) / rate_hz
    response = np.zeros(length)
    top_hz = min(HIGHEST_HZ, rate_hz / 2)
    for low_hz, high_hz, factor in ((60, 500, 1.1), (500, 3_000, 1.0), (3_000, top_hz, treble)):
        band = _band_noise(rng, length, rate_hz, low_hz, high_hz)
        response += band * np.exp(-6.91 * seconds / (decay_seconds * factor))
    response[: int(predelay_seconds * rate_hz)] = 0.0
    response /= math.sqrt(float(np.sum(response**2)) + 1e-12)
    for _ in range(_REFLECTIONS):
        arrival = rng.uniform(0.003, 0.01 + 0.05 * min(decay_seconds, 1.0))
        at = min(int(arrival * rate_hz), length - 1)
        response[at] += rng.choice((-1.0, 1.0)) * 0.25 * math.exp(-arrival / 0.03)
    response /= math.sqrt(float(np.sum(response**2)) + 1e-12)
    return response


def _band_noise(
    rng: np.random.Generator, length: int, rate_hz: int, low_hz: float, high_hz: float
) -> np.ndarray:
    spectrum = rfft(rng.standard_normal(length))
    frequency = rfftfreq(length, 1 / rate_hz)
    spectrum[(frequency < low_hz) | (frequency >= high_hz)] = 0.0
    return irfft(spectrum, n=length)
