"""Classifier of composers and traditions from the notes alone: who might have written a piece.

Twelve classes with enough pieces; a small network over the features of `tradition_features.py`,
trained several times from different initial weights and averaged. It is trained on windows of real
pieces with all classes weighted equally, and says whether the requested tradition is recognised in
a generated piece; its accuracy on held-out real pieces is the ceiling.

Input: features with their classes. Output: a `TraditionClassifier`, written and read as a
checkpoint.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.data.sources.repertoire import source_composer, source_style
from melisma.evaluate.legacy_keys import TRADITIONS_KEY
from melisma.evaluate.models.tradition_features import WIDTH, score_windows, window_features
from melisma.files.checkpoint import (
    Checkpoint,
    build_model,
    read_checkpoint,
    tensor_of,
    write_checkpoint,
)
from melisma.values import Score
from melisma.values.errors import MelismaError

if TYPE_CHECKING:
    from melisma.data.sources.pieces import Source

CHECKPOINT_NAME = f"{TRADITIONS_KEY}.safetensors"
CHECKPOINT_KIND = TRADITIONS_KEY
TRADITION_CLASSES: tuple[str, ...] = (
    "baroque",
    "Viennese classics",
    "German romantics",
    "Chopin",
    "classical guitar",
    "ragtime",
    "Renaissance",
    "Polish church music",
    "hymns",
    "folk tunes",
    "game music",
    "impressionists",
)
"""The classes, in the order of the network's outputs."""

_COMPOSERS: dict[str, tuple[str, ...]] = {
    "baroque": (
        "Bach", "Handel", "Vivaldi", "Scarlatti", "Telemann", "Couperin", "Rameau", "Purcell",
        "Corelli", "Pachelbel", "Buxtehude", "Weiss",
    ),
    "Viennese classics": ("Haydn", "Mozart", "Beethoven", "Clementi"),
    "German romantics": ("Schubert", "Schumann", "Brahms", "Mendelssohn", "Franz", "Hensel"),
    "Chopin": ("Chopin",),
    "classical guitar": (
        "Sor", "Giuliani", "Carcassi", "Aguado", "Horetzky", "Mertz", "Carulli", "Coste", "Knjze",
        "Küffner", "Matiegka", "Tárrega",
    ),
    "ragtime": ("Joplin", "Turpin"),
    "Renaissance": (
        "Monte", "Victoria", "Palestrina", "Lassus", "Tallis", "Byrd", "Dowland", "Josquin",
        "Gesualdo", "Gibbons", "Milán",
    ),
    "impressionists": ("Debussy", "Ravel", "Satie"),
}  # fmt: skip
"""Class -> family names of its composers, as `values.composers` spells them."""

_BETWEEN = ("Zieleński",)
"""In no class: his church music is Polish, and two centuries older than the rest of that class."""


def class_of_composer(name: str | None) -> str | None:
    """The class, one of `TRADITION_CLASSES`, of a composer by family name; None for others."""
    return next((tradition for tradition, names in _COMPOSERS.items() if name in names), None)


def class_of_source(source: Source) -> str | None:
    """The class of a piece, one of `TRADITION_CLASSES`; None for music of other kinds."""
    text = f"{source.title or ''} {source.style or ''}"
    if re.search(r"\brags?\b|ragtime", text, re.IGNORECASE):
        return "ragtime"
    composer = source_composer(source)
    if source.corpus in ("groove", "drum_patterns") or composer in _BETWEEN:
        return None
    named = class_of_composer(composer)
    if named is not None:
        return named
    style = source_style(source, None)
    if source.corpus == "polish_scores":
        return {"church": "Polish church music", "folk": "folk tunes"}.get(style or "")
    if source.corpus == "mutopia" and style == "church":
        return "hymns"
    return {"renaissance": "Renaissance", "folk": "folk tunes", "game": "game music"}.get(
        style or ""
    )


@dataclass(frozen=True, kw_only=True)
class TraditionSettings:
    """Sizes and training settings of the classifier."""

    hidden: int = 96
    """Width of the hidden layer."""
    dropout: float = 0.5
    """Of the features (half as much) and of the hidden layer."""
    members: int = 3
    """Networks whose probabilities are averaged."""
    updates: int = 500
    batch: int = 192
    rate: float = 2e-3
    """Peak learning rate; decays to 0 along a cosine."""
    decay: float = 0.05
    """Weight decay (AdamW)."""
    smoothing: float = 0.05
    """Label smoothing."""


