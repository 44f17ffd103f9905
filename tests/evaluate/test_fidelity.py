"""Onsets kept, scores handed on, distances with known answers, and use of codes."""

import numpy as np
import pytest

from melisma.evaluate.metrics.fidelity import (
    at_visqol_rate,
    code_use,
    entropy_kilobits,
    log_mel_distance,
    nominal_kilobits,
    onset_ratio,
    opinion_score,
    si_sdr_db,
)
from melisma.values import TokenGrid, Waveform
from melisma.values.errors import MelismaError


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


def noise(seed: int, level: float = 0.1) -> Waveform:
    samples = level * np.random.default_rng(seed).normal(size=(1, 48_000))
    return Waveform(samples=samples.astype(np.float32), rate_hz=24_000)


def test_log_mel_distance_is_a_gain_in_decibels() -> None:
    loud = noise(0)
    assert log_mel_distance(loud, loud) == 0.0
    halved = Waveform(samples=0.5 * loud.samples, rate_hz=24_000)
    assert log_mel_distance(loud, halved) == pytest.approx(6.02, abs=0.05)
    assert log_mel_distance(loud, noise(1)) < 6.0
    with pytest.raises(MelismaError, match="no sound"):
        log_mel_distance(loud, Waveform(samples=np.zeros((1, 0)), rate_hz=24_000))


def test_si_sdr_of_scaled_copies_and_of_known_noise() -> None:
    original = noise(0)
    assert si_sdr_db(original, Waveform(samples=-2.0 * original.samples, rate_hz=24_000)) > 120.0
    for wanted_db in (-10.0, 0.0, 20.0):
        target = original.samples[0].astype(np.float64)
        error = noise(1).samples[0].astype(np.float64)
        error -= (error @ target) / (target @ target) * target
        error *= np.linalg.norm(target) / np.linalg.norm(error) * 10.0 ** (-wanted_db / 20.0)
        coded = Waveform(samples=(3.0 * (target + error))[None], rate_hz=24_000)
        assert si_sdr_db(original, coded) == pytest.approx(wanted_db, abs=0.01)


def test_si_sdr_of_silence() -> None:
    silence = Waveform(samples=np.zeros((1, 48_000)), rate_hz=24_000)
    assert si_sdr_db(noise(0), silence) == -np.inf
    assert np.isnan(si_sdr_db(silence, noise(0)))


def grid(tokens: np.ndarray, vocabulary: int = 8) -> TokenGrid:
    return TokenGrid(tokens=tokens, vocabulary=vocabulary, frame_rate_hz=25.0, fingerprint="any")


def test_use_and_entropy_of_codes() -> None:
    even = np.tile(np.arange(8), 500)
    halves = np.tile(np.array([2, 5]), 2_000)
    still = np.zeros(4_000, dtype=np.int64)
    uses = code_use([grid(np.stack([even, halves, still]))] * 2)
    assert [use.used for use in uses] == [1.0, 0.25, 0.125]
    assert [use.entropy_bits for use in uses] == pytest.approx([3.0, 1.0, 0.0], abs=1e-3)
    assert [use.tokens for use in uses] == [8_000] * 3
    assert nominal_kilobits(uses, 25.0) == pytest.approx(0.225)
    assert entropy_kilobits(uses, 25.0) == pytest.approx(0.1, abs=1e-3)


def test_entropy_of_few_tokens_is_corrected() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 256, size=(1, 1_000))
    shares = np.bincount(tokens[0]) / 1_000
    plain = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    corrected = code_use([grid(tokens, 256)])[0].entropy_bits
    assert plain < corrected <= 8.0
    assert abs(corrected - 8.0) < 0.3 * abs(plain - 8.0)


def test_grids_of_different_codecs_cannot_be_counted_together() -> None:
    with pytest.raises(MelismaError, match="same levels"):
        code_use([])
    with pytest.raises(MelismaError, match="same levels"):
        code_use([grid(np.zeros((1, 4), int)), grid(np.zeros((2, 4), int))])
