"""Trains the codec on rendered or recorded sound.

Losses: mel spectra at several scales, complex spectra at two scales (without them the phase is
free), commitment, and in the last part features and verdicts of discriminators (SoundStream,
2107.03312, section III.E; scales and weights after 2306.06546, section 3.3). Quantizer dropout
draws the number of levels for every clip anew, so that one model serves every bitrate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from melisma.codec.model import LOOKAHEAD_FRAMES, Codec, CodecSettings
from melisma.sound.spectra import mel_filters, spectrum
from melisma.train.discriminator import Discriminators, discriminator_loss, generator_losses
from melisma.train.loop import LoopSettings, Run, Task, generator_of
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

MEL_SCALES: tuple[tuple[int, int], ...] = (
    (64, 10), (128, 20), (256, 40), (512, 80), (1024, 120), (2048, 160),
)  # fmt: skip
"""(window in samples, mel bins) of the reconstruction loss."""


@dataclass(frozen=True, kw_only=True)
class CodecTraining:
    """A whole codec run."""

    codec: CodecSettings = field(default_factory=CodecSettings)
    """The network."""
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(updates=6_000, peak_rate=6e-4))
    """How long and how fast."""
    batch: int = 16
    """Crops of one update."""
    crop_frames: int = 32
    """Frames of 40 ms that the losses hear."""
    depths: tuple[int, ...] = (1, 2, 4, 4, 6, 8)
    """Quantizer dropout: a clip's number of levels is drawn from these."""
    mel_weight: float = 3.0
    """Weight of the mel distance (natural logarithm; 3 here is about 7 with decadic ones)."""
    complex_weight: float = 1.0
    """Weight of the complex spectral distance."""
    commitment_weight: float = 0.25
    """Weight of the encoder's distance to its codes."""
    adversarial_from: float = 0.6
    """Share of the updates after which the discriminators join."""
    adversarial_weight: float = 1.0
    """Weight of the discriminators' verdicts."""
    feature_weight: float = 2.0
    """Weight of the discriminators' features."""
    adversarial_every: int = 2
    """The discriminators take part in every such update."""
    frozen_tokens: bool = False
    """Decoder polishing: encoder and quantizer rest, tokens stay what they are."""
    device: str = "cpu"
    """Where to train."""


