"""Training the codec: a linear head start, all losses, tokens that stay frozen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_task import TINY_CODEC

from melisma.codec import AcousticCodec, Codec
from melisma.codec.model import LOG_FLOOR, log_magnitudes
from melisma.files.checkpoint import read_checkpoint
from melisma.sound.phase_retrieval import LINES
from melisma.train import codec as training
from melisma.train.codec import (
    CodecTask,
    CodecTraining,
    band_filters,
    held_crops,
    line_hz,
    line_weights,
    mel_distance,
    train_codec,
)
from melisma.train.discriminator import Discriminators, discriminator_loss, generator_losses
from melisma.train.loop import LoopSettings, Run, generator_of

TINY = CodecTraining(
    codec=TINY_CODEC,
    loop=LoopSettings(
        updates=3, warmup_updates=1, checkpoint_updates=2, log_updates=1, sample_updates=100,
        average_decay=0.5,
    ),
    batch=2, crop_frames=4, depths=(1, 2), adversarial_from=0.5, start_crops=64,
)  # fmt: skip


def clips(seed: int = 0) -> np.ndarray:
    """Chords of three tones, int16 [clip, sample]."""
    rng = np.random.default_rng(seed)
    times = np.arange(9_600) / 24_000
    tones = np.sin(2 * np.pi * rng.uniform(100, 2_000, (6, 3, 1)) * times).sum(axis=1)
    return (3_000 * tones * rng.uniform(0.1, 2, (6, 1))).astype(np.int16)


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges on a tenth of a second."""

    def short(
        arrays: list[np.ndarray], count: int, samples: int, generator: torch.Generator
    ) -> Tensor:
        return held_crops(arrays, min(count, 2), min(samples, 2_880), generator)

    monkeypatch.setattr(training, "held_crops", short)


def test_a_run_learns_logs_and_writes_a_codec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_codec(TINY, [clips(), clips(1)], [clips(2)], tmp_path)
    codec = AcousticCodec.read(tmp_path / "weights.safetensors")
    tokens = codec.encode_sound(torch.from_numpy(clips(3)[:, :9_600] / 32_768).float())
    assert tokens.shape == (6, 2, 10)
    assert len(tokens[:, 0].unique()) > 2
    said = capsys.readouterr().out
    assert "codec 3/3" in said
    assert "adversarial" in said.split("codec 3/3")[1]
    assert "adversarial" not in said.split("codec 2/3")[0]
    assert "mel_1" in said
    assert "used_2" in said


def test_the_encoder_may_learn_more_slowly(tmp_path: Path) -> None:
    crops, moved = [clips()], {}
    for rate in (0.0, 0.1, 1.0):
        settings = dataclasses.replace(TINY, encoder_rate=rate, adversarial_from=1.0)
        task = CodecTask(settings, crops, crops)
        run = Run(task, settings.loop, tmp_path / str(rate))
        names = ("encoder.in_proj.weight", "decoder.out_proj.weight")
        before = {name: task.codec.state_dict()[name].clone() for name in names}
        run.update()
        after = task.codec.state_dict()
        moved[rate] = [float((after[name] - before[name]).abs().mean()) for name in names]
    assert moved[0.0][0] == 0.0
    assert moved[0.1][0] == pytest.approx(0.1 * moved[1.0][0], rel=0.05)
    assert all(decoder > 0 for _, decoder in moved.values())


