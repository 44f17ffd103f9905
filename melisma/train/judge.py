"""Training of the judge, an independent evaluation model: about five minutes on one CPU core.

Input: audio shards (`data/audio_shards.py`) of the split "judge". Output: a `Judge`. All heads are
trained jointly. Spectrograms are cropped to half their length, tilted, blurred and masked, so that
the judge is robust to the artefacts of codecs that it was not trained on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from melisma.data.audio_shards import AudioShards
from melisma.evaluate.models.audio_features import BANDS, AudioFeatures, extract_features
from melisma.evaluate.models.judge import TEMPI, Judge, JudgeNetwork, JudgeSettings, flatten_rows
from melisma.evaluate.models.text_features import without_numbers
from melisma.values import Facts, Waveform
from melisma.values.attributes import FAMILIES, TONALITIES
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ

UNKNOWN = -100
"""Class index that the cross-entropy ignores (PyTorch's convention)."""


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """Settings of a training of the judge."""

    updates: int = 600
    """Number of updates."""
    batch: int = 96
    """Clips per update; also the candidates of the contrastive loss."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW, one cosine cycle."""
    weight_decay: float = 0.05
    """Of AdamW."""
    crop_frames: int = 250
    """Frames of the mel spectrogram in a crop (5 s)."""
    seed: int = 5
    """Of all random choices."""


@dataclass(frozen=True, kw_only=True)
class JudgeCorpus:
    """Features and labels of all clips, in memory."""

    mel: np.ndarray
    """float16 [clip, frame, band]."""
    tempogram: np.ndarray
    """float16 [clip, width, candidate]."""
    chroma: np.ndarray
    """float32 [clip, 4, 12]."""
    facts: tuple[Facts, ...]
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.facts)


def clip_waveform(shards: AudioShards, clip: int) -> Waveform:
    """The audio of clip number `clip`, one channel at 24 kHz."""
    shard, row = shards.locate(clip)
    samples = shards.sound[shard][row].astype(np.float32) / 32768.0
    return Waveform(samples=samples[None], rate_hz=SAMPLE_RATE_HZ)


def extract_corpus(
    shards: AudioShards, progress: Callable[[int, int], None] | None = None
) -> JudgeCorpus:
    """Extracts features of every clip; calls `progress(done, total)` after every 50 clips."""
    features: list[AudioFeatures] = []
    for clip in range(len(shards)):
        features.append(extract_features(clip_waveform(shards, clip)))
        if progress is not None and clip % 50 == 49:
            progress(clip + 1, len(shards))
    captions = [shards.rows[clip]["captions"] for clip in range(len(shards))]
    return JudgeCorpus(
        mel=np.stack([f.mel for f in features]),
        tempogram=np.stack([f.tempogram for f in features]).astype(np.float16),
        chroma=np.stack([f.chroma for f in features]),
        facts=tuple(shards.facts(clip) for clip in range(len(shards))),
        captions=tuple(tuple(c) if isinstance(c, list) else () for c in captions),
    )


@dataclass(frozen=True, kw_only=True)
class _Targets:
    """Targets of all clips."""

    lead: Tensor
    """int64 [clip], `UNKNOWN` where there is none."""
    families: Tensor
    """float32 [clip, family], 1 where present."""
    tempo: Tensor
    """Distribution over `TEMPI`, float32 [clip, tempo]; zeros where the tempo is free."""
    tonality: Tensor
    """int64 [clip], `UNKNOWN` where there is none."""


def _targets(facts: Sequence[Facts]) -> _Targets:
    tempi = np.log2(TEMPI)
    tempo = np.zeros((len(facts), len(tempi)), dtype=np.float32)
    families = np.zeros((len(facts), len(FAMILIES)), dtype=np.float32)
    for row, fact in enumerate(facts):
        families[row, [FAMILIES.index(name) for name in fact.families]] = 1.0
        if fact.tempo_bpm is not None:
            near = np.exp(-0.5 * ((tempi - np.log2(fact.tempo_bpm)) / 0.02) ** 2)
            tempo[row] = near / near.sum()
    lead = [UNKNOWN if f.lead is None else FAMILIES.index(f.lead) for f in facts]
    tonality = [UNKNOWN if f.tonality is None else TONALITIES.index(f.tonality) for f in facts]
    return _Targets(
        lead=torch.tensor(lead),
        families=torch.from_numpy(families),
        tempo=torch.from_numpy(tempo),
        tonality=torch.tensor(tonality),
    )


