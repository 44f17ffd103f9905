"""Judges: shapes, equality under transposition, files, and that they learn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from melisma.evaluate.models.audio_features import (
    BANDS,
    TEMPOGRAM_WIDTH,
    extract_features,
    stack_mels,
)
from melisma.evaluate.models.judge import (
    EMBEDDING_WIDTH,
    Judge,
    JudgeNetwork,
    JudgeSettings,
    KeyHead,
)
from melisma.train.judge import JudgeCorpus, JudgeTraining, train_judge
from melisma.values import Facts, Waveform
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError

RATE_HZ = 24_000
SMALL = JudgeSettings(moment=24, trunk=24, pulse=8, words=16, dropout=0.0)


def tone(frequency_hz: float, harmonics: int, seconds: float = 3.0) -> Waveform:
    """Repeated tones, two a second: bright with many harmonics."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    sound = sum(
        np.sin(2 * np.pi * frequency_hz * h * time) / h**0.5 for h in range(1, harmonics + 1)
    )
    envelope = np.exp(-4.0 * (time % 0.5))
    samples = (0.1 * np.asarray(sound) * envelope).astype(np.float32)
    return Waveform(samples=samples[None], rate_hz=RATE_HZ)


def test_features_have_the_stated_shapes_and_ignore_loudness() -> None:
    piece = tone(220.0, 4)
    loud, soft = (
        extract_features(piece),
        extract_features(Waveform(samples=piece.samples * 0.1, rate_hz=RATE_HZ)),
    )
    assert loud.mel.shape == (3 * 50 + 1, BANDS)
    assert loud.tempogram.shape[0] == TEMPOGRAM_WIDTH
    assert loud.chroma.shape == (4, 12)
    assert np.abs(loud.mel.astype(float) - soft.mel.astype(float)).max() < 0.05
    assert int(loud.chroma[0].argmax()) == 9  # A


def test_silence_gives_finite_verdicts() -> None:
    silence = Waveform(samples=np.zeros((1, 3 * RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    verdict = Judge(JudgeNetwork(SMALL)).judge_all([silence])[0]
    assert np.isfinite(verdict.lead_probabilities).all()
    assert np.isfinite(verdict.embedding).all()


def test_transposition_turns_the_answer_and_nothing_else() -> None:
    torch.manual_seed(0)
    tonic = KeyHead().eval()
    chroma = torch.rand(2, 4, 12)
    before = tonic(chroma).unflatten(1, (2, 12))
    after = tonic(chroma.roll(5, dims=-1)).unflatten(1, (2, 12))
    torch.testing.assert_close(after, before.roll(5, dims=-1))


def test_a_judge_comes_back_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    judge = Judge(JudgeNetwork(SMALL))
    judge.write(tmp_path / "judges", {"clips": 1})
    again = Judge.read(tmp_path / "judges")
    sentences = ["a waltz for piano", "drums"]
    vectors = judge.read_words(sentences)
    assert vectors.shape == (2, EMBEDDING_WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(again.read_words(sentences), vectors)


def test_a_missing_judge_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match="no checkpoint"):
        Judge.read(tmp_path)


def small_corpus(count: int) -> JudgeCorpus:
    """Bright tones are reeds, dull ones flutes."""
    rng = np.random.default_rng(0)
    features, facts, captions = [], [], []
    for index in range(count):
        bright = index % 2 == 0
        features.append(extract_features(tone(float(rng.uniform(200, 400)), 12 if bright else 1)))
        lead = "reeds" if bright else "flutes"
        facts.append(Facts(lead=lead, families=(lead,), tempo_bpm=120.0))
        captions.append((f"a piece for {lead}", f"{lead} at 120 bpm"))
    return JudgeCorpus(
        mel=stack_mels(features).astype(np.float16),
        tempogram=np.stack([one.tempogram for one in features]).astype(np.float16),
        chroma=np.stack([one.chroma for one in features]),
        facts=tuple(facts),
        captions=tuple(captions),
    )


def test_a_small_judge_learns_bright_from_dull_and_the_tempo() -> None:
    training = JudgeTraining(updates=40, batch=12, crop_frames=100, learning_rate=5e-3)
    judge = train_judge(small_corpus(12), SMALL, training)
    bright, dull = judge.judge_all([tone(300.0, 12), tone(300.0, 1)])
    assert bright.lead == "reeds"
    assert dull.lead == "flutes"
    assert bright.tempo_bpm == pytest.approx(120.0, rel=0.05)
    assert bright.lead_probabilities.shape == (len(FAMILIES),)


def test_the_same_seed_trains_the_same_judge() -> None:
    data, training = small_corpus(4), JudgeTraining(updates=3, batch=4, crop_frames=50)
    first = train_judge(data, SMALL, training).network.state_dict()
    second = train_judge(data, SMALL, training).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_one_clip_is_too_few() -> None:
    with pytest.raises(MelismaError, match="render more"):
        train_judge(small_corpus(1), SMALL)
