"""Training of the audio codec.

The decoder predicts log magnitudes, so the losses are spectral distances without synthesis: of
frequency bins weighted by auditory resolution, of mel bands, and of changes from frame to frame
(attacks). Towards the end a discriminator on spectrograms is added, so that detail that cannot be
predicted is generated and not blurred (SoundStream, 2107.03312, section III.E). Quantizer dropout
chooses the number of levels at random for every clip, so that one model serves every bitrate.
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

from melisma.analysis.plots.spectrogram import plot_sound
from melisma.codec.acoustic import AcousticCodec
from melisma.codec.model import LOOKAHEAD_FRAMES, Codec, CodecSettings, log_magnitudes
from melisma.files import write_audio
from melisma.nn.precision import autocast
from melisma.sound.phase_retrieval import (
    HIGH_FIRST_LINE,
    HIGH_WINDOW_SAMPLES,
    LINES,
    LOW_LINES,
    LOW_WINDOW_SAMPLES,
)
from melisma.sound.spectra import log_mel
from melisma.train.discriminator import Discriminators, discriminator_loss, generator_losses
from melisma.train.initialization.codec import start_linear
from melisma.train.initialization.fingerprint import other_settings
from melisma.train.initialization.memory import built
from melisma.train.loop import STATE_FILE, LoopSettings, Run, Task, generator_of
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from melisma.values.waveform import Waveform

MEL_SCALES: tuple[tuple[int, int], ...] = (
    (64, 10), (128, 20), (256, 40), (512, 80), (1024, 120), (2048, 160),
)  # fmt: skip
"""(window in samples, mel bins) of the distance that is reported on held-out audio."""
MEL_BANDS = 64
"""Bands of the mel loss."""


@dataclass(frozen=True, kw_only=True)
class CodecTraining:
    """Settings of a codec training."""

    codec: CodecSettings = field(default_factory=CodecSettings)
    """Of the network."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(updates=6_000, learning_rate=5e-4, warmup_updates=100)
    )
    """Of the training loop."""
    batch: int = 16
    """Crops per update."""
    crop_frames: int = 24
    """Frames of 40 ms in a crop, not counting the lookahead."""
    depths: tuple[int, ...] = (2, 4, 4, 6, 8, 8)
    """Quantizer dropout: each clip's number of levels is one of these, chosen at random."""
    line_weight: float = 1.0
    """Weight of the distance of frequency bins (natural logarithm)."""
    mel_weight: float = 1.0
    """Weight of the distance of mel bands."""
    change_weight: float = 0.5
    """Weight of the distance of changes from frame to frame."""
    commitment_weight: float = 1.0
    """Weight of the commitment loss; with 0.05 the encoder outgrew its codes in 300 updates."""
    encoder_rate: float = 1.0
    """Learning rate of the encoder relative to the decoder's. The codebooks follow the encoder as
    moving averages; when the rate was raised again on a finished run, they lost track of it."""
    adversarial_from: float = 0.7
    """Share of the updates after which the discriminators are added."""
    adversarial_weight: float = 0.1
    """Weight of the adversarial loss."""
    feature_weight: float = 0.5
    """Weight of the feature matching loss."""
    start_crops: int = 1_024
    """Crops from which the initial weights are computed."""
    frozen_tokens: bool = False
    """Trains the decoder alone: encoder, quantizer and therefore tokens do not change."""
    device: str = "cpu"
    """Device of the training."""


def line_hz() -> np.ndarray:
    """Frequency of every bin of both bands, float64 [bin]."""
    low = np.arange(LOW_LINES) * SAMPLE_RATE_HZ / LOW_WINDOW_SAMPLES
    high = np.arange(HIGH_FIRST_LINE, HIGH_FIRST_LINE + LINES - LOW_LINES)
    return np.concatenate([low, high * SAMPLE_RATE_HZ / HIGH_WINDOW_SAMPLES])


def line_weights() -> Tensor:
    """Auditory resolution at each frequency bin: its width in mels, normalized to mean 1, float32
    [bin]."""
    hz = line_hz()
    spacing = np.where(
        np.arange(LINES) < LOW_LINES,
        SAMPLE_RATE_HZ / LOW_WINDOW_SAMPLES,
        SAMPLE_RATE_HZ / HIGH_WINDOW_SAMPLES,
    )
    mels = spacing / (700.0 + hz)
    return torch.from_numpy((mels / mels.mean()).astype(np.float32))


def band_filters() -> Tensor:
    """Mel filter bank over the bins of both bands, float32 [bin, mel band]."""
    hz = line_hz()
    mels = 2595 * np.log10(1 + hz / 700)
    centres = np.linspace(mels[1], mels[-1], MEL_BANDS)
    width = centres[1] - centres[0]
    weights = np.maximum(0.0, 1 - np.abs(mels[:, None] - centres) / width)
    return torch.from_numpy((weights / weights.sum(0).clip(1e-6)).astype(np.float32))


