"""Trains the semantic encoder by masked prediction and by reading the score behind the sound.

w2v-BERT (2108.06209) in spirit; targets of the masked frames are random-projection codes (BEST-RQ,
2202.01855). The heads of the score are a deviation that we own up to: rendered music comes with
exact labels, and a small encoder needs them; `score_weight=0` trains without.

Sound becomes spectra once, before the first update; then each update shifts whole clips in pitch by
rolling the log-frequency axis (three bins a semitone), the labels with them.
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
from torch.nn import functional as F

from melisma.data.audio_shards import AudioShards
from melisma.files.checkpoint import write_checkpoint
from melisma.nn.precision import autocast
from melisma.semantic.model import (
    HEADS,
    LOG_FREQUENCY_BINS,
    LOWEST_TOP_PITCH,
    SemanticEncoder,
    SemanticSettings,
    features,
)
from melisma.semantic.tokenizer import cluster, tokenizer_checkpoint
from melisma.symbolic.instruments import INSTRUMENTS
from melisma.train.loop import LoopSettings, Run, Task, generator_of

Labels = dict[str, Tensor]
"""Field of `FrameLabels` -> [clip, frame, ...]."""

HEAD_WEIGHTS: dict[str, float] = {
    "pitch_class": 2.0,
    "bass": 0.4,
    "top": 0.6,
    "onset": 2.0,
    "drum": 1.5,
    "chord": 0.4,
    "beat": 0.4,
    "bar": 0.2,
}
"""Chosen so that each head's loss counts about alike: cross-entropies in nats are several times the
mean of twelve binary ones."""
INSTRUMENT_NAMES: tuple[str, ...] = (*INSTRUMENTS, "drums")
"""What the instrument head tells apart."""
INSTRUMENT_WEIGHT = 8.0
"""Weight of the instrument head: three of 129 sound in a clip, so its mean loss is small."""


@dataclass(frozen=True, kw_only=True)
class SemanticTraining:
    """A whole semantic run."""

    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    """The network."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(updates=3_000, learning_rate=1e-3)
    )
    """How long and how fast."""
    batch: int = 16
    """Clips of one update."""
    masked_share: float = 0.4
    """Share of frames that are hidden, in spans."""
    span_frames: int = 10
    """Frames of one hidden span (400 ms, as w2v-BERT)."""
    score_weight: float = 1.0
    """Weight of the score heads; 0 leaves them out."""
    shift_semitones: int = 3
    """Clips are shifted in pitch by up to so many semitones."""
    dropout: float = 0.05
    """Dropout of the transformer."""
    cluster_vectors: int = 120_000
    """Frames that the clusters are found on."""
    device: str = "cpu"
    """Where to train."""


@dataclass(frozen=True, kw_only=True)
class Listened:
    """Spectra and labels of many clips of one length."""

    spectra: Tensor
    """float16 [clip, 50 Hz frame, bin]."""
    labels: Labels
    """[clip, frame, ...]."""


@torch.no_grad()
def spectra_of(
    sound: Sequence[np.ndarray], labels: Sequence[Mapping[str, np.ndarray]], device: str = "cpu"
) -> Listened:
    """Turns int16 sound [clip, sample] into spectra, 16 clips at a time."""
    spectra = []
    for array in sound:
        for start in range(0, len(array), 16):
            part = torch.from_numpy(np.asarray(array[start : start + 16], dtype=np.float32) / 32768)
            spectra.append(features(part.to(device)).half().cpu())
    merged = {
        name: torch.from_numpy(np.concatenate([one[name] for one in labels]))
        for name in (labels[0] if labels else {})
    }
    return Listened(spectra=torch.cat(spectra), labels=merged)


def instrument_labels(ears: AudioShards) -> list[dict[str, np.ndarray]]:
    """The labels of each shard, and which instruments its clips name: uint8 [clip, 129]."""
    place = {name: i for i, name in enumerate(INSTRUMENT_NAMES)}
    clip, shards = 0, []
    for labels, sound in zip(ears.labels, ears.sound, strict=True):
        named = np.zeros((len(sound), len(place)), dtype=np.uint8)
        for row in named:
            row[[place[name] for name in ears.facts(clip).instruments]] = 1
            clip += 1
        shards.append({**labels, "instruments": named})
    return shards