def test_decoder_fine_tuning_leaves_all_tokens_unchanged(tmp_path: Path) -> None:
    train_codec(TINY, [clips()], [clips(2)], tmp_path / "first")
    path = tmp_path / "first" / "weights.safetensors"
    before = read_checkpoint(path).tensors
    finetune = dataclasses.replace(TINY, frozen_tokens=True, adversarial_from=0.0)
    train_codec(finetune, [clips()], [clips(2)], tmp_path / "finetune_codec", before)
    after = read_checkpoint(tmp_path / "finetune_codec" / "weights.safetensors").tensors
    for name, tensor in before.items():
        stays = not name.startswith("decoder.")
        if stays:
            assert torch.equal(after[name], tensor), name
    assert not torch.equal(after["decoder.out_proj.weight"], before["decoder.out_proj.weight"])
    first, second = AcousticCodec.read(path), tmp_path / "finetune_codec" / "weights.safetensors"
    assert AcousticCodec.read(second).fingerprint == first.fingerprint


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    states = []
    for stop in (None, 1):
        folder = tmp_path / str(stop)
        folder.mkdir()
        run = Run(CodecTask(TINY, [clips()], [clips()]), TINY.loop, folder)
        for number in range(3):
            if number == stop:
                run.save()
                run = Run(CodecTask(TINY, [clips()], [clips()]), TINY.loop, folder)
                assert run.resume()
            run.update()
        run.save()
        states.append(read_checkpoint(folder / "state.safetensors").tensors)
    for name, tensor in states[0].items():
        assert torch.equal(states[1][name], tensor), name


def test_the_head_start_is_nearer_than_chance() -> None:
    task = CodecTask(TINY, [clips()], [clips()])
    sound = task.crops(generator_of(1, 0), 16)
    real = log_magnitudes(sound)

    def distance(codec: Codec) -> float:
        with torch.no_grad():
            made, _ = codec(sound, torch.tensor([2] * 16))
        return float((made - real[:, : made.shape[1]]).abs().mean())

    chance = distance(task.codec)
    training.start_linear(task.codec, sound, generator_of(1, 0))
    assert distance(task.codec) < 0.7 * chance


def test_crops_are_of_every_clip_and_at_many_levels() -> None:
    quiet = np.full((3, 9_600), 1_000, dtype=np.int16)
    loud = np.full((1, 9_600), 10_000, dtype=np.int16)
    task = CodecTask(TINY, [quiet, loud], [quiet])
    sound = task.crops(generator_of(1, 0), 64)
    assert sound.shape == (64, 5 * 960)
    levels = sound[:, 0]
    assert torch.equal(sound, levels[:, None].expand_as(sound))
    assert float(levels.min()) < 0.03 < 0.2 < float(levels.max()) <= 1
    assert 5 < int((levels > 0.1).sum()) < 30


def test_weights_follow_the_ear() -> None:
    weights, hz = line_weights(), line_hz()
    assert weights.shape == (LINES,)
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-4)
    assert float(weights[20]) > 3 * float(weights[-1])
    assert bool((np.diff(hz) > 0).all())
    filters = band_filters()
    assert filters.shape == (LINES, 64)
    torch.testing.assert_close(filters.sum(dim=0), torch.ones(64), atol=1e-4, rtol=0)


def test_the_mel_distance_is_none_for_the_same_and_grows() -> None:
    sound = torch.from_numpy(clips()[:2] / 32_768).float()
    noise = torch.randn(sound.shape, generator=torch.Generator().manual_seed(0))
    near, far = mel_distance(sound + 1e-4 * noise, sound), mel_distance(sound + 0.1 * noise, sound)
    assert float(mel_distance(sound, sound)) == 0.0
    assert 0 < float(near) < float(far)


def test_discriminators_learn_to_tell_and_the_codec_to_please() -> None:
    torch.manual_seed(0)
    discriminators = Discriminators(width=4)
    real = torch.full((2, 8, LINES), LOG_FLOOR)
    made = torch.full((2, 8, LINES), -5.0, requires_grad=True)
    optimizer = torch.optim.Adam(discriminators.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        verdicts = [[v for v, _ in discriminators(logs.detach())] for logs in (real, made)]
        loss = discriminator_loss(*verdicts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    adversarial, features = generator_losses(discriminators(real), discriminators(made))
    (adversarial + features).backward()
    assert made.grad is not None
    assert float(made.grad.abs().sum()) > 0
    with torch.no_grad():
        same, none = generator_losses(discriminators(real), discriminators(real))
    assert float(none) == 0.0
    assert float(same) < float(adversarial.detach())


def test_crops_are_as_long_as_the_shortest_clip_allows() -> None:
    arrays = [np.zeros((2, 10_000), np.int16), np.zeros((1, 48_000), np.int16)]
    generator = torch.Generator().manual_seed(0)
    assert held_crops(arrays, 3, 120_000, generator).shape == (3, 9_600)
