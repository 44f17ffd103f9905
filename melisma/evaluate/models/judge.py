"""The judge: an evaluation model for lead instrument, instruments, tempo, key and text similarity.

It is trained on other pieces and other soundfonts than the generator and shares no weights with it;
`melisma train judge` trains it again. Four small heads over three features (`audio_features.py`):
one network for every tenth of a second of the log-mel spectrogram, pooled over time (instruments);
a convolution along the tempo axis of the tempogram (tempo; an additive bias from the timbre encoder
resolves the octave); a network that reads chroma relative to each tonic in turn (key; equivariant
to transposition by construction); and a contrastive pair of embeddings of sound and text (Radford
et al., "Learning transferable visual models from natural language supervision", 2103.00020,
section 2.3).

Input: `Waveform`s and sentences. Output: `Verdict`s and unit vectors [n, `EMBEDDING_WIDTH`].
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
from melisma.files.checkpoint import Checkpoint, build_model, read_checkpoint, write_checkpoint
from melisma.values import Waveform
from melisma.values.attributes import FAMILIES, TONALITIES

CHECKPOINT_NAME = "judge.safetensors"
EMBEDDING_WIDTH = 128
MOMENT_FRAMES = 5
"""Frames of the log-mel spectrogram that are summarised as one step (.1 s)."""
TEMPI = tempo_candidates().reshape(-1, 2).prod(axis=1) ** 0.5
"""Classes of tempo in bpm, .8 % apart."""
TEXTURE_BASES = 10
"""Cosines along log tempo of which the bias from timbre to tempo is made."""


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Sizes of the judge. Its `repr` is hashed into the fingerprint, so neither the class nor a
    field may be renamed."""

    moment: int = 192
    """Width of the features of a tenth of a second."""
    trunk: int = 256
    """Width of the timbre encoder's output."""
    pulse: int = 48
    """Channels along the tempo axis."""
    words: int = 96
    """Width of a word embedding."""
    dropout: float = 0.2


@dataclass(frozen=True, kw_only=True)
class JudgeOutput:
    """Outputs of all heads for a batch."""

    lead: Tensor
    """Logits over `FAMILIES`, [batch, 17]."""
    families: Tensor
    """Logits of the presence of each family, [batch, 17]."""
    tempo: Tensor
    """Logits over `TEMPI`, [batch, 214]."""
    tonality: Tensor
    """Logits over `TONALITIES`, [batch, 24]."""
    embedding: Tensor
    """Unit vectors, [batch, EMBEDDING_WIDTH]."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Predictions for one piece."""

    lead: str
    """Of `FAMILIES`."""
    lead_probabilities: np.ndarray
    """float32 [17]."""
    family_probabilities: np.ndarray
    """Presence of each family, float32 [17]."""
    tempo_bpm: float
    tonality: str
    tonality_probabilities: np.ndarray
    """float32 [24]."""
    embedding: np.ndarray
    """Unit vector, float32 [EMBEDDING_WIDTH]."""


