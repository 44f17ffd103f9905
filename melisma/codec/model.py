"""Network of the codec: a spectral autoencoder with a residual-quantized latent.

Encoder: log-mel spectra at 50 Hz -> causal ConvNeXt -> 25 Hz latent -> residual quantizer. Decoder:
latent -> ConvNeXt at 25 Hz -> ConvNeXt at 100 Hz -> log magnitudes of two bands, whose phases are
retrieved from the magnitudes (`sound/phase_retrieval.py`). The architecture is SoundStream's
(2107.03312) with a spectral decoder as in Vocos (2306.00814): nearly all arithmetic is matrix
products at low frame rates, which suits CPUs. A decoder that predicted phases too learned loudness
but no pitch in its first 2,000 updates.

Everything is causal. The output magnitudes are delayed by one frame (40 ms) relative to the input
latent: the decoder looks one frame ahead, so that the windows of a frame are complete.

Audio is [batch, sample] at 24 kHz, latents [batch, frame, width] at 25 Hz, tokens
[batch, level, frame].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from melisma.nn.convolution import ConvNeXtStack, merge_frames, split_frames
from melisma.nn.linear import Linear
from melisma.nn.quantizer import Quantized, ResidualQuantizer
from melisma.sound.phase_retrieval import HOP_SAMPLES, LINES, magnitudes
from melisma.sound.spectra import mel_filters
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

LOOKAHEAD_FRAMES = 1
"""Lookahead of the decoder in frames."""


@dataclass(frozen=True, kw_only=True)
class CodecSettings:
    """Sizes of the codec. All but the `decoder_*` fields affect the tokens."""

    encoder_width: int = 256
    """Width at 50 Hz."""
    encoder_blocks: int = 4
    """ConvNeXt blocks at 50 Hz."""
    latent_width: int = 384
    """Width at 25 Hz, of encoder and quantizer."""
    latent_blocks: int = 2
    """ConvNeXt blocks at 25 Hz in the encoder."""
    levels: int = 8
    """Levels of the residual quantizer."""
    vocabulary: int = 1024
    """Codebook size of each level."""
    code_width: int = 64
    """Width of the codes, and so of the quantizer's input."""
    decoder_slow_width: int = 512
    """Width of the decoder at 25 Hz."""
    decoder_slow_blocks: int = 2
    """ConvNeXt blocks of the decoder at 25 Hz."""
    decoder_width: int = 320
    """Width of the decoder at 100 Hz."""
    decoder_blocks: int = 5
    """ConvNeXt blocks of the decoder at 100 Hz."""
    decoder_expansion: int = 3
    """Expansion of the decoder's blocks at 100 Hz."""


ENCODER_WINDOW_SAMPLES = 1920
ENCODER_HOP_SAMPLES = 480
LONG_BINS = 200
SHORT_SAMPLES = 360
SHORT_HOP_SAMPLES = 120
SHORT_BINS = 32
"""Windows and mel bins of the encoder's input: per 20 ms hop one window of 80 ms and four of
15 ms."""
MAGNITUDES_PER_FRAME = SAMPLES_PER_FRAME // HOP_SAMPLES
"""Frames of magnitudes per frame of tokens."""
LOG_FLOOR, LOG_CEILING = -10.0, 2.0
"""Range of the log magnitudes: -87 dB below a full-scale sine, and a little above it."""
LOG_CENTRE, LOG_SPREAD = -7.0, 2.0
"""Approximate mean and standard deviation of log magnitudes of music, for initialization."""


def _log_mel(windowed: Tensor, filters: Tensor) -> Tensor:
    """[..., sample] -> log-mel [..., bin], with about zero mean and unit variance on music."""
    lines = torch.fft.rfft(windowed)
    magnitude = (lines.real.square() + lines.imag.square() + 1e-9).sqrt()
    return (torch.log(magnitude @ filters + 1e-3) + 2.5) / 2.5


