"""Our own embeddings of sound, and embeddings by name.

Four kinds: `MusicTowerEmbedding`, the joint embedding of a Melisma model (the generator is
conditioned on it, so it may favour the generator's outputs); `JudgeEmbedding`, that of the
independent judge; `SignalStatistics`, which is not trained; and `hub_embedding.HubEmbedding`, a
public encoder. Distances in different embeddings, or under different fingerprints, are not
comparable. Inputs and outputs are those of `embedding.Embedding`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import final

import numpy as np
import torch

from melisma.evaluate.models import signal_features
from melisma.evaluate.models.audio_features import extract_features, stack_mels
from melisma.evaluate.models.embedding import HOP_SECONDS, WINDOW_SECONDS, Embedding
from melisma.evaluate.models.hub_embedding import read_hub_embedding
from melisma.evaluate.models.judge import EMBEDDING_WIDTH, Judge
from melisma.generation.resolve import model_folder
from melisma.joint import JointEmbedding, summarise
from melisma.semantic import SemanticTokenizer
from melisma.tokenizers import TokenizerPaths, pool_trunk_states, read_towers
from melisma.values import Waveform
from melisma.values.errors import MelismaError
from melisma.values.tokens import SAMPLE_RATE_HZ


@final
class MusicTowerEmbedding(Embedding):
    """The joint embedding of a Melisma model: unit vectors, `melisma.joint`."""

    kind = "MusicTower"

    def __init__(self, semantic: SemanticTokenizer, joint: JointEmbedding) -> None:
        self.semantic, self.joint = semantic, joint
        self.name, self.rate_hz = "music", SAMPLE_RATE_HZ
        self.window_seconds, self.hop_seconds = WINDOW_SECONDS, HOP_SECONDS
        self.width = joint.music.settings.joint_width

    @classmethod
    def read(cls, model: str = "default") -> MusicTowerEmbedding:
        """Reads the towers of a shipped model by name, or of a folder.

        Raises:
            MelismaError: If there is no such model; the message names those that exist.
        """
        return cls(*read_towers(TokenizerPaths.of(model_folder(model))))

    @property
    def weights_fingerprint(self) -> str:
        return f"{self.semantic.fingerprint} {self.joint.fingerprint}"

    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        sound = torch.from_numpy(windows)
        states = self.semantic.encode_states(sound)
        trunk = pool_trunk_states(states, 0, states.middle.shape[1])
        return self.joint.embed_music(summarise(sound).numpy(), trunk)


@final
class JudgeEmbedding(Embedding):
    """The independent judge's embedding of sound: unit vectors. Its training pieces, soundfonts,
    features and objective all differ from the generator's."""

    kind = "JudgeTower"

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.name, self.rate_hz = "judge", SAMPLE_RATE_HZ
        self.window_seconds, self.hop_seconds = WINDOW_SECONDS, HOP_SECONDS
        self.width = EMBEDDING_WIDTH

    @property
    def weights_fingerprint(self) -> str:
        return self.judge.fingerprint

    @torch.no_grad()
    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        features = [
            extract_features(Waveform(samples=one[None], rate_hz=self.rate_hz)) for one in windows
        ]
        output = self.judge.network(
            torch.from_numpy(stack_mels(features)),
            torch.from_numpy(np.stack([one.tempogram for one in features])),
            torch.from_numpy(np.stack([one.chroma for one in features])),
        )
        return output.embedding.numpy()


@final
class SignalStatistics(Embedding):
    """Features of signal processing, not trained; see `signal_features.py`."""

    kind = "SignalStatistics"

    def __init__(self) -> None:
        self.name, self.rate_hz = "signal", signal_features.RATE_HZ
        self.window_seconds, self.hop_seconds = WINDOW_SECONDS, HOP_SECONDS
        self.width = signal_features.FIGURES

    @property
    def weights_fingerprint(self) -> str:
        version = [signal_features.VERSION, signal_features.BLOCKS, signal_features.SCALES.tolist()]
        return hashlib.sha256(json.dumps(version).encode()).hexdigest()[:12]

    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        return np.stack([signal_features.signal_figures(one) for one in windows])


OWN_EMBEDDINGS = ("music", "judge", "signal")
"""Embeddings of a reference set, and of a card where no others are requested."""


def named_embedding(
    spec: str, *, model: str = "default", judge: Judge | Path | None = None
) -> Embedding:
    """Loads an embedding by its name.

    Args:
        spec: "music", "judge", "signal" or "hub:NAME_OR_FOLDER".
        model: The model whose music tower is "music".
        judge: A judge, or the folder of one; required for "judge".

    Raises:
        MelismaError: For another name, or where weights or packages are missing.
    """
    if spec == "music":
        return MusicTowerEmbedding.read(model)
    if spec == "signal":
        return SignalStatistics()
    if spec == "judge":
        if judge is None:
            raise MelismaError(
                'the embedding "judge" needs the folder of a judge: `melisma train judge` makes one'
            )
        return JudgeEmbedding(Judge.read(judge) if isinstance(judge, Path) else judge)
    if spec.startswith("hub:"):
        return read_hub_embedding(spec.removeprefix("hub:"))
    raise MelismaError(
        f'there is no embedding "{spec}": known are music, judge, signal and hub:NAME_OR_FOLDER'
    )
