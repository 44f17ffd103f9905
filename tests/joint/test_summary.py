"""The summary lets tempo, harmony and timbre be read by eye."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melisma.joint.summary import (
    MAX_BPM,
    MIN_BPM,
    SUMMARY_BLOCKS,
    SUMMARY_WIDTH,
    TEMPO_LAGS,
    summarise,
)
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ


def block(summary: torch.Tensor, name: str) -> np.ndarray:
    start = 0
    for one, width in SUMMARY_BLOCKS:
        if one == name:
            return summary[0, start : start + width].numpy()
        start += width
    raise AssertionError(name)


def clicks(tempo_bpm: float, seconds: float = 10.0) -> torch.Tensor:
    rng = np.random.default_rng(0)
    sound = 0.002 * rng.standard_normal(int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)
    burst = np.exp(-np.arange(1200) / 200.0) * rng.standard_normal(1200)
    for start in np.arange(0.1, seconds - 0.1, 60.0 / tempo_bpm):
        first = int(start * SAMPLE_RATE_HZ)
        sound[first : first + 1200] += 0.5 * burst.astype(np.float32)
    return torch.from_numpy(sound)[None]


def tone(pitches: list[int], seconds: float = 4.0) -> torch.Tensor:
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    sound = np.zeros_like(time)
    for pitch in pitches:
        hz = 440.0 * 2 ** ((pitch - 69) / 12)
        sound += sum(np.sin(2 * np.pi * k * hz * time) / k**1.5 for k in range(1, 5))
    return torch.from_numpy((0.1 * sound).astype(np.float32))[None]


@pytest.mark.parametrize("tempo_bpm", [52.0, 87.0, 120.0, 171.0])
def test_tempogram_peaks_at_the_tempo(tempo_bpm: float) -> None:
    tempogram = block(summarise(clicks(tempo_bpm)), "tempogram").reshape(2, TEMPO_LAGS)[1]
    centres = MIN_BPM * (MAX_BPM / MIN_BPM) ** ((np.arange(TEMPO_LAGS) + 0.5) / TEMPO_LAGS)
    near = np.abs(np.log(centres / tempo_bpm)) < 0.03
    unrelated = np.abs(np.log(centres * 1.26 / tempo_bpm)) < 0.03
    assert tempogram[near].max() > 0.5
    assert tempogram[near].max() > 2 * tempogram[unrelated].max()


@pytest.mark.parametrize("root", [0, 4, 7, 10])
def test_chroma_holds_the_chord_in_its_register(root: int) -> None:
    chroma = block(summarise(tone([60 + root, 64 + root, 67 + root])), "chroma").reshape(3, 12)
    assert set(np.argsort(chroma[1])[-3:]) == {root % 12, (root + 4) % 12, (root + 7) % 12}
    assert chroma[1].sum() == pytest.approx(1.0, abs=1e-3)


def test_attacks_rise_more_than_sustained_sound() -> None:
    assert (
        block(summarise(clicks(120)), "rise").mean()
        > 5 * block(summarise(tone([60])), "rise").mean()
    )


def test_batch_rows_do_not_mix_and_silence_is_finite() -> None:
    both = summarise(torch.cat([tone([60], 2.0), torch.zeros(1, 2 * SAMPLE_RATE_HZ)]))
    alone = summarise(tone([60], 2.0))
    assert both.shape == (2, SUMMARY_WIDTH)
    assert torch.isfinite(both).all()
    torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-3)


def test_too_short_a_sound_is_refused() -> None:
    with pytest.raises(MelismaError, match="at least 24000 samples"):
        summarise(torch.zeros(1, 100))
