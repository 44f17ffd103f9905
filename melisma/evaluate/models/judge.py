"""Learned judges: which family leads, which sound, how fast, in which tonality, to which words.

They are trained on other pieces and other soundfonts than the generator and share no weight with
it; `melisma train judge` makes them anew. Four small heads over three features
(`audio_features.py`): one network for every tenth of a second of the log-mel picture, pooled over
time (instruments); a convolution along the tempo axis of the tempogram (tempo; the trunk's view of
the texture votes for the octave); a network that hears chroma from each tonic in turn (tonality;
equal under transposition by construction); and a contrastive pair of embeddings of sound and words
(Radford et al., "Learning transferable visual models from natural language supervision",
2103.00020, section 2.3).

Enters: `Waveform`s and sentences. Leaves: `Verdict`s and unit vectors [n, `EMBEDDING_WIDTH`].
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.analysis.audio.tempo import refine_tempo, tempo_candidates
from melisma.evaluate.models.audio_features import (
    BANDS,
    TEMPOGRAM_WIDTH,
    AudioFeatures,
    extract_features,
    stack_mels,
)
from melisma.evaluate.models.text_features import TABLE_ROWS, hash_words
from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.values import Waveform
from melisma.values.attributes import FAMILIES, TONALITIES

CHECKPOINT_NAME = "judge.safetensors"
EMBEDDING_WIDTH = 128
MOMENT_FRAMES = 5
"""Frames of the mel picture that are heard as one moment (.1 s)."""
TEMPI = tempo_candidates().reshape(-1, 2).prod(axis=1) ** 0.5
"""Tempi that the judge tells apart, .8 % apart, in bpm."""
TEXTURE_BASES = 10
"""Cosines along log tempo by which the texture may favour a range of tempi."""


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Sizes of the judge."""

    moment: int = 192
    """Width of what is said about a tenth of a second."""
    trunk: int = 256
    """Width of what is said about the timbre of a piece."""
    pulse: int = 48
    """Width along the tempo axis."""
    words: int = 96
    """Width of a word's row."""
    dropout: float = 0.2


@dataclass(frozen=True, kw_only=True)
class JudgeReading:
    """Raw answers for a batch."""

    lead: Tensor
    """Logits over `FAMILIES`, [batch, 17]."""
    families: Tensor
    """Logits of each family sounding at all, [batch, 17]."""
    tempo: Tensor
    """Logits over `TEMPI`, [batch, 214]."""
    tonality: Tensor
    """Logits over `TONALITIES`, [batch, 24]."""
    embedding: Tensor
    """Unit vectors, [batch, EMBEDDING_WIDTH]."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge hears in one piece."""

    lead: str
    """Of `FAMILIES`."""
    lead_probabilities: np.ndarray
    """float32 [17]."""
    family_probabilities: np.ndarray
    """Of each family sounding at all, float32 [17]."""
    tempo_bpm: float
    tonality: str
    tonality_probabilities: np.ndarray
    """float32 [24]."""
    embedding: np.ndarray
    """Unit vector, float32 [EMBEDDING_WIDTH]."""


class Timbre(nn.Module):
    """Mel pictures [batch, frame, band] -> what is heard, [batch, trunk]."""

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        self.moment = nn.Sequential(
            nn.Linear(3 * BANDS, settings.moment),
            nn.GELU(),
            nn.LayerNorm(settings.moment),
            nn.Linear(settings.moment, settings.moment),
            nn.GELU(),
        )
        self.out = nn.Sequential(
            nn.LayerNorm(3 * settings.moment),
            nn.Dropout(settings.dropout),
            nn.Linear(3 * settings.moment, settings.trunk),
            nn.GELU(),
            nn.LayerNorm(settings.trunk),
            nn.Dropout(settings.dropout),
        )

    def forward(self, mel: Tensor) -> Tensor:
        """Each moment is told by its mean, its spread and its rise (attacks) in every band."""
        kept = mel[:, : mel.shape[1] // MOMENT_FRAMES * MOMENT_FRAMES]
        frames = kept.unflatten(1, (-1, MOMENT_FRAMES))
        rise = (frames[:, :, 1:] - frames[:, :, :-1]).clamp(min=0.0).sum(2)
        told = torch.cat([frames.mean(2) - 1.5, 2.0 * frames.std(2), rise], dim=-1)
        seen = self.moment(told)
        pooled = torch.cat([seen.mean(1), seen.amax(1), seen.std(1, unbiased=False)], dim=-1)
        return self.out(pooled)


class Pulse(nn.Module):
    """Tempograms [batch, width, candidate] and the trunk -> logits [batch, tempo]."""

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(TEMPOGRAM_WIDTH, settings.pulse, 1),
            nn.GELU(),
            nn.Conv1d(settings.pulse, settings.pulse, 3, padding=1),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Conv1d(settings.pulse, 1, 1),
        )
        self.prior = nn.Parameter(torch.zeros(TEXTURE_BASES))
        self.texture = nn.Linear(settings.trunk, TEXTURE_BASES)
        nn.init.zeros_(self.texture.weight)
        nn.init.zeros_(self.texture.bias)
        place = (torch.arange(len(TEMPI)) + 0.5) / len(TEMPI)
        bases = torch.cos(torch.pi * torch.arange(1, TEXTURE_BASES + 1)[:, None] * place)
        self.register_buffer("bases", bases, persistent=False)

    def forward(self, tempogram: Tensor, trunk: Tensor) -> Tensor:
        bases = self.get_buffer("bases")
        logits = self.layers(F.avg_pool1d(tempogram, 2))[:, 0]
        return logits + (self.prior + self.texture(trunk)) @ bases


