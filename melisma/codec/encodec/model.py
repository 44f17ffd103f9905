"""EnCodec network as published for MusicGen: waveform <-> tokens, whole or streaming.

EnCodec (2210.13438). Section 3.1, the network: a convolution, then for each ratio residual units
and a strided convolution that doubles the width, an LSTM, a convolution to the latent; the decoder
mirrors it. Section 3.2, the residual vector quantizer: each level takes the code nearest to the
residual of the previous levels. MusicGen (2306.05284), section 3.1, uses one of 32 kHz mono, not
causal, with four codebooks of 2,048 at 50 Hz. (Its stereo is in `codec.py`, with loading.)

Weights are in the layout of the library `transformers` (class `EncodecModel`); tokens equal those
of that library, and audio agrees with it to rounding. Not supported: `normalize`, `chunk_length_s`
and the norm `time_group_norm` (encodec_48khz), because they make decoding depend on the loudness
and the norm of a whole second, which the tokens do not carry.

Audio is float32 [batch, channel, sample], tokens int64 [batch, level, frame]. Audio is encoded in
blocks: the memory does not grow with its duration, and the tokens equal those of the whole.

**Streaming decoding.** The published convolutions look ahead: 3 frames in the first, then a few
samples at each rate. Their layers buffer exactly that (`streaming.py`), so audio is delayed by
`Encodec.lookahead_samples`: 2,402 samples, 75 ms or 3.8 frames, at the 32 kHz sizes. A sample is
emitted as soon as it is final, and nothing is computed twice: blocks of 1, 10, 25 and of all frames
take the same multiplications. The cost of small blocks is reading the weights once per block: at
the 32 kHz sizes on one thread, a second of audio in blocks of 10 frames took 5 % longer than in
blocks of 25 (in bfloat16 19 %), and those 5 % longer than blocks of 50 (in bfloat16 10 %). A causal
model (encodec_24khz) has no delay, but with reflection padding its first convolution needs seven
frames before it emits the first.

**Speed.** A second at 32 kHz takes some 4 billion multiply-adds, nearly all in matrix products
that run near the peak of a core; the LSTM reads its weights for every frame. `Encodec.pack` stores
those in the kernel's layout: blocks of 25 frames took a third less time in all. The precision
"bfloat16" takes the decoder's weights and activations in bfloat16: another 44 % less where the CPU
has bfloat16 multiplication (measured with AVX512-BF16; without, it is slower than float32), with an
error 39 dB below the signal. (All with random weights, on one thread; the error of trained ones may
differ.) The encoder is always float32, because tokens must not depend on the chosen speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melisma.codec.encodec.streaming import (
    Convolution,
    Layer,
    LayerState,
    Recurrence,
    Residual,
    Stack,
    Upsampling,
)
from melisma.nn.precision import COMPUTE_DTYPES
from melisma.values.errors import MelismaError

BLOCK_FRAMES = 50
"""Frames encoded or decoded at once where all are available (1 s at 50 Hz): bounds the memory;
blocks from 25 to 100 frames took the same time."""

_IGNORED = {
    "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "add_cross_attention",
    "architectures", "attn_implementation", "auto_map", "bad_words_ids", "begin_suppress_tokens",
    "bos_token_id", "chunk_size_feed_forward", "cross_attention_hidden_size",
    "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label", "is_decoder",
    "gradient_checkpointing", "name_or_path",
    "is_encoder_decoder", "label2id", "length_penalty", "max_length", "min_length", "model_type",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "overlap", "pad_token_id",
    "prefix", "problem_type", "pruned_heads", "remove_invalid_values", "repetition_penalty",
    "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers_version", "typical_p", "use_bfloat16",
}  # fmt: skip
"""Keys that `transformers` writes into the config of every model and that a codec does not use."""

_WHOLE = {
    "sampling_rate": 24_000, "audio_channels": 1, "hidden_size": 128, "num_filters": 32,
    "num_residual_layers": 1, "kernel_size": 7, "last_kernel_size": 7, "residual_kernel_size": 3,
    "dilation_growth_rate": 2, "compress": 2, "num_lstm_layers": 2, "codebook_size": 1024,
}  # fmt: skip
"""Integer settings, with the defaults of `transformers`."""
_MAX_LAYERS, _MAX_LEVELS = 64, 1024
"""Most layers of a kind and levels of codes (chosen: far above any in use)."""
_YES_OR_NO = {"use_causal_conv": True, "use_conv_shortcut": True}
_REFUSED = {
    "normalize": (False, "the loudness of each piece would not be in the tokens"),
    "chunk_length_s": (None, "pieces that fade into each other are not cut and joined here"),
    "norm_type": ("weight_norm", "a norm over the whole piece cannot be streamed"),
}
"""The only supported value of each, and the reason."""
_OTHERS = {"upsampling_ratios", "pad_mode", "trim_right_ratio", "target_bandwidths", "codebook_dim"}


@dataclass(frozen=True, kw_only=True)
class EncodecSettings:
    """Sizes of a published EnCodec, under the published names where they agree."""

    sampling_rate: int
    """Samples per second."""
    audio_channels: int
    """Channels of the sound, 1 or 2."""
    hidden_size: int
    """Width of the latent and of the codes."""
    num_filters: int
    """Width at the sample rate; it doubles with every ratio."""
    num_residual_layers: int
    """Residual units at each rate."""
    upsampling_ratios: tuple[int, ...]
    """Factors between the frame rate and the sample rate, in the decoder's order."""
    kernel_size: int
    """Taps of the first convolution of encoder and decoder."""
    last_kernel_size: int
    """Taps of their last convolution."""
    residual_kernel_size: int
    """Taps of the residual units' first convolution."""
    dilation_growth_rate: int
    """Factor between the dilations of the residual units at one rate."""
    compress: int
    """Factor by which the residual units are narrower inside."""
    num_lstm_layers: int
    """Layers of the LSTMs."""
    codebook_size: int
    """Codebook size of each level."""
    levels: int
    """Levels of the quantizer: those of the highest of the `target_bandwidths`."""
    use_causal_conv: bool
    """Whether the convolutions are causal."""
    use_conv_shortcut: bool
    """Whether a residual unit's input is convolved before it is added."""
    pad_mode: str
    """Padding at the ends of the audio: "reflect", "constant" or "replicate"."""
    trim_right_ratio: float
    """Fraction of a causal transposed convolution's surplus that is trimmed from its right end."""

    @property
    def samples_per_frame(self) -> int:
        """Audio samples per frame of tokens."""
        return math.prod(self.upsampling_ratios)

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.samples_per_frame

    @classmethod
    def from_config(cls, config: Any) -> EncodecSettings:
        """Parses the config of a `transformers` EnCodec (its `config.json`, or `to_dict()`).

        Raises:
            MelismaError: A setting is unknown, invalid or not supported.
        """
        if not isinstance(config, Mapping):
            raise MelismaError("the settings of an EnCodec are an object of JSON")
        _expect_encodec(config)
        whole = {name: _whole_number(config, name, value) for name, value in _WHOLE.items()}
        for name in ("num_residual_layers", "num_lstm_layers"):
            fits = whole[name] <= _MAX_LAYERS
            _expect(fits, name, whole[name], f"a whole number from 1 to {_MAX_LAYERS}")
        yes_or_no = {name: config.get(name, value) for name, value in _YES_OR_NO.items()}
        for name, value in yes_or_no.items():
            _expect(isinstance(value, bool), name, value, "true or false")
        ratios = config.get("upsampling_ratios", (8, 5, 4, 2))
        fits = isinstance(ratios, list | tuple) and 0 < len(ratios) <= _MAX_LAYERS
        fits = fits and all(type(ratio) is int and 1 <= ratio <= 1_000 for ratio in ratios)
        _expect(fits, "upsampling_ratios", ratios, "a list of whole numbers from 1 to 1000")
        pad_mode = config.get("pad_mode", "reflect")
        modes = ("reflect", "constant", "replicate")
        _expect(pad_mode in modes, "pad_mode", pad_mode, " or ".join(f'"{m}"' for m in modes))
        trim = config.get("trim_right_ratio", 1.0)
        fits = type(trim) in (int, float) and 0 <= trim <= 1
        _expect(fits, "trim_right_ratio", trim, "a number from 0 to 1")
        fits = trim == 1 or yes_or_no["use_causal_conv"]
        _expect(fits, "trim_right_ratio", trim, "1.0 where use_causal_conv is false")
        _expect(whole["audio_channels"] <= 2, "audio_channels", whole["audio_channels"], "1 or 2")
        _expect(whole["codebook_size"] > 1, "codebook_size", whole["codebook_size"], "at least 2")
        fits = whole["num_filters"] >= whole["compress"]
        _expect(fits, "compress", whole["compress"], "no more than num_filters")
        width = config.get("codebook_dim")
        fits = width in (None, whole["hidden_size"])
        _expect(fits, "codebook_dim", width, f"hidden_size ({whole['hidden_size']}), or none")
        return cls(
            **whole,
            **yes_or_no,
            upsampling_ratios=tuple(ratios),
            pad_mode=pad_mode,
            trim_right_ratio=float(trim),
            levels=_levels(config, whole, math.prod(ratios)),
        )


