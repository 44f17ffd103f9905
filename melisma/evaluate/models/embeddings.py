"""Embeddings of sound for Fréchet distances: windows of a piece -> vectors.

Four kinds: `MusicTowerEmbedding`, the joint embedding of a Melisma model (the generator is
conditioned by it, so it knows the material and may flatter); `JudgeEmbedding`, the independent
judge's; `SignalStatistics`, trained on nothing; and `hub_embedding.HubEmbedding`, a public encoder.
Figures of different embeddings, or fingerprints, cannot be compared.

Enters: a `Waveform` of any rate, one or two channels, any length above 0. It is mixed to mono (mean
of the channels), resampled (soxr, high quality) and brought to `LEVEL_LUFS` as a whole; silence
stays silence. Leaves: float32 [window, width], windows in order; the first begins with the piece,
the others each a hop later, as many as fit. Sound shorter than a window is one window that ends in
silence; a tail shorter than a hop is not heard.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import final

import numpy as np
import soxr
import torch

from melisma.evaluate.models import signal_features
from melisma.evaluate.models.audio_features import extract_features, stack_mels
from melisma.evaluate.models.judge import EMBEDDING_WIDTH, Judge
from melisma.generation.loading import model_folder
from melisma.joint import Joint, summarise
from melisma.semantic import SemanticTokenizer
from melisma.sound.loudness import integrated_lufs
from melisma.tokenizers import TokenizerPaths, read_towers, trunk_states
from melisma.values import Waveform
from melisma.values.tokens import SAMPLE_RATE_HZ

LEVEL_LUFS = -20.0
"""Level at which every embedding hears (the median of the renders that the music tower learned
from; nothing is clamped, so peaks may pass 1)."""
WINDOW_SECONDS = 5.0
HOP_SECONDS = 2.5
"""Windows of our own embeddings (chosen: three in ten seconds, so that a piece has a spread of its
own. The music tower learned from ten seconds, the judge from ten and from shorter crops; of 60
clips the first five seconds are as similar to the whole as .92 and .97, to other clips .03 and .10,
and the mean over all moves by a sixth and a third of what halves of the clips differ by)."""


class Embedding(ABC):
    """A frozen ear. `embed` is what callers use; the others say what it is."""

    kind: str
    """What its fingerprint calls it."""
    name: str
    """Short and steady: "music", "judge", "signal" or "hub:..."."""
    rate_hz: int
    window_seconds: float
    hop_seconds: float
    width: int
    """Numbers per window."""

    @property
    @abstractmethod
    def decided_by(self) -> str:
        """Weights or constants that decide the vectors, as a hash."""

    @abstractmethod
    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        """Mono windows at the embedding's rate and level, float32 [window, sample] -> float32
        [window, width]."""

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with anything that decides the vectors."""
        what = [
            self.kind, self.rate_hz, self.window_seconds, self.hop_seconds, self.width,
            LEVEL_LUFS, self.decided_by,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]

    @final
    def embed(self, waveform: Waveform) -> np.ndarray:
        """Vectors of a piece's windows, float32 [window, width]. `ValueError` for no sound."""
        windows = self._windows(waveform)
        vectors = self.embed_windows(windows)
        assert vectors.shape == (len(windows), self.width)
        return vectors.astype(np.float32)

    def _windows(self, waveform: Waveform) -> np.ndarray:
        mono = waveform.mono
        if waveform.rate_hz != self.rate_hz and len(mono):
            mono = soxr.resample(mono, waveform.rate_hz, self.rate_hz, quality="HQ")
        if not len(mono):
            raise ValueError("there is no sound to embed: the piece is empty")
        lufs = integrated_lufs(Waveform(samples=mono[None], rate_hz=self.rate_hz))
        gain = 0.0 if lufs is None else 10.0 ** ((LEVEL_LUFS - lufs) / 20.0)
        samples = (mono * gain).astype(np.float32)
        length = round(self.window_seconds * self.rate_hz)
        hop = round(self.hop_seconds * self.rate_hz)
        samples = np.pad(samples, (0, max(length - len(samples), 0)))
        return np.lib.stride_tricks.sliding_window_view(samples, length)[::hop].copy()