class InstrumentHead(nn.Module):
    """Last states [batch, frame, width] -> logits [batch, 129]: heard anywhere in the clip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.name = nn.Linear(width, len(INSTRUMENT_NAMES))

    def forward(self, states: Tensor) -> Tensor:
        """A soft maximum over the frames."""
        logits = self.name(self.norm(states.float()))
        return torch.logsumexp(logits, dim=1) - float(np.log(states.shape[1]))


class SemanticTask(Task):
    """Masked codes and score heads."""

    kind = "semantic"

    def __init__(self, settings: SemanticTraining, train: Listened, held: Listened) -> None:
        self.settings = settings
        self.train, self.held = train, held
        torch.manual_seed(settings.loop.seed)
        self.encoder = SemanticEncoder(settings.semantic).to(settings.device)
        self.instruments = InstrumentHead(settings.semantic.width).to(settings.device)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The encoder, then the head that is not kept."""
        return {"semantic": self.encoder, "instruments": self.instruments}

    def settings_tree(self) -> dict[str, Any]:
        """The network's sizes."""
        return dataclasses.asdict(self.settings.semantic)

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Labels]:
        s = self.settings
        rows = torch.randint(len(self.train.spectra), (s.batch,), generator=generator)
        spectra = self.train.spectra[rows].float()
        labels = {name: values[rows] for name, values in self.train.labels.items()}
        reach = s.shift_semitones
        shifts = torch.randint(-reach, reach + 1, (s.batch,), generator=generator)
        for i, shift in enumerate(shifts.tolist()):
            spectra[i] = shift_spectra(spectra[i], shift)
        tilt = torch.randn(s.batch, 1, 4, generator=generator) * 0.15
        spectra = spectra + F.interpolate(
            tilt, size=spectra.shape[-1], mode="linear", align_corners=True
        )
        if labels:
            labels = shift_labels(labels, shifts)
        device = s.device
        return spectra.to(device), {name: value.to(device) for name, value in labels.items()}

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """One batch of whole clips."""
        del number
        s = self.settings
        spectra, labels = self._batch(generator)
        masked = sample_spans(
            len(spectra), spectra.shape[1] // 2, s.masked_share, s.span_frames, generator
        ).to(s.device)
        with autocast(s.device):
            bottleneck, _, last = self.encoder(spectra, masked, s.dropout)
            logits = self.encoder.code_head(last[masked]).float()
            family = self.encoder.family_head(last).float()
        codes = self.encoder.random_codes(spectra)[masked]
        loss = code_loss = F.cross_entropy(logits, codes)
        figures = {"masked": float(code_loss.detach())}
        if s.score_weight:
            parts = head_losses(self.encoder, bottleneck, labels)
            parts["family"] = F.binary_cross_entropy_with_logits(family, labels["family"].float())
            figures |= {name: float(part.detach()) for name, part in parts.items()}
            weighted = [HEAD_WEIGHTS.get(name, 2.0) * part for name, part in parts.items()]
            loss = loss + s.score_weight * torch.stack(weighted).sum()
        if not s.score_weight or "instruments" not in labels:
            return {"semantic": loss}, figures
        named = labels["instruments"].float()
        heard = F.binary_cross_entropy_with_logits(self.instruments(last), named)
        figures["instruments"] = float(heard.detach())
        # The head learns from states that rest, the encoder from a head that rests.
        own = F.binary_cross_entropy_with_logits(self.instruments(last.detach()), named)
        loss = loss + s.score_weight * INSTRUMENT_WEIGHT * heard
        return {"semantic": loss, "instruments": INSTRUMENT_WEIGHT * own}, figures

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Accuracies on held-out clips, nothing masked."""
        assert isinstance(averaged, SemanticEncoder)
        totals: dict[str, list[float]] = {}
        for start in range(0, min(len(self.held.spectra), 96), 16):
            spectra = self.held.spectra[start : start + 16].float().to(self.settings.device)
            labels = {n: v[start : start + 16] for n, v in self.held.labels.items()}
            with autocast(self.settings.device):
                bottleneck, _, last = averaged(spectra)
                family = averaged.family_head(last).float().cpu()
            if not self.settings.score_weight:
                continue
            found = head_accuracies(averaged, bottleneck.cpu(), labels)
            found["family_f1"] = _f1(family > 0, labels["family"] > 0)
            if "instruments" in labels:
                named = self.instruments(last).cpu() > 0
                found["instrument_f1"] = _f1(named, labels["instruments"] > 0)
            for name, value in found.items():
                totals.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in totals.items()}


def shift_spectra(spectra: Tensor, semitones: int) -> Tensor:
    """Moves the log-frequency bins of [frame, bin] up by semitones; what enters is silence."""
    if semitones == 0:
        return spectra
    low, high = spectra[:, :LOG_FREQUENCY_BINS], spectra[:, LOG_FREQUENCY_BINS:]
    bins = 3 * semitones
    low = torch.roll(low, bins, dims=1)
    if bins > 0:
        low[:, :bins] = -2.5
    else:
        low[:, bins:] = -2.5
    return torch.cat([low, high], dim=1)


def shift_labels(labels: Labels, shifts: Tensor) -> Labels:
    """Transposes labels [clip, frame, ...] by semitones [clip]."""
    out = dict(labels)
    places = (torch.arange(12)[None, :] - shifts[:, None]) % 12
    for name in ("pitch_class", "onset"):
        index = places[:, None, :].expand(labels[name].shape)
        out[name] = labels[name].gather(-1, index)
    shift = shifts[:, None]
    bass, top, chord = (labels[n].long() for n in ("bass", "top", "chord"))
    out["bass"] = torch.where(bass > 0, (bass - 1 + shift) % 12 + 1, 0)
    out["top"] = torch.where(top > 0, (top + shift).clamp(1, 127), 0)
    mode, root = (chord - 1) // 12, (chord - 1) % 12
    out["chord"] = torch.where(chord > 0, mode * 12 + (root + shift) % 12 + 1, 0)
    return out


def sample_spans(
    batch: int, frames: int, share: float, span_frames: int, generator: torch.Generator
) -> Tensor:
    """True where hidden: [batch, frame], in spans, about `share` of all frames."""
    chance = 1 - (1 - share) ** (1 / span_frames)
    starts = torch.rand(batch, frames + span_frames - 1, generator=generator) < chance
    return F.max_pool1d(starts.float()[:, None], span_frames, stride=1)[:, 0] > 0


def _class_targets(labels: Labels) -> dict[str, Tensor]:
    """Classes of the cross-entropy heads; -1 where there is no truth."""
    top = labels["top"].long()
    last = HEADS["top"] - 1
    targets = {
        "bass": labels["bass"].long(),
        "chord": labels["chord"].long(),
        "top": torch.where(top > 0, (top - LOWEST_TOP_PITCH + 1).clamp(1, last), 0),
    }
    for name, source in (("beat", "beat_phase"), ("bar", "bar_phase")):
        phase = labels[source].float()
        bins = (phase.nan_to_num() * HEADS[name]).long().clamp(0, HEADS[name] - 1)
        targets[name] = torch.where(phase.isnan(), -1, bins)
    return targets


def head_losses(encoder: SemanticEncoder, bottleneck: Tensor, labels: Labels) -> dict[str, Tensor]:
    """The loss of every score head on [batch, frame, bottleneck width]."""
    losses = {}
    for name in ("pitch_class", "onset", "drum"):
        logits = encoder.score_heads[name](bottleneck)
        target = labels[name].float()
        if name != "pitch_class":
            # A stroke may be felt one frame beside: the neighbours count as half.
            near = F.max_pool1d(target.transpose(1, 2), 3, 1, 1).transpose(1, 2)
            target = torch.maximum(target, 0.5 * near)
        losses[name] = F.binary_cross_entropy_with_logits(logits, target)
    for name, target in _class_targets(labels).items():
        logits = encoder.score_heads[name](bottleneck)
        if bool((target >= 0).any()):
            losses[name] = F.cross_entropy(
                logits.flatten(0, 1), target.flatten(), ignore_index=-1, label_smoothing=0.02
            )
    return losses


@torch.no_grad()
def head_accuracies(
    encoder: SemanticEncoder, bottleneck: Tensor, labels: Labels
) -> dict[str, float]:
    """F1 of the binary heads, accuracy of the others where there is truth."""
    found = {}
    for name in ("pitch_class", "onset", "drum"):
        heard = encoder.score_heads[name](bottleneck) > (0 if name == "pitch_class" else -0.5)
        found[f"{name}_f1"] = _f1(heard, labels[name] > 0)
    for name, target in _class_targets(labels).items():
        heard = encoder.score_heads[name](bottleneck).argmax(-1)
        known = target > 0 if name in ("bass", "top", "chord") else target >= 0
        if bool(known.any()):
            found[name] = float((heard == target)[known].float().mean())
    return found


def _f1(heard: Tensor, true: Tensor) -> float:
    both = float((heard & true).sum())
    return 2 * both / max(float(heard.sum()) + float(true.sum()), 1.0)


def train_semantic(
    settings: SemanticTraining,
    train: Listened,
    held: Listened,
    folder: Path,
    start: Mapping[str, Tensor] | None = None,
) -> None:
    """Runs or resumes, then clusters the bottleneck and writes `folder/weights.safetensors`."""
    task = SemanticTask(settings, train, held)
    run = Run(task, settings.loop, folder)
    if not run.resume() and start is not None:
        run.start_from({name: tensor for name, tensor in start.items() if name != "centroids"})
    run.run()
    task.encoder.load_state_dict(run.average)
    generator = generator_of(settings.loop.seed, 0, "clusters")
    vectors = bottleneck_vectors(task, generator)
    centroids = cluster(
        vectors,
        levels=settings.semantic.levels,
        vocabulary=settings.semantic.vocabulary,
        generator=generator,
        before=None if start is None else start.get("centroids"),
    )
    checkpoint = tokenizer_checkpoint(
        settings.semantic, run.average, centroids.cpu(), update=float(run.number)
    )
    write_checkpoint(folder / "weights.safetensors", checkpoint)


@torch.no_grad()
def bottleneck_vectors(task: SemanticTask, generator: torch.Generator) -> Tensor:
    """Bottleneck vectors [vector, width] of random training clips."""
    settings, encoder = task.settings, task.encoder.eval()
    spectra = task.train.spectra
    clips = min(len(spectra), settings.cluster_vectors // (spectra.shape[1] // 2) + 1)
    rows = torch.randperm(len(spectra), generator=generator)[:clips]
    parts = []
    for chunk in rows.split(16):
        with autocast(settings.device):
            bottleneck, _, _ = encoder(spectra[chunk].float().to(settings.device))
        parts.append(bottleneck.flatten(0, 1))
    return torch.cat(parts)[: settings.cluster_vectors]
