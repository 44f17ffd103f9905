"""The codec as the other floors use it: waveforms in, token grids out, whole or block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melisma.codec.model import LOG_FLOOR, LOOKAHEAD_FRAMES, Codec, CodecSettings
from melisma.files.checkpoint import Checkpoint, expect_fit, fingerprint_of, read_checkpoint
from melisma.nn.precision import AUTO, autocast
from melisma.sound.phase_retrieval import (
    DELAY_SAMPLES,
    HOP_SAMPLES,
    LINES,
    PhaseState,
    initial_state,
    step,
)
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, TokenGrid
from melisma.values.waveform import Waveform

BLOCK_FRAMES, LEAST_BLOCK_FRAMES = 250, 100
"""Frames of all pieces together that are encoded or decoded at once (10 s), and the fewest of each:
bounds the memory however long the piece (measured: more do not stay in the caches, four pieces take
13 % longer; fewer spend themselves on calls)."""


def block_frames(batch: int) -> int:
    """Frames of each of some pieces that are encoded or decoded at once."""
    return max(BLOCK_FRAMES // batch, LEAST_BLOCK_FRAMES)


def audible(logs: Tensor) -> Tensor:
    """Log magnitudes as the decoder says them -> magnitudes; what lies at the floor is silent."""
    return (torch.exp(logs) - math.exp(LOG_FLOOR)).clamp(min=0.0)


@dataclass(frozen=True, kw_only=True)
class DecoderState:
    """Where a decoding stream stands."""

    network: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
    """State of the network's decoder."""
    phases: PhaseState
    """State of the synthesis."""
    unsaid_samples: int
    """Samples still to be dropped before the first that counts."""


class AcousticCodec:
    """Encodes and decodes; knows its fingerprint."""

    def __init__(
        self, codec: Codec, fingerprint: str, device: str = "cpu", *, precision: str = AUTO
    ) -> None:
        """`precision`: what it computes in, one of `COMPUTE_PRECISIONS`."""
        self.codec = codec.eval().to(device)
        self.fingerprint = fingerprint
        self.device, self.precision = device, precision

    @property
    def settings(self) -> CodecSettings:
        """The network's sizes."""
        return self.codec.settings

    @property
    def bits_per_second(self) -> float:
        """Rate of all levels together."""
        return self.settings.levels * FRAME_RATE_HZ * float(np.log2(self.settings.vocabulary))

    @torch.no_grad()
    def encode_sound(self, sound: Tensor, levels: int | None = None) -> Tensor:
        """Sound float32 [batch, sample] at 24 kHz, a multiple of 960 -> [batch, level, frame]."""
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
        """Tokens of a mono 24 kHz waveform; its last frame is filled up with silence.

        `levels`: how many levels to keep, all by default. `ValueError` says what is allowed.
        """
        count = self.settings.levels if levels is None else levels
        if not 1 <= count <= self.settings.levels:
            raise ValueError(f"this codec has 1 to {self.settings.levels} levels, not {count}")
        if waveform.rate_hz != SAMPLE_RATE_HZ:
            raise ValueError(f"the codec hears {SAMPLE_RATE_HZ} Hz, not {waveform.rate_hz}")
        sound = torch.from_numpy(np.ascontiguousarray(waveform.mono))[None]
        missing = -sound.shape[1] % SAMPLES_PER_FRAME
        sound = torch.nn.functional.pad(sound, (0, missing))
        if sound.shape[1] == 0:
            raise ValueError("there is no sound to encode")
        return TokenGrid(
            tokens=self.encode_sound(sound, count)[0].cpu().numpy(),
            vocabulary=self.settings.vocabulary,
            frame_rate_hz=FRAME_RATE_HZ,
            fingerprint=self.fingerprint,
        )

    def initial_state(self, batch: int = 1) -> DecoderState:
        """A decoding stream before its first block."""
        return DecoderState(
            network=self.codec.decoder.initial_state(batch),
            phases=initial_state(batch, self.device),
            unsaid_samples=LOOKAHEAD_FRAMES * SAMPLES_PER_FRAME + DELAY_SAMPLES,
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Tokens [batch, level, frame] -> sound [batch, sample], 78 ms late in all.

        The first blocks give so much less than went in; `finish` says the rest.
        """
        latent = self.codec.quantizer.decode(tokens.to(self.device))
        with autocast(self.device, self.precision):
            logs, network = self.codec.decoder.step(latent, state.network)
        return self._say(audible(logs), network, state)

    def _say(
        self,
        block: Tensor,
        network: tuple[tuple[Tensor, ...], tuple[Tensor, ...]],
        state: DecoderState,
    ) -> tuple[Tensor, DecoderState]:
        sound, phases = step(block, state.phases)
        drop = min(state.unsaid_samples, sound.shape[1])
        left = state.unsaid_samples - drop
        return sound[:, drop:], DecoderState(network=network, phases=phases, unsaid_samples=left)

    @torch.no_grad()
    def finish(self, last: Tensor, state: DecoderState) -> Tensor:
        """The rest of a stream: `last` [batch, level, 1] is the last frame, heard once more."""
        sound, state = self.step(last.expand(-1, -1, LOOKAHEAD_FRAMES), state)
        silence = torch.zeros(
            len(last), -(-DELAY_SAMPLES // HOP_SAMPLES), LINES, device=sound.device
        )
        rest, _ = self._say(silence, state.network, state)
        return torch.cat([sound, rest[:, :DELAY_SAMPLES]], dim=1)

    @torch.no_grad()
    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, level, frame] -> sound float32 [batch, 960 * frame]."""
        state = self.initial_state(len(tokens))
        pieces = []
        for block in tokens.split(block_frames(len(tokens)), dim=-1):
            sound, state = self.step(block, state)
            pieces.append(sound)
        pieces.append(self.finish(tokens[..., -1:], state))
        return torch.cat(pieces, dim=1)

    def decode(self, grid: TokenGrid) -> Waveform:
        """Sound of a token grid of this codec. `ValueError` where another codec made it."""
        if grid.fingerprint != self.fingerprint:
            raise ValueError(
                f"these tokens were made by the codec {grid.fingerprint}, this is "
                f"{self.fingerprint}: decode them with the codec that made them"
            )
        if not 1 <= grid.tokens.shape[0] <= self.settings.levels or grid.tokens.shape[1] == 0:
            raise ValueError(
                f"the codec decodes 1 to {self.settings.levels} levels of one frame or more, "
                f"not {list(grid.tokens.shape)}"
            )
        sound = self.decode_tokens(torch.from_numpy(grid.tokens)[None])
        return Waveform(samples=sound.cpu().numpy(), rate_hz=SAMPLE_RATE_HZ)

    @classmethod
    def read(cls, path: Path, device: str = "cpu", *, precision: str = AUTO) -> AcousticCodec:
        """Loads from a checkpoint of kind "codec"."""
        return cls.from_checkpoint(read_checkpoint(path, kind="codec"), device, precision=precision)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, device: str = "cpu", *, precision: str = AUTO
    ) -> AcousticCodec:
        """Builds from a checkpoint; the decoder's weights do not enter the fingerprint."""
        with expect_fit("codec"):
            codec = Codec(CodecSettings(**checkpoint.settings))
            codec.load_state_dict(checkpoint.tensors)
        deciding = {n: t for n, t in checkpoint.tensors.items() if not n.startswith("decoder.")}
        settings = {n: v for n, v in checkpoint.settings.items() if not n.startswith("decoder_")}
        fingerprint = fingerprint_of("codec", settings, deciding)
        return cls(codec, fingerprint, device, precision=precision)