@final
class MusicTowerEmbedding(Embedding):
    """The joint embedding of a Melisma model: unit vectors, `melisma.joint`."""

    kind = "MusicTower"

    def __init__(self, semantic: SemanticTokenizer, joint: Joint) -> None:
        self.semantic, self.joint = semantic, joint
        self.name, self.rate_hz = "music", SAMPLE_RATE_HZ
        self.window_seconds, self.hop_seconds = WINDOW_SECONDS, HOP_SECONDS
        self.width = joint.music.settings.joint_width

    @classmethod
    def read(cls, model: str = "default") -> MusicTowerEmbedding:
        """Of a shipped model by name, or of a folder; `ValueError` says what there is."""
        return cls(*read_towers(TokenizerPaths.of(model_folder(model))))

    @property
    def decided_by(self) -> str:
        return f"{self.semantic.fingerprint} {self.joint.fingerprint}"

    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        sound = torch.from_numpy(windows)
        heard = self.semantic.encode_states(sound)
        trunk = trunk_states(heard, 0, heard.middle.shape[1])
        return self.joint.embed_music(summarise(sound).numpy(), trunk)


@final
class JudgeEmbedding(Embedding):
    """The independent judge's embedding of sound: unit vectors. It has other pieces, soundfonts,
    features and another objective than the generator."""

    kind = "JudgeTower"

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.name, self.rate_hz = "judge", SAMPLE_RATE_HZ
        self.window_seconds, self.hop_seconds = WINDOW_SECONDS, HOP_SECONDS
        self.width = EMBEDDING_WIDTH

    @property
    def decided_by(self) -> str:
        return self.judge.fingerprint

    @torch.no_grad()
    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        heard = [
            extract_features(Waveform(samples=one[None], rate_hz=self.rate_hz)) for one in windows
        ]
        reading = self.judge.network(
            torch.from_numpy(stack_mels(heard)),
            torch.from_numpy(np.stack([one.tempogram for one in heard])),
            torch.from_numpy(np.stack([one.chroma for one in heard])),
        )
        return reading.embedding.numpy()


@final
class SignalStatistics(Embedding):
    """Figures of signal processing, trained on nothing; `signal_features.py` says which."""

    kind = "SignalStatistics"

    def __init__(self) -> None:
        self.name, self.rate_hz = "signal", signal_features.RATE_HZ
        self.window_seconds, self.hop_seconds = WINDOW_SECONDS, HOP_SECONDS
        self.width = signal_features.FIGURES

    @property
    def decided_by(self) -> str:
        version = [signal_features.VERSION, signal_features.BLOCKS, signal_features.SCALES.tolist()]
        return hashlib.sha256(json.dumps(version).encode()).hexdigest()[:12]

    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        return np.stack([signal_features.signal_figures(one) for one in windows])


OWN_EMBEDDINGS = ("music", "judge", "signal")
"""Those that a reference set is measured by, and a card if no others are asked for."""


def named_embedding(
    spec: str, *, model: str = "default", judge: Judge | Path | None = None
) -> Embedding:
    """The embedding called "music", "judge", "signal" or "hub:NAME_OR_FOLDER".

    `model`: whose music tower; `judge`: a judge or the folder of one, needed for "judge". Raises
    `ValueError` for other names and for what is missing.
    """
    if spec == "music":
        return MusicTowerEmbedding.read(model)
    if spec == "signal":
        return SignalStatistics()
    if spec == "judge":
        if judge is None:
            raise ValueError(
                'the embedding "judge" needs the folder of a judge: `melisma train judge` makes one'
            )
        return JudgeEmbedding(Judge.read(judge) if isinstance(judge, Path) else judge)
    if spec.startswith("hub:"):
        # Late, because it builds on this file.
        from melisma.evaluate.models.hub_embedding import read_hub_embedding

        return read_hub_embedding(spec.removeprefix("hub:"))
    raise ValueError(
        f'there is no embedding "{spec}": known are music, judge, signal and hub:NAME_OR_FOLDER'
    )
