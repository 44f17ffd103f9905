"""Filters, loudness and true peaks agree with scipy and pyloudnorm."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest
from scipy import ndimage, signal

from melisma.sound.filters import (
    gaussian_filter1d,
    high_pass,
    minimum_filter1d,
    sosfilt,
    sosfiltfilt,
)
from melisma.sound.loudness import integrated_lufs, oversampled_peaks
from melisma.values import Waveform

RNG = np.random.default_rng(0)
SOUND = RNG.standard_normal((2, 9_000)) + 0.3


@pytest.mark.parametrize("rate_hz", [24_000, 44_100])
def test_high_pass(rate_hz: int) -> None:
    exact = np.array(signal.butter(2, 20.0, "highpass", fs=rate_hz, output="sos"))
    np.testing.assert_allclose(high_pass(20.0, rate_hz), np.delete(exact[0], 3), rtol=1e-9)
    section = high_pass(20.0, rate_hz)
    np.testing.assert_allclose(sosfilt(section, SOUND), signal.sosfilt(exact, SOUND), atol=1e-9)
    for pad in (1, 2_400, 8_999):
        np.testing.assert_allclose(
            sosfiltfilt(section, SOUND, pad),
            signal.sosfiltfilt(exact, SOUND, padlen=pad),
            atol=1e-8,
        )


@pytest.mark.parametrize("deviation", [0.6, 12.5, 200.0])
@pytest.mark.parametrize("mode", ["nearest", "reflect"])
@pytest.mark.parametrize("count", [3, 1_000])
def test_gaussian_filter(deviation: float, mode: str, count: int) -> None:
    values = RNG.standard_normal(count)
    exact = ndimage.gaussian_filter1d(values, deviation, mode=mode)
    np.testing.assert_allclose(gaussian_filter1d(values, deviation, mode), exact, atol=1e-12)


@pytest.mark.parametrize("reach", [0, 1, 5, 120])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_minimum_filter(reach: int, count: int) -> None:
    values = RNG.standard_normal(count)
    exact = ndimage.minimum_filter1d(values, 2 * reach + 1, mode="nearest")
    assert minimum_filter1d(values, 2 * reach + 1).tolist() == exact.tolist()


def test_oversampled_peaks() -> None:
    dense = np.abs(signal.resample_poly(SOUND, 4, 1, axis=-1)).max(axis=0)
    exact = np.maximum(dense.reshape(-1, 4).max(axis=-1), np.abs(SOUND).max(axis=0))
    np.testing.assert_allclose(oversampled_peaks(SOUND), exact, rtol=1e-9)


@pytest.mark.parametrize("rate_hz", [24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.41, 3.0, 7.31])
def test_loudness(rate_hz: int, channels: int, seconds: float) -> None:
    """With a pause that both gates leave out, and one that only the second does."""
    samples = 0.1 * RNG.standard_normal((channels, round(seconds * rate_hz)))
    samples[:, len(samples[0]) // 2 :] *= 0.05
    samples[:, 3 * len(samples[0]) // 4 :] = 0.0
    exact = pyloudnorm.Meter(rate_hz).integrated_loudness(samples.astype(np.float32).T)
    found = integrated_lufs(Waveform(samples=samples.astype(np.float32), rate_hz=rate_hz))
    assert found == pytest.approx(exact, abs=1e-3)
