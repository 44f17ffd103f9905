"""The fader: swells shrink, attacks stay, pauses stay quiet, steady sound is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from melisma.analysis.audio.levels import measure_levels
from melisma.sound.mastering import LEVELLING_GAIN_DB, level
from melisma.values import Waveform

RATE_HZ = 24_000
SECONDS = 10.0


def tone(gains_db: np.ndarray | float = 0.0) -> Waveform:
    """A tone whose gain follows the given points in decibels."""
    count = round(SECONDS * RATE_HZ)
    points = np.atleast_1d(np.asarray(gains_db, dtype=np.float64))
    gains = 10 ** (np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(points)), points) / 20)
    sound = 0.2 * gains * np.sin(2 * np.pi * 330 * np.arange(count) / RATE_HZ)
    return Waveform(samples=sound[None].astype(np.float32), rate_hz=RATE_HZ)


def test_steady_sound_is_left_alone() -> None:
    before = tone()
    np.testing.assert_allclose(level(before).samples, before.samples, atol=2e-3)


@pytest.mark.parametrize("depth_db", [4.0, 8.0])
def test_swells_are_about_halved(depth_db: float) -> None:
    before = tone(np.tile([0.0, -depth_db], 5))
    after = level(before)
    ratio = measure_levels(after).spread_db / measure_levels(before).spread_db
    assert 0.4 < ratio < 0.7
    assert after.samples.shape == before.samples.shape


def test_a_long_crescendo_stays_a_crescendo() -> None:
    after = level(tone(np.array([-12.0, 0.0]))).samples[0]
    first, last = after[RATE_HZ : 2 * RATE_HZ], after[-2 * RATE_HZ : -RATE_HZ]
    assert 20 * np.log10(last.std() / first.std()) > 6.0


def test_attacks_keep_their_shape() -> None:
    beats = np.zeros(round(SECONDS * RATE_HZ))
    click = np.exp(-np.arange(RATE_HZ // 4) / 1_500) * np.sin(np.arange(RATE_HZ // 4))
    for start in range(0, len(beats) - len(click), RATE_HZ // 2):
        beats[start : start + len(click)] += click
    before = Waveform(samples=(0.3 * beats)[None].astype(np.float32), rate_hz=RATE_HZ)
    after = level(before)
    middle = slice(4 * RATE_HZ, 4 * RATE_HZ + len(click))
    one, other = before.samples[0, middle], after.samples[0, middle]
    assert np.corrcoef(one, other)[0, 1] > 0.995


def test_pauses_are_not_pulled_up() -> None:
    rng = np.random.default_rng(0)
    sound = tone().samples[0].copy()
    sound[5 * RATE_HZ :] = 1e-4 * rng.standard_normal(len(sound) - 5 * RATE_HZ)
    after = level(Waveform(samples=sound[None], rate_hz=RATE_HZ)).samples[0]
    assert after[-2 * RATE_HZ :].std() < 1.3e-4
    assert np.abs(after).max() < 0.2 * 10 ** (LEVELLING_GAIN_DB / 20)


@pytest.mark.parametrize("samples", [1, 30, 700])
def test_a_moment_and_silence_come_back(samples: int) -> None:
    before = Waveform(samples=np.zeros((1, samples), dtype=np.float32), rate_hz=RATE_HZ)
    np.testing.assert_array_equal(level(before).samples, before.samples)
