"""Metre of planted waltzes, marches and jigs."""

import numpy as np
import pytest

from melisma.analysis.audio.metre import measure_metre
from melisma.values import Waveform
from melisma.values.attributes import METRES
from melisma.values.errors import MelismaError

RATE_HZ = 24_000
ROOTS = (0, 5, 7, 0)
"""Semitones of the harmonies of four bars, over and over."""


def tone(midi: float, seconds: float, strength: float) -> np.ndarray:
    """A plucked note with four harmonics, float64 [sample]."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    hz = 440.0 * 2 ** ((midi - 69) / 12)
    waves = sum(np.sin(2 * np.pi * hz * h * time) / h for h in range(1, 5))
    return strength * waves * np.exp(-3.0 * time / seconds) * np.minimum(time / 0.003, 1.0)


def played(notes: list[tuple[float, float, float, float]], seconds: float) -> Waveform:
    """Notes as (beginning in seconds, length in seconds, MIDI pitch, strength)."""
    samples = np.zeros(int(seconds * RATE_HZ))
    for begins, length, midi, strength in notes:
        first = int(begins * RATE_HZ)
        if first < len(samples):
            sound = tone(midi, length, strength)[: len(samples) - first]
            samples[first : first + len(sound)] += sound
    return Waveform(samples=(samples / np.abs(samples).max())[None], rate_hz=RATE_HZ)


def dance(beats_a_bar: int, bpm: float, seconds: float = 12.0, tonic: int = 0) -> Waveform:
    """A bass note on one (in four also on three), chords on the other beats, a harmony a bar."""
    beat = 60.0 / bpm
    notes: list[tuple[float, float, float, float]] = []
    for index in range(int(seconds / beat)):
        bar, place = divmod(index, beats_a_bar)
        root = tonic + ROOTS[bar % len(ROOTS)]
        if place == 0 or (beats_a_bar == 4 and place == 2):
            notes.append((index * beat, beat, 36 + root + (7 if place else 0), 1.0))
        else:
            notes += [(index * beat, 0.6 * beat, 60 + root + i, 0.35) for i in (0, 4, 7)]
        if place == 0:
            notes.append((index * beat, beats_a_bar * beat, 72 + root, 0.5))
    return played(notes, seconds)


def jig(bpm: float, seconds: float = 12.0) -> Waveform:
    """Two dotted quarters a bar, each a bass note under three eighths."""
    beat = 60.0 / bpm
    notes: list[tuple[float, float, float, float]] = []
    for index in range(int(seconds / beat)):
        bar, place = divmod(index, 2)
        root = ROOTS[bar % len(ROOTS)]
        notes.append((index * beat, beat, 36 + root + (7 if place else 0), 1.0 - 0.3 * place))
        for third, pitch in enumerate((0, 4, 7)):
            notes.append((index * beat + third * beat / 3, beat / 3, 67 + root + pitch, 0.5))
    return played(notes, seconds)


@pytest.mark.parametrize("bpm", [96.0, 126.0, 150.0])
def test_a_waltz_differs_from_a_march(bpm: float) -> None:
    waltz, march = measure_metre(dance(3, bpm), bpm), measure_metre(dance(4, bpm), bpm)
    assert waltz.metre == "3/4"
    assert march.metre in ("2/4", "4/4")
    for estimate in (waltz, march):
        assert set(estimate.probabilities) == set(METRES)
        assert estimate.metre is not None
        assert estimate.probabilities[estimate.metre] == max(estimate.probabilities.values())
        assert 0.3 < estimate.confidence <= estimate.kind_confidence <= 1.0


def test_without_a_tempo_it_is_measured() -> None:
    assert measure_metre(dance(3, 126.0)).metre == "3/4"


def test_a_jig_is_compound() -> None:
    estimate = measure_metre(jig(80.0), 80.0)
    assert estimate.metre == "6/8"
    assert sum(p > estimate.probabilities["3/4"] for p in estimate.probabilities.values()) > 1


def test_silence_and_short_sound_have_no_metre() -> None:
    silence = Waveform(samples=np.zeros((1, 8 * RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    for estimate in (measure_metre(silence), measure_metre(silence, 100.0)):
        assert estimate.metre is None
        assert estimate.confidence == estimate.kind_confidence == 0.0
        assert estimate.probabilities == {}
    assert measure_metre(dance(3, 126.0, seconds=3.0), 126.0).metre is None


def test_loudness_and_rate_do_not_matter() -> None:
    waltz = dance(3, 126.0)
    quiet = Waveform(samples=waltz.samples * 0.1, rate_hz=RATE_HZ)
    doubled = Waveform(samples=np.repeat(waltz.samples, 2, axis=1), rate_hz=2 * RATE_HZ)
    for other in (quiet, doubled):
        assert measure_metre(other, 126.0).metre == "3/4"


def test_a_tempo_that_is_none_is_refused() -> None:
    with pytest.raises(MelismaError, match="positive"):
        measure_metre(dance(3, 126.0), 0.0)
