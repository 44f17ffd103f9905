"""Magnitudes alone become sound again: right in frequency, level and time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from melisma.sound import phase_retrieval
from melisma.sound.phase_retrieval import (
    DELAY_SAMPLES,
    HIGH_FIRST_LINE,
    HIGH_WINDOW_SAMPLES,
    HOP_SAMPLES,
    LINES,
    LOW_LINES,
    LOW_WINDOW_SAMPLES,
    RATE_HZ,
    SPLIT_HZ,
    initial_state,
    magnitudes,
    step,
)


def sine(hz: float, samples: int = RATE_HZ // 2, level: float = 0.5) -> Tensor:
    return level * torch.sin(2 * math.pi * hz * torch.arange(samples) / RATE_HZ)[None]


def again(sound: Tensor) -> Tensor:
    """Sound -> magnitudes -> sound, the delay taken away."""
    frames = torch.nn.functional.pad(magnitudes(sound), (0, 0, 0, 4))
    made, _ = step(frames, initial_state(len(sound)))
    return made[:, DELAY_SAMPLES : DELAY_SAMPLES + sound.shape[1]]


def strongest_hz(sound: Tensor) -> float:
    """The strongest frequency, between the lines of a padded transform."""
    middle = sound[0, 2400:-2400].double()
    lines = torch.fft.rfft(middle * torch.hann_window(len(middle), dtype=torch.float64), 1 << 18)
    return int(lines.abs().argmax()) * RATE_HZ / (1 << 18)


def test_both_bands_meet_at_the_split() -> None:
    assert LOW_LINES * RATE_HZ / LOW_WINDOW_SAMPLES == SPLIT_HZ
    assert HIGH_FIRST_LINE * RATE_HZ / HIGH_WINDOW_SAMPLES == SPLIT_HZ
    assert magnitudes(torch.zeros(2, 960)).shape == (2, 960 // HOP_SAMPLES, LINES)


@pytest.mark.parametrize("hz", [93.3, 440.0, 1_003.7, 3_111.0, 9_000.0])
def test_a_sine_comes_back_at_its_frequency_and_level(hz: float) -> None:
    sound = sine(hz)
    made = again(sound)
    cents = 1200 * math.log2(strongest_hz(made) / hz)
    assert abs(cents) < 12
    middle = slice(2400, -2400)
    decibels = 20 * math.log10(float(made[0, middle].std() / sound[0, middle].std()))
    assert abs(decibels) < 1.0


def test_a_full_scale_sine_has_a_magnitude_of_about_one() -> None:
    for hz in (500.0, 506.0, 5_000.0, 5_015.0):
        peak = float(magnitudes(sine(hz, level=1.0))[0, 10:-10].amax(dim=-1).mean())
        assert 0.8 < peak < 1.05


def test_tones_of_a_chord_keep_their_balance() -> None:
    tones = (220.0, 277.2, 2_600.0)
    sound = torch.stack(
        [sine(hz, level=level) for hz, level in zip(tones, (0.3, 0.1, 0.2), strict=True)]
    )
    made = again(sound.sum(dim=0))
    window = torch.hann_window(made.shape[1])
    for hz, level in zip(tones, (0.3, 0.1, 0.2), strict=True):
        lines = torch.fft.rfft(made[0] * window).abs() / (made.shape[1] / 4)
        place = round(hz * made.shape[1] / RATE_HZ)
        assert float(lines[place - 3 : place + 4].max()) == pytest.approx(level, rel=0.35)


def test_silence_stays_silent() -> None:
    assert not step(torch.zeros(1, 8, LINES), initial_state(1))[0].any()
    assert float(again(torch.zeros(1, 4_800)).abs().max()) < 1e-4


def test_a_burst_begins_and_ends_where_it_was() -> None:
    sound = sine(700.0, samples=RATE_HZ)
    sound[:, : RATE_HZ // 4] = 0
    sound[:, RATE_HZ // 2 :] = 0
    level = np.convolve(again(sound)[0].numpy() ** 2, np.ones(480) / 480, "same")
    inside = np.flatnonzero(level > 0.5 * np.median(level[7_000:11_000]))
    assert inside[0] / RATE_HZ == pytest.approx(0.25, abs=0.025)
    assert inside[-1] / RATE_HZ == pytest.approx(0.50, abs=0.025)


def test_neighbours_in_a_batch_do_not_hear_each_other() -> None:
    both = torch.cat([sine(440.0, 4_800), sine(1_000.0, 4_800)])
    torch.testing.assert_close(again(both)[:1], again(both[:1]), atol=1e-5, rtol=1e-4)


def test_compiled_phases_are_those_of_pytorch() -> None:
    """Music-like magnitudes, silence, and bands without a peak, from any phase on."""
    generator = torch.Generator().manual_seed(0)
    block = torch.rand(2, 50, phase_retrieval.LINES, generator=generator) ** 4
    block[0, 10:20] = 0.0
    block[1, :, phase_retrieval.LOW_LINES :] = torch.linspace(
        1, 0, phase_retrieval.LINES - phase_retrieval.LOW_LINES
    )
    before = 2 * math.pi * torch.rand(2, phase_retrieval.LINES, generator=generator)
    one, last_one = phase_retrieval._phases(block.double(), before.double())
    other, last_other = phase_retrieval._compiled_phases(block, before)
    for exact, found in ((one, other), (last_one, last_other)):
        away = torch.polar(torch.ones_like(exact), exact - found.double()) - 1
        assert float(away.abs().quantile(0.999)) < 2e-3


def test_compiled_overlaps_are_those_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole step, on from a state, by both ways; without peaks a phase is nobody's choice."""
    generator = torch.Generator().manual_seed(1)
    block = torch.zeros(2, 12, LINES)
    block[:, :, 30], block[:, :, 200] = 0.5, 0.2
    state = initial_state(2)
    _, state = step(block + 0.01, state)
    made, after = step(block + 0.01 * torch.rand(block.shape, generator=generator), state)
    generator.manual_seed(1)
    monkeypatch.setattr(phase_retrieval, "_runs_compiled", lambda _values: False)
    exact, last = step(block + 0.01 * torch.rand(block.shape, generator=generator), state)
    torch.testing.assert_close(made, exact, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.low_tail, last.low_tail, rtol=1e-3, atol=1e-4)
