"""Onsets kept and scores handed on, with a scorer made by hand."""

import numpy as np
import pytest

from melisma.evaluate.fidelity import at_visqol_rate, onset_ratio, opinion_score
from melisma.values import Waveform


def plucks(gain: float = 1.0) -> Waveform:
    time = np.arange(48_000) / 24_000
    samples = np.sin(2 * np.pi * 330 * time) * np.exp(-6.0 * (time % 0.5)) * 0.5 * gain
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=24_000)


def test_sound_is_brought_to_the_rate_of_the_metric() -> None:
    assert len(at_visqol_rate(plucks())) == 96_000


def test_the_scorer_gets_equal_lengths() -> None:
    longer = Waveform(samples=np.zeros((1, 60_000), dtype=np.float32), rate_hz=24_000)
    given: list[tuple[int, int]] = []

    def scorer(reference: np.ndarray, degraded: np.ndarray) -> float:
        given.append((len(reference), len(degraded)))
        return 4.0

    assert opinion_score(plucks(), longer, scorer) == 4.0
    assert given == [(96_000, 96_000)]


def test_onsets_are_kept_by_a_copy_and_lost_in_silence() -> None:
    truth = np.array([0.5, 1.0, 1.5])
    assert onset_ratio(truth, plucks(), plucks(0.5)) == pytest.approx(1.0)
    silence = Waveform(samples=np.zeros((1, 48_000), dtype=np.float32), rate_hz=24_000)
    assert onset_ratio(truth, plucks(), silence) == 0.0
    assert np.isnan(onset_ratio(truth, silence, plucks()))
