"""Semantic tokens: features forget loudness, clusters find what is there, windows join."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from melisma.files.checkpoint import write_checkpoint
from melisma.semantic import SemanticEncoder, SemanticSettings, SemanticTokenizer, tokenizer
from melisma.semantic.model import FEATURE_WIDTH, HEADS, features
from melisma.semantic.tokenizer import EncoderStates, cluster, quantize, tokenizer_checkpoint
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from melisma.values.waveform import Waveform

TINY = SemanticSettings(
    width=16, layers=2, heads=2, token_layer=1, bottleneck_width=8, projection_codes=32,
    projection_width=4, levels=2, vocabulary=16,
)  # fmt: skip


def make() -> SemanticTokenizer:
    torch.manual_seed(0)
    encoder = SemanticEncoder(TINY)
    weights = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    centroids = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1))
    return SemanticTokenizer.from_checkpoint(tokenizer_checkpoint(TINY, weights, centroids))


def chord(seconds: float, level: float = 0.1) -> Tensor:
    times = torch.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tones = [torch.sin(2 * math.pi * hz * times) for hz in (220.0, 277.18, 329.63)]
    return level * torch.stack(tones).sum(dim=0)[None]


def test_features_do_not_depend_on_loudness() -> None:
    loud, soft = features(chord(0.4)), features(chord(0.4, level=0.05))
    assert loud.shape == (1, 20, FEATURE_WIDTH)
    sounding = loud > -1.0  # below, the floor of the logarithm comes in
    assert int(sounding.sum()) > 500
    torch.testing.assert_close(loud[sounding], soft[sounding], atol=0.1, rtol=0)
    assert bool(torch.isfinite(features(torch.zeros(1, 9_600))).all())


def test_random_codes_are_the_same_for_every_encoder() -> None:
    torch.manual_seed(3)
    one = SemanticEncoder(TINY)
    torch.manual_seed(4)
    other = SemanticEncoder(TINY)
    spectra = torch.randn(2, 24, FEATURE_WIDTH)
    codes = one.random_codes(spectra)
    assert codes.shape == (2, 12)
    assert torch.equal(codes, other.random_codes(spectra))
    assert len(codes.unique()) > 4


def test_hidden_frames_are_hidden() -> None:
    encoder = make().encoder
    with torch.no_grad():
        first, _, _ = encoder(torch.randn(1, 8, FEATURE_WIDTH), torch.ones(1, 4, dtype=torch.bool))
        second, _, _ = encoder(torch.randn(1, 8, FEATURE_WIDTH), torch.ones(1, 4, dtype=torch.bool))
        seen, _, _ = encoder(torch.randn(1, 8, FEATURE_WIDTH))
    assert torch.equal(first, second)
    assert not torch.allclose(first, seen)


def test_encoding_gives_tokens_states_and_heads() -> None:
    states = make().encode_states(chord(0.4).expand(2, -1))
    assert states.tokens.shape == (2, 2, 10)
    assert states.middle.shape == states.last.shape == (2, 10, 16)
    assert {name: logits.shape for name, logits in states.heads.items()} == {
        name: (2, 10, width) for name, width in HEADS.items()
    }


def test_the_file_gives_back_the_same_tokens(tmp_path: Path) -> None:
    made = make()
    weights = made.encoder.state_dict()
    path = tmp_path / "semantic.safetensors"
    good = tokenizer_checkpoint(TINY, weights, made.centroids, update=3.0)
    write_checkpoint(path, good)
    again = SemanticTokenizer.read(path)
    assert again.fingerprint == made.fingerprint
    waveform = Waveform(samples=chord(0.5).numpy(), rate_hz=SAMPLE_RATE_HZ)
    grid = again.encode(waveform)
    np.testing.assert_array_equal(grid.tokens, made.encode(waveform).tokens)
    assert (grid.fingerprint, grid.tokens.shape) == (made.fingerprint, (2, 12))

    moved = tokenizer_checkpoint(TINY, weights, made.centroids + 0.1)
    assert SemanticTokenizer.from_checkpoint(moved).fingerprint != made.fingerprint

    fewer = {n: t for n, t in good.tensors.items() if n != "centroids"}
    for other in (
        dataclasses.replace(good, tensors=fewer),
        dataclasses.replace(good, settings=good.settings | {"width": 32}),
        dataclasses.replace(good, settings=good.settings | {"unknown": 2}),
    ):
        write_checkpoint(path, other)
        with pytest.raises(MelismaError, match=r"semantic.* of this version"):
            SemanticTokenizer.read(path)


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 32, 33, 45])
def test_windows_join_without_gap_or_overlap(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "WINDOW_FRAMES", 20)
    monkeypatch.setattr(tokenizer, "OVERLAP_FRAMES", 8)

    def read_back(part: Tensor) -> EncoderStates:
        """Tokens that say which frame the sound was."""
        numbers = part[:, ::SAMPLES_PER_FRAME].mul(100).round().long()[:, None]
        return EncoderStates(tokens=numbers, middle=part, last=part, heads={})

    made = make()
    made.encoder.settings = dataclasses.replace(TINY, vocabulary=100)
    monkeypatch.setattr(made, "encode_states", read_back)
    sound = (np.arange(frames, dtype=np.float32) / 100).repeat(SAMPLES_PER_FRAME)
    rest = np.zeros(500, np.float32)
    samples = np.concatenate([sound, rest])[None]
    grid = made.encode(Waveform(samples=samples, rate_hz=SAMPLE_RATE_HZ))
    assert grid.tokens.tolist() == [list(range(frames))]


def test_less_than_a_frame_is_refused() -> None:
    samples = np.zeros((1, 959), np.float32)
    with pytest.raises(MelismaError, match="shorter than one frame"):
        make().encode(Waveform(samples=samples, rate_hz=SAMPLE_RATE_HZ))


def test_clusters_are_found_and_levels_come_nearer() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(12, 6, generator=generator)
    owners = torch.randint(12, (1_200,), generator=generator)
    vectors = centres[owners] + 0.2 * torch.randn(1_200, 6, generator=generator)
    centroids = cluster(vectors, levels=3, vocabulary=16, generator=generator)
    assert centroids.shape == (3, 16, 6)
    tokens = quantize(vectors[None], centroids)[0]
    assert tokens.shape == (3, 1_200)
    assert all(len(level.unique()) == 16 for level in tokens)
    errors = []
    rest = vectors
    for level, found in zip(centroids, tokens, strict=True):
        rest = rest - level[found]
        errors.append(float(rest.square().mean()))
    assert errors[0] < 0.25 * float(vectors.var())
    assert errors[2] < errors[1] < errors[0]
    distance = torch.cdist(vectors, centroids[0])
    assert torch.equal(distance.argmin(dim=1), tokens[0])


def test_clusters_are_the_same_for_the_same_seed() -> None:
    vectors = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    first, second = (
        cluster(vectors, levels=2, vocabulary=8, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_clusters_that_go_on_keep_their_names() -> None:
    generator = torch.Generator().manual_seed(0)
    before = 4 * torch.randn(1, 8, 6, generator=generator)
    moved = before[0].repeat(40, 1) + 0.3 + 0.1 * torch.randn(320, 6, generator=generator)
    after = cluster(moved, levels=1, vocabulary=8, generator=generator, before=before)
    assert torch.equal(quantize(moved[None], after)[0, 0], torch.arange(8).repeat(40))
    torch.testing.assert_close(after, before + 0.3, atol=0.1, rtol=0.0)
    anew = cluster(moved, levels=1, vocabulary=8, generator=generator)
    assert not torch.equal(quantize(moved[None], anew), quantize(moved[None], after))


def test_too_little_sound_to_cluster_is_refused() -> None:
    with pytest.raises(MelismaError, match=r"16 clusters need .*, not 10"):
        cluster(torch.randn(10, 4), levels=1, vocabulary=16, generator=torch.Generator())
