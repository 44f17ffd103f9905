"""Loudness and mastering against answers known in advance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.sound.mastering import CEILING_DB, TARGET_LUFS, master
from melisma.values import Waveform
from melisma.values.errors import MelismaError

RATE_HZ = 24_000
TIME = np.arange(4 * RATE_HZ) / RATE_HZ


def sound(samples: np.ndarray) -> Waveform:
    return Waveform(samples=np.atleast_2d(samples).astype(np.float32), rate_hz=RATE_HZ)


def tone(hz: float, amplitude: float = 1.0, phase: float = 0.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * TIME + phase)


def test_loudness_of_a_full_scale_tone() -> None:
    # BS.1770-4, annex 1: 997 Hz at full scale in one channel reads -3.01 LKFS.
    assert integrated_lufs(sound(tone(997))) == pytest.approx(-3.01, abs=0.1)
    half = integrated_lufs(sound(tone(997, 0.5)))
    assert half == pytest.approx(-3.01 - 6.02, abs=0.1)


def test_loudness_of_sound_shorter_than_a_block() -> None:
    assert integrated_lufs(sound(tone(1000)[:2400])) == pytest.approx(-3.0, abs=0.2)


def test_loudness_of_silence_is_none() -> None:
    assert integrated_lufs(sound(np.zeros(RATE_HZ))) is None
    assert integrated_lufs(sound(np.zeros((1, 0)))) is None
    assert integrated_lufs(sound(tone(440, 1e-6))) is None


def test_the_true_peak_lies_between_the_samples() -> None:
    # A tone at a quarter of the rate, 45 degrees off: all samples are at -3.01 dB, the peak at 0.
    between = tone(RATE_HZ / 4, phase=math.pi / 4)
    between *= np.minimum(1.0, np.minimum(TIME, TIME[::-1]) * 10)
    assert 20 * math.log10(np.abs(between).max()) == pytest.approx(-3.01, abs=0.01)
    assert true_peak_db(sound(between)) == pytest.approx(0.0, abs=0.15)
    assert true_peak_db(sound(np.zeros(5))) == -math.inf


@pytest.mark.parametrize(
    "samples",
    [
        tone(440, 0.01) + 0.3,
        np.random.default_rng(0).standard_normal(len(TIME)),
        np.stack([tone(440, 0.1), 0.3 * np.random.default_rng(1).standard_normal(len(TIME))]),
        np.exp(-(TIME % 0.5) * 15) * tone(300),
    ],
    ids=["faint with DC", "noise", "stereo", "plucked"],
)
def test_mastered_sound_is_loud_enough_clean_and_below_the_ceiling(samples: np.ndarray) -> None:
    before = sound(samples)
    after = master(before)
    assert after.samples.shape == before.samples.shape
    lufs = integrated_lufs(after)
    assert lufs is not None
    assert lufs == pytest.approx(TARGET_LUFS, abs=0.3)
    assert true_peak_db(after) < CEILING_DB
    assert np.abs(after.samples.mean(axis=1)).max() < 1e-3
    assert np.abs(after.samples[:, 0]).max() == 0.0
    assert np.abs(after.samples[:, -1]).max() < 1e-3


def test_peaks_far_above_the_rest_keep_a_piece_softer() -> None:
    clicks = 0.002 * np.random.default_rng(2).standard_normal(len(TIME))
    clicks[RATE_HZ::RATE_HZ] = 1.0
    after = master(sound(clicks))
    lufs = integrated_lufs(after)
    assert lufs is not None
    assert lufs < TARGET_LUFS
    assert true_peak_db(after) < CEILING_DB


def test_mastering_only_scales_where_nothing_must_be_limited() -> None:
    before = tone(1000, 0.2)
    after = master(sound(before)).samples[0]
    middle = slice(RATE_HZ, 3 * RATE_HZ)
    gain = float(after[middle] @ before[middle] / (before[middle] @ before[middle]))
    np.testing.assert_allclose(after[middle], gain * before[middle], atol=1e-4)


@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ), np.full(RATE_HZ, 0.4), np.zeros((2, 0))])
def test_silence_stays_silence(samples: np.ndarray) -> None:
    assert not master(sound(samples)).samples.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.integers(0, 10_000), st.floats(-6, 1))
def test_any_short_sound_survives(length: int, seed: int, exponent: float) -> None:
    samples = np.random.default_rng(seed).standard_normal(length) * 10.0**exponent
    after = master(sound(samples))
    assert np.isfinite(after.samples).all()
    assert length == 0 or true_peak_db(after) < CEILING_DB


def test_targets_out_of_range_are_refused() -> None:
    with pytest.raises(MelismaError, match="target loudness"):
        master(sound(tone(440)), target_lufs=3.0)
    with pytest.raises(MelismaError, match="ceiling"):
        master(sound(tone(440)), ceiling_db=1.0)