def mel_distance(made: Tensor, real: Tensor) -> Tensor:
    """Mean absolute log-mel distance (natural logarithm), averaged over `MEL_SCALES`.

    Args:
        made: decoded audio [batch, sample] at 24 kHz.
        real: original audio of the same shape.
    """
    total = made.new_zeros(())
    for window_samples, bins in MEL_SCALES:
        shape = {
            "rate_hz": SAMPLE_RATE_HZ,
            "window_samples": window_samples,
            "hop_samples": window_samples // 4,
            "bins": bins,
        }
        total = total + (log_mel(made, **shape) - log_mel(real, **shape)).abs().mean()
    return total / len(MEL_SCALES)


def _check_lengths(settings: CodecTraining, clips: Sequence[np.ndarray]) -> None:
    samples = (settings.crop_frames + LOOKAHEAD_FRAMES) * SAMPLES_PER_FRAME
    shortest = min((array.shape[1] for array in clips if len(array)), default=0)
    if shortest < samples:
        most = shortest // SAMPLES_PER_FRAME - LOOKAHEAD_FRAMES
        raise MelismaError(
            f"crops of {settings.crop_frames} frames do not fit into the clips, which have room "
            f"for {max(most, 0)}: use a smaller crop_frames, or longer clips"
        )


class CodecTask(Task):
    """Reconstruction of audio crops."""

    kind = "codec"

    def __init__(
        self, settings: CodecTraining, train: Sequence[np.ndarray], held: Sequence[np.ndarray]
    ) -> None:
        """
        Args:
            settings: of the training.
            train: training clips, arrays int16 [clip, sample] at 24 kHz, memory-mapped or not.
            held: held-out clips, likewise.

        Raises:
            MelismaError: there are no training clips, or they are shorter than a crop.
        """
        _check_lengths(settings, train)
        self.settings = settings
        self.train, self.held = train, held
        torch.manual_seed(settings.loop.seed)
        self.codec = built(lambda: Codec(settings.codec), settings.device)
        if settings.frozen_tokens:
            self.codec.encoder.requires_grad_(False)
        self.discriminators = Discriminators().to(settings.device)
        self._weights = line_weights().to(settings.device)
        self._bands = band_filters().to(settings.device)
        self._starts = np.cumsum([0, *(len(a) for a in train)])

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """Codec, then discriminators."""
        return {"codec": self.codec, "discriminators": self.discriminators}

    def settings_tree(self) -> dict[str, Any]:
        """Settings of the network."""
        return dataclasses.asdict(self.settings.codec)

    def training_settings(self) -> dict[str, Any]:
        """The other settings, and a fingerprint of the clips."""
        return other_settings(self.settings, self.train)

    def rate_factor(self, name: str) -> float:
        """`encoder_rate` for the encoder, 1 for all other parameters."""
        return self.settings.encoder_rate if name.startswith("encoder.") else 1.0

    def crops(self, generator: torch.Generator, batch: int) -> Tensor:
        """Random crops of the training clips at random gains, float32 [batch, sample]."""
        samples = (self.settings.crop_frames + LOOKAHEAD_FRAMES) * SAMPLES_PER_FRAME
        rows = torch.randint(int(self._starts[-1]), (batch,), generator=generator)
        positions = torch.rand(batch, generator=generator)
        gains = 10 ** (torch.empty(batch).uniform_(-8, 4, generator=generator) / 20)
        crops = np.empty((batch, samples), dtype=np.float32)
        for i, row in enumerate(rows.tolist()):
            shard = int(np.searchsorted(self._starts, row, side="right")) - 1
            clip = self.train[shard][row - self._starts[shard]]
            start = int(positions[i] * (len(clip) - samples + 1))
            crops[i] = clip[start : start + samples]
        crops *= gains.numpy()[:, None] / 32768.0
        return torch.from_numpy(crops).clamp(-1, 1).to(self.settings.device)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Losses of one batch of crops."""
        s = self.settings
        sound = self.crops(generator, s.batch)
        pick = torch.randint(len(s.depths), (s.batch,), generator=generator)
        depth = torch.tensor(s.depths)[pick].to(s.device)
        with autocast(s.device):
            made, quantized = self.codec(
                sound, depth, generator=None if s.frozen_tokens else generator
            )
        with torch.no_grad():
            real = log_magnitudes(sound)[:, : made.shape[1]]
        parts = self._distances(made, real)
        loss = (
            s.line_weight * parts["lines"]
            + s.mel_weight * parts["mel"]
            + s.change_weight * parts["change"]
        )
        if not s.frozen_tokens:
            loss = loss + s.commitment_weight * quantized.commitment
        losses = {"codec": loss}
        figures = {name: float(part.detach()) for name, part in parts.items()}
        figures["commitment"] = float(quantized.commitment.detach())
        if number >= s.adversarial_from * s.loop.updates:
            losses |= self._adversarial(made, real, loss, figures)
        return losses, figures

    def _distances(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Distances of log magnitudes [batch, frame, bin]."""
        bands = [torch.log(torch.exp(logs) @ self._bands + 1e-5) for logs in (made, real)]
        change = (made[:, 1:] - made[:, :-1]) - (real[:, 1:] - real[:, :-1])
        return {
            "lines": ((made - real).abs() * self._weights).mean(),
            "mel": (bands[0] - bands[1]).abs().mean(),
            "change": (change.abs() * self._weights).mean(),
        }

    def _adversarial(
        self, made: Tensor, real: Tensor, loss: Tensor, figures: dict[str, float]
    ) -> dict[str, Tensor]:
        """Losses of the codec, with the adversarial ones, and of the discriminators."""
        s = self.settings
        with autocast(s.device):
            on_real = self.discriminators(real)
            on_made = self.discriminators(made)
            on_detached = self.discriminators(made.detach())
        adversarial, features = generator_losses(on_real, on_made)
        own = discriminator_loss([v for v, _ in on_real], [v for v, _ in on_detached])
        figures |= {
            "adversarial": float(adversarial.detach()),
            "features": float(features.detach()),
            "discriminator": float(own.detach()),
        }
        total = loss + s.adversarial_weight * adversarial + s.feature_weight * features
        return {"codec": total, "discriminators": own}

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Mel distance on held-out crops at every depth, and the used share of the first and last
        codebook."""
        assert isinstance(averaged, Codec)
        generator = generator_of(self.settings.loop.seed, 0, "held")
        sound = held_crops(self.held, 32, 3 * SAMPLE_RATE_HZ, generator).to(self.settings.device)
        codec = AcousticCodec(averaged, "in training", self.settings.device)
        tokens = codec.encode_sound(sound)
        figures = {}
        for depth in sorted({1, *self.settings.depths}):
            made = codec.decode_tokens(tokens[:, :depth])
            figures[f"mel_{depth}"] = float(mel_distance(made, sound))
        for level in (0, tokens.shape[1] - 1):
            share = len(tokens[:, level].unique()) / averaged.settings.vocabulary
            figures[f"used_{level + 1}"] = share
        return figures

    @torch.no_grad()
    def write_samples(self, averaged: nn.Module, folder: Path, number: int) -> None:
        """Three decoded held-out crops, as audio files and plots."""
        assert isinstance(averaged, Codec)
        folder.mkdir(parents=True, exist_ok=True)
        generator = generator_of(self.settings.loop.seed, 1, "samples")
        sound = held_crops(self.held, 3, 5 * SAMPLE_RATE_HZ, generator).to(self.settings.device)
        codec = AcousticCodec(averaged, "in training", self.settings.device)
        made = codec.decode_tokens(codec.encode_sound(sound)).cpu().numpy()
        for i, samples in enumerate(made):
            waveform = Waveform(samples=samples[None], rate_hz=SAMPLE_RATE_HZ)
            name = f"{number:07d}-{i}"
            write_audio(folder / f"{name}.wav", waveform)
            plot_sound(waveform, folder / f"{name}.png", f"held-out {i} at update {number}")


def held_crops(
    arrays: Sequence[np.ndarray], count: int, samples: int, generator: torch.Generator
) -> Tensor:
    """Crops of held-out clips at random positions; the same for equally seeded generators.

    Args:
        arrays: clips, int16 [clip, sample].
        count: number of crops.
        samples: length; reduced to whole frames of the shortest clip.
        generator: of the positions.

    Returns:
        float32 [count, samples].
    """
    shortest = min(array.shape[1] for array in arrays)
    samples = min(samples, shortest - shortest % SAMPLES_PER_FRAME)
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
    """Runs or resumes a codec training.

    Args:
        settings: of the training.
        train: training clips, arrays int16 [clip, sample] at 24 kHz.
        held: held-out clips, likewise.
        folder: of the training state, logs, samples and weights.
        start: weights to start from; None: initial weights by `start_linear`.
    """
    task = CodecTask(settings, train, held)
    if start is None and not (folder / STATE_FILE).is_file():
        generator = generator_of(settings.loop.seed, 0, "start")
        crops = [task.crops(generator, 64) for _ in range(max(settings.start_crops // 64, 1))]
        # Linear algebra in float64 on the CPU, whatever the training device is.
        start_linear(task.codec.cpu(), torch.cat(crops).cpu(), generator)
        task.codec.to(settings.device)
    run = Run(task, settings.loop, folder)
    if not run.resume() and start is not None:
        run.start_from(start)
    run.run()
