"""Chroma is what MusicGen's melody models were trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.audio_utils import chroma_filter_bank

from melisma.melody import chroma_cosine, chroma_of
from melisma.melody.chroma import CLASSES, HOP_SAMPLES, RATE_HZ, WINDOW_SAMPLES, chroma_filters
from melisma.values import Waveform
from melisma.values.errors import MelismaError


def reference_chroma(sound: np.ndarray) -> np.ndarray:
    """What transformers' MusicgenMelodyFeatureExtractor computes (it needs torchaudio)."""
    wave = torch.from_numpy(sound)
    lacking = max(WINDOW_SAMPLES - len(wave), 0)
    wave = torch.nn.functional.pad(wave, (lacking // 2, lacking // 2 + lacking % 2))
    window = torch.hann_window(WINDOW_SAMPLES)
    lines = torch.stft(
        wave, WINDOW_SAMPLES, HOP_SAMPLES, window=window, center=True, return_complex=True
    )
    power = lines.abs().square() / window.square().sum()
    bank = chroma_filter_bank(
        num_frequency_bins=WINDOW_SAMPLES, num_chroma=CLASSES, sampling_rate=RATE_HZ, tuning=0
    )
    raw = torch.einsum("cf,ft->ct", torch.from_numpy(bank).float(), power)
    chosen = torch.nn.functional.normalize(raw, p=float("inf"), dim=0, eps=1e-6).argmax(dim=0)
    return torch.nn.functional.one_hot(chosen, CLASSES).float().numpy()


def wave(sound: np.ndarray, rate_hz: int = RATE_HZ) -> Waveform:
    """Mono."""
    return Waveform(samples=np.asarray(sound, dtype=np.float32)[None], rate_hz=rate_hz)


def tone(pitch: float, seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A tone whose third harmonic, a fifth above, is far stronger than itself."""
    phase = 2 * np.pi * 440.0 * 2.0 ** ((pitch - 69) / 12)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    gains = {1: 0.15, 2: 0.1, 3: 0.6, 4: 0.05, 5: 0.05}
    return 0.4 * np.asarray(sum(g * np.sin(n * phase * time) for n, g in gains.items()))


def test_filters_are_the_reference_s() -> None:
    wanted = chroma_filter_bank(WINDOW_SAMPLES, CLASSES, RATE_HZ)
    assert np.abs(chroma_filters().numpy() - wanted).max() < 1e-5


@pytest.mark.parametrize("samples", [500, 9_001, WINDOW_SAMPLES, 131_072, 400_001])
def test_chroma_is_the_reference_s(samples: int) -> None:
    rng = np.random.default_rng(samples)
    sound = 0.05 * rng.standard_normal(samples)
    for start in range(0, samples, 20_000):
        part = sound[start : start + 20_000]
        part += 0.1 * tone(float(rng.integers(50, 80)), 1.0)[: len(part)]
    sound = sound.astype(np.float32)
    found = chroma_of(wave(sound), exact=True)
    assert found.dtype == np.float32
    assert np.array_equal(found, reference_chroma(sound))
    assert np.array_equal(found, chroma_of(wave(sound)))


def test_the_classes_of_tones_are_found_at_any_rate_and_in_stereo() -> None:
    for rate_hz in (24_000, 44_100):
        time = np.arange(rate_hz) / rate_hz
        sound = np.concatenate([np.sin(2 * np.pi * hz * time) for hz in (261.63, 440.0)])
        both = np.stack([sound, 0.5 * sound]).astype(np.float32) * 0.4
        found = chroma_of(Waveform(samples=both, rate_hz=rate_hz)).argmax(axis=1)
        assert len(found) == 1 + 64_000 // HOP_SAMPLES
        assert found[2:6].tolist() == [0] * 4
        assert found[10:14].tolist() == [9] * 4


def test_the_class_of_a_voice_is_its_note_s_and_not_its_overtone_s() -> None:
    sound = wave(np.concatenate([tone(57, 1.0, 24_000), tone(60, 1.0, 24_000)]), 24_000)
    voice = chroma_of(sound, voice=True)
    assert voice.shape == chroma_of(sound).shape
    assert voice.argmax(axis=1)[2:6].tolist() == [9] * 4
    assert voice.argmax(axis=1)[10:14].tolist() == [0] * 4
    assert chroma_of(sound).argmax(axis=1)[3] == 4
    assert set(np.unique(voice)) <= {0.0, 1.0}


def test_silence_has_no_class_except_where_the_reference_is_wanted() -> None:
    sound = np.concatenate([tone(69, 1.5), np.zeros(3 * RATE_HZ)])
    found = chroma_of(wave(sound))
    assert found[3].sum() == 1
    assert not found[-10:].any()
    assert not chroma_of(wave(np.zeros(RATE_HZ))).any()
    assert chroma_of(wave(sound), exact=True)[-10:, 0].all()
    assert not chroma_of(wave(sound), voice=True)[-10:].any()


def test_soft_chroma_has_its_greatest_at_one() -> None:
    soft = chroma_of(wave(tone(69, 2.0)), soft=True)
    assert soft.max(axis=1) == pytest.approx(1.0)
    assert ((soft > 0) & (soft < 1)).any()


def test_only_the_requested_part_is_analysed() -> None:
    sound = wave(np.concatenate([tone(69, 1.0), tone(60, 3.0)]))
    assert len(chroma_of(sound, seconds=1.0)) == 1 + RATE_HZ // HOP_SAMPLES
    assert len(chroma_of(sound, seconds=1.0, voice=True)) == 1 + RATE_HZ // HOP_SAMPLES
    assert len(chroma_of(sound, seconds=60.0)) == len(chroma_of(sound))


def test_bad_requests_are_refused() -> None:
    sound = wave(tone(69, 1.0))
    with pytest.raises(MelismaError, match="leave out voice or exact"):
        chroma_of(sound, voice=True, exact=True)
    with pytest.raises(MelismaError, match="above 0 s"):
        chroma_of(sound, seconds=0.0)
    with pytest.raises(MelismaError, match="no sample"):
        chroma_of(wave(np.zeros(0)))
    with pytest.raises(MelismaError, match="no tune"):
        chroma_of(wave(np.random.default_rng(0).standard_normal(RATE_HZ) * 0.1), voice=True)


def test_the_cosine_is_the_share_of_frames_with_one_class() -> None:
    one = np.eye(CLASSES, dtype=np.float32)[[0, 2, 4, 5]]
    other = np.eye(CLASSES, dtype=np.float32)[[0, 2, 9, 9, 9]]
    assert chroma_cosine(one, one) == pytest.approx(1.0)
    assert chroma_cosine(one, other) == pytest.approx(0.5)
    silent = one.copy()
    silent[3] = 0.0
    assert chroma_cosine(silent, silent) == pytest.approx(1.0)
    assert chroma_cosine(one, silent) == pytest.approx(0.75)


def test_chroma_that_does_not_compare_is_refused() -> None:
    good = np.eye(CLASSES)
    with pytest.raises(MelismaError, match="shape"):
        chroma_cosine(good, np.zeros((3, 11)))
    with pytest.raises(MelismaError, match="nothing is to be compared"):
        chroma_cosine(np.zeros((3, CLASSES)), np.zeros((3, CLASSES)))
    with pytest.raises(MelismaError, match="nothing is to be compared"):
        chroma_cosine(good, np.zeros((0, CLASSES)))