class Tonic(nn.Module):
    """Chroma [batch, 4, 12] -> logits [batch, 24], the same network at every tonic."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(48, 128), nn.GELU(), nn.Dropout(0.1), nn.Linear(128, 64), nn.GELU(),
            nn.Linear(64, 2),
        )  # fmt: skip

    def forward(self, chroma: Tensor) -> Tensor:
        turned = torch.stack([chroma.roll(-tonic, dims=-1) for tonic in range(12)], dim=1)
        return self.layers((turned * 12.0 - 1.0).flatten(2)).transpose(1, 2).flatten(1)


class WordReader(nn.Module):
    """Hashed sentences -> unit vectors; rows flat, with the place where each sentence begins."""

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(TABLE_ROWS, settings.words, mode="sum")
        nn.init.normal_(self.table.weight, std=0.1)
        self.out = nn.Sequential(
            nn.LayerNorm(settings.words),
            nn.Linear(settings.words, 256),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(256, EMBEDDING_WIDTH),
        )

    def forward(self, rows: Tensor, starts: Tensor) -> Tensor:
        return F.normalize(self.out(self.table(rows, starts)), dim=-1)


class JudgeNetwork(nn.Module):
    """All heads."""

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.timbre = Timbre(settings)
        self.lead = nn.Linear(settings.trunk, len(FAMILIES))
        self.families = nn.Linear(settings.trunk, len(FAMILIES))
        self.pulse = Pulse(settings)
        self.tonic = Tonic()
        width = settings.trunk + len(TEMPI) // 4 + len(TONALITIES)
        self.sound = nn.Sequential(
            nn.Linear(width, 256), nn.GELU(), nn.Dropout(settings.dropout),
            nn.Linear(256, EMBEDDING_WIDTH),
        )  # fmt: skip
        self.words = WordReader(settings)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, mel: Tensor, tempogram: Tensor, chroma: Tensor) -> JudgeReading:
        trunk = self.timbre(mel)
        tempo = self.pulse(tempogram, trunk.detach())
        tonality = self.tonic(chroma)
        likely = tempo.detach().softmax(-1)[:, None]
        coarse = 4.0 * F.avg_pool1d(likely, 4)[:, 0]
        facts = torch.cat([trunk, coarse * 3.0, tonality.detach().softmax(-1) * 3.0], dim=-1)
        return JudgeReading(
            lead=self.lead(trunk),
            families=self.families(trunk),
            tempo=tempo,
            tonality=tonality,
            embedding=F.normalize(self.sound(facts), dim=-1),
        )


def flatten_rows(sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Hashed rows int64 [row] of all sentences, and where each begins, int64 [sentence]."""
    rows = [hash_words(sentence) for sentence in sentences]
    starts = np.cumsum([0, *(len(row) for row in rows[:-1])])
    return torch.tensor([entry for row in rows for entry in row]), torch.from_numpy(starts)


class Judge:
    """A trained judge, ready to listen."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network.eval()

    @property
    def fingerprint(self) -> str:
        """Twelve digits that change with anything that decides a verdict."""
        digest = hashlib.sha256(repr(self.network.settings).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        return digest.hexdigest()[:12]

    @classmethod
    def read(cls, folder: Path) -> Judge:
        """Reads what `melisma train judge` wrote into a folder; `ValueError` otherwise."""
        checkpoint = read_checkpoint(folder / CHECKPOINT_NAME, kind="judge")
        network = JudgeNetwork(JudgeSettings(**checkpoint.settings))
        network.load_state_dict(checkpoint.tensors)
        return cls(network)

    def write(self, folder: Path, notes: dict[str, object]) -> None:
        """Writes the weights beneath a folder, which is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = Checkpoint(
            kind="judge",
            settings=dataclasses.asdict(self.network.settings),
            tensors=dict(self.network.state_dict()),
            notes=notes,
        )
        write_checkpoint(folder / CHECKPOINT_NAME, checkpoint)

    @torch.no_grad()
    def judge_all(self, waveforms: Sequence[Waveform]) -> list[Verdict]:
        """A verdict on each piece, heard one after the other."""
        return [self.judge(extract_features(waveform), waveform) for waveform in waveforms]

    @torch.no_grad()
    def judge(self, hearing: AudioFeatures, waveform: Waveform | None = None) -> Verdict:
        """A verdict from features; with the sound the tempo is refined to a fraction of 1 %."""
        reading = self.network(
            torch.from_numpy(stack_mels([hearing])),
            torch.from_numpy(hearing.tempogram)[None],
            torch.from_numpy(hearing.chroma)[None],
        )
        tempo = float(TEMPI[int(reading.tempo[0].argmax())])
        lead = reading.lead[0].softmax(-1).numpy()
        tonality = reading.tonality[0].softmax(-1).numpy()
        return Verdict(
            lead=FAMILIES[int(lead.argmax())],
            lead_probabilities=lead,
            family_probabilities=reading.families[0].sigmoid().numpy(),
            tempo_bpm=tempo if waveform is None else refine_tempo(waveform, tempo),
            tonality=TONALITIES[int(tonality.argmax())],
            tonality_probabilities=tonality,
            embedding=reading.embedding[0].numpy(),
        )

    @torch.no_grad()
    def read_words(self, sentences: Sequence[str]) -> np.ndarray:
        """Unit vectors of sentences, float32 [sentence, EMBEDDING_WIDTH]."""
        return self.network.words(*flatten_rows(sentences)).numpy()
