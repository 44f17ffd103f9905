"""Training the semantic encoder: labels move with the sound, masks, clusters at the end."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from melisma.data.audio_shards import AudioShards
from melisma.files.checkpoint import read_checkpoint
from melisma.semantic import SemanticSettings, SemanticTokenizer
from melisma.semantic.model import HEADS, LOG_FREQUENCY_BINS, LOWEST_TOP_PITCH, features
from melisma.train.loop import LoopSettings, generator_of
from melisma.train.semantic import (
    INSTRUMENT_NAMES,
    InstrumentHead,
    LabelledSpectra,
    Labels,
    SemanticTask,
    SemanticTraining,
    _class_targets,
    head_losses,
    instrument_labels,
    sample_spans,
    shift_labels,
    shift_spectra,
    spectra_of,
    train_semantic,
)
from melisma.values.attributes import FAMILIES

TINY = SemanticTraining(
    semantic=SemanticSettings(
        width=16, layers=2, heads=2, token_layer=1, bottleneck_width=8, projection_codes=32,
        projection_width=4, vocabulary=8,
    ),
    loop=LoopSettings(
        updates=4, warmup_updates=1, checkpoint_updates=2, log_updates=1, sample_updates=100,
        average_decay=0.5,
    ),
    batch=4, cluster_vectors=60,
)  # fmt: skip


def tone(hz: float) -> Tensor:
    times = torch.arange(9_600) / 24_000
    return 0.3 * (
        torch.sin(2 * math.pi * hz * times) + 0.5 * torch.sin(4 * math.pi * hz * times)
    )[None]  # fmt: skip


def labels(clips: int, frames: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """The fields of `FrameLabels` at random; a clip's first half has no beat."""
    rng = np.random.default_rng(seed)
    phase = rng.random((clips, frames)).astype(np.float16)
    phase[:, : frames // 2] = np.nan
    return {
        "pitch_class": rng.integers(0, 2, (clips, frames, 12)).astype(np.uint8),
        "bass": rng.integers(0, 13, (clips, frames)).astype(np.int8),
        "top": rng.integers(0, 128, (clips, frames)).astype(np.int8),
        "onset": rng.integers(0, 2, (clips, frames, 12)).astype(np.uint8),
        "drum": rng.integers(0, 2, (clips, frames, 3)).astype(np.uint8),
        "chord": rng.integers(0, 25, (clips, frames)).astype(np.int8),
        "beat_phase": phase,
        "bar_phase": phase,
        "family": rng.integers(0, 2, (clips, frames, len(FAMILIES))).astype(np.uint8),
    }


def listened(clips: int = 6) -> LabelledSpectra:
    rng = np.random.default_rng(0)
    sound = (3_000 * rng.standard_normal((clips, 9_600))).astype(np.int16)
    return spectra_of([sound[:4], sound[4:]], [labels(4), labels(clips - 4, seed=1)])


@pytest.mark.parametrize("semitones", [3, 1, -2])
def test_shifting_spectra_is_shifting_the_sound(semitones: int) -> None:
    played = features(tone(330.0))[0]
    higher = features(tone(330.0 * 2 ** (semitones / 12)))[0]
    moved = shift_spectra(played, semitones)
    low = slice(0, LOG_FREQUENCY_BINS)
    assert int(moved[10, low].argmax()) == int(higher[10, low].argmax())
    right = float((moved[5:-5, low] - higher[5:-5, low]).abs().mean())
    wrong = float((played[5:-5, low] - higher[5:-5, low]).abs().mean())
    assert right < 0.7 * wrong
    torch.testing.assert_close(moved[:, LOG_FREQUENCY_BINS:], played[:, LOG_FREQUENCY_BINS:])


def test_what_enters_from_beyond_is_silence() -> None:
    spectra = torch.ones(2, 288)
    up, down = shift_spectra(spectra, 2), shift_spectra(spectra, -2)
    assert (up[0] == -2.5).nonzero().flatten().tolist() == list(range(6))
    assert (down[0] == -2.5).nonzero().flatten().tolist() == list(range(246, 252))
    assert torch.equal(shift_spectra(spectra, 0), spectra)


def test_labels_move_up_by_the_semitones() -> None:
    pitch_class = torch.zeros(2, 1, 12, dtype=torch.uint8)
    pitch_class[:, :, [0, 11]] = 1  # C and B
    one: Labels = {
        "pitch_class": pitch_class,
        "onset": pitch_class,
        "bass": torch.tensor([[12], [0]], dtype=torch.int8),  # B, none
        "top": torch.tensor([[60], [0]], dtype=torch.int8),
        "chord": torch.tensor([[12], [24]], dtype=torch.int8),  # B major, B minor
        "drum": torch.ones(2, 1, 3),
    }
    moved = shift_labels(one, torch.tensor([2, -1]))
    assert moved["pitch_class"][0, 0].nonzero().flatten().tolist() == [1, 2]  # C# and D
    assert moved["pitch_class"][1, 0].nonzero().flatten().tolist() == [10, 11]
    assert torch.equal(moved["onset"], moved["pitch_class"])
    assert moved["bass"].flatten().tolist() == [2, 0]
    assert moved["top"].flatten().tolist() == [62, 0]
    assert moved["chord"].flatten().tolist() == [2, 23]
    assert moved["drum"] is one["drum"]


def test_up_and_down_again_is_where_it_was() -> None:
    there = {name: torch.from_numpy(array) for name, array in labels(5).items()}
    shifts = torch.tensor([0, 1, 2, 3, -3])
    again = shift_labels(shift_labels(there, shifts), -shifts)
    for name in ("pitch_class", "onset", "bass", "chord"):
        assert torch.equal(again[name].long(), there[name].long())


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_about_the_asked_share_is_hidden_in_spans(share: float) -> None:
    masked = sample_spans(64, 250, share, 10, generator_of(0, 0))
    assert masked.shape == (64, 250)
    assert float(masked.float().mean()) == pytest.approx(share, abs=0.05)
    changes = int((masked[:, 1:] != masked[:, :-1]).sum())
    assert changes < 2 * share * masked.numel() / 10 + 64


def test_classes_that_are_not_known_are_left_out() -> None:
    found = _class_targets(
        {
            "bass": torch.tensor([[0, 12]]),
            "chord": torch.tensor([[0, 24]]),
            "top": torch.tensor([[0, 127, LOWEST_TOP_PITCH, 1, 60]]),
            "beat_phase": torch.tensor([[math.nan, 0.0, 0.51, 0.9999]]),
            "bar_phase": torch.tensor([[math.nan, math.nan]]),
        }
    )
    assert found["beat"].tolist() == [[-1, 0, 8, 15]]
    assert found["bar"].tolist() == [[-1, -1]]
    assert found["top"].tolist() == [[0, HEADS["top"] - 1, 1, 1, 60 - LOWEST_TOP_PITCH + 1]]
    for name in ("bass", "chord"):
        assert int(found[name].max()) == HEADS[name] - 1


def test_a_batch_without_any_bar_has_no_loss_for_it() -> None:
    corpus = listened()
    task = SemanticTask(TINY, corpus, corpus)
    known = {name: value[:2] for name, value in corpus.labels.items()}
    known["bar_phase"] = torch.full_like(known["bar_phase"], math.nan)
    bottleneck = torch.randn(2, 10, 8)
    losses = head_losses(task.encoder, bottleneck, known)
    assert set(losses) == set(HEADS) - {"bar"}
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def test_a_run_ends_with_a_tokenizer_and_goes_on_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = listened()
    train_semantic(TINY, corpus, corpus, tmp_path / "one")
    path = tmp_path / "one" / "weights.safetensors"
    tokenizer = SemanticTokenizer.read(path)
    tokens = tokenizer.encode_states(tone(440.0)).tokens
    assert tokens.shape == (1, 2, 10)
    assert int(tokens.max()) < 8
    said = capsys.readouterr().out
    for figure in ("masked", "pitch_class_f1", "family_f1", "beat", "chord"):
        assert figure in said
    shipped = read_checkpoint(path)
    train_semantic(TINY, corpus, corpus, tmp_path / "two", shipped.tensors)
    SemanticTokenizer.read(tmp_path / "two" / "weights.safetensors")


def test_the_score_can_be_left_out(tmp_path: Path) -> None:
    corpus = dataclasses.replace(listened(), labels={})
    settings = dataclasses.replace(TINY, score_weight=0.0)
    train_semantic(settings, corpus, corpus, tmp_path)
    assert SemanticTokenizer.read(tmp_path / "weights.safetensors").settings == TINY.semantic


def test_named_instruments_become_labels_of_their_own_clip() -> None:
    named = (["oboe"], [], ["drums", "harp"])
    rows: tuple[dict[str, object], ...] = tuple({"facts": {"instruments": n}} for n in named)
    sound = (np.zeros((2, 4), dtype=np.int16), np.zeros((1, 4), dtype=np.int16))
    shards = instrument_labels(
        AudioShards(sound=sound, labels=({"drum": np.zeros(2)}, {"drum": np.zeros(1)}), rows=rows)
    )
    found = [
        [INSTRUMENT_NAMES[i] for i in np.flatnonzero(row)]
        for s in shards
        for row in s["instruments"]
    ]
    assert found == [["oboe"], [], ["harp", "drums"]]
    assert all("drum" in shard for shard in shards)


def test_an_instrument_that_plays_for_a_moment_is_heard() -> None:
    head = InstrumentHead(8)
    with torch.no_grad():
        head.name.weight.zero_()
        head.name.weight[3, 0] = 10.0
        head.name.bias.fill_(-8.0)
    states = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    states[0, 7, 0] = 5.0
    logits = head(states)[0].detach()
    assert float(logits[3]) > 0
    assert float(logits[4]) < -5


def test_the_instrument_head_and_the_encoder_both_learn_from_it(tmp_path: Path) -> None:
    corpus = listened()
    named = torch.zeros(6, len(INSTRUMENT_NAMES), dtype=torch.uint8)
    named[:3, 5] = 1
    corpus = dataclasses.replace(corpus, labels={**corpus.labels, "instruments": named})
    task = SemanticTask(TINY, corpus, corpus)
    losses, figures = task.losses(0, generator_of(0, 0))
    assert set(losses) == {"semantic", "instruments"}
    assert figures["instruments"] > 0
    assert "instrument_f1" in task.judge(task.encoder)
    last = task.encoder.trunk.parameters()
    assert any(
        g is not None
        for g in torch.autograd.grad(
            losses["instruments"], list(task.instruments.parameters()), retain_graph=True
        )
    )
    assert all(
        g is None for g in torch.autograd.grad(losses["instruments"], list(last), allow_unused=True)
    )
    train_semantic(TINY, corpus, corpus, tmp_path)
    kept = read_checkpoint(tmp_path / "weights.safetensors").tensors
    assert not any("instrument" in name for name in kept)
