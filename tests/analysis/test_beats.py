"""Beats of click tracks with known answers, and how evenly they fall."""

import numpy as np
import pytest

from melisma.analysis.audio.beats import beat_variation, track_beats
from melisma.values import Waveform

RATE_HZ = 24_000


def clicks(times_seconds: np.ndarray, seconds: float = 12.0) -> Waveform:
    rng = np.random.default_rng(3)
    samples = np.zeros(int(seconds * RATE_HZ))
    burst = np.exp(-np.arange(1_200) / 200.0)
    for start in times_seconds[times_seconds < seconds - 0.1]:
        first = round(start * RATE_HZ)
        samples[first : first + 1_200] += 0.4 * rng.standard_normal(1_200) * burst
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ)


def times(interval_seconds: float, jitter: float = 0.0) -> np.ndarray:
    """Beats whose intervals have this coefficient of variation."""
    deviations = np.random.default_rng(1).standard_normal(60)
    return 0.2 + np.cumsum(interval_seconds * (1.0 + jitter * deviations))


@pytest.mark.parametrize("bpm", [84.0, 100.0, 126.0])
def test_the_beats_of_a_click_track_are_found(bpm: float) -> None:
    truth = times(60.0 / bpm)
    found = track_beats(clicks(truth))
    assert len(found) > 10
    assert np.all(np.diff(found) > 0.0)
    distance = np.abs(found[:, None] - truth[None]).min(axis=1)
    assert np.median(distance) < 0.012
    assert np.diff(found).mean() == pytest.approx(60.0 / bpm, rel=0.02)


def test_variation_grows_with_the_jitter_of_the_intervals() -> None:
    steady, wobbling, wild = (beat_variation(clicks(times(0.5, j))) for j in (0.0, 0.03, 0.06))
    assert steady is not None
    assert wobbling is not None
    assert wild is not None
    assert steady < 0.008
    assert wobbling == pytest.approx(0.03, abs=0.012)
    assert wild > 1.4 * wobbling


def test_without_a_pulse_there_are_no_beats() -> None:
    nothing = Waveform(samples=np.zeros((1, 6 * RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    assert len(track_beats(nothing)) == 0
    assert beat_variation(nothing) is None
    time = np.arange(6 * RATE_HZ) / RATE_HZ
    held = 0.3 * np.sin(2 * np.pi * 220.0 * time)[None].astype(np.float32)
    assert beat_variation(Waveform(samples=held, rate_hz=RATE_HZ)) is None
    assert beat_variation(clicks(times(0.5), seconds=1.5)) is None
