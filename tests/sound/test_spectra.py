"""Spectra: frames stand where they say, filters are fair, semitones are three bins."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from melisma.sound.spectra import decimate, log_frequency, log_mel, mel_filters, spectrum

RATE_HZ = 24_000
LOWEST_HZ = 32.703


def sine(hz: float, samples: int = RATE_HZ, level: float = 0.5) -> Tensor:
    return level * torch.sin(2 * math.pi * hz * torch.arange(samples) / RATE_HZ)[None]


@pytest.mark.parametrize(("window", "bins"), [(256, 40), (360, 32), (1920, 200)])
def test_mel_filters_weigh_one_each_and_none_is_empty(window: int, bins: int) -> None:
    filters = mel_filters(RATE_HZ, window, bins)
    assert filters.shape == (bins, window // 2 + 1)
    torch.testing.assert_close(filters.sum(dim=1), torch.ones(bins))
    assert bool((filters >= 0).all())
    centres = (filters * torch.arange(window // 2 + 1)).sum(dim=1)
    assert bool((centres.diff() > -1e-4).all())


def test_frames_are_centred_on_their_hop() -> None:
    sound = torch.zeros(1, 4_800)
    sound[0, 7 * 240] = 1.0
    power = spectrum(sound, 1_024, 240).abs().square().sum(dim=1)[0]
    assert power.shape == (20,)
    assert int(power.argmax()) == 7
    torch.testing.assert_close(power[6], power[8])


def test_ten_times_louder_is_a_constant_more() -> None:
    shape = {"rate_hz": RATE_HZ, "window_samples": 1024, "hop_samples": 480, "bins": 40}
    noise = 0.1 * torch.randn(1, RATE_HZ, generator=torch.Generator().manual_seed(0))
    quiet, loud = log_mel(noise, **shape), log_mel(10 * noise, **shape)
    assert quiet.shape == (1, 40, 50)
    torch.testing.assert_close(
        loud - quiet, torch.full_like(quiet, math.log(10)), atol=1e-2, rtol=0
    )
    assert bool(torch.isfinite(log_mel(torch.zeros(1, 4_800), **shape)).all())


@pytest.mark.parametrize("semitones", [9, 30, 45, 57, 70])
def test_a_tone_lies_in_its_semitone_in_every_band(semitones: int) -> None:
    tone = sine(LOWEST_HZ * 2 ** (semitones / 12))
    bins = log_frequency(tone, rate_hz=RATE_HZ, hop_samples=480)
    assert bins.shape == (1, 252, 50)
    middle = bins[0, :, 10:-10].mean(dim=1)
    assert abs(int(middle.argmax()) - 3 * semitones) <= 1


def test_levels_of_tones_are_alike_in_all_bands() -> None:
    peaks = [
        float(log_frequency(sine(hz), rate_hz=RATE_HZ, hop_samples=480)[0, :, 25].max())
        for hz in (110.0, 440.0, 1_760.0)
    ]
    assert max(peaks) - min(peaks) < 0.5


def test_decimation_keeps_what_fits_and_drops_what_does_not() -> None:
    low, high = decimate(sine(400.0), 4), decimate(sine(5_000.0), 4)
    assert low.shape == (1, RATE_HZ // 4)
    middle = slice(500, -500)
    assert float(low[0, middle].abs().max()) == pytest.approx(0.5, abs=0.01)
    assert float(high[0, middle].abs().max()) < 1e-3
    expected = sine(400.0)[:, ::4]
    torch.testing.assert_close(low[:, middle], expected[:, middle], atol=5e-3, rtol=0)
