"""Tempo of click tracks and of simple grooves with known answers."""

import numpy as np
import pytest

from melisma.analysis.audio.tempo import (
    CANDIDATES,
    measure_tempo,
    measure_tempogram,
    refine_tempo,
    tempo_candidates,
)
from melisma.values import Waveform

RATE_HZ = 24_000


def click_track(bpm: float, seconds: float = 10.0, accent_every: int = 4) -> Waveform:
    """Short noise bursts on every beat, the first of each bar louder and lower."""
    rng = np.random.default_rng(3)
    samples = np.zeros(int(seconds * RATE_HZ))
    burst = np.exp(-np.arange(1_200) / 200.0)
    beat_seconds = np.arange(0.11, seconds - 0.1, 60.0 / bpm)
    for index, start in enumerate(beat_seconds):
        first = int(start * RATE_HZ)
        if index % accent_every == 0:
            sound = 0.8 * np.sin(2 * np.pi * 120.0 * np.arange(1_200) / RATE_HZ)
        else:
            sound = 0.4 * rng.standard_normal(1_200)
        samples[first : first + 1_200] += sound * burst
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ)


@pytest.mark.parametrize("bpm", [63.0, 81.5, 97.3, 120.0, 141.0, 168.0])
def test_the_tempo_of_a_click_track_is_found_within_two_percent(bpm: float) -> None:
    estimate = measure_tempo(click_track(bpm))
    found = [estimate.bpm, *estimate.alternatives]
    assert any(value is not None and abs(value / bpm - 1) < 0.02 for value in found)
    if 80 < bpm < 145:
        assert estimate.bpm == pytest.approx(bpm, rel=0.02)


def test_a_long_track_is_measured_within_half_a_percent() -> None:
    estimate = measure_tempo(click_track(103.7, seconds=20.0))
    assert estimate.bpm == pytest.approx(103.7, rel=0.005)
    assert estimate.confidence > 0.3


def test_silence_and_very_short_sound_have_no_tempo() -> None:
    silence = Waveform(samples=np.zeros((1, 5 * RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    assert measure_tempo(silence).bpm is None
    assert measure_tempo(click_track(120.0, seconds=1.0)).bpm is None


def test_the_rate_of_the_sound_does_not_matter() -> None:
    track = click_track(111.0)
    at_48k = Waveform(samples=np.repeat(track.samples, 2, axis=1), rate_hz=48_000)
    assert measure_tempo(at_48k).bpm == pytest.approx(111.0, rel=0.02)


def test_the_tempogram_peaks_at_the_tempo_and_refinement_finds_it_exactly() -> None:
    track = click_track(100.0)
    tempogram = measure_tempogram(track)
    assert tempogram.shape == (4, 2, 4, CANDIDATES)
    at_beat = tempogram[3, 0, 0]
    tempi = tempo_candidates()
    near = at_beat[np.abs(tempi / 100.0 - 1.0) < 0.01].max()
    far = at_beat[np.abs(tempi / 132.0 - 1.0) < 0.05].max()
    assert near > 0.5
    assert near > 2 * far
    assert refine_tempo(track, 101.5) == pytest.approx(100.0, rel=0.004)