class TimbreEncoder(nn.Module):
    """Log-mel spectrograms [batch, frame, band] -> features of timbre, [batch, trunk]."""

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
        """Every step is described by the mean, standard deviation and rise (attacks) of each
        band."""
        whole = mel[:, : mel.shape[1] // MOMENT_FRAMES * MOMENT_FRAMES]
        frames = whole.unflatten(1, (-1, MOMENT_FRAMES))
        rise = (frames[:, :, 1:] - frames[:, :, :-1]).clamp(min=0.0).sum(2)
        steps = torch.cat([frames.mean(2) - 1.5, 2.0 * frames.std(2), rise], dim=-1)
        hidden = self.moment(steps)
        pooled = torch.cat([hidden.mean(1), hidden.amax(1), hidden.std(1, unbiased=False)], dim=-1)
        return self.out(pooled)


class TempogramHead(nn.Module):
    """Tempograms [batch, width, candidate] and features of timbre -> logits [batch, tempo]."""

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
        self.prior = nn.Parameter(torch.zeros(TEXTURE_BASES, dtype=torch.float32))
        self.texture = nn.Linear(settings.trunk, TEXTURE_BASES)
        nn.init.zeros_(self.texture.weight)
        nn.init.zeros_(self.texture.bias)
        position = (torch.arange(len(TEMPI), dtype=torch.float32, device="cpu") + 0.5) / len(TEMPI)
        bases = torch.cos(
            torch.pi
            * torch.arange(1, TEXTURE_BASES + 1, dtype=torch.float32, device="cpu")[:, None]
            * position
        )
        self.register_buffer("bases", bases, persistent=False)

    def forward(self, tempogram: Tensor, trunk: Tensor) -> Tensor:
        bases = self.get_buffer("bases")
        logits = self.layers(F.avg_pool1d(tempogram, 2))[:, 0]
        return logits + (self.prior + self.texture(trunk)) @ bases


class KeyHead(nn.Module):
    """Chroma [batch, 4, 12] -> logits over keys [batch, 24], the same network for every tonic."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(48, 128), nn.GELU(), nn.Dropout(0.1), nn.Linear(128, 64), nn.GELU(),
            nn.Linear(64, 2),
        )  # fmt: skip

    def forward(self, chroma: Tensor) -> Tensor:
        rolled = torch.stack([chroma.roll(-tonic, dims=-1) for tonic in range(12)], dim=1)
        return self.layers((rolled * 12.0 - 1.0).flatten(2)).transpose(1, 2).flatten(1)


class SentenceEncoder(nn.Module):
    """Hashed sentences -> unit vectors; rows are flat, with the offset of each sentence."""

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
    """The network of the judge: the timbre encoder and all heads."""

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.timbre = TimbreEncoder(settings)
        self.lead = nn.Linear(settings.trunk, len(FAMILIES))
        self.families = nn.Linear(settings.trunk, len(FAMILIES))
        self.pulse = TempogramHead(settings)
        self.tonic = KeyHead()
        width = settings.trunk + len(TEMPI) // 4 + len(TONALITIES)
        self.sound = nn.Sequential(
            nn.Linear(width, 256), nn.GELU(), nn.Dropout(settings.dropout),
            nn.Linear(256, EMBEDDING_WIDTH),
        )  # fmt: skip
        self.words = SentenceEncoder(settings)
        self.log_scale = nn.Parameter(torch.tensor(2.3, dtype=torch.float32))

    def forward(self, mel: Tensor, tempogram: Tensor, chroma: Tensor) -> JudgeOutput:
        trunk = self.timbre(mel)
        tempo = self.pulse(tempogram, trunk.detach())
        tonality = self.tonic(chroma)
        likely = tempo.detach().softmax(-1)[:, None]
        coarse = 4.0 * F.avg_pool1d(likely, 4)[:, 0]
        facts = torch.cat([trunk, coarse * 3.0, tonality.detach().softmax(-1) * 3.0], dim=-1)
        return JudgeOutput(
            lead=self.lead(trunk),
            families=self.families(trunk),
            tempo=tempo,
            tonality=tonality,
            embedding=F.normalize(self.sound(facts), dim=-1),
        )


def flatten_rows(sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Hashed rows of all sentences, int64 [row], and the offset of each, int64 [sentence]."""
    rows = [hash_words(sentence) for sentence in sentences]
    starts = np.cumsum([0, *(len(row) for row in rows[:-1])])
    return torch.tensor(
        [entry for row in rows for entry in row], dtype=torch.long, device="cpu"
    ), torch.from_numpy(starts)


class Judge:
    """A trained judge in evaluation mode."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network.eval()

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with anything that a verdict depends on."""
        digest = hashlib.sha256(repr(self.network.settings).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.float().numpy().tobytes())
        return digest.hexdigest()[:12]

    @classmethod
    def read(cls, folder: Path) -> Judge:
        """Reads the weights in a folder of `melisma train judge`; `MelismaError` for anything
        else."""
        checkpoint = read_checkpoint(folder / CHECKPOINT_NAME, kind="judge")
        return cls(build_model(checkpoint, JudgeSettings, JudgeNetwork))

    def write(self, folder: Path, notes: dict[str, object]) -> None:
        """Writes the weights to a folder, which is created if missing, with `notes`."""
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
        """Predictions for each piece, one piece at a time."""
        return [self.judge(extract_features(waveform), waveform) for waveform in waveforms]

    @torch.no_grad()
    def judge(self, features: AudioFeatures, waveform: Waveform | None = None) -> Verdict:
        """Predictions from features.

        Args:
            features: Features of one piece.
            waveform: The sound itself, with which the tempo is refined to a fraction of 1 %.
        """
        output = self.network(
            torch.from_numpy(stack_mels([features])),
            torch.from_numpy(features.tempogram)[None],
            torch.from_numpy(features.chroma)[None],
        )
        tempo = float(TEMPI[int(output.tempo[0].argmax())])
        lead = output.lead[0].softmax(-1).numpy()
        tonality = output.tonality[0].softmax(-1).numpy()
        return Verdict(
            lead=FAMILIES[int(lead.argmax())],
            lead_probabilities=lead,
            family_probabilities=output.families[0].sigmoid().numpy(),
            tempo_bpm=tempo if waveform is None else refine_tempo(waveform, tempo),
            tonality=TONALITIES[int(tonality.argmax())],
            tonality_probabilities=tonality,
            embedding=output.embedding[0].numpy(),
        )

    @torch.no_grad()
    def read_words(self, sentences: Sequence[str]) -> np.ndarray:
        """Embeddings of sentences: unit vectors, float32 [sentence, EMBEDDING_WIDTH]."""
        return self.network.words(*flatten_rows(sentences)).numpy()
