"""The audio codec's interface: waveforms <-> token grids, whole or streaming."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melisma.codec.model import LOG_FLOOR, LOOKAHEAD_FRAMES, Codec, CodecSettings
from melisma.files.checkpoint import Checkpoint, build_model, fingerprint_of, read_checkpoint
from melisma.nn.precision import AUTO, autocast
from melisma.sound.phase_retrieval import (
    DELAY_SAMPLES,
    HOP_SAMPLES,
    LINES,
    PhaseState,
    initial_state,
    step,
)
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, TokenGrid
from melisma.values.waveform import Waveform

BLOCK_FRAMES, MIN_BLOCK_FRAMES = 250, 100
"""Frames per block, of the whole batch together (10 s), and the minimum per item: bounds the memory
for any duration (measured: larger blocks exceed the CPU caches, a batch of four takes 13 % longer;
smaller ones are dominated by call overhead)."""


def block_frames(batch: int) -> int:
    """Frames of each item of a batch that are encoded or decoded at once."""
    return max(BLOCK_FRAMES // batch, MIN_BLOCK_FRAMES)


def linear_magnitudes(logs: Tensor) -> Tensor:
    """Log magnitudes of the decoder -> linear magnitudes, where `LOG_FLOOR` becomes 0."""
    return (torch.exp(logs) - math.exp(LOG_FLOOR)).clamp(min=0.0)


@dataclass(frozen=True, kw_only=True)
class DecoderState:
    """State of a decoding stream."""

    network: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
    """State of the decoder network."""
    phases: PhaseState
    """State of the phase retrieval."""
    skip_samples: int
    """Output samples still to be dropped to compensate the delay."""


class AcousticCodec:
    """The codec with its fingerprint: encodes waveforms and decodes token grids."""

    def __init__(
        self, codec: Codec, fingerprint: str, device: str = "cpu", *, precision: str = AUTO
    ) -> None:
        """Wraps a network.

        Args:
            codec: The network.
            fingerprint: Fingerprint of what determines its tokens.
            device: Device to run on.
            precision: Compute precision, one of `COMPUTE_PRECISIONS`.
        """
        self.codec = codec.eval().to(device)
        self.fingerprint = fingerprint
        self.device, self.precision = device, precision

    @property
    def settings(self) -> CodecSettings:
        """The network's sizes."""
        return self.codec.settings

    @property
    def bits_per_second(self) -> float:
        """Bit rate of all levels together."""
        return self.settings.levels * FRAME_RATE_HZ * float(np.log2(self.settings.vocabulary))

    @torch.no_grad()
    def encode_sound(self, sound: Tensor, levels: int | None = None) -> Tensor:
        """Encodes a batch of mono audio.

        Args:
            sound: float32 [batch, sample] at 24 kHz, a multiple of 960 samples.
            levels: Number of residual levels, all by default.

        Returns:
            Tokens int64 [batch, level, frame].
        """
        encoder = self.codec.encoder
        state = encoder.initial_state(len(sound))
        pieces = []
        samples = block_frames(len(sound)) * SAMPLES_PER_FRAME
        for block in sound.to(self.device).split(samples, dim=1):
            with autocast(self.device, self.precision):
                latent, state = encoder.step(block, state)
            pieces.append(
                self.codec.quantizer.encode(latent.float(), levels or self.settings.levels)
            )
        return torch.cat(pieces, dim=-1)

    def encode(self, waveform: Waveform, levels: int | None = None) -> TokenGrid:
        """Encodes a 24 kHz waveform, mixed down to mono; its last frame is padded with silence.

        Args:
            waveform: The audio.
            levels: Number of residual levels, all by default.

        Raises:
            MelismaError: Another number of levels or sample rate, or no samples.
        """
        count = self.settings.levels if levels is None else levels
        if not 1 <= count <= self.settings.levels:
            raise MelismaError(f"this codec has 1 to {self.settings.levels} levels, not {count}")
        if waveform.rate_hz != SAMPLE_RATE_HZ:
            raise MelismaError(f"the codec encodes {SAMPLE_RATE_HZ} Hz, not {waveform.rate_hz}")
        sound = torch.from_numpy(np.array(waveform.mono))[None]
        missing = -sound.shape[1] % SAMPLES_PER_FRAME
        sound = torch.nn.functional.pad(sound, (0, missing))
        if sound.shape[1] == 0:
            raise MelismaError("there is no sound to encode")
        return TokenGrid(
            tokens=self.encode_sound(sound, count)[0].cpu().numpy(),
            vocabulary=self.settings.vocabulary,
            frame_rate_hz=FRAME_RATE_HZ,
            fingerprint=self.fingerprint,
        )

    def initial_state(self, batch: int = 1) -> DecoderState:
        """State of a decoding stream before its first block."""
        return DecoderState(
            network=self.codec.decoder.initial_state(batch),
            phases=initial_state(batch, self.device),
            skip_samples=LOOKAHEAD_FRAMES * SAMPLES_PER_FRAME + DELAY_SAMPLES,
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Decodes the next block of a stream.

        The output is delayed by 78 ms: the first blocks return that much less audio than their
        tokens cover, `finish` returns the rest.

        Args:
            tokens: [batch, level, frame].
            state: State after the previous block.

        Returns:
            (audio float32 [batch, sample], new state).
        """
        latent = self.codec.quantizer.decode(tokens.to(self.device))
        with autocast(self.device, self.precision):
            logs, network = self.codec.decoder.step(latent, state.network)
        return self._synthesize(linear_magnitudes(logs), network, state)

    def _synthesize(
        self,
        block: Tensor,
        network: tuple[tuple[Tensor, ...], tuple[Tensor, ...]],
        state: DecoderState,
    ) -> tuple[Tensor, DecoderState]:
        sound, phases = step(block, state.phases)
        drop = min(state.skip_samples, sound.shape[1])
        remaining = state.skip_samples - drop
        new_state = DecoderState(network=network, phases=phases, skip_samples=remaining)
        return sound[:, drop:], new_state

    @torch.no_grad()
    def finish(self, last: Tensor, state: DecoderState) -> Tensor:
        """Returns the rest of a stream, [batch, sample].

        Args:
            last: Tokens of the last frame [batch, level, 1], repeated as the decoder's lookahead.
            state: State after the last block.
        """
        sound, state = self.step(last.expand(-1, -1, LOOKAHEAD_FRAMES), state)
        silence = torch.zeros(
            len(last),
            -(-DELAY_SAMPLES // HOP_SAMPLES),
            LINES,
            device=sound.device,
            dtype=torch.float32,
        )
        rest, _ = self._synthesize(silence, state.network, state)
        return torch.cat([sound, rest[:, :DELAY_SAMPLES]], dim=1)

    def decode_blocks(self, tokens: Tensor) -> Iterator[Tensor]:
        """As `decode_tokens`, block by block: memory does not grow with the duration."""
        state = self.initial_state(len(tokens))
        for block in tokens.split(block_frames(len(tokens)), dim=-1):
            sound, state = self.step(block, state)
            yield sound
        yield self.finish(tokens[..., -1:], state)

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Decodes tokens [batch, level, frame] to audio float32 [batch, 960 * frame]."""
        return torch.cat(list(self.decode_blocks(tokens)), dim=1)

    def decode(self, grid: TokenGrid) -> Waveform:
        """Decodes a token grid.

        Raises:
            MelismaError: Another codec encoded the grid, or its shape does not fit.
        """
        blocks = [block.samples for block in self.decode_stream(grid)]
        return Waveform(samples=np.concatenate(blocks, axis=1), rate_hz=SAMPLE_RATE_HZ)

    def decode_stream(self, grid: TokenGrid) -> Iterator[Waveform]:
        """As `decode`, block by block."""
        if grid.fingerprint != self.fingerprint:
            raise MelismaError(
                f"these tokens were made by the codec {grid.fingerprint}, this is "
                f"{self.fingerprint}: decode them with the codec that made them"
            )
        if not 1 <= grid.tokens.shape[0] <= self.settings.levels or grid.tokens.shape[1] == 0:
            raise MelismaError(
                f"the codec decodes 1 to {self.settings.levels} levels of one frame or more, "
                f"not {list(grid.tokens.shape)}"
            )
        if int(grid.tokens.max()) >= self.settings.vocabulary:
            raise MelismaError(
                f"these tokens are of a vocabulary of {grid.vocabulary}, the codec's has "
                f"{self.settings.vocabulary} entries"
            )
        return (
            Waveform(samples=sound.cpu().numpy(), rate_hz=SAMPLE_RATE_HZ)
            for sound in self.decode_blocks(torch.from_numpy(grid.tokens)[None])
            if sound.shape[1]
        )

    @classmethod
    def read(cls, path: Path, device: str = "cpu", *, precision: str = AUTO) -> AcousticCodec:
        """Loads a checkpoint of kind "codec"; `MelismaError` where it does not fit."""
        return cls.from_checkpoint(read_checkpoint(path, kind="codec"), device, precision=precision)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: str = "cpu", *, precision: str = AUTO
    ) -> AcousticCodec:
        """Builds a codec from a checkpoint. Its fingerprint excludes the decoder, which does not
        affect the tokens."""
        codec = build_model(checkpoint, CodecSettings, Codec)
        deciding = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("decoder.")}
        settings = {n: v for n, v in checkpoint.settings.items() if not n.startswith("decoder_")}
        fingerprint = fingerprint_of("codec", settings, deciding)
        return cls(codec, fingerprint, device, precision=precision)