def _magnitude(sound: Tensor, window_samples: int) -> tuple[Tensor, Tensor]:
    lines = spectrum(sound, window_samples, window_samples // 4)
    return torch.sqrt(lines.real.square() + lines.imag.square() + 1e-9), lines


def spectral_losses(made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """(mel distance, complex distance) of sound [batch, sample]; the first is shared as a metric."""
    mel, complex_distance = made.new_zeros(()), made.new_zeros(())
    for window_samples, bins in MEL_SCALES:
        filters = mel_filters(SAMPLE_RATE_HZ, window_samples, bins).to(made.device)
        with torch.no_grad():
            real_magnitude, real_lines = _magnitude(real, window_samples)
            real_mel = torch.log(filters @ real_magnitude + 1e-5)
        made_magnitude, made_lines = _magnitude(made, window_samples)
        mel = mel + (torch.log(filters @ made_magnitude + 1e-5) - real_mel).abs().mean()
        if window_samples in (512, 2048):
            scale = real_magnitude.mean().clamp(min=1e-4)
            difference = made_lines - real_lines
            complex_distance = complex_distance + (
                torch.sqrt(difference.real.square() + difference.imag.square() + 1e-9).mean()
                / scale
            )
    return mel / len(MEL_SCALES), complex_distance / 2


class CodecTask(Task):
    """Reconstructs crops of sound."""

    kind = "codec"

    def __init__(
        self, settings: CodecTraining, train: Sequence[np.ndarray], held: Sequence[np.ndarray]
    ) -> None:
        """`train`, `held`: arrays int16 [clip, sample] at 24 kHz, memory-mapped or not."""
        self.settings = settings
        self.train, self.held = train, held
        torch.manual_seed(settings.loop.seed)
        self.codec = Codec(settings.codec).to(settings.device)
        if settings.frozen_tokens:
            self.codec.encoder.requires_grad_(False)
            self.codec.quantizer.requires_grad_(False)
        self.discriminators = Discriminators().to(settings.device)
        self._starts = np.cumsum([0, *(len(a) for a in train)])

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """Codec, then discriminators."""
        return {"codec": self.codec, "discriminators": self.discriminators}

    def settings_tree(self) -> dict[str, Any]:
        """The network's sizes."""
        return dataclasses.asdict(self.settings.codec)

    def _crop(self, arrays: Sequence[np.ndarray], generator: torch.Generator, batch: int) -> Tensor:
        samples = (self.settings.crop_frames + LOOKAHEAD_FRAMES) * SAMPLES_PER_FRAME
        rows = torch.randint(int(self._starts[-1]), (batch,), generator=generator)
        places = torch.rand(batch, generator=generator)
        gains = 10 ** (torch.empty(batch).uniform_(-8, 4, generator=generator) / 20)
        crops = np.empty((batch, samples), dtype=np.float32)
        for i, row in enumerate(rows.tolist()):
            shard = int(np.searchsorted(self._starts, row, side="right")) - 1
            clip = arrays[shard][row - self._starts[shard]]
            start = int(places[i] * (len(clip) - samples + 1))
            crops[i] = clip[start : start + samples]
        crops *= gains.numpy()[:, None] / 32768.0
        return torch.from_numpy(crops).clamp(-1, 1).to(self.settings.device)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """One batch of crops."""
        s = self.settings
        sound = self._crop(self.train, generator, s.batch)
        pick = torch.randint(len(s.depths), (s.batch,), generator=generator)
        depth = torch.tensor(s.depths)[pick].to(s.device)
        with torch.autocast(torch.device(s.device).type, torch.bfloat16):
            made, quantized = self.codec(
                sound,
                depth,
                generator=None if s.frozen_tokens else generator,
            )
        real = sound[:, : made.shape[1]]
        mel, complex_distance = spectral_losses(made, real)
        loss = s.mel_weight * mel + s.complex_weight * complex_distance
        if not s.frozen_tokens:
            loss = loss + s.commitment_weight * quantized.commitment
        figures = {"mel": float(mel.detach()), "complex": float(complex_distance.detach())}
        figures["commitment"] = float(quantized.commitment.detach())
        losses = {"codec": loss}
        if number >= s.adversarial_from * s.loop.updates and number % s.adversarial_every == 0:
            adversarial, features, losses["discriminators"] = self._judge_half(made, real)
            losses["codec"] = (
                loss + s.adversarial_weight * adversarial + s.feature_weight * features
            )
            figures |= {
                "adversarial": float(adversarial.detach()),
                "features": float(features.detach()),
                "discriminator": float(losses["discriminators"].detach()),
            }
        return losses, figures

    def _judge_half(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(adversarial, features, discriminators' loss) on half a second of half the batch."""
        half = max(1, len(made) // 2)
        samples = min(made.shape[1], SAMPLE_RATE_HZ // 2)
        made, real = made[:half, :samples], real[:half, :samples]
        with torch.autocast(torch.device(self.settings.device).type, torch.bfloat16):
            judged_real = self.discriminators(real)
            judged_made = self.discriminators(made)
            judged_apart = self.discriminators(made.detach())
        adversarial, features = generator_losses(judged_real, judged_made)
        own = discriminator_loss([v for v, _ in judged_real], [v for v, _ in judged_apart])
        return adversarial, features, own

    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Mel distance on held-out crops at every depth, and how much of each codebook is used."""
        assert isinstance(averaged, Codec)
        generator = generator_of(self.settings.loop.seed, 0, "held")
        sound = held_crops(self.held, 48, 3 * SAMPLE_RATE_HZ, generator).to(self.settings.device)
        tokens = averaged.encode(sound, self.settings.codec.levels)
        figures = {}
        for depth in sorted(set(self.settings.depths)):
            made = averaged.decode(tokens[:, :depth])
            figures[f"mel_{depth}"] = float(spectral_losses(made, sound)[0])
        for level in (0, tokens.shape[1] - 1):
            figures[f"used_{level + 1}"] = (
                len(tokens[:, level].unique()) / averaged.settings.vocabulary
            )
        return figures


def held_crops(
    arrays: Sequence[np.ndarray], count: int, samples: int, generator: torch.Generator
) -> Tensor:
    """The same crops every time: float32 [count, samples]."""
    crops = []
    for _ in range(count):
        array = arrays[int(torch.randint(len(arrays), (), generator=generator))]
        clip = array[int(torch.randint(len(array), (), generator=generator))]
        start = int(torch.randint(len(clip) - samples + 1, (), generator=generator))
        crops.append(torch.from_numpy(clip[start : start + samples].astype(np.float32) / 32768.0))
    return torch.stack(crops)


def train_codec(
    settings: CodecTraining,
    train: Sequence[np.ndarray],
    held: Sequence[np.ndarray],
    folder: Path,
    start: Mapping[str, Tensor] | None = None,
) -> None:
    """Runs or resumes a codec training in `folder`; `start`: shipped weights to continue from."""
    run = Run(CodecTask(settings, train, held), settings.loop, folder)
    if not run.resume() and start is not None:
        run.start_from(start)
    run.run()
