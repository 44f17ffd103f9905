"""EnCodec against `transformers`: the same tokens, the same sound, whole, in blocks, in stereo."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from melisma.codec import Encodec, EncodecCodec, EncodecSettings
from melisma.codec.encodec import model as encodec_model
from melisma.codec.encodec import streaming
from melisma.codec.encodec.codec import deinterleave, interleave, load_published
from melisma.codec.encodec.streaming import Recurrence
from melisma.values.errors import MelismaError
from melisma.values.waveform import Waveform

transformers = pytest.importorskip("transformers")

TINY = {
    "sampling_rate": 3_200, "num_filters": 4, "upsampling_ratios": [4, 5, 2], "hidden_size": 8,
    "codebook_size": 32, "target_bandwidths": [1.7], "use_causal_conv": False,
    "use_conv_shortcut": False,
}  # fmt: skip
"""As MusicGen's codec, but small: 4 levels of 32 at 80 Hz, 40 samples a frame."""
PUBLISHED = {
    "sampling_rate": 32_000, "num_filters": 64, "upsampling_ratios": [8, 5, 4, 4],
    "codebook_size": 2_048, "target_bandwidths": [2.2], "use_causal_conv": False,
    "use_conv_shortcut": False,
}  # fmt: skip
"""What facebook/encodec_32khz says, where it differs from the defaults."""
VARIANTS = {
    "as MusicGen": {},
    "causal": {"use_causal_conv": True},
    "cut on both sides": {"use_causal_conv": True, "trim_right_ratio": 0.5},
    "zeros": {"pad_mode": "constant"},
    "edges": {"pad_mode": "replicate", "use_conv_shortcut": True},
    "deep": {"num_residual_layers": 3, "residual_kernel_size": 5, "compress": 1},
    "even kernels": {"kernel_size": 4, "last_kernel_size": 6},
    "wide": {"audio_channels": 2, "num_lstm_layers": 1, "upsampling_ratios": [8, 5]},
}


