"""Training of the semantic encoder by masked prediction and by supervised score labels.

Follows w2v-BERT (2108.06209); the targets of masked frames are random-projection codes (BEST-RQ,
2202.01855). The supervised score heads deviate from both papers: rendered music comes with exact
labels, and a small encoder needs them; `score_weight=0` trains without.

Spectra are computed once, before the first update; each update shifts whole clips in pitch by
rolling the log-frequency axis (three bins per semitone), and their labels accordingly.
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
from melisma.train.initialization.fingerprint import other_settings
from melisma.train.initialization.memory import built
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
"""Loss weights, chosen so that all heads contribute about equally: a cross-entropy over classes is
several times the mean of twelve binary ones."""
INSTRUMENT_NAMES: tuple[str, ...] = (*INSTRUMENTS, "drums")
"""Classes of the instrument head."""
INSTRUMENT_WEIGHT = 8.0
"""Loss weight of the instrument head: a clip has about three of 129 instruments, so that the mean
loss is small."""


@dataclass(frozen=True, kw_only=True)
class SemanticTraining:
    """Settings of a training of the semantic encoder."""

    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    """Of the network."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(updates=3_000, learning_rate=1e-3)
    )
    """Of the training loop."""
    batch: int = 16
    """Clips per update."""
    masked_share: float = 0.4
    """Share of the frames that are masked, in spans."""
    span_frames: int = 10
    """Frames of a masked span (400 ms, as in w2v-BERT)."""
    score_weight: float = 1.0
    """Weight of the score heads' losses; 0 trains without them."""
    shift_semitones: int = 3
    """Largest random pitch shift, up or down."""
    dropout: float = 0.05
    """Dropout of the transformer."""
    cluster_vectors: int = 120_000
    """Frames on which the clusters are fitted."""
    device: str = "cpu"
    """Device of the training."""


@dataclass(frozen=True, kw_only=True)
class LabelledSpectra:
    """Spectra and frame labels of clips of equal length."""

    spectra: Tensor
    """float16 [clip, 50 Hz frame, bin]."""
    labels: Labels
    """[clip, frame, ...]."""


@torch.no_grad()
def spectra_of(
    sound: Sequence[np.ndarray], labels: Sequence[Mapping[str, np.ndarray]], device: str = "cpu"
) -> LabelledSpectra:
    """Computes spectra, 16 clips at a time.

    Args:
        sound: shards of clips, int16 [clip, sample].
        labels: frame labels of each shard, [clip, frame, ...] by name; empty: no labels.
        device: device of the computation; the result is on the CPU.
    """
    spectra = []
    for array in sound:
        for start in range(0, len(array), 16):
            part = torch.from_numpy(np.asarray(array[start : start + 16], dtype=np.float32) / 32768)
            spectra.append(features(part.to(device)).half().cpu())
    merged = {
        name: torch.from_numpy(np.concatenate([one[name] for one in labels]))
        for name in (labels[0] if labels else {})
    }
    return LabelledSpectra(spectra=torch.cat(spectra), labels=merged)


def instrument_labels(shards: AudioShards) -> list[dict[str, np.ndarray]]:
    """The frame labels of each shard, with the instruments of its clips added as "instruments":
    uint8 [clip, 129], 1 where present."""
    index = {name: i for i, name in enumerate(INSTRUMENT_NAMES)}
    clip, result = 0, []
    for labels, sound in zip(shards.labels, shards.sound, strict=True):
        present = np.zeros((len(sound), len(index)), dtype=np.uint8)
        for row in present:
            row[[index[name] for name in shards.facts(clip).instruments]] = 1
            clip += 1
        result.append({**labels, "instruments": present})
    return result


