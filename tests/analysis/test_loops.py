"""A stuck loop is found with its position and period; music that merely repeats is not stuck."""

import numpy as np
import pytest

from melisma.analysis.artefacts.loops import find_stuck_loop
from melisma.values import Waveform

RATE_HZ = 24_000


def sound_of(samples: np.ndarray) -> Waveform:
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ)


def melody(seconds: float = 8.0) -> np.ndarray:
    """Notes of other pitch, length and loudness each."""
    rng = np.random.default_rng(2)
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    total = np.zeros(len(time))
    start = 0.0
    while start < seconds:
        since = np.clip(time - start, 0.0, None)
        tone = np.sin(2 * np.pi * 220.0 * 2.0 ** (rng.integers(0, 25) / 12.0) * since)
        total += rng.uniform(0.1, 0.3) * (time >= start) * tone * np.exp(-4.0 * since)
        start += rng.uniform(0.12, 0.4)
    return total


@pytest.mark.parametrize("period_seconds", [0.08, 0.16, 0.32, 0.96])
def test_a_stuck_loop_is_found_with_its_position_and_period(period_seconds: float) -> None:
    samples = melody()
    first, length = 2 * RATE_HZ, round(period_seconds * RATE_HZ)
    repeats = max(5, round(2.0 / period_seconds))
    samples[first : first + repeats * length] = np.tile(
        samples[first - 600 : first - 600 + length], repeats
    )
    found = find_stuck_loop(sound_of(samples))
    assert found.period_seconds == pytest.approx(period_seconds, abs=0.011)
    assert found.start_seconds == pytest.approx(2.0, abs=0.15)
    assert found.end_seconds == pytest.approx(2.0 + repeats * period_seconds, abs=0.2)
    assert found.share == pytest.approx(repeats * period_seconds / 8.0, abs=0.04)


def test_three_times_is_no_fault() -> None:
    samples = melody()
    samples[RATE_HZ : 4 * RATE_HZ] = np.tile(samples[RATE_HZ : 2 * RATE_HZ], 3)
    assert not find_stuck_loop(sound_of(samples)).is_stuck


def test_a_held_chord_is_not_stuck() -> None:
    time = np.arange(5 * RATE_HZ) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * hz * time) for hz in (220.0, 277.2, 329.6, 440.0))
    assert not find_stuck_loop(sound_of(0.1 * np.asarray(chord))).is_stuck


def test_a_drum_pattern_with_the_unevenness_of_hands_is_not_stuck() -> None:
    rng = np.random.default_rng(4)
    samples = np.zeros(8 * RATE_HZ)
    decay = np.exp(-np.arange(4_000) / 700.0)
    for beat in range(30):
        first = round((0.1 + 0.25 * beat) * RATE_HZ)
        loudness = rng.uniform(0.15, 0.4)
        samples[first : first + 4_000] += loudness * rng.standard_normal(4_000) * decay
    assert not find_stuck_loop(sound_of(samples)).is_stuck


def test_silence_and_short_sound_are_not_stuck() -> None:
    for count in (0, 100, 4_800, 5 * RATE_HZ):
        found = find_stuck_loop(sound_of(np.zeros(count)))
        assert not found.is_stuck
        assert found.period_seconds == 0.0
    assert not find_stuck_loop(sound_of(melody()[:4_800])).is_stuck
