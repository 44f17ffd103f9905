"""The codec as other floors use it: grids in and out, refusals, what its fingerprint means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from melisma.codec import AcousticCodec, Codec, CodecSettings, acoustic
from melisma.codec.acoustic import linear_magnitudes
from melisma.codec.model import LOG_FLOOR, MAGNITUDES_PER_FRAME, log_magnitudes
from melisma.files.checkpoint import Checkpoint, write_checkpoint
from melisma.sound.phase_retrieval import LINES
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, TokenGrid
from melisma.values.waveform import Waveform

TINY = CodecSettings(
    encoder_width=16, encoder_blocks=1, latent_width=16, latent_blocks=1, levels=3, vocabulary=16,
    code_width=8, decoder_slow_width=16, decoder_slow_blocks=1, decoder_width=16, decoder_blocks=1,
    decoder_expansion=2,
)  # fmt: skip


def checkpoint(seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    codec = Codec(TINY)
    codec.quantizer.codes.normal_()
    tensors = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    return Checkpoint(kind="codec", settings=dataclasses.asdict(TINY), tensors=tensors)


@pytest.fixture(scope="module")
def codec() -> AcousticCodec:
    return AcousticCodec.from_checkpoint(checkpoint())


def noise(samples: int, rate_hz: int = SAMPLE_RATE_HZ, channels: int = 1) -> Waveform:
    rng = np.random.default_rng(0)
    return Waveform(samples=0.2 * rng.standard_normal((channels, samples)), rate_hz=rate_hz)


def test_sound_becomes_tokens_and_sound_again(codec: AcousticCodec) -> None:
    grid = codec.encode(noise(9_700))
    assert grid.tokens.shape == (3, 11)
    assert (grid.vocabulary, grid.fingerprint) == (16, codec.fingerprint)
    waveform = codec.decode(grid)
    assert waveform.samples.shape == (1, 11 * SAMPLES_PER_FRAME)
    assert codec.bits_per_second == 3 * 25 * 4


def test_fewer_levels_are_the_first_levels(codec: AcousticCodec) -> None:
    whole = codec.encode(noise(9_600))
    np.testing.assert_array_equal(codec.encode(noise(9_600), 2).tokens, whole.tokens[:2])
    first = dataclasses.replace(whole, tokens=whole.tokens[:1])
    assert codec.decode(first).samples.shape == (1, 9_600)


def test_stereo_is_encoded_as_its_mono_mix(codec: AcousticCodec) -> None:
    stereo = noise(4_800, channels=2)
    middle = Waveform(samples=stereo.mono[None], rate_hz=SAMPLE_RATE_HZ)
    np.testing.assert_array_equal(codec.encode(stereo).tokens, codec.encode(middle).tokens)


def test_long_sound_goes_through_in_blocks(
    codec: AcousticCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = codec.encode(noise(20 * SAMPLES_PER_FRAME)).tokens
    monkeypatch.setattr(acoustic, "BLOCK_FRAMES", 6)
    blocks = codec.encode(noise(20 * SAMPLES_PER_FRAME)).tokens
    assert float((blocks == whole).mean()) > 0.9  # bfloat16 may round a near tie the other way
    assert codec.decode_tokens(torch.from_numpy(whole)[None]).shape == (1, 19_200)


def test_one_frame_is_enough(codec: AcousticCodec) -> None:
    assert codec.decode_tokens(torch.zeros(2, 3, 1, dtype=torch.long)).shape == (2, 960)


def test_what_cannot_be_encoded_is_refused(codec: AcousticCodec) -> None:
    for levels in (0, 4, -1):
        with pytest.raises(MelismaError, match=f"1 to 3 levels, not {levels}"):
            codec.encode(noise(960), levels)
    with pytest.raises(MelismaError, match="24000 Hz, not 44100"):
        codec.encode(noise(960, rate_hz=44_100))
    with pytest.raises(MelismaError, match="no sound"):
        codec.encode(Waveform(samples=np.zeros((1, 0), np.float32), rate_hz=SAMPLE_RATE_HZ))


def test_tokens_that_it_did_not_make_are_refused(codec: AcousticCodec) -> None:
    grid = codec.encode(noise(1_920))
    with pytest.raises(MelismaError, match="made by the codec other"):
        codec.decode(dataclasses.replace(grid, fingerprint="other"))
    for shape in ((4, 2), (0, 2), (3, 0)):
        tokens = np.zeros(shape, dtype=np.int64)
        with pytest.raises(MelismaError, match="1 to 3 levels of one frame or more"):
            codec.decode(dataclasses.replace(grid, tokens=tokens))


def test_the_fingerprint_is_that_of_the_tokens() -> None:
    first = checkpoint()
    original = AcousticCodec.from_checkpoint(first).fingerprint

    def changed(start: str) -> str:
        tensors = {n: t + 0.1 if n.startswith(start) else t for n, t in first.tensors.items()}
        moved = dataclasses.replace(first, tensors=tensors)
        return AcousticCodec.from_checkpoint(moved).fingerprint

    assert changed("decoder.") == original
    assert changed("encoder.") != original
    assert changed("quantizer.") != original

    wider = CodecSettings(**{**first.settings, "decoder_width": 32})
    tensors = Codec(wider).state_dict() | {
        n: t for n, t in first.tensors.items() if not n.startswith("decoder.")
    }
    other = Checkpoint(kind="codec", settings=dataclasses.asdict(wider), tensors=tensors)
    assert AcousticCodec.from_checkpoint(other).fingerprint == original


def test_the_file_gives_back_the_same_codec(codec: AcousticCodec, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "codec.safetensors", checkpoint())
    again = AcousticCodec.read(tmp_path / "codec.safetensors")
    assert again.fingerprint == codec.fingerprint
    first, second = again.encode(noise(1_920)), codec.encode(noise(1_920))
    np.testing.assert_array_equal(first.tokens, second.tokens)


def test_a_codec_of_another_shape_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    good = checkpoint()
    fewer = dict(list(good.tensors.items())[:-1])
    for other in (
        dataclasses.replace(good, settings=good.settings | {"pitch_width": 3}),
        dataclasses.replace(good, settings=good.settings | {"encoder_width": 24}),
        dataclasses.replace(good, tensors=fewer),
    ):
        write_checkpoint(path, other)
        with pytest.raises(MelismaError, match=r"codec.* of this version"):
            AcousticCodec.read(path)
    write_checkpoint(path, dataclasses.replace(good, kind="joint"))
    with pytest.raises(MelismaError, match='holds a "joint", but a "codec"'):
        AcousticCodec.read(path)


def test_the_floor_of_the_logarithm_is_silence() -> None:
    assert not linear_magnitudes(torch.full((1, 4, LINES), LOG_FLOOR)).any()
    assert float(linear_magnitudes(torch.zeros(1))) == pytest.approx(1.0, abs=1e-3)


class Oracle(nn.Module):
    """Outputs the true magnitudes of a sound, one frame of tokens late, whatever its input."""

    def __init__(self, sound: Tensor) -> None:
        super().__init__()
        late = torch.full((len(sound), MAGNITUDES_PER_FRAME, LINES), LOG_FLOOR)
        self.logs = torch.cat([late, log_magnitudes(sound)], dim=1)

    def initial_state(self, batch: int) -> int:
        assert batch == len(self.logs)
        return 0

    def step(self, block: Tensor, said: int) -> tuple[Tensor, int]:
        stop = said + MAGNITUDES_PER_FRAME * block.shape[1]
        return self.logs[:, said:stop], stop


def test_a_perfect_decoder_has_no_residual_delay() -> None:
    seconds = torch.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    sound = 0.5 * torch.sin(2 * np.pi * 600 * seconds) * ((seconds > 0.3) & (seconds < 0.6))
    perfect = AcousticCodec.from_checkpoint(checkpoint())
    perfect.codec.decoder = Oracle(sound[None])  # pyright: ignore[reportAttributeAccessIssue]
    made = perfect.decode_tokens(perfect.encode_sound(sound[None]))[0].numpy()
    assert made.shape == sound.shape
    level = np.convolve(made**2, np.ones(480) / 480, "same")
    inside = np.flatnonzero(level > 0.5 * np.median(level[9_000:12_000]))
    assert inside[0] / SAMPLE_RATE_HZ == pytest.approx(0.3, abs=0.025)
    assert inside[-1] / SAMPLE_RATE_HZ == pytest.approx(0.6, abs=0.025)
    assert float(np.std(made[9_000:12_000])) == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_training_sees_the_magnitudes_of_the_same_frames() -> None:
    torch.manual_seed(0)
    network = Codec(TINY)
    sound = 0.1 * torch.randn(2, 5 * SAMPLES_PER_FRAME)
    made, quantized = network(sound, torch.tensor([1, 3]))
    assert made.shape == (2, 4 * MAGNITUDES_PER_FRAME, LINES)
    assert log_magnitudes(sound).shape == (2, 5 * MAGNITUDES_PER_FRAME, LINES)
    assert quantized.tokens.shape == (2, 3, 5)


def test_tokens_are_a_grid_of_integers() -> None:
    with pytest.raises(MelismaError, match="outside the vocabulary"):
        TokenGrid(tokens=np.array([[16]]), vocabulary=16, frame_rate_hz=25, fingerprint="")


@pytest.mark.parametrize(("vocabulary", "token"), [(17, 16), (1024, 900), (2**20, 2**20 - 1)])
def test_tokens_of_a_larger_vocabulary_are_refused(
    codec: AcousticCodec, vocabulary: int, token: int
) -> None:
    tokens = np.zeros((3, 4), dtype=np.int64)
    tokens[1, 2] = token
    grid = TokenGrid(
        tokens=tokens, vocabulary=vocabulary, frame_rate_hz=25, fingerprint=codec.fingerprint
    )
    with pytest.raises(MelismaError, match=f"of a vocabulary of {vocabulary}, the codec's has 16"):
        codec.decode(grid)
    tokens[1, 2] = 15
    assert codec.decode(dataclasses.replace(grid, tokens=tokens)).samples.shape == (1, 3_840)