class InstrumentHead(nn.Module):
    """Classifies the instruments of a clip; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.name = nn.Linear(width, len(INSTRUMENT_NAMES))

    def forward(self, states: Tensor) -> Tensor:
        """Last hidden states [batch, frame, width] -> logits [batch, 129], by a soft maximum over
        the frames."""
        logits = self.name(self.norm(states.float()))
        return torch.logsumexp(logits, dim=1) - float(np.log(states.shape[1]))


class SemanticTask(Task):
    """Masked prediction of random-projection codes, and score heads."""

    kind = "semantic"

    def __init__(
        self, settings: SemanticTraining, train: LabelledSpectra, held: LabelledSpectra
    ) -> None:
        self.settings = settings
        self.train, self.held = train, held
        torch.manual_seed(settings.loop.seed)
        self.encoder = built(lambda: SemanticEncoder(settings.semantic), settings.device)
        self.instruments = InstrumentHead(settings.semantic.width).to(settings.device)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The encoder, and the instrument head, which is not shipped."""
        return {"semantic": self.encoder, "instruments": self.instruments}

    def settings_tree(self) -> dict[str, Any]:
        """Settings of the network."""
        return dataclasses.asdict(self.settings.semantic)

    def training_settings(self) -> dict[str, Any]:
        """The other settings, and a fingerprint of the clips."""
        return other_settings(self.settings, self.train)

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
        """Losses of one batch of whole clips."""
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
        present = labels["instruments"].float()
        encoder_loss = F.binary_cross_entropy_with_logits(self.instruments(last), present)
        figures["instruments"] = float(encoder_loss.detach())
        # The encoder's loss does not train the head; the head has its own, on detached states.
        head_loss = F.binary_cross_entropy_with_logits(self.instruments(last.detach()), present)
        loss = loss + s.score_weight * INSTRUMENT_WEIGHT * encoder_loss
        return {"semantic": loss, "instruments": INSTRUMENT_WEIGHT * head_loss}, figures

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Accuracies on held-out clips, without masks."""
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
                predicted = self.instruments(last).cpu() > 0
                found["instrument_f1"] = _f1(predicted, labels["instruments"] > 0)
            for name, value in found.items():
                totals.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in totals.items()}


def shift_spectra(spectra: Tensor, semitones: int) -> Tensor:
    """Shifts the log-frequency bins of a spectrum [frame, bin] up by semitones, filled with
    silence."""
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
    classes = (torch.arange(12)[None, :] - shifts[:, None]) % 12
    for name in ("pitch_class", "onset"):
        index = classes[:, None, :].expand(labels[name].shape)
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
    """Random mask in spans.

    Args:
        batch: number of rows.
        frames: frames of each row.
        share: expected share of masked frames.
        span_frames: length of a span; spans may overlap.
        generator: of the starts, on the CPU.

    Returns:
        bool [batch, frame], True where masked.
    """
    chance = 1 - (1 - share) ** (1 / span_frames)
    starts = torch.rand(batch, frames + span_frames - 1, generator=generator) < chance
    return F.max_pool1d(starts.float()[:, None], span_frames, stride=1)[:, 0] > 0


def _class_targets(labels: Labels) -> dict[str, Tensor]:
    """Targets of the cross-entropy heads, int64 [clip, frame]; -1 where there is no label."""
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
    """Losses of the score heads.

    Args:
        encoder: whose heads are used.
        bottleneck: its output [batch, frame, bottleneck width].
        labels: of the same clips, [batch, frame, ...] by name.

    Returns:
        Scalar losses by head; heads without any label are omitted.
    """
    losses = {}
    for name in ("pitch_class", "onset", "drum"):
        logits = encoder.score_heads[name](bottleneck)
        target = labels[name].float()
        if name != "pitch_class":
            # Onsets may be one frame off: the neighbouring frames get a target of one half.
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
    """F1 scores of the binary heads, accuracies of the others on labelled frames.

    Arguments as for `head_losses`.
    """
    found = {}
    for name in ("pitch_class", "onset", "drum"):
        predicted = encoder.score_heads[name](bottleneck) > (0 if name == "pitch_class" else -0.5)
        found[f"{name}_f1"] = _f1(predicted, labels[name] > 0)
    for name, target in _class_targets(labels).items():
        predicted = encoder.score_heads[name](bottleneck).argmax(-1)
        known = target > 0 if name in ("bass", "top", "chord") else target >= 0
        if bool(known.any()):
            found[name] = float((predicted == target)[known].float().mean())
    return found


def _f1(predicted: Tensor, true: Tensor) -> float:
    both = float((predicted & true).sum())
    return 2 * both / max(float(predicted.sum()) + float(true.sum()), 1.0)


def train_semantic(
    settings: SemanticTraining,
    train: LabelledSpectra,
    held: LabelledSpectra,
    folder: Path,
    start: Mapping[str, Tensor] | None = None,
) -> None:
    """Runs or resumes the training of the encoder, then clusters its bottleneck.

    Args:
        settings: of the training.
        train: training clips.
        held: held-out clips.
        folder: of the training state and logs; the tokenizer is written there as
            `weights.safetensors`.
        start: weights to start from; its centroids initialize the clustering.
    """
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
    """Bottleneck vectors of random training clips, [frame, width], at most
    `settings.cluster_vectors`."""
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
