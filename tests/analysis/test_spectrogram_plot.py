"""The picture of a sound shows its pitches at their frequencies and its events at their times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from melisma.analysis.plots.spectrogram import plot_sound, spectrogram_data
from melisma.values import Waveform
from melisma.values.errors import MelismaError

RATE_HZ = 24_000


def test_a_tone_stands_at_its_frequency_and_time() -> None:
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    sound = np.where(time >= 1.0, 0.5 * np.sin(2 * np.pi * 1000 * time), 0.0)
    data = spectrogram_data(Waveform(samples=sound[None], rate_hz=RATE_HZ))
    assert data.seconds == 2.0
    assert data.mel_db.shape == (len(data.bin_hz), len(data.column_seconds))
    late = data.column_seconds > 1.2
    loudest_hz = data.bin_hz[data.mel_db[:, late].mean(axis=1).argmax()]
    assert loudest_hz == pytest.approx(1000, rel=0.05)
    assert data.mel_db[:, data.column_seconds < 0.8].max() < -60
    assert data.highest[late].min() == pytest.approx(0.5, abs=0.01)
    assert data.lowest[data.column_seconds < 0.8].min() == 0.0


def test_long_sound_has_no_more_columns_than_a_picture_shows() -> None:
    data = spectrogram_data(Waveform(samples=np.zeros((1, 60 * 8_000), np.float32), rate_hz=8_000))
    assert len(data.column_seconds) <= 1_600


def test_a_png_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).standard_normal((2, RATE_HZ)) * 0.1
    plot_sound(Waveform(samples=noise, rate_hz=RATE_HZ), path, "cost: $5 a_b ^ \\ {")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_no_sound_no_picture(tmp_path: Path) -> None:
    nothing = Waveform(samples=np.zeros((1, 0), np.float32), rate_hz=RATE_HZ)
    with pytest.raises(MelismaError, match="length is 0"):
        plot_sound(nothing, tmp_path / "x.png", "nothing")
