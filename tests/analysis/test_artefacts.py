"""Each detector finds its own planted fault, and keeps quiet on clean music and on the others'."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from melisma.analysis.artefacts.hiss import measure_hiss
from melisma.analysis.artefacts.loops import find_stuck_loop
from melisma.analysis.artefacts.summary import FAULT_LIMITS, measure_faults
from melisma.analysis.artefacts.warble import measure_warble
from melisma.analysis.audio.beats import beat_variation
from melisma.values import Waveform

RATE_HZ = 24_000


def sound_of(samples: np.ndarray, rate_hz: int = RATE_HZ) -> Waveform:
    return Waveform(samples=np.atleast_2d(samples).astype(np.float32), rate_hz=rate_hz)


def piece(seconds: float = 8.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Notes with envelopes, each another one, and a drum of noise on every beat of 120 bpm."""
    rng = np.random.default_rng(7)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    total = np.zeros(len(time))
    for start in np.arange(0.0, seconds, 0.5):
        since = time - start
        playing = (since >= 0) & (since < 2.0)
        since = since[playing]
        frequency = 220.0 * 2.0 ** (rng.integers(0, 25) / 12.0)
        fading = np.exp(-1.5 * since) * np.minimum(since / 0.005, 1.0)
        tone = sum(np.sin(2 * np.pi * frequency * h * since) / h**2 for h in range(1, 7))
        total[playing] += 0.12 * np.asarray(tone) * fading
        loudness = 0.15 * rng.uniform(0.6, 1.0)
        total[playing] += loudness * rng.standard_normal(len(since)) * np.exp(-60.0 * since)
    return total


def with_hiss(samples: np.ndarray) -> np.ndarray:
    high = butter(4, 4_000.0, "high", fs=RATE_HZ, output="sos")
    noise = sosfilt(high, np.random.default_rng(1).standard_normal(len(samples)))
    return samples + 0.02 * np.sqrt(np.mean(samples**2)) * np.asarray(noise)


def read_at(samples: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.interp(places, np.arange(len(samples)), samples)


def with_warble(samples: np.ndarray) -> np.ndarray:
    """Pitch that moves by 30 cents and level by 3 dB, anew each 40 ms."""
    rng = np.random.default_rng(2)
    time = np.arange(len(samples)) / RATE_HZ
    knots = np.arange(0.0, time[-1] + 0.04, 0.04)
    cents = np.interp(time, knots, 30.0 * rng.standard_normal(len(knots)))
    level_db = np.interp(time, knots, 3.0 * rng.standard_normal(len(knots)))
    moved = np.cumsum(2.0 ** (cents / 1200.0) - 1.0)
    moved -= np.linspace(0.0, moved[-1], len(moved))
    return read_at(samples, np.arange(len(samples)) + moved) * 10.0 ** (level_db / 20.0)


def with_vibrato(samples: np.ndarray) -> np.ndarray:
    time = np.arange(len(samples)) / RATE_HZ
    depth = 20.0 / 1200.0 * np.log(2.0) / (2 * np.pi * 5.5) * RATE_HZ
    return read_at(samples, np.arange(len(samples)) - depth * np.cos(2 * np.pi * 5.5 * time))


def with_wobble(samples: np.ndarray) -> np.ndarray:
    """A tempo that goes 3 % up and down within 4 s."""
    time = np.arange(len(samples)) / RATE_HZ
    places = np.cumsum(1.0 + 0.03 * np.sin(2 * np.pi * time / 4.0))
    return read_at(samples, places[places < len(samples) - 1])


def with_stuck_loop(samples: np.ndarray, period_seconds: float = 0.32) -> np.ndarray:
    first, length = round(3.9 * RATE_HZ), round(period_seconds * RATE_HZ)
    stuck = samples.copy()
    repeats = max(6, round(2.0 / period_seconds))
    stuck[first : first + repeats * length] = np.tile(samples[first : first + length], repeats)
    return stuck


PLANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda samples: samples,
    "hiss": with_hiss,
    "warble": with_warble,
    "wobble": with_wobble,
    "stuck": with_stuck_loop,
}


@pytest.mark.parametrize("plant", PLANTS)
def test_hiss_is_found_where_there_is_hiss_and_nowhere_else(plant: str) -> None:
    hiss_db = measure_hiss(sound_of(PLANTS[plant](piece())))
    assert (hiss_db > FAULT_LIMITS["hiss_db"]) == (plant == "hiss")


@pytest.mark.parametrize("plant", PLANTS)
def test_warble_is_found_where_there_is_warble_and_nowhere_else(plant: str) -> None:
    warble = measure_warble(sound_of(PLANTS[plant](piece())))
    assert warble is not None
    assert (warble > FAULT_LIMITS["warble"]) == (plant == "warble")


def test_vibrato_is_no_warble() -> None:
    warble = measure_warble(sound_of(with_vibrato(piece())))
    assert warble is not None
    assert warble < FAULT_LIMITS["warble"]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_stuck_loop_is_found_where_one_is_and_nowhere_else(plant: str) -> None:
    assert find_stuck_loop(sound_of(PLANTS[plant](piece()))).is_stuck == (plant == "stuck")


def test_a_tempo_that_wobbles_by_three_percent_differs_from_a_steady_one() -> None:
    variation = {
        plant: beat_variation(sound_of(make(piece(10.0)))) for plant, make in PLANTS.items()
    }
    wobble = variation.pop("wobble")
    assert wobble is not None
    assert wobble > 0.015
    variation.pop("stuck")
    for steady in variation.values():
        assert steady is not None
        assert steady < 0.007


def test_the_whole_list_of_faults_of_a_piece() -> None:
    assert measure_faults(sound_of(piece())).found() == ()
    assert measure_faults(sound_of(with_hiss(piece()))).found() == ("hiss_db",)
    stuck = measure_faults(sound_of(with_stuck_loop(piece())))
    assert "stuck_share" in stuck.found()
    assert set(stuck.numbers()) == set(FAULT_LIMITS)


def test_a_number_at_its_limit_is_no_fault_and_one_above_it_is() -> None:
    clean, limit = measure_faults(sound_of(piece())), FAULT_LIMITS["hiss_db"]
    assert replace(clean, hiss_db=limit).found() == ()
    assert replace(clean, hiss_db=limit + 0.1).found() == ("hiss_db",)
    assert replace(clean, warble=None, beat_variation=None).found() == ()


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.2, 1.0])
def test_short_sound_and_silence_have_no_fault_but_silence(seconds: float) -> None:
    short = measure_faults(sound_of(piece(1.0)[: round(seconds * RATE_HZ)]))
    assert short.beat_variation is None
    assert not short.loop.is_stuck
    silent = measure_faults(sound_of(np.zeros(round(seconds * RATE_HZ))))
    assert set(silent.found()) <= {"dead_silence_seconds"}


def test_stereo_of_another_rate_reads_the_same() -> None:
    rate_hz = 44_100
    mono = piece(rate_hz=rate_hz)
    both = np.stack([mono, 0.8 * mono])
    assert measure_faults(sound_of(both, rate_hz)).found() == ()
    time = np.arange(len(mono)) / rate_hz
    hissing = both + 0.002 * np.random.default_rng(3).standard_normal(len(time))
    assert measure_faults(sound_of(hissing, rate_hz)).found() == ("hiss_db",)
