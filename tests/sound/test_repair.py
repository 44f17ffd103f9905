"""Faults of recordings are found and repaired; sound without them passes through to the bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.sound.loudness import TruePeakMeter, true_peak_db
from melisma.sound.repair import RecordingRepair, faults_of, repaired
from melisma.sound.resample import resample
from melisma.values import Waveform

RATE_HZ = 16_000


def wave(samples: np.ndarray, rate_hz: int = RATE_HZ) -> Waveform:
    """[channel, sample] or [sample]."""
    return Waveform(samples=np.atleast_2d(samples).astype(np.float32), rate_hz=rate_hz)


def tone(seconds: float = 3.0, level: float = 0.1, hz: float = 220.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return level * np.sin(2 * np.pi * hz * time)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-0.8, 0.8),
    st.floats(1e-3, 0.5),
    st.floats(0.6, 6.0),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2]),
)
def test_a_constant_offset_is_removed(
    offset: float, level: float, seconds: float, seed: int, channels: int
) -> None:
    noise = np.random.default_rng(seed).standard_normal((channels, round(seconds * RATE_HZ)))
    noise -= noise.mean(axis=1, keepdims=True)
    clean = level * noise / np.abs(noise).max()
    offsets = np.array([[offset], [0.0]])[:channels]
    found, remarks = repaired(wave(clean + offsets), "x.wav")
    deviation = float(clean.std(axis=1).max())
    if abs(offset) > max(0.06 * deviation, 2e-4):
        np.testing.assert_allclose(found.samples, clean, atol=2e-6)
        assert remarks == (f"x.wav has a DC offset of {abs(offset):.2g}, which was removed",)
    if abs(offset) < max(0.04 * deviation, 0.9e-4):
        assert remarks == ()


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_a_few_samples_have_no_offset(count: int) -> None:
    short = wave(tone()[None, 100 : 100 + count])
    again, remarks = repaired(short)
    assert again is short
    assert not remarks


def test_an_offset_that_drifts_is_removed() -> None:
    time = np.arange(20 * RATE_HZ) / RATE_HZ
    found, remarks = repaired(wave(tone(20.0) + 0.2 * np.sin(2 * np.pi * 0.05 * time)), "x.wav")
    assert len(remarks) == 1
    assert "a drifting DC offset" in remarks[0]
    error = found.samples[0, RATE_HZ:] - tone(20.0)[RATE_HZ:]
    assert np.sqrt(np.mean(error**2)) < 0.015
    assert abs(found.samples.mean()) < 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]), st.floats(0.0, 1.9))
def test_sound_without_faults_passes_through(seed: int, channels: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((channels, 2 * RATE_HZ))
    noise -= noise.mean(axis=1, keepdims=True)
    given_ = wave(level * noise / np.abs(noise).max())
    found, remarks = repaired(given_)
    assert found is given_
    assert remarks == ()


@pytest.mark.parametrize("scale", [3.0, 100.0, 32_768.0, 2.0**31, 1e30])
def test_amplitudes_of_another_scale_come_down_to_one(scale: float) -> None:
    found, remarks = repaired(wave(scale * tone(level=1.0)), "x.wav")
    np.testing.assert_allclose(found.samples[0], tone(level=1.0), atol=1e-4)
    assert "where full scale is 1: it was scaled down" in remarks[0]


@pytest.mark.parametrize("drift", [0.0, 0.2])
def test_blocks_are_repaired_as_the_whole(drift: float) -> None:
    time = np.arange(5 * RATE_HZ) / RATE_HZ
    sound = wave(5.0 * tone(5.0, 1.0) + 1.0 + drift * np.sin(time))
    repair = RecordingRepair(faults_of(sound), RATE_HZ)
    edges = [0, 1, 700, 40_000, 40_000, 5 * RATE_HZ]
    pairs = itertools.pairwise(edges)
    blocks = [repair.step(sound.samples[:, first:last]) for first, last in pairs]
    whole, _ = repaired(sound)
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), whole.samples, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1.0, 1.0), st.floats(0.05, 1.0), st.integers(0, 2**32 - 1))
def test_mixing_loses_little_whatever_the_sides_are(
    correlation: float, balance: float, seed: int
) -> None:
    left, other = np.random.default_rng(seed).standard_normal((2, 2 * RATE_HZ))
    right = correlation * left + np.sqrt(1 - correlation**2) * other
    sound = wave(np.stack([0.1 * left, 0.1 * balance * right]))
    mono = resample(sound, RATE_HZ, 1).samples
    loss_db = 10 * np.log10(np.square(sound.samples).mean() / np.square(mono).mean())
    assert loss_db < 12.5


@pytest.mark.parametrize("balance", [1.0, 0.8])
@pytest.mark.parametrize("delay", [0, 1])
def test_sides_that_cancel_are_not_lost(balance: float, delay: int) -> None:
    left = tone()
    sound = wave(np.stack([left, -balance * np.roll(left, delay)]))
    _, remarks = repaired(sound, "x.wav")
    assert len(remarks) == 1
    assert "cancel each other (antiphase)" in remarks[0]
    np.testing.assert_array_equal(sound.mono, sound.samples[0])


def test_ordinary_stereo_is_averaged() -> None:
    left, right = tone(hz=220.0), tone(hz=331.0)
    for sides in ([left, left], [left, right], [left, 0 * left], [left, -0.3 * left]):
        sound = wave(np.stack(sides))
        assert repaired(sound)[1] == ()
        np.testing.assert_array_equal(sound.mono, sound.samples.mean(axis=0))


@pytest.mark.parametrize("size", [1, 13, 500, 16_001])
def test_the_true_peak_of_blocks_is_that_of_the_whole(size: int) -> None:
    samples = np.random.default_rng(2).standard_normal((2, 3_000 if size < 100 else 30_000))
    samples = samples.astype(np.float32)
    meter = TruePeakMeter()
    for first in range(0, samples.shape[1], size):
        meter.add(samples[:, first : first + size])
    assert meter.peak_db() == pytest.approx(true_peak_db(wave(samples)), abs=1e-9)


def test_the_true_peak_of_silence_is_below_every_level() -> None:
    meter = TruePeakMeter()
    assert meter.peak_db() == -np.inf
    meter.add(np.zeros((2, 500), np.float32))
    assert meter.peak_db() == -np.inf
    meter.add(np.full((2, 500), 0.5, np.float32))
    assert meter.peak_db() > -6.1
