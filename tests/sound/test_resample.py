"""Resampling of waveforms and arrays."""

from __future__ import annotations

import numpy as np
import pytest

from melisma.sound.resample import mono_samples, resample, resample_samples
from melisma.values.waveform import Waveform


def stereo(rate_hz: int = 48_000) -> Waveform:
    """One second of 440 Hz, quieter on the right."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
    return Waveform(samples=np.stack([tone, 0.5 * tone]).astype(np.float32), rate_hz=rate_hz)


def test_a_tone_keeps_its_pitch_level_and_duration() -> None:
    found = resample(stereo(), 24_000)
    assert found.samples.shape == (2, 24_000)
    inner = slice(1_000, -1_000)
    np.testing.assert_allclose(found.samples[:, inner], stereo(24_000).samples[:, inner], atol=1e-4)


@pytest.mark.parametrize("rate_hz", [24_000, 48_000])
def test_channels_are_averaged_and_repeated(rate_hz: int) -> None:
    waveform = stereo()
    mono = resample(waveform, rate_hz, 1)
    assert np.array_equal(mono.samples[0], mono_samples(waveform, rate_hz))
    again = resample(mono, rate_hz, 2)
    assert np.array_equal(again.samples, np.repeat(mono.samples, 2, axis=0))
    assert again.samples.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_keep_their_type_and_their_values_at_an_equal_rate(dtype: type) -> None:
    samples = stereo().samples.astype(dtype)
    assert resample_samples(samples, 48_000, 48_000) is samples
    both = resample_samples(samples, 48_000, 22_050)
    assert both.dtype == dtype
    assert np.array_equal(both[1], resample_samples(samples[1], 48_000, 22_050))
    assert mono_samples(stereo(), 22_050, dtype).dtype == dtype
    assert resample_samples(samples[:, :0], 48_000, 22_050).shape == (2, 0)
