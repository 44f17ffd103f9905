"""Embeddings: shapes, windows, rates and levels, fingerprints; and that sets of music differ."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import write_model

from melisma.evaluate.metrics.frechet import Pieces, frechet_distance
from melisma.evaluate.models.embeddings import (
    Embedding,
    JudgeEmbedding,
    MusicTowerEmbedding,
    SignalStatistics,
    named_embedding,
)
from melisma.evaluate.models.judge import Judge, JudgeNetwork, JudgeSettings
from melisma.evaluate.models.signal_features import BLOCKS, FIGURES, SCALES, signal_figures
from melisma.values import Waveform
from melisma.values.errors import MelismaError

RATE_HZ = 24_000


def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeNetwork(JudgeSettings(moment=16, trunk=16, pulse=8, words=8)))


def tune(seed: int, seconds: float = 6.0, voice: int | None = None, shift: int = 0) -> Waveform:
    """Random notes of one of three voices: plucked, held with harmonics, or noisy."""
    rng = np.random.default_rng(seed)
    voice = int(rng.integers(3)) if voice is None else voice
    step = float(rng.choice([0.25, 0.4, 0.6]))
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    sound = 1e-3 * rng.normal(size=len(time))
    for start in np.arange(0.0, seconds, step):
        frequency_hz = 220.0 * 2.0 ** ((int(rng.integers(0, 20)) + shift) / 12.0)
        inside = (time >= start) & (time < start + step)
        local = time[inside] - start
        wave = [
            np.sin(2 * np.pi * frequency_hz * local) * np.exp(-6.0 * local),
            sum(np.sin(2 * np.pi * h * frequency_hz * local) / h for h in range(1, 9)),
            rng.normal(size=len(local)) * np.exp(-20.0 * local),
        ][voice]
        sound[inside] += 0.2 * wave
    return Waveform(samples=sound[None].astype(np.float32), rate_hz=RATE_HZ)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.mark.parametrize("name", ["music", "judge", "signal"])
def test_every_embedding_keeps_the_contract(name: str, model: Path) -> None:
    embedding = named_embedding(name, model=str(model), judge=judge())
    piece = tune(0, 10.0)
    vectors = embedding.embed(piece)
    assert vectors.shape == (3, embedding.width)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, embedding.embed(piece))
    again = named_embedding(name, model=str(model), judge=judge())
    assert (again.name, again.fingerprint) == (name, embedding.fingerprint)
    silence = Waveform(samples=np.zeros((1, RATE_HZ), dtype=np.float32), rate_hz=RATE_HZ)
    quiet = embedding.embed(silence)
    assert quiet.shape == (1, embedding.width)
    assert np.isfinite(quiet).all()


@pytest.mark.parametrize("name", ["music", "judge", "signal"])
def test_level_channels_and_rate_hardly_matter(name: str, model: Path) -> None:
    embedding = named_embedding(name, model=str(model), judge=judge())
    piece = tune(3)
    vectors = embedding.embed(piece)
    stereo = Waveform(samples=np.repeat(piece.samples * 0.1, 2, axis=0), rate_hz=RATE_HZ)
    other = np.abs(vectors - embedding.embed(tune(4))).max()
    assert np.abs(vectors - embedding.embed(stereo)).max() < 0.02 * other
    doubled = np.repeat(piece.samples, 2, axis=1)
    assert embedding.embed(Waveform(samples=doubled, rate_hz=2 * RATE_HZ)).shape == vectors.shape


def test_windows_follow_the_stated_rule() -> None:
    embedding = SignalStatistics()
    for seconds, windows in ((0.5, 1), (5.0, 1), (7.4, 1), (7.5, 2), (10.0, 3), (12.4, 3)):
        assert len(embedding.embed(tune(0, seconds))) == windows
    # One level for the whole piece: a loud end makes the beginning softer.
    piece = tune(1, 7.5)
    swelling = np.concatenate([piece.samples[:, : 5 * RATE_HZ], 10.0 * piece.samples], axis=1)
    loud, plain = (
        embedding.embed(Waveform(samples=swelling, rate_hz=RATE_HZ)),
        embedding.embed(piece),
    )
    assert loud[0][0] < plain[0][0]  # the mean level


def test_fingerprints_differ_with_weights(model: Path, tmp_path: Path) -> None:
    tower = MusicTowerEmbedding.read(str(model))
    torch.manual_seed(5)
    other = JudgeEmbedding(
        Judge(JudgeNetwork(JudgeSettings(moment=16, trunk=16, pulse=8, words=8)))
    )
    fingerprints = {JudgeEmbedding(judge()).fingerprint, other.fingerprint, tower.fingerprint}
    assert len(fingerprints | {SignalStatistics().fingerprint}) == 4
    judge().write(tmp_path / "judge", {})
    assert named_embedding("judge", judge=tmp_path / "judge").name == "judge"


def test_signal_figures_have_one_constant_each() -> None:
    assert sum(width for _, width in BLOCKS) == FIGURES == len(SCALES)
    assert (SCALES > 0).all()


def test_harmony_does_not_change_with_the_tonality_but_with_the_chords() -> None:
    start = sum(width for _, width in BLOCKS[:4])
    block = slice(start, start + BLOCKS[4][1])

    def chord(*semitones: int) -> np.ndarray:
        time = np.arange(5 * RATE_HZ) / RATE_HZ
        tones = [np.sin(2 * np.pi * 261.63 * 2.0 ** (s / 12) * time) for s in semitones]
        return signal_figures(0.1 * np.sum(tones, axis=0))[block]

    major, moved, cluster = chord(0, 4, 7), chord(3, 7, 10), chord(0, 1, 2)
    assert np.abs(major - moved).max() < 0.2 * np.abs(major - cluster).max()


def test_faster_attacks_are_measured_as_faster_modulation() -> None:
    start = sum(width for _, width in BLOCKS[:3])
    low_region = slice(start, start + 6)

    def pulse(rate_hz: float) -> np.ndarray:
        time = np.arange(5 * RATE_HZ) / RATE_HZ
        return np.sin(2 * np.pi * 300.0 * time) * np.exp(-3.0 * rate_hz * (time % (1 / rate_hz)))

    slow, fast = (signal_figures(0.3 * pulse(rate))[low_region] for rate in (1.5, 6.0))
    assert slow[1] > fast[1] + 1.0  # 1 to 2 Hz
    assert fast[3] > slow[3] + 1.0  # 4 to 8 Hz


def distances(embedding: Embedding) -> dict[str, float]:
    """Of a mixture, of one voice alone, of one clip over and over, from a mixture of others."""
    reference = Pieces.of([embedding.embed(tune(seed)) for seed in range(16)]).gaussian()
    mixture = [embedding.embed(tune(seed)) for seed in range(100, 108)]
    sets = {
        "mixture": mixture,
        "one voice": [embedding.embed(tune(seed, voice=0)) for seed in range(200, 208)],
        "one clip": [mixture[0]] * 8,
    }
    return {
        name: frechet_distance(Pieces.of(rows).gaussian(), reference) for name, rows in sets.items()
    }


def test_degenerate_sets_score_far_worse_than_a_mixture() -> None:
    found = distances(SignalStatistics())
    assert found["one voice"] > 2.0 * found["mixture"]
    assert found["one clip"] > 2.0 * found["mixture"]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match="known are music"):
        named_embedding("vggish")
    with pytest.raises(MelismaError, match="melisma train judge"):
        named_embedding("judge")
    with pytest.raises(MelismaError, match="no model"):
        named_embedding("music", model=str(tmp_path / "nowhere"))
    empty = Waveform(samples=np.zeros((1, 0), dtype=np.float32), rate_hz=48_000)
    with pytest.raises(MelismaError, match="empty"):
        SignalStatistics().embed(empty)