class Encoder(nn.Module):
    """Audio -> latent. State: (previous samples, states of both stacks)."""

    def __init__(self, settings: CodecSettings) -> None:
        super().__init__()
        self.in_proj = Linear(LONG_BINS + 4 * SHORT_BINS, settings.encoder_width)
        self.fast = ConvNeXtStack(width=settings.encoder_width, blocks=settings.encoder_blocks)
        self.join = Linear(2 * settings.encoder_width, settings.latent_width)
        self.slow = ConvNeXtStack(width=settings.latent_width, blocks=settings.latent_blocks)
        self.out_proj = Linear(settings.latent_width, settings.code_width)
        self.register_buffer(
            "window",
            torch.hann_window(ENCODER_WINDOW_SAMPLES, dtype=torch.float32, device="cpu"),
            persistent=False,
        )
        self.register_buffer(
            "short_window",
            torch.hann_window(SHORT_SAMPLES, dtype=torch.float32, device="cpu"),
            persistent=False,
        )
        long = mel_filters(SAMPLE_RATE_HZ, ENCODER_WINDOW_SAMPLES, LONG_BINS)
        short = mel_filters(SAMPLE_RATE_HZ, SHORT_SAMPLES, SHORT_BINS)
        self.register_buffer("long_filters", long.T.contiguous(), persistent=False)
        self.register_buffer("short_filters", short.T.contiguous(), persistent=False)

    def initial_state(self, batch: int) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """State before the first block: silence."""
        samples = ENCODER_WINDOW_SAMPLES - ENCODER_HOP_SAMPLES
        history = self.in_proj.weight.new_zeros(batch, samples)
        return history, self.fast.initial_state(batch), self.slow.initial_state(batch)

    def spectra(self, sound: Tensor) -> Tensor:
        """Input features: [batch, sample] with the previous samples -> [batch, 50 Hz frame, bin].

        Log-mel spectra of one long window (pitch) and of the last four short ones (attacks). The
        phase is omitted: at 2 kbit/s it cannot be preserved, and with it as an input training took
        twice as long.
        """
        assert isinstance(self.window, Tensor)
        assert isinstance(self.short_window, Tensor)
        assert isinstance(self.long_filters, Tensor)
        assert isinstance(self.short_filters, Tensor)
        with torch.autocast(sound.device.type, enabled=False):
            frames = sound.float().unfold(1, ENCODER_WINDOW_SAMPLES, ENCODER_HOP_SAMPLES)
            long = _log_mel(frames * self.window, self.long_filters)
            newest = frames[..., -4 * SHORT_HOP_SAMPLES - SHORT_SAMPLES + SHORT_HOP_SAMPLES :]
            short = newest.unfold(2, SHORT_SAMPLES, SHORT_HOP_SAMPLES)
            short = _log_mel(short * self.short_window, self.short_filters)
            return torch.cat([long, short.flatten(-2)], dim=-1)

    def step(
        self, block: Tensor, state: tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]
    ) -> tuple[Tensor, tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """Encodes the next block of a stream.

        Args:
            block: Audio [batch, sample], a multiple of 960 samples.
            state: State after the previous block.

        Returns:
            (latent [batch, frame, width], new state).
        """
        history, fast, slow = state
        joined = torch.cat([history, block], dim=1)
        hidden, fast = self.fast.step(self.in_proj(self.spectra(joined)), fast)
        hidden, slow = self.slow.step(self.join(merge_frames(hidden, 2)), slow)
        return self.out_proj(hidden), (joined[:, -history.shape[1] :], fast, slow)


class Decoder(nn.Module):
    """Latent -> log magnitudes at 100 Hz, one frame delayed. State: states of both stacks."""

    def __init__(self, settings: CodecSettings) -> None:
        super().__init__()
        self.in_proj = Linear(settings.code_width, settings.decoder_slow_width)
        self.slow = ConvNeXtStack(
            width=settings.decoder_slow_width, blocks=settings.decoder_slow_blocks
        )
        self.split = Linear(
            settings.decoder_slow_width, MAGNITUDES_PER_FRAME * settings.decoder_width
        )
        self.fast = ConvNeXtStack(
            width=settings.decoder_width,
            blocks=settings.decoder_blocks,
            expansion=settings.decoder_expansion,
        )
        self.out_proj = Linear(settings.decoder_width, LINES)

    def initial_state(self, batch: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """State before the first block: silence."""
        return self.slow.initial_state(batch), self.fast.initial_state(batch)

    def step(
        self, block: Tensor, state: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """Decodes the next block of a stream.

        Args:
            block: Latent [batch, frame, width].
            state: State after the previous block.

        Returns:
            (log magnitudes float32 [batch, 4 * frame, line], one frame delayed; new state).
        """
        slow, fast = state
        hidden, slow = self.slow.step(self.in_proj(block), slow)
        hidden, fast = self.fast.step(split_frames(self.split(hidden), MAGNITUDES_PER_FRAME), fast)
        logs = self.out_proj(hidden).float() * LOG_SPREAD + LOG_CENTRE
        return logs.clamp(LOG_FLOOR, LOG_CEILING), (slow, fast)


def log_magnitudes(sound: Tensor) -> Tensor:
    """Training target of the decoder: audio [batch, sample] -> [batch, sample // 240, line]."""
    return torch.log(magnitudes(sound) + math.exp(LOG_FLOOR))


class Codec(nn.Module):
    """Encoder, residual quantizer and decoder."""

    def __init__(self, settings: CodecSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = Encoder(settings)
        self.quantizer = ResidualQuantizer(
            width=settings.code_width,
            levels=settings.levels,
            vocabulary=settings.vocabulary,
        )
        self.decoder = Decoder(settings)

    def forward(
        self,
        sound: Tensor,
        depth: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Quantized]:
        """Reconstructs audio through the quantizer, for training.

        Args:
            sound: Audio [batch, sample], a multiple of 960 samples.
            depth: Number of levels to use, int [batch].
            generator: With one, the codebooks are updated (see `ResidualQuantizer`).

        Returns:
            (log magnitudes [batch, 100 Hz frame, line], quantizer's output). The magnitudes start
            with the input's first frame and lack its last `LOOKAHEAD_FRAMES` frames.
        """
        latent, _ = self.encoder.step(sound, self.encoder.initial_state(len(sound)))
        quantized = self.quantizer(latent, depth, generator=generator)
        out, _ = self.decoder.step(quantized.latent, self.decoder.initial_state(len(sound)))
        return out[:, LOOKAHEAD_FRAMES * MAGNITUDES_PER_FRAME :], quantized
