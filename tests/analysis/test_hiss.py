"""Steady noise is measured at its level; bursts of noise and bright tones hardly count."""

import numpy as np
import pytest

from melisma.analysis.artefacts.hiss import QUIETEST_DB, measure_hiss
from melisma.values import Waveform

RATE_HZ = 24_000
TIME = np.arange(6 * RATE_HZ) / RATE_HZ


def hiss_of(samples: np.ndarray) -> float:
    return measure_hiss(Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ))


def tone(frequency_hz: float = 330.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency_hz * TIME)


def noise(level_db: float) -> np.ndarray:
    rms = 0.3 / np.sqrt(2.0) * 10.0 ** (level_db / 20.0)
    return rms * np.random.default_rng(0).standard_normal(len(TIME))


@pytest.mark.parametrize("level_db", [-60.0, -45.0, -30.0])
def test_white_noise_reads_some_decibels_below_its_level(level_db: float) -> None:
    assert hiss_of(tone() + noise(level_db)) == pytest.approx(level_db - 5.0, abs=2.0)


def test_the_level_of_the_whole_does_not_matter() -> None:
    mixed = tone() + noise(-40.0)
    assert hiss_of(0.1 * mixed) == pytest.approx(hiss_of(mixed), abs=0.2)


def test_hits_of_noise_do_not_count() -> None:
    since = TIME % 0.25
    hits = np.random.default_rng(1).standard_normal(len(TIME)) * np.exp(-60.0 * since)
    assert hiss_of(tone() + 0.3 * hits) < -65.0


def test_bright_held_tones_are_no_hiss() -> None:
    saw = sum(np.sin(2 * np.pi * 220.0 * h * TIME) / h for h in range(1, 50))
    assert hiss_of(0.1 * np.asarray(saw)) < -60.0


def test_silence_and_short_sound_have_none() -> None:
    assert hiss_of(np.zeros(RATE_HZ)) == QUIETEST_DB
    assert hiss_of(np.zeros(0)) == QUIETEST_DB
    assert hiss_of(noise(-10.0)[:4_000]) == QUIETEST_DB
