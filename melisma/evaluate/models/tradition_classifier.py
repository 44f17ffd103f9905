"""Who might have written it: a judge of composers and traditions from the notes alone.

Twelve makers with enough pieces; a small network over the figures of `tradition_features.py`,
several of them trained from different beginnings and averaged. It is trained on real windows, a
class weighing as much as any other, and tells for a generated piece whether the style that was
asked for is recognised; its ceiling is the share right on real pieces that it has not seen.

Enters: figures with their makers. Leaves: a `TraditionClassifier`, written and read as a
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
from melisma.evaluate.models.tradition_features import WIDTH, score_windows, window_features
from melisma.files.checkpoint import Checkpoint, expect_fit, read_checkpoint, write_checkpoint
from melisma.values import Score

if TYPE_CHECKING:
    from melisma.data.sources.pieces import Source

CHECKPOINT_NAME = "makers.safetensors"
CHECKPOINT_KIND = "makers"
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
"""The classes; the order is that of the network's answers."""

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
"""Family names, as `values.composers` spells them, of the makers that are known by name."""

_BETWEEN = ("Zieleński",)
"""Of no maker here: his church music is Polish, and two centuries older than the rest."""


def class_of_composer(name: str | None) -> str | None:
    """The maker, one of `MAKERS`, that a composer's family name belongs to."""
    return next((maker for maker, names in _COMPOSERS.items() if name in names), None)


def class_of_source(source: Source) -> str | None:
    """The maker of a piece, one of `MAKERS`; None for music of other kinds."""
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
    """How the judge is built and trained."""

    hidden: int = 96
    """Width of the hidden layer."""
    dropout: float = 0.5
    """Of figures (half as much) and of the hidden layer."""
    members: int = 3
    """Networks whose answers are averaged."""
    updates: int = 500
    batch: int = 192
    rate: float = 2e-3
    """Highest learning rate; falls to 0 along a cosine."""
    decay: float = 0.05
    """Weight decay (AdamW)."""
    smoothing: float = 0.05
    """Label smoothing."""


class TraditionNetwork(nn.Module):
    """Standardised figures [batch, `WIDTH`] -> logits [batch, maker]."""

    def __init__(self, settings: TraditionSettings) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(settings.dropout / 2),
            nn.Linear(WIDTH, settings.hidden),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, len(TRADITION_CLASSES)),
        )

    def forward(self, figures: Tensor) -> Tensor:
        return self.layers(figures)


class TraditionClassifier:
    """Several networks with the mean and the spread of the figures they were trained on."""

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

    def probabilities(self, figures: np.ndarray) -> np.ndarray:
        """Of each maker, float64 [window, maker], for figures [window, `WIDTH`]."""
        scaled = torch.from_numpy(_standard(figures, self._mean, self._spread))
        with torch.inference_mode():
            answers = [network(scaled).softmax(dim=1) for network in self._networks]
        return torch.stack(answers).mean(dim=0).double().numpy()

    def judge(self, score: Score) -> np.ndarray | None:
        """Probability of each of `MAKERS`, float64 [maker], the windows of a piece together; None
        for a piece with too few notes."""
        figures = piece_figures(score)
        if not len(figures):
            return None
        together = np.exp(np.log(self.probabilities(figures) + 1e-6).mean(axis=0))
        return together / together.sum()

    def write(self, path: Path) -> None:
        """Writes the judge, whole or not at all; errors as `files.replacing`."""
        tensors = {
            f"{index}.{name}": value
            for index, network in enumerate(self._networks)
            for name, value in network.state_dict().items()
        }
        tensors["mean"] = torch.from_numpy(self._mean)
        tensors["spread"] = torch.from_numpy(self._spread)
        settings = dataclasses.asdict(self.settings) | {"makers": list(TRADITION_CLASSES)}
        write_checkpoint(path, Checkpoint(kind=CHECKPOINT_KIND, settings=settings, tensors=tensors))

    @classmethod
    def read(cls, path: Path) -> TraditionClassifier:
        """Reads what `write` wrote; `ValueError` with one sentence where it is something else."""
        checkpoint = read_checkpoint(path, kind=CHECKPOINT_KIND)
        with expect_fit(CHECKPOINT_KIND):
            settings = dict(checkpoint.settings)
            if tuple(settings.pop("makers")) != TRADITION_CLASSES:
                raise KeyError("other makers")
            built = TraditionSettings(**settings)
            networks = []
            for index in range(built.members):
                network = TraditionNetwork(built)
                network.load_state_dict(
                    {name: checkpoint.tensors[f"{index}.{name}"] for name in network.state_dict()}
                )
                networks.append(network)
            mean, spread = (checkpoint.tensors[name].numpy() for name in ("mean", "spread"))
        return cls(built, networks, mean, spread)


def _standard(figures: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.clip((figures - mean) / spread, -5.0, 5.0).astype(np.float32)


def piece_figures(score: Score, most: int | None = None) -> np.ndarray:
    """Figures of the windows of a piece, float32 [window, `WIDTH`]; of `most`, spread over it."""
    windows = score_windows(score)
    if most is not None and len(windows) > most:
        chosen = np.linspace(0, len(windows) - 1, most).round().astype(int)
        windows = [windows[index] for index in chosen]
    figures = [window_features(window) for window in windows]
    rows = [row for row in figures if row is not None]
    return np.stack(rows) if rows else np.zeros((0, WIDTH), dtype=np.float32)


def train_classifier(
    figures: np.ndarray,
    makers: np.ndarray,
    pieces: np.ndarray,
    seed: int,
    settings: TraditionSettings | None = None,
) -> TraditionClassifier:
    """A judge from figures [window, `WIDTH`], indices into `MAKERS` and of pieces [window] each.

    Makers are drawn equally often; a piece of n windows counts as the root of n. Raises
    `ValueError` for no window.
    """
    if not len(figures):
        raise ValueError("there is no window to learn makers from: give pieces with notes in them")
    settings = settings or TraditionSettings()
    mean = figures.mean(axis=0)
    # A figure that hardly ever differs from 0 must not become loud by being scaled.
    spread = np.maximum(figures.std(axis=0), 0.02).astype(np.float32)
    scaled = torch.from_numpy(_standard(figures, mean, spread))
    weights = torch.from_numpy(_balance(makers, pieces))
    truth = torch.from_numpy(np.asarray(makers, dtype=np.int64))
    networks = []
    for member in range(settings.members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + member)
            networks.append(_train_one(settings, scaled, truth, weights))
    return TraditionClassifier(settings, networks, mean, spread)


def _balance(makers: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Weight of each window in drawing, float64 [window]; each maker's sum to 1."""
    _, piece = np.unique(pieces, return_inverse=True)
    weight = 1.0 / np.bincount(piece)[piece] ** 0.5
    total = np.bincount(makers, weights=weight, minlength=len(TRADITION_CLASSES))
    return weight / total[makers]


def _train_one(
    settings: TraditionSettings, figures: Tensor, truth: Tensor, weights: Tensor
) -> TraditionNetwork:
    network = TraditionNetwork(settings)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.rate, weight_decay=settings.decay
    )
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.updates)
    network.train()
    for _ in range(settings.updates):
        drawn = torch.multinomial(weights, settings.batch, replacement=True)
        loss = F.cross_entropy(
            network(figures[drawn]), truth[drawn], label_smoothing=settings.smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plan.step()
    return network