def _expect(fits: bool, name: str, value: object, allowed: str) -> None:
    if not fits:
        raise MelismaError(f"the EnCodec setting {name} is {allowed}, not {repr(value)[:60]}")


def _expect_encodec(config: Mapping[str, Any]) -> None:
    kind = config.get("model_type", "encodec")
    _expect(kind == "encodec", "model_type", kind, '"encodec"')
    known = _WHOLE.keys() | _YES_OR_NO.keys() | _REFUSED.keys() | _OTHERS | _IGNORED
    unknown = sorted(str(name) for name in config if name not in known)
    if unknown:
        raise MelismaError(
            f"EnCodec has no setting {', '.join(unknown)}: "
            "correct it, or remove it if it means nothing"
        )
    for name, (allowed, reason) in _REFUSED.items():
        value = config.get(name, allowed)
        if value != allowed:
            raise MelismaError(
                f"the EnCodec setting {name} is {value!r}, but only {allowed!r} is taken: {reason}"
            )


def _whole_number(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    fits = type(value) is int and 1 <= value <= 1_000_000
    _expect(fits, name, value, "a whole number from 1 on")
    return value


def _levels(config: Mapping[str, Any], whole: Mapping[str, int], samples_per_frame: int) -> int:
    """Number of levels at the highest bandwidth (kbit/s), computed as `transformers` does."""
    bandwidths = config.get("target_bandwidths", (1.5, 3.0, 6.0, 12.0, 24.0))
    fits = isinstance(bandwidths, list | tuple) and len(bandwidths) > 0
    fits = fits and all(type(one) in (int, float) and 0 < one < 10_000 for one in bandwidths)
    _expect(fits, "target_bandwidths", bandwidths, "a list of numbers above 0 (kbit/s)")
    frames = math.ceil(whole["sampling_rate"] / samples_per_frame)
    highest = float(list(bandwidths)[-1])
    levels = int(1000 * highest // (frames * math.ceil(math.log2(whole["codebook_size"]))))
    allowed = f"enough for at most {_MAX_LEVELS} levels, at the end"
    _expect(levels <= _MAX_LEVELS, "target_bandwidths", bandwidths, allowed)
    _expect(levels >= 1, "target_bandwidths", bandwidths, "enough for one level, at the end")
    return levels


def _convolution(
    settings: EncodecSettings,
    widths: tuple[int, int],
    kernel: int,
    *,
    dtype: torch.dtype,
    stride: int = 1,
    dilation: int = 1,
    activate: bool = False,
) -> Convolution:
    """A convolution from the first to the second width, with the settings' padding."""
    return Convolution(
        width_in=widths[0],
        width_out=widths[1],
        kernel_rows=kernel,
        stride=stride,
        dilation=dilation,
        causal=settings.use_causal_conv,
        padding=settings.pad_mode,
        activate=activate,
        dtype=dtype,
    )


def _residuals(settings: EncodecSettings, width: int, dtype: torch.dtype) -> list[Layer]:
    """The residual units at one rate."""
    inside = width // settings.compress
    layers: list[Layer] = []
    for order in range(settings.num_residual_layers):
        dilation = settings.dilation_growth_rate**order
        kernel = settings.residual_kernel_size
        wide = _convolution(settings, (width, inside), kernel, dilation=dilation, dtype=dtype)
        pointwise = _convolution(settings, (inside, width), 1, dtype=dtype)
        shortcut = _convolution(settings, (width, width), 1, dtype=dtype)
        layers.append(Residual(wide, pointwise, shortcut if settings.use_conv_shortcut else None))
    return layers


def _encoder(settings: EncodecSettings) -> Stack:
    """Audio [batch, sample, channel] -> latents [batch, frame, width], always float32."""
    dtype, width = torch.float32, settings.num_filters
    enter = _convolution(
        settings, (settings.audio_channels, width), settings.kernel_size, dtype=dtype
    )
    layers: dict[int, Layer] = {0: enter}
    index = 1  # the published index, which counts ELUs as layers
    for ratio in reversed(settings.upsampling_ratios):
        for layer in _residuals(settings, width, dtype):
            layers[index] = layer
            index += 1
        layers[index + 1] = _convolution(
            settings, (width, 2 * width), 2 * ratio, stride=ratio, activate=True, dtype=dtype
        )
        index, width = index + 2, 2 * width
    layers[index] = Recurrence(width=width, layers=settings.num_lstm_layers, dtype=dtype)
    widths = (width, settings.hidden_size)
    layers[index + 2] = _convolution(
        settings, widths, settings.last_kernel_size, activate=True, dtype=dtype
    )
    return Stack(layers)


def _decoder(settings: EncodecSettings, dtype: torch.dtype) -> Stack:
    """Latents [batch, frame, width] -> audio [batch, sample, channel]."""
    width = settings.num_filters * 2 ** len(settings.upsampling_ratios)
    enter = _convolution(settings, (settings.hidden_size, width), settings.kernel_size, dtype=dtype)
    lstm = Recurrence(width=width, layers=settings.num_lstm_layers, dtype=dtype)
    layers: dict[int, Layer] = {0: enter, 1: lstm}
    index = 2
    for ratio in settings.upsampling_ratios:
        layers[index + 1] = Upsampling(
            width_in=width,
            width_out=width // 2,
            ratio=ratio,
            causal=settings.use_causal_conv,
            trim_right_ratio=settings.trim_right_ratio,
            dtype=dtype,
        )
        index, width = index + 2, width // 2
        for layer in _residuals(settings, width, dtype):
            layers[index] = layer
            index += 1
    widths = (width, settings.audio_channels)
    layers[index + 1] = _convolution(
        settings, widths, settings.last_kernel_size, activate=True, dtype=dtype
    )
    return Stack(layers)


class Encodec(nn.Module):
    """The network, for inference only. Its weights are zeros until `load_published` fills them.

    Args:
        settings: Sizes of the network.
        precision: Of the decoder: "float32", or "bfloat16" (see the module's notes on speed).
    """

    codes: Tensor

    def __init__(self, settings: EncodecSettings, *, precision: str = "float32") -> None:
        super().__init__()
        if precision not in COMPUTE_DTYPES:
            raise MelismaError(f'the precision is "float32" or "bfloat16", not "{precision}"')
        self.settings = settings
        self.encoder = _encoder(settings)
        self.decoder = _decoder(settings, COMPUTE_DTYPES[precision])
        shape = (settings.levels, settings.codebook_size, settings.hidden_size)
        self.register_buffer("codes", torch.zeros(shape, dtype=torch.float32))

    @property
    def lookahead_samples(self) -> int:
        """Delay of the decoder's stream in samples, beyond the current frame."""
        delay = 0
        for layer in self.decoder.all():
            delay = layer.delay(delay)
        return delay

    @property
    def lookahead_frames(self) -> int:
        """Number of further frames that must have arrived before a frame is emitted completely."""
        return -(-self.lookahead_samples // self.settings.samples_per_frame)

    def pack(self) -> None:
        """Converts the LSTMs' weights to the layout of the CPU kernel, once after loading.

        The results stay the same; the network cannot leave the CPU afterwards.
        """
        for stack in (self.encoder, self.decoder):
            for layer in stack.all():
                if isinstance(layer, Recurrence):
                    layer.pack()

    @torch.no_grad()
    def encode(self, sound: Tensor, levels: int | None = None) -> Tensor:
        """Encodes audio; an incomplete last frame counts.

        Args:
            sound: [batch, channel, sample].
            levels: Number of levels, all by default.

        Returns:
            Tokens int64 [batch, level, frame].

        Raises:
            MelismaError: Another shape or number of levels.
        """
        count = self.settings.levels if levels is None else levels
        if not 1 <= count <= self.settings.levels:
            raise MelismaError(f"this codec has 1 to {self.settings.levels} levels, not {count}")
        channels = self.settings.audio_channels
        if sound.ndim != 3 or sound.shape[1] != channels or sound.shape[2] == 0:
            raise MelismaError(
                f"sound to encode is [batch, {channels}, sample] of one sample or more, "
                f"not {list(sound.shape)}"
            )
        rows = sound.to(self.codes).transpose(1, 2)
        state, tokens = self.encoder.initial_state(len(sound)), []
        blocks = rows.split(BLOCK_FRAMES * self.settings.samples_per_frame, dim=1)
        for index, block in enumerate(blocks):
            latent, state = self.encoder.step(block, state, index == len(blocks) - 1)
            tokens.append(self._nearest(latent, count))
        return torch.cat(tokens, dim=-1)

    def _nearest(self, latent: Tensor, levels: int) -> Tensor:
        """Latent [batch, frame, width] -> tokens [batch, level, frame]."""
        residual, tokens = latent, []
        for codes in self.codes[:levels]:
            # The squared distance in the published order of summation, so that near ties agree.
            squares = residual.square().sum(-1, keepdim=True)
            found = (squares - 2 * residual @ codes.T + codes.square().sum(-1)).argmin(dim=-1)
            residual = residual - codes[found]
            tokens.append(found)
        return torch.stack(tokens, dim=1)

    def _latent(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, level, frame] -> latent [batch, frame, width]; `MelismaError` if
        invalid."""
        levels, codes = self.settings.levels, self.settings.codebook_size
        if tokens.ndim != 3 or not 1 <= tokens.shape[1] <= levels:
            raise MelismaError(
                f"tokens to decode are [batch, 1 to {levels} levels, frame], "
                f"not {list(tokens.shape)}"
            )
        tokens = tokens.to(self.codes.device)
        if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= codes):
            raise MelismaError(f"a token lies outside the vocabulary of {codes}")
        latent = self.codes[0][tokens[:, 0]]
        for level in range(1, tokens.shape[1]):
            latent = latent + self.codes[level][tokens[:, level]]
        return latent

    def initial_state(self, batch: int = 1) -> tuple[LayerState, ...]:
        """State of a decoding stream before its first block."""
        return self.decoder.initial_state(batch)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: tuple[LayerState, ...], *, last: bool = False
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """Decodes the next block of a stream.

        Args:
            tokens: [batch, level, frame], any number of frames; the same levels in every block.
            state: State after the previous block.
            last: Whether the stream ends here, so that all remaining audio is returned.

        Returns:
            (audio float32 [batch, channel, sample], delayed by `lookahead_samples`; new state).

        Raises:
            MelismaError: Another shape, or a token outside the vocabulary.
        """
        sound, state = self.decoder.step(self._latent(tokens), state, last)
        return sound.float().transpose(1, 2), state

    @torch.no_grad()
    def finish(self, state: tuple[LayerState, ...]) -> Tensor:
        """Returns the rest of a stream, [batch, channel, sample]."""
        batch = state[0].tensors[0].shape[0]
        empty = self.codes.new_zeros(batch, 0, self.settings.hidden_size)
        sound, _ = self.decoder.step(empty, state, True)
        return sound.float().transpose(1, 2)

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Decodes tokens [batch, level, frame] to audio float32 [batch, channel, sample]."""
        return torch.cat(list(self.decode_blocks(tokens)), dim=-1)

    def decode_blocks(self, tokens: Tensor) -> Iterator[Tensor]:
        """As `decode_tokens`, block by block: memory does not grow with the duration."""
        state = self.initial_state(len(tokens))
        for block in tokens.split(BLOCK_FRAMES, dim=-1):
            sound, state = self.step(block, state)
            yield sound
        yield self.finish(state)