def published(**changes: Any) -> Any:
    """A random `EncodecModel` whose codes are all in use and whose sound is about 0.2 loud."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.EncodecModel(transformers.EncodecConfig(**(TINY | changes))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("original0"):
                weight.copy_(0.4 + torch.rand_like(weight))
            else:
                weight.copy_(0.3 * torch.randn_like(weight))
        for name, buffer in model.named_buffers():
            if name.endswith(".embed"):
                level = int(name.split(".")[2])
                buffer.copy_(0.2 * 0.6**level * torch.randn_like(buffer))
    return model


def ours(model: Any) -> Encodec:
    network = Encodec(EncodecSettings.from_config(model.config.to_dict()))
    load_published(network, model.state_dict())
    return network


def noise(samples: int, channels: int = 1, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 0.5 * torch.randn(batch, channels, samples, generator=generator)


@torch.no_grad()
def their_tokens(model: Any, sound: Tensor) -> Tensor:
    return model.encode(sound, bandwidth=model.config.target_bandwidths[-1]).audio_codes[0]


@torch.no_grad()
def their_sound(model: Any, tokens: Tensor) -> Tensor:
    return model.decode(tokens[None], [None]).audio_values


def in_blocks(codec: Any, tokens: Tensor, sizes: Iterator[int]) -> Tensor:
    state, pieces, start = codec.initial_state(len(tokens)), [], 0
    while start < tokens.shape[-1]:
        size = next(sizes)
        sound, state = codec.step(tokens[..., start : start + size], state)
        pieces.append(sound)
        start += size
    return torch.cat([*pieces, codec.finish(state)], dim=-1)


def always(size: int) -> Iterator[int]:
    while True:
        yield size


def any_size() -> Iterator[int]:
    rng = np.random.default_rng(0)
    while True:
        yield int(rng.choice([0, 1, 1, 2, 5]))


@pytest.fixture(scope="module")
def model() -> Any:
    return published()


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_tokens_and_sound_are_those_of_transformers(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = published(**changes)
    network, hop = ours(model), model.config.hop_length
    for packed in (False, True):
        if packed:
            network.pack()
        for samples in (1, 7, hop, hop + 1, 3 * hop + 3, 25 * hop + hop // 2):
            monkeypatch.setattr(encodec_model, "BLOCK_FRAMES", 3 if packed else 100)
            sound = noise(samples, model.config.audio_channels)
            tokens = their_tokens(model, sound)
            torch.testing.assert_close(network.encode(sound), tokens, rtol=0, atol=0)
            expected = their_sound(model, tokens)
            for sizes in (always(100), always(1), always(3), any_size()):
                found = in_blocks(network, tokens, sizes)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(network.decode_tokens(tokens), expected, rtol=0, atol=1e-5)
    assert float(expected.std()) > 0.05
    assert len(tokens.unique()) > 10


def test_any_length_ends_as_published(model: Any) -> None:
    network = ours(model)
    for samples in range(160, 200):  # every remainder of a frame of 40
        sound = noise(samples)
        torch.testing.assert_close(
            network.encode(sound), their_tokens(model, sound), rtol=0, atol=0
        )


def test_small_blocks_compute_nothing_twice(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, rows = ours(model), [0]
    plain = streaming._sum_of_taps

    def counted(*given: Any) -> Tensor:
        out = plain(*given)
        rows[0] += out.shape[1]
        return out

    monkeypatch.setattr(streaming, "_sum_of_taps", counted)
    tokens, found = torch.zeros(1, 4, 30, dtype=torch.long), []
    for size in (1, 4, 30):
        rows[0] = 0
        in_blocks(network, tokens, always(size))
        found.append(rows[0])
    assert found == found[:1] * 3


def test_a_stream_is_delayed_by_exactly_the_lookahead(model: Any) -> None:
    network = ours(model)
    tokens = torch.randint(32, (1, 4, 60), generator=torch.Generator().manual_seed(0))
    whole, late = network.decode_tokens(tokens), network.lookahead_samples
    state, said = network.initial_state(1), 0
    for frame in range(60):
        sound, state = network.step(tokens[..., frame : frame + 1], state)
        said += sound.shape[2]
        assert said == max(0, 40 * (frame + 1) - late)
    # One sample more would need the next frame: with another one it is another.
    other = tokens.clone()
    other[..., 30:] = (other[..., 30:] + 1) % 32
    changed = (network.decode_tokens(other) - whole)[0, 0].abs() > 0
    assert int(changed.nonzero()[0]) == 40 * 30 - late


def test_the_published_sizes_are_75_ms_late() -> None:
    settings = EncodecSettings.from_config(PUBLISHED)
    assert (settings.levels, settings.samples_per_frame, settings.frame_rate_hz) == (4, 640, 50)
    with torch.device("meta"):
        network = Encodec(settings)
    assert network.lookahead_samples == 2_402
    assert network.lookahead_frames == 4
    causal = dataclasses.replace(settings, use_causal_conv=True)
    with torch.device("meta"):
        assert Encodec(causal).lookahead_samples == 0


def test_a_state_can_be_continued_twice(model: Any) -> None:
    network = ours(model)
    tokens = torch.randint(32, (2, 4, 30), generator=torch.Generator().manual_seed(0))
    _, state = network.step(tokens[..., :20], network.initial_state(2))
    first, _ = network.step(tokens[..., 20:], state)
    network.finish(state)
    again, _ = network.step(tokens[..., 20:], state)
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_fewer_levels_are_the_first_levels(model: Any) -> None:
    network, sound = ours(model), noise(400)
    tokens = network.encode(sound)
    torch.testing.assert_close(network.encode(sound, 2), tokens[:, :2])
    expected = their_sound(model, tokens[:, :2])
    torch.testing.assert_close(network.decode_tokens(tokens[:, :2]), expected, rtol=0, atol=1e-5)
    for levels in (0, 5):
        with pytest.raises(MelismaError, match=f"1 to 4 levels, not {levels}"):
            network.encode(sound, levels)


def test_the_packed_lstm_is_the_plain_one(model: Any) -> None:
    plain, packed = ours(model), ours(model)
    packed.pack()
    packed.pack()
    tokens = torch.randint(32, (2, 4, 30), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        packed.decode_tokens(tokens), plain.decode_tokens(tokens), rtol=0, atol=1e-6
    )


def test_a_torch_without_the_kernel_keeps_the_plain_lstm(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Tensor:
        raise RuntimeError("no such kernel")

    network = ours(model)
    tokens = torch.zeros(1, 4, 9, dtype=torch.long)
    expected = network.decode_tokens(tokens)
    monkeypatch.setattr(Recurrence, "_packed_step", fails)
    network.pack()
    torch.testing.assert_close(network.decode_tokens(tokens), expected)


def test_bfloat16_is_near_and_its_tokens_are_the_same(model: Any) -> None:
    config, tensors = model.config.to_dict(), model.state_dict()
    exact = EncodecCodec.from_published(config, tensors)
    fast = EncodecCodec.from_published(config, tensors, precision="bfloat16")
    sound = noise(4_000)
    tokens = exact.encode_sound(sound)
    torch.testing.assert_close(fast.encode_sound(sound), tokens, rtol=0, atol=0)
    expected, found = exact.decode_tokens(tokens), fast.decode_tokens(tokens)
    error = (found - expected).square().mean() / expected.square().mean()
    assert 0 < float(error) < 10**-2.5
    assert fast.fingerprint == exact.fingerprint
    with pytest.raises(MelismaError, match='"float32" or "bfloat16", not "int8"'):
        EncodecCodec.from_published(config, tensors, precision="int8")


def test_both_spellings_of_weight_norm_and_neither(model: Any) -> None:
    new = model.state_dict()
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in new.items()
    }
    assert old.keys() != new.keys()
    folded = {n: t for n, t in old.items() if not n.endswith(("weight_g", "weight_v"))}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            folded[f"{name}.weight"] = module.weight.detach()
    tokens = torch.randint(32, (1, 4, 9), generator=torch.Generator().manual_seed(0))
    expected = their_sound(model, tokens)
    config, fingerprints = model.config.to_dict(), []
    for tensors in (new, old, folded):
        prefixed = {f"audio_encoder.{name}": tensor for name, tensor in tensors.items()}
        prefixed["decoder.model.embed_tokens.weight"] = torch.zeros(3)  # MusicGen's own
        codec = EncodecCodec.from_published(config, prefixed, prefix="audio_encoder.")
        torch.testing.assert_close(codec.decode_tokens(tokens), expected, rtol=0, atol=1e-5)
        fingerprints.append(codec.fingerprint)
    assert fingerprints[0] == fingerprints[1]
    half = {name: tensor.half() for name, tensor in new.items()}
    EncodecCodec.from_published(config, half)


def test_tensors_that_do_not_fit_are_named(model: Any) -> None:
    config, tensors = model.config.to_dict(), model.state_dict()

    def loaded(changed: dict[str, Tensor], prefix: str = "") -> None:
        EncodecCodec.from_published(config, changed, prefix=prefix)

    fewer = {n: t for n, t in tensors.items() if "decoder.layers.1.lstm" not in n}
    with pytest.raises(MelismaError, match=r"lack decoder\.layers\.1\.lstm\.\w+, .*8 in all"):
        loaded(fewer)
    with pytest.raises(MelismaError, match=r"lack audio_encoder\.encoder\.layers\.0"):
        loaded(tensors, "audio_encoder.")
    book = "quantizer.layers.2.codebook.embed"
    with pytest.raises(MelismaError, match=rf"{book} \[16, 8\] instead of \[32, 8\] \(1 in all\)"):
        loaded(tensors | {book: torch.zeros(16, 8)})
    lengths = "encoder.layers.0.conv.parametrizations.weight.original0"
    with pytest.raises(MelismaError, match=r"encoder\.layers\.0\.conv\.weight_v .* \[3, 1, 1\]"):
        loaded(tensors | {lengths: torch.ones(3, 1, 1)})
    without = {name: tensor for name, tensor in tensors.items() if name != lengths}
    with pytest.raises(MelismaError, match=r"lack encoder\.layers\.0\.conv\.weight \(1 in all\)"):
        loaded(without)
    with pytest.raises(MelismaError, match=r"do not ask for: encoder\.layers\.0\.norm\.weight"):
        loaded(tensors | {"encoder.layers.0.norm.weight": torch.zeros(4)})
    state = ("cluster_size", "embed_avg", "inited")
    loaded({n: t for n, t in tensors.items() if not n.endswith(state)})


def test_settings_of_transformers_are_read() -> None:
    for changes in (TINY, PUBLISHED, {}):
        config = transformers.EncodecConfig(**changes)
        settings = EncodecSettings.from_config(config.to_dict())
        assert settings == EncodecSettings.from_config(changes)  # what is not said is the default
        assert settings.levels == config.num_quantizers
        assert settings.frame_rate_hz == config.frame_rate
        assert settings.samples_per_frame == config.hop_length
    older = {"torch_dtype": "float32", "top_k": 50, "tf_legacy_loss": False, "_name_or_path": ""}
    assert EncodecSettings.from_config(older | PUBLISHED).levels == 4


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("num_filter", 4, "no setting num_filter"),
        ("model_type", "dac", "\"encodec\", not 'dac'"),
        ("normalize", True, "normalize is True.*loudness"),
        ("chunk_length_s", 1.0, "chunk_length_s is 1.0"),
        ("norm_type", "time_group_norm", "norm_type is 'time_group_norm'.*streamed"),
        ("sampling_rate", "32000", "sampling_rate is a whole number"),
        ("num_filters", 0, "num_filters is a whole number from 1 on, not 0"),
        ("num_lstm_layers", True, "num_lstm_layers is a whole number"),
        ("audio_channels", 3, "audio_channels is 1 or 2, not 3"),
        ("codebook_size", 1, "codebook_size is at least 2"),
        ("codebook_dim", 4, r"codebook_dim is hidden_size \(8\)"),
        ("compress", 8, "compress is no more than num_filters"),
        ("use_causal_conv", 0, "use_causal_conv is true or false"),
        ("upsampling_ratios", [], "upsampling_ratios is a list"),
        ("upsampling_ratios", [8, 0], "upsampling_ratios is a list"),
        ("upsampling_ratios", 8, "upsampling_ratios is a list"),
        ("pad_mode", "circular", 'pad_mode is "reflect" or "constant"'),
        ("trim_right_ratio", 1.5, "trim_right_ratio is a number from 0 to 1"),
        ("trim_right_ratio", 0.5, "trim_right_ratio is 1.0 where use_causal_conv is false"),
        ("target_bandwidths", [], "target_bandwidths is a list"),
        ("target_bandwidths", [0.1], "target_bandwidths is enough for one level"),
    ],
)
def test_wrong_settings_are_named(name: str, value: object, says: str) -> None:
    with pytest.raises(MelismaError, match=says):
        EncodecSettings.from_config(TINY | {name: value})


def test_shapes_that_mean_nothing_are_refused(model: Any) -> None:
    network = ours(model)
    for sound in (torch.zeros(1, 2, 9), torch.zeros(1, 9), torch.zeros(1, 1, 0)):
        with pytest.raises(MelismaError, match=r"\[batch, 1, sample\]"):
            network.encode(sound)
    for shape in ((1, 5, 3), (1, 0, 3), (4, 3)):
        with pytest.raises(MelismaError, match="1 to 4 levels"):
            network.decode_tokens(torch.zeros(shape, dtype=torch.long))
    for token in (-1, 32):
        with pytest.raises(MelismaError, match="outside the vocabulary of 32"):
            network.decode_tokens(torch.full((1, 4, 3), token))
    assert network.finish(network.initial_state(2)).shape == (2, 1, 0)


def test_left_and_right_take_turns() -> None:
    left, right = torch.arange(8).view(1, 4, 2), torch.arange(10, 18).view(1, 4, 2)
    both = interleave(left, right)
    assert both[0, :, 0].tolist() == [0, 10, 2, 12, 4, 14, 6, 16]
    torch.testing.assert_close(deinterleave(both), (left, right))
    with pytest.raises(MelismaError, match="of one shape"):
        interleave(left, right[:, :3])
    with pytest.raises(MelismaError, match="an even number of levels"):
        deinterleave(both[:, :3])


def test_stereo_is_that_of_musicgen(model: Any) -> None:
    text = transformers.T5Config(
        vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
    ).to_dict()
    decoder = transformers.MusicgenDecoderConfig(
        vocab_size=32, hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=2,
        num_codebooks=8, audio_channels=2,
    ).to_dict()  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = transformers.MusicgenConfig(
            text_encoder=text, audio_encoder=model.config.to_dict(), decoder=decoder
        )
        musicgen = transformers.MusicgenForConditionalGeneration(config).eval()
    musicgen.audio_encoder.load_state_dict(model.state_dict())
    sound = noise(800, channels=2)
    with torch.no_grad():
        prepared = musicgen._prepare_audio_encoder_kwargs_for_generation(sound, {})
    theirs = prepared["decoder_input_ids"].view(2, 8, -1)

    codec = EncodecCodec.from_published(
        musicgen.config.audio_encoder.to_dict(),
        musicgen.state_dict(),
        prefix="audio_encoder.",
        channels=2,
    )
    tokens = codec.encode_sound(sound)
    torch.testing.assert_close(tokens, theirs, rtol=0, atol=0)
    # As `generate` makes sound of its tokens: even levels are left, odd ones right.
    expected = torch.cat([their_sound(model, tokens[:, side::2]) for side in (0, 1)], dim=1)
    assert expected.shape == (2, 2, 800)
    torch.testing.assert_close(codec.decode_tokens(tokens), expected, rtol=0, atol=1e-5)
    for size in (1, 7):
        found = in_blocks(codec, tokens, always(size))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(MelismaError, match="8 levels"):
        codec.decode_tokens(tokens[:, :4])
    with pytest.raises(MelismaError, match=r"\[batch, 2, sample\]"):
        codec.encode_sound(sound[:, :1])


@pytest.mark.parametrize("channels", [1, 2])
def test_waveforms_become_grids_and_waveforms_again(channels: int, model: Any) -> None:
    config, tensors = model.config.to_dict(), model.state_dict()
    codec = EncodecCodec.from_published(config, tensors, channels=channels)
    described = (codec.rate_hz, codec.frame_rate_hz, codec.levels, codec.vocabulary)
    assert described == (3_200, 80, 4 * channels, 32)
    assert codec.channels == channels
    assert codec.lookahead_seconds == codec.network.lookahead_samples / 3_200

    mono = Waveform(samples=noise(810)[0].numpy(), rate_hz=3_200)
    twice = Waveform(samples=np.repeat(mono.samples, 2, axis=0), rate_hz=3_200)
    grid = codec.encode(mono)
    assert grid.tokens.shape == (4 * channels, 21)
    assert (grid.vocabulary, grid.frame_rate_hz) == (32, 80)
    np.testing.assert_array_equal(codec.encode(twice).tokens, grid.tokens)
    made = codec.decode(grid)
    assert (made.samples.shape, made.rate_hz) == ((channels, 840), 3_200)

    with pytest.raises(MelismaError, match="encodes 3200 Hz, not 32000"):
        codec.encode(dataclasses.replace(mono, rate_hz=32_000))
    with pytest.raises(MelismaError, match="no sound"):
        codec.encode(Waveform(samples=np.zeros((1, 0), np.float32), rate_hz=3_200))
    with pytest.raises(MelismaError, match="made by the codec other"):
        codec.decode(dataclasses.replace(grid, fingerprint="other"))
    for tokens in (grid.tokens[:2], grid.tokens[:, :0]):
        with pytest.raises(MelismaError, match=f"{4 * channels} levels of one frame or more"):
            codec.decode(dataclasses.replace(grid, tokens=tokens))


def test_the_fingerprint_is_that_of_the_tokens(model: Any) -> None:
    config, tensors = model.config.to_dict(), model.state_dict()

    def fingerprint(start: str = "-", channels: int = 1, **changes: Any) -> str:
        moved = {n: t + 0.1 if n.startswith(start) else t for n, t in tensors.items()}
        one = EncodecCodec.from_published(config | changes, moved, channels=channels)
        return one.fingerprint

    assert fingerprint() == fingerprint("decoder.") == fingerprint()
    others = [fingerprint("encoder."), fingerprint("quantizer."), fingerprint(channels=2)]
    others.append(fingerprint(pad_mode="constant"))
    assert len({fingerprint(), *others}) == 5
    for channels in (0, 3):
        with pytest.raises(MelismaError, match=f"codes 1 or 2 channels, not {channels}"):
            fingerprint(channels=channels)
    wide = published(audio_channels=2)
    with pytest.raises(MelismaError, match="codes 2 channels, not 1"):
        EncodecCodec.from_published(wide.config.to_dict(), wide.state_dict(), channels=1)
    assert EncodecCodec.from_published(wide.config.to_dict(), wide.state_dict()).levels == 4
