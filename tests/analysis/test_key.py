"""Key of cadences in known keys, also out of tune."""

import numpy as np
import pytest

from melisma.analysis.audio.key import measure_chroma, measure_tonality, summarise_chroma
from melisma.values import Waveform
from melisma.values.attributes import TONALITIES

RATE_HZ = 24_000


def chord(pitches: list[int], seconds: float, cents: float = 0.0) -> np.ndarray:
    """A decaying chord of harmonic tones."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    total = np.zeros(len(time))
    for pitch in pitches:
        frequency = 440.0 * 2.0 ** ((pitch - 69 + cents / 100.0) / 12.0)
        for harmonic in range(1, 6):
            total += np.sin(2 * np.pi * frequency * harmonic * time) / harmonic**1.5
    return 0.08 * total * np.exp(-time * 1.5)


def cadence(index: int, cents: float = 0.0) -> Waveform:
    """I IV V I in one of `TONALITIES` (the dominant is major in minor, too)."""
    tonic = 48 + index % 12
    minor = index >= 12
    third = 3 if minor else 4
    chords = [
        [tonic, tonic + third, tonic + 7, tonic + 12],
        [tonic + 5, tonic + 5 + third, tonic + 12, tonic + 17],
        [tonic + 7, tonic + 11, tonic + 14, tonic + 19],
        [tonic, tonic + third, tonic + 7, tonic + 12],
    ]
    samples = np.concatenate([chord(pitches, 0.8, cents) for pitches in chords])
    return Waveform(samples=samples[None].astype(np.float32), rate_hz=RATE_HZ)


@pytest.mark.parametrize("index", range(24))
def test_the_tonality_of_a_cadence_is_found(index: int) -> None:
    estimate = measure_tonality(cadence(index))
    assert estimate.tonality == TONALITIES[index]
    assert estimate.ranking[0] == estimate.tonality
    assert len(estimate.ranking) == 24
    assert estimate.chroma.sum() == pytest.approx(1.0)
    assert int(estimate.chroma.argmax()) in {(index + step) % 12 for step in (0, 3, 4, 5, 7)}


def test_the_key_of_an_instrument_out_of_tune_is_relative_to_its_tuning() -> None:
    estimate = measure_tonality(cadence(TONALITIES.index("Eb major"), cents=30.0))
    assert estimate.tonality == "Eb major"
    assert estimate.tuning_cents == pytest.approx(30.0, abs=6.0)


def test_silence_has_no_tonality() -> None:
    silence = Waveform(samples=np.zeros((1, RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    estimate = measure_tonality(silence)
    assert estimate.tonality is None
    assert estimate.confidence == 0.0
    assert estimate.ranking == ()


def test_the_bass_and_the_ending_have_their_own_chroma() -> None:
    whole, bass, ending, even = summarise_chroma(cadence(0))
    for row in (whole, bass, ending, even):
        assert row.sum() == pytest.approx(1.0, abs=1e-3)
    assert int(bass.argmax()) in {0, 5, 7}
    assert measure_chroma(cadence(0)).shape[1] == 12
    silence = Waveform(samples=np.zeros((1, RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    assert not summarise_chroma(silence).any()