class TraditionNetwork(nn.Module):
    """Standardised features [batch, `WIDTH`] -> logits [batch, class]."""

    def __init__(self, settings: TraditionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.Sequential(
            nn.Dropout(settings.dropout / 2),
            nn.Linear(WIDTH, settings.hidden),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, len(TRADITION_CLASSES)),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class TraditionClassifier:
    """An ensemble of networks, with the mean and standard deviation of its training features."""

    def __init__(
        self,
        settings: TraditionSettings,
        networks: Sequence[TraditionNetwork],
        mean: np.ndarray,
        spread: np.ndarray,
    ) -> None:
        self.settings = settings
        self._networks = [network.eval() for network in networks]
        self._mean, self._spread = mean, spread

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of each class, float64 [window, class], for features [window, `WIDTH`]."""
        scaled = torch.from_numpy(_standardised(features, self._mean, self._spread))
        with torch.inference_mode():
            outputs = [network(scaled).softmax(dim=1) for network in self._networks]
        return torch.stack(outputs).mean(dim=0).double().numpy()

    def judge(self, score: Score) -> np.ndarray | None:
        """Probability of each of `TRADITION_CLASSES` for a whole piece.

        Returns:
            float64 [class], the normalised geometric mean over windows; None for a piece with too
            few notes.
        """
        features = piece_features(score)
        if not len(features):
            return None
        together = np.exp(np.log(self.probabilities(features) + 1e-6).mean(axis=0))
        return together / together.sum()

    def write(self, path: Path) -> None:
        """Writes the checkpoint atomically; errors as `files.atomic_write`."""
        tensors = {
            f"{index}.{name}": value
            for index, network in enumerate(self._networks)
            for name, value in network.state_dict().items()
        }
        tensors["mean"] = torch.from_numpy(self._mean)
        tensors["spread"] = torch.from_numpy(self._spread)
        settings = dataclasses.asdict(self.settings) | {TRADITIONS_KEY: list(TRADITION_CLASSES)}
        write_checkpoint(path, Checkpoint(kind=CHECKPOINT_KIND, settings=settings, tensors=tensors))

    @classmethod
    def read(cls, path: Path) -> TraditionClassifier:
        """Reads a checkpoint of `write`; `MelismaError` for anything else, or other classes."""
        checkpoint = read_checkpoint(path, kind=CHECKPOINT_KIND)
        settings = dict(checkpoint.settings)
        if settings.pop(TRADITIONS_KEY, None) != list(TRADITION_CLASSES):
            raise MelismaError(
                f"{path} tells other traditions apart than this version: train it again"
            )
        checkpoint = dataclasses.replace(checkpoint, settings=settings)
        networks = [build_model(checkpoint, TraditionSettings, TraditionNetwork, prefix="0.")]
        built = networks[0].settings
        for index in range(1, built.members):
            prefix = f"{index}."
            networks.append(
                build_model(checkpoint, TraditionSettings, TraditionNetwork, prefix=prefix)
            )
        mean, spread = (
            tensor_of(checkpoint, name, (WIDTH,)).numpy() for name in ("mean", "spread")
        )
        return cls(built, networks, mean, spread)


def _standardised(features: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.clip((features - mean) / spread, -5.0, 5.0).astype(np.float32)


def piece_features(score: Score, most: int | None = None) -> np.ndarray:
    """Features of the windows of a piece.

    Args:
        score: The piece.
        most: Largest number of windows; where there are more, that many evenly over the piece.

    Returns:
        float32 [window, `WIDTH`]; windows that hold too little are left out.
    """
    windows = score_windows(score)
    if most is not None and len(windows) > most:
        chosen = np.linspace(0, len(windows) - 1, most).round().astype(int)
        windows = [windows[index] for index in chosen]
    features = [window_features(window) for window in windows]
    rows = [row for row in features if row is not None]
    return np.stack(rows) if rows else np.zeros((0, WIDTH), dtype=np.float32)


def train_classifier(
    features: np.ndarray,
    classes: np.ndarray,
    pieces: np.ndarray,
    seed: int,
    settings: TraditionSettings | None = None,
) -> TraditionClassifier:
    """Trains a classifier; classes are sampled equally often, a piece of n windows counts as the
    root of n.

    Args:
        features: float32 [window, `WIDTH`].
        classes: Index into `TRADITION_CLASSES` of each window, int [window].
        pieces: Piece of each window, int [window].
        seed: Of initial weights and batches.
        settings: Sizes and training settings; by default `TraditionSettings()`.

    Raises:
        MelismaError: If there is no window.
    """
    if not len(features):
        raise MelismaError("there is no window to train on: give pieces with notes in them")
    settings = settings or TraditionSettings()
    mean = features.mean(axis=0)
    # A feature that is almost always 0 must not be amplified by the scaling.
    spread = np.maximum(features.std(axis=0), 0.02).astype(np.float32)
    scaled = torch.from_numpy(_standardised(features, mean, spread))
    weights = torch.from_numpy(_balance(classes, pieces))
    truth = torch.from_numpy(np.asarray(classes, dtype=np.int64))
    networks = []
    for member in range(settings.members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + member)
            networks.append(_train_one(settings, scaled, truth, weights))
    return TraditionClassifier(settings, networks, mean, spread)


def _balance(classes: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Sampling weight of each window, float64 [window]; those of each class sum to 1."""
    _, piece = np.unique(pieces, return_inverse=True)
    weight = 1.0 / np.bincount(piece)[piece] ** 0.5
    total = np.bincount(classes, weights=weight, minlength=len(TRADITION_CLASSES))
    return weight / total[classes]


def _train_one(
    settings: TraditionSettings, features: Tensor, truth: Tensor, weights: Tensor
) -> TraditionNetwork:
    network = TraditionNetwork(settings)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.rate, weight_decay=settings.decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.updates)
    network.train()
    for _ in range(settings.updates):
        sampled = torch.multinomial(weights, settings.batch, replacement=True)
        loss = F.cross_entropy(
            network(features[sampled]), truth[sampled], label_smoothing=settings.smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network
