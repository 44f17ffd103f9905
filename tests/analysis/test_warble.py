"""Jitter of held tones is measured; vibrato, glides, changes of note and noise are not jitter."""

import numpy as np
import pytest

from melisma.analysis.artefacts.warble import measure_jitter, measure_warble
from melisma.values import Waveform

RATE_HZ = 24_000
TIME = np.arange(6 * RATE_HZ) / RATE_HZ
KNOTS = np.arange(0.0, 6.1, 0.04)


def sound_of(samples: np.ndarray) -> Waveform:
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ)


def chord(cents: np.ndarray, level_db: np.ndarray) -> Waveform:
    """Three tones with harmonics whose pitch and level move as given, [sample]."""
    turns = np.cumsum(2.0 ** (cents / 1200.0)) / RATE_HZ
    total = np.zeros(len(TIME))
    for frequency_hz in (261.6, 392.0, 659.3):
        for harmonic in (1, 2, 3):
            total += np.sin(2 * np.pi * frequency_hz * harmonic * turns) / harmonic**2
    return sound_of(0.1 * total * 10.0 ** (level_db / 20.0))


def unrest(size: float) -> np.ndarray:
    """Anew each 40 ms, straight between."""
    deviations = np.random.default_rng(4).standard_normal(len(KNOTS))
    return np.interp(TIME, KNOTS, size * deviations)


def warble_of(sound: Waveform) -> float:
    warble = measure_warble(sound)
    assert warble is not None
    return warble


def jitter_of(sound: Waveform) -> tuple[float, float]:
    jitter = measure_jitter(sound)
    assert jitter is not None
    return jitter


def test_jitter_of_pitch_and_of_level_are_separate_and_grow() -> None:
    still = np.zeros(len(TIME))
    assert warble_of(chord(still, still)) < 0.1
    pitch = [jitter_of(chord(unrest(cents), still))[0] for cents in (5.0, 15.0, 40.0)]
    level = [jitter_of(chord(still, unrest(size)))[1] for size in (1.0, 3.0)]
    assert 0.1 < pitch[0] < pitch[1] < pitch[2]
    assert 0.01 < level[0] < level[1]
    both = [warble_of(chord(unrest(10.0 * size), unrest(size))) for size in (1.0, 2.0, 4.0)]
    assert 0.4 < both[0] < both[1] < both[2]
    assert both[2] > 1.66, "the limit of clean renders"


@pytest.mark.parametrize("cents", [10.0, 25.0])
def test_vibrato_counts_far_less_than_unrest_of_its_size(cents: float) -> None:
    still = np.zeros(len(TIME))
    vibrato = warble_of(chord(cents * np.sin(2 * np.pi * 5.5 * TIME), still))
    assert vibrato < 0.4 * warble_of(chord(unrest(cents), still))


def test_a_glide_and_a_fading_tone_are_steady() -> None:
    assert warble_of(chord(40.0 * TIME, -6.0 * TIME)) < 0.4


def test_where_no_tone_is_held_there_is_no_figure() -> None:
    rng = np.random.default_rng(5)
    hits = rng.standard_normal(len(TIME)) * np.exp(-20.0 * (TIME % 0.5))
    assert measure_warble(sound_of(0.3 * hits)) is None
    assert measure_warble(sound_of(np.zeros(RATE_HZ))) is None
    assert measure_warble(sound_of(np.zeros(0))) is None
    assert measure_warble(sound_of(np.sin(2 * np.pi * 440.0 * TIME[:4_000]))) is None
