"""Trains the judges from folders of rendered clips: about five minutes on one core.

Enters: corpora of clips (`data/audio_shards.py`) of the split "judge". Leaves: a `Judge`. All heads
learn together; pictures are cut to half their length, tilted, blurred and masked, so that the
judges bear the sound of a codec that they never heard.
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
from melisma.values.tokens import SAMPLE_RATE_HZ

UNKNOWN = -100
"""Class index that the cross entropy leaves out (PyTorch's convention)."""


@dataclass(frozen=True, kw_only=True)
class JudgeTraining:
    """How the judges are trained."""

    updates: int = 600
    batch: int = 96
    """Pieces per update; the contrast is among them."""
    rate: float = 2e-3
    """Highest learning rate of AdamW, cosine."""
    weight_decay: float = 0.05
    crop_frames: int = 250
    """Frames of the mel picture seen at once (5 s)."""
    seed: int = 5


@dataclass(frozen=True, kw_only=True)
class JudgeCorpus:
    """Features and truth of all clips, in memory."""

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


def clip_waveform(ears: AudioShards, clip: int) -> Waveform:
    """The sound of a clip."""
    shard, place = ears.locate(clip)
    samples = ears.sound[shard][place].astype(np.float32) / 32768.0
    return Waveform(samples=samples[None], rate_hz=SAMPLE_RATE_HZ)


def extract_corpus(
    ears: AudioShards, tell: Callable[[int, int], None] | None = None
) -> JudgeCorpus:
    """Features of every clip; `tell(done, of)` is called now and then."""
    heard: list[AudioFeatures] = []
    for clip in range(len(ears)):
        heard.append(extract_features(clip_waveform(ears, clip)))
        if tell is not None and clip % 50 == 49:
            tell(clip + 1, len(ears))
    captions = [ears.rows[clip]["captions"] for clip in range(len(ears))]
    return JudgeCorpus(
        mel=np.stack([h.mel for h in heard]),
        tempogram=np.stack([h.tempogram for h in heard]).astype(np.float16),
        chroma=np.stack([h.chroma for h in heard]),
        facts=tuple(ears.facts(clip) for clip in range(len(ears))),
        captions=tuple(tuple(c) if isinstance(c, list) else () for c in captions),
    )


@dataclass(frozen=True, kw_only=True)
class _Truth:
    """Targets of all clips."""

    lead: Tensor
    families: Tensor
    tempo: Tensor
    """Shares of `TEMPI`, rows of zeros where the tempo is free, [clip, tempo]."""
    tonality: Tensor


def _truth(facts: Sequence[Facts]) -> _Truth:
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
    return _Truth(
        lead=torch.tensor(lead),
        families=torch.from_numpy(families),
        tempo=torch.from_numpy(tempo),
        tonality=torch.tensor(tonality),
    )


def _disguise(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Mel pictures [batch, frame, band] with another tilt, floor and blur, and parts masked."""
    batch, frames, _ = mel.shape

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    place = torch.linspace(-1, 1, BANDS)
    tilt = (draw(batch, 1) - 0.5) * place + 0.4 * (draw(batch, 1) - 0.5)
    bend = 0.3 * (draw(batch, 1) - 0.5) * torch.cos(torch.pi * (place + draw(batch, 1) * 2) * 1.5)
    mel = mel + (tilt + bend)[:, None]
    floor = 1.4 * draw(batch, 1, 1) * (draw(batch, 1, 1) < 0.5)
    mel = torch.maximum(mel, floor + 0.05 * torch.randn(mel.shape, generator=generator))
    if float(draw(1)) < 0.3:
        mel = F.avg_pool1d(mel.transpose(1, 2), 3, 1, 1).transpose(1, 2)
    for row in range(batch):
        first = int(draw(1) * (BANDS - 8))
        mel[row, :, first : first + int(draw(1) * 8)] = 0.0
        start = int(draw(1) * (frames - 25))
        mel[row, start : start + int(draw(1) * 25)] = 0.0
    return mel.clamp(0.0, 5.0)


def _draw_words(captions: Sequence[str], rng: np.random.Generator) -> str:
    chosen = str(captions[int(rng.integers(len(captions)))])
    return without_numbers(chosen) if rng.random() < 0.3 else chosen


def _losses(
    network: JudgeNetwork,
    lessons: JudgeCorpus,
    truth: _Truth,
    chosen: np.ndarray,
    training: JudgeTraining,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    start = int(rng.integers(0, max(lessons.mel.shape[1] - training.crop_frames, 0) + 1))
    mel = lessons.mel[chosen, start : start + training.crop_frames].astype(np.float32)
    tempogram = torch.from_numpy(lessons.tempogram[chosen].astype(np.float32))
    index = torch.from_numpy(chosen)
    # The tempo axis is logarithmic: rolling it a little is playing a little faster or slower.
    roll = int(rng.integers(-6, 7))
    tempogram = tempogram.roll(2 * roll, dims=-1)
    tempogram = tempogram + 0.02 * torch.randn(tempogram.shape, generator=generator)
    reading = network(
        _disguise(torch.from_numpy(mel), generator),
        tempogram,
        torch.from_numpy(lessons.chroma[chosen]),
    )
    words = [_draw_words(lessons.captions[clip], rng) for clip in chosen]
    similar = network.log_scale.exp() * reading.embedding @ network.words(*flatten_rows(words)).T
    same = torch.arange(len(chosen))
    tempo = truth.tempo[index].roll(roll, dims=-1)
    known = tempo.sum(dim=-1).clamp(max=1.0)
    missed = -(tempo * reading.tempo.log_softmax(-1)).sum(-1)
    return {
        "lead": F.cross_entropy(reading.lead, truth.lead[index], label_smoothing=0.05),
        "families": 3.0
        * F.binary_cross_entropy_with_logits(reading.families, truth.families[index]),
        "tempo": 0.5 * (missed * known).sum() / known.sum().clamp(min=1.0),
        "tonality": 0.5 * F.cross_entropy(reading.tonality, truth.tonality[index]),
        "words": 0.5 * (F.cross_entropy(similar, same) + F.cross_entropy(similar.T, same)),
    }


def train_judge(
    lessons: JudgeCorpus,
    settings: JudgeSettings | None = None,
    training: JudgeTraining | None = None,
    tell: Callable[[str], None] | None = None,
) -> Judge:
    """Trains all heads. `ValueError` where there are fewer clips than one batch needs."""
    training = training or JudgeTraining()
    if len(lessons) < 2:
        raise ValueError(f"judges learn from many clips, not from {len(lessons)}: render more")
    batch = min(training.batch, len(lessons))
    generator = torch.Generator().manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = JudgeNetwork(settings or JudgeSettings())
        truth = _truth(lessons.facts)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=training.rate, weight_decay=training.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=training.rate, total_steps=training.updates, pct_start=0.1
        )
        began = time.monotonic()
        order = np.zeros(0, dtype=np.int64)
        for update in range(training.updates):
            if len(order) < batch:
                order = np.concatenate([order, rng.permutation(len(lessons))])
            chosen, order = order[:batch], order[batch:]
            losses = _losses(network, lessons, truth, chosen, training, rng, generator)
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).nansum().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if tell is not None and update % 25 == 24:
                figures = " ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
                tell(f"update {update + 1}: {figures}, {time.monotonic() - began:.0f} s")
    return Judge(network)
