"""Recordings are read repaired, and measured in constant memory as in one piece."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melisma.generation.conditioning.recording import recording_of
from melisma.recordings import (
    measure_recording,
    read_and_repair,
    repaired_audio,
    store_and_repair,
)
from melisma.sound.loudness import integrated_lufs, true_peak_db
from melisma.values import Waveform

RATE_HZ = 24_000


def written(path: Path, sound: np.ndarray, coding: str = "FLOAT") -> Path:
    soundfile.write(path, sound.T, RATE_HZ, format="WAV", subtype=coding)
    return path


def noise(seconds: float, channels: int = 1, level: float = 0.1) -> np.ndarray:
    samples = np.random.default_rng(7).standard_normal((channels, round(seconds * RATE_HZ)))
    return level * (samples - samples.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.41, 7.3])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_a_file_is_measured_as_in_one_piece(
    tmp_path: Path, seconds: float, channels: int, offset: float
) -> None:
    clean = noise(seconds, channels)
    path = written(tmp_path / "x", clean + offset)
    found = measure_recording(path)
    whole = Waveform(samples=clean.astype(np.float32), rate_hz=RATE_HZ)
    assert found.seconds == pytest.approx(seconds, abs=1 / RATE_HZ)
    assert (found.rate_hz, found.channels) == (RATE_HZ, channels)
    assert found.loudness_lufs == pytest.approx(integrated_lufs(whole), abs=1e-4)
    assert found.true_peak_db == pytest.approx(true_peak_db(whole), abs=1e-4)
    assert len(found.remarks) == (offset > 0)


def test_silence_and_surround_are_measured(tmp_path: Path) -> None:
    silence = measure_recording(written(tmp_path / "x", np.zeros((1, RATE_HZ))))
    assert silence.loudness_lufs is None
    assert silence.true_peak_db == -np.inf
    surround = measure_recording(written(tmp_path / "x", noise(1.0, 6)))
    assert surround.channels == 6
    assert "mixed to one" in surround.remarks[0]


def test_every_way_of_reading_repairs_alike(tmp_path: Path) -> None:
    clean = noise(3.0, 2, level=100.0)
    path = written(tmp_path / "x.wav", clean + 60.0)
    found = read_and_repair(path)
    stored, remarks = store_and_repair(path)
    np.testing.assert_allclose(stored.waveform.samples, found.waveform.samples, atol=1e-6)
    expected = clean / np.abs(clean).max()
    np.testing.assert_allclose(found.waveform.samples, expected, atol=1e-5)
    assert remarks == found.remarks
    assert len(remarks) == 2
    with pytest.warns(UserWarning, match=r"x.wav"):
        np.testing.assert_array_equal(repaired_audio(path).samples, found.waveform.samples)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
        for _ in range(30):
            file.write(np.zeros((480_000, 2), np.float32))
    tracemalloc.start()
    measure_recording(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # five minutes are 115 MB


def test_a_recording_that_is_continued_is_repaired(tmp_path: Path) -> None:
    clean = noise(4.0, 2)
    path = written(
        tmp_path / "x.wav", np.concatenate([clean, np.zeros((2, RATE_HZ))], axis=1) + 0.3
    )
    for whole in (False, True):
        found = recording_of(path, 1.0, whole=whole)
        samples = found.beginning.samples
        assert samples.shape == (2, RATE_HZ)
        np.testing.assert_allclose(samples, clean[:, -RATE_HZ:], atol=1e-4)
        assert "DC offset of 0.3" in found.remarks[0]
        assert "silence at the end of x.wav" in found.remarks[1]
