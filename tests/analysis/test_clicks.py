"""Planted faults are found where they were planted; clean music raises no alarm."""

import numpy as np
import pytest

from melisma.analysis.artefacts.clicks import Artefacts, find_artefacts
from melisma.values import Waveform

RATE_HZ = 24_000


def music(seconds: float = 4.0) -> np.ndarray:
    """Tones with soft and hard attacks over a little noise, and drum hits: no faults."""
    rng = np.random.default_rng(1)
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    total = 0.0005 * rng.standard_normal(len(time))
    for index, start in enumerate(np.arange(0.0, seconds, 0.25)):
        since = time - start
        playing = since >= 0
        frequency = 196.0 * 2.0 ** ((index * 7 % 12) / 12.0)
        tone = sum(np.sin(2 * np.pi * frequency * h * since) / h**2 for h in range(1, 9))
        total += playing * 0.15 * np.asarray(tone) * np.exp(-np.clip(since, 0, None) * 3.0)
        if index % 2 == 0:
            decay = np.exp(-np.clip(since, 0, None) * 40.0)
            total += playing * 0.2 * rng.standard_normal(len(time)) * decay
    return total


def find(samples: np.ndarray) -> Artefacts:
    return find_artefacts(Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ))


def test_clean_music_with_drums_raises_no_alarm() -> None:
    found = find(music())
    assert found.is_clean
    assert found.clipped_share == 0.0
    assert abs(found.offset) < 0.01


@pytest.mark.parametrize("height", [0.25, -0.4])
def test_a_displaced_sample_is_a_click(height: float) -> None:
    samples = music()
    samples[50_500] += height
    found = find(samples)
    assert len(found.clicks) == 1
    assert found.clicks[0] == pytest.approx(50_500 / RATE_HZ, abs=0.002)


def test_a_splice_that_jumps_is_a_click() -> None:
    time = np.arange(3 * RATE_HZ) / RATE_HZ
    samples = 0.3 * np.sin(2 * np.pi * 220.0 * time)
    samples += 0.0005 * np.random.default_rng(2).standard_normal(len(time))
    samples[40_000:] = 0.3 * np.sin(2 * np.pi * 220.0 * time[40_000:] + 2.0)
    found = find(samples)
    assert any(abs(click - 40_000 / RATE_HZ) < 0.002 for click in found.clicks)


def test_a_dropout_is_found_with_its_length() -> None:
    samples = music()
    samples[40_000:44_800] = 0.0
    found = find(samples)
    assert len(found.dropouts) == 1
    start, end = found.dropouts[0]
    assert start == pytest.approx(40_000 / RATE_HZ, abs=0.005)
    assert end - start == pytest.approx(0.2, abs=0.01)


def test_a_note_that_dies_away_before_the_next_is_no_dropout() -> None:
    time = np.arange(RATE_HZ) / RATE_HZ
    note = 0.4 * np.sin(2 * np.pi * 330.0 * time) * np.exp(-time * 20.0)
    assert find(np.concatenate([note, note, note])).dropouts == ()


def test_dead_silence_inside_is_found_and_silence_at_the_edges_is_separate() -> None:
    piece = music()
    silence = np.zeros(2 * RATE_HZ)
    found = find(np.concatenate([silence, piece, silence, piece, silence]))
    assert len(found.dead_silences) == 1
    assert found.dead_silence_seconds == pytest.approx(2.0, abs=0.05)
    assert found.leading_silence_seconds == pytest.approx(2.0, abs=0.05)
    assert found.trailing_silence_seconds == pytest.approx(2.0, abs=0.05)
    assert not found.is_clean


def test_a_silent_piece_is_dead_throughout() -> None:
    found = find(np.zeros(5 * RATE_HZ))
    assert found.dead_silence_seconds == pytest.approx(5.0, abs=0.01)
    assert not found.is_clean


def test_clipping_is_measured() -> None:
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    loud = np.clip(1.4 * np.sin(2 * np.pi * 110.0 * time), -1.0, 1.0)
    assert find(loud).clipped_share > 0.3
    assert find(0.9 * np.sin(2 * np.pi * 113.3 * time)).clipped_share < 0.01