def _augmented(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Mel spectrograms [batch, frame, band] with random tilt, noise floor, blur and masks."""
    batch, frames, _ = mel.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    band = torch.linspace(-1, 1, BANDS)
    tilt = (uniform(batch, 1) - 0.5) * band + 0.4 * (uniform(batch, 1) - 0.5)
    bend = 0.3 * (uniform(batch, 1) - 0.5)
    bend = bend * torch.cos(torch.pi * (band + uniform(batch, 1) * 2) * 1.5)
    mel = mel + (tilt + bend)[:, None]
    floor = 1.4 * uniform(batch, 1, 1) * (uniform(batch, 1, 1) < 0.5)
    mel = torch.maximum(mel, floor + 0.05 * torch.randn(mel.shape, generator=generator))
    if float(uniform(1)) < 0.3:
        mel = F.avg_pool1d(mel.transpose(1, 2), 3, 1, 1).transpose(1, 2)
    for row in range(batch):
        first = int(uniform(1) * (BANDS - 8))
        mel[row, :, first : first + int(uniform(1) * 8)] = 0.0
        start = int(uniform(1) * (frames - 25))
        mel[row, start : start + int(uniform(1) * 25)] = 0.0
    return mel.clamp(0.0, 5.0)


def _sample_caption(captions: Sequence[str], rng: np.random.Generator) -> str:
    chosen = str(captions[int(rng.integers(len(captions)))])
    return without_numbers(chosen) if rng.random() < 0.3 else chosen


def _losses(
    network: JudgeNetwork,
    corpus: JudgeCorpus,
    targets: _Targets,
    chosen: np.ndarray,
    training: JudgeTraining,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    start = int(rng.integers(0, max(corpus.mel.shape[1] - training.crop_frames, 0) + 1))
    mel = corpus.mel[chosen, start : start + training.crop_frames].astype(np.float32)
    tempogram = torch.from_numpy(corpus.tempogram[chosen].astype(np.float32))
    index = torch.from_numpy(chosen)
    # The tempo axis is logarithmic: a shift along it is a change of tempo.
    roll = int(rng.integers(-6, 7))
    tempogram = tempogram.roll(2 * roll, dims=-1)
    tempogram = tempogram + 0.02 * torch.randn(tempogram.shape, generator=generator)
    reading = network(
        _augmented(torch.from_numpy(mel), generator),
        tempogram,
        torch.from_numpy(corpus.chroma[chosen]),
    )
    words = [_sample_caption(corpus.captions[clip], rng) for clip in chosen]
    similar = network.log_scale.exp() * reading.embedding @ network.words(*flatten_rows(words)).T
    same = torch.arange(len(chosen))
    tempo = targets.tempo[index].roll(roll, dims=-1)
    known = tempo.sum(dim=-1).clamp(max=1.0)
    tempo_loss = -(tempo * reading.tempo.log_softmax(-1)).sum(-1)
    return {
        "lead": F.cross_entropy(reading.lead, targets.lead[index], label_smoothing=0.05),
        "families": 3.0
        * F.binary_cross_entropy_with_logits(reading.families, targets.families[index]),
        "tempo": 0.5 * (tempo_loss * known).sum() / known.sum().clamp(min=1.0),
        "tonality": 0.5 * F.cross_entropy(reading.tonality, targets.tonality[index]),
        "words": 0.5 * (F.cross_entropy(similar, same) + F.cross_entropy(similar.T, same)),
    }


def train_judge(
    corpus: JudgeCorpus,
    settings: JudgeSettings | None = None,
    training: JudgeTraining | None = None,
    say: Callable[[str], None] | None = None,
) -> Judge:
    """Trains a judge.

    Args:
        corpus: the training clips.
        settings: of the network.
        training: of the training.
        say: called with a line of figures every 25 updates.

    Raises:
        MelismaError: where there are fewer than two clips.
    """
    training = training or JudgeTraining()
    if len(corpus) < 2:
        raise MelismaError(f"judges are trained on many clips, not on {len(corpus)}: render more")
    batch = min(training.batch, len(corpus))
    generator = torch.Generator().manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = JudgeNetwork(settings or JudgeSettings())
        targets = _targets(corpus.facts)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=training.learning_rate, total_steps=training.updates, pct_start=0.1
        )
        started = time.monotonic()
        order = np.zeros(0, dtype=np.int64)
        for update in range(training.updates):
            if len(order) < batch:
                order = np.concatenate([order, rng.permutation(len(corpus))])
            chosen, order = order[:batch], order[batch:]
            losses = _losses(network, corpus, targets, chosen, training, rng, generator)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).nansum().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if say is not None and update % 25 == 24:
                figures = " ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
                say(f"update {update + 1}: {figures}, {time.monotonic() - started:.0f} s")
    return Judge(network)
