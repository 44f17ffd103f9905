"""Stage one of the joint ear: the text tower learns language before it hears any music.

Two teachers at once. A pretrained sentence encoder says where each sentence lies among all others
(its outputs are imitated: Reimers and Gurevych, 2004.09813), so that words which no caption uses
still land near their kin; and sentences whose truth is known teach the attribute heads. Sentences
without truth get what a small head on the *encoder's* vectors makes of them, at a lower weight.

Enters: `TextRows`. Leaves: a `TextTower` and its tokenizer in one checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.joint.attributes import ROW_WIDTH, attribute_loss, probabilities
from melisma.joint.text_tower import TextReading, TextTower, TextTowerSettings
from melisma.joint.tokenizer import encode_words, pad_tokens
from melisma.nn.precision import autocast
from melisma.train.datasets.text import TextRows, accuracies
from melisma.train.initialization.token_vectors import start_from_bags
from melisma.train.loop import LoopSettings, Run, Task, generator_of

ATTRIBUTE_WEIGHTS: tuple[float, ...] = (1.0, 1.0, 0.5, 1.0, 1.0, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5)
"""Weight of each attribute's loss, in the order of `ATTRIBUTES` (chosen: sums over many classes
weigh less, coarse classes too)."""


@dataclass(frozen=True, kw_only=True)
class TextTraining:
    """A whole run of stage one."""

    tower: TextTowerSettings = field(default_factory=TextTowerSettings)
    """The network."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(updates=3_000, learning_rate=1e-3, weight_decay=0.05)
    )
    """How long and how fast."""
    batch: int = 256
    """Sentences of one update."""
    imitation_weight: float = 6.0
    """Weight of one minus the cosine to the sentence encoder's vector."""
    attribute_weight: float = 0.3
    """Weight of the attributes' cross-entropies."""
    pseudo_weight: float = 0.3
    """How far a label by the head on the encoder's vectors counts as known."""
    head_updates: int = 1_500
    """Updates of that head, which learns first."""
    device: str = "cpu"
    """Where to train."""


class BatchPlan:
    """Which rows each update sees: every row once an epoch, rows of similar length together."""

    POOL = 40
    """Batches that are sorted by length together."""

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch = batch
        self.seed = seed
        self.each_epoch = max(len(self.lengths) // batch, 1)
        self._epoch = -1
        self._batches: list[np.ndarray] = []

    def picks(self, number: int) -> np.ndarray:
        """Row numbers of update `number`."""
        epoch, index = divmod(number, self.each_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffle(epoch)
        return self._batches[index]

    def _shuffle(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.lengths))
        cut: list[np.ndarray] = []
        for start in range(0, len(order), self.batch * self.POOL):
            pool = order[start : start + self.batch * self.POOL]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            whole = max(len(pool) // self.batch, 1 if not cut else 0)
            cut += [pool[i * self.batch : (i + 1) * self.batch] for i in range(whole)]
        return [cut[int(i)] for i in rng.permutation(len(cut))[: self.each_epoch]]


class TeacherHead(nn.Module):
    """Attributes read from the sentence encoder's own vectors; used only to label sentences."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(width, 512), nn.GELU(), nn.Dropout(0.3),
            nn.Linear(512, ROW_WIDTH),
        )  # fmt: skip

    def forward(self, vectors: Tensor) -> Tensor:
        """Unit vectors [batch, 384] -> logits [batch, 150]."""
        return self.layers(vectors * math.sqrt(vectors.shape[-1]))


def fit_teacher_head(rows: TextRows, seed: int, updates: int) -> TeacherHead:
    """Learns the head from the rows of which at least one attribute is known."""
    generator = generator_of(seed, 0, "teacher head")
    torch.manual_seed(seed)
    some = np.flatnonzero((rows.known.sum(axis=1) > 0) & rows.vectors.any(axis=1))
    head = TeacherHead(rows.vectors.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        picks = some[torch.randint(len(some), (512,), generator=generator).numpy()]
        vectors, targets, known = row_tensors(rows, picks)
        loss = attribute_loss(head(vectors), targets, known, ATTRIBUTE_WEIGHTS).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def pseudo_labelled(rows: TextRows, head: TeacherHead, weight: float) -> TextRows:
    """The same rows; where nothing was known, what the head says, known to `weight`."""
    targets, known = rows.targets.copy(), rows.known.copy()
    none = np.flatnonzero(known.sum(axis=1) == 0)
    for start in range(0, len(none), 4_096):
        part = none[start : start + 4_096]
        said = probabilities(head(torch.from_numpy(rows.vectors[part]).float()))
        targets[part] = said.numpy().astype(np.float16)
        known[part] = weight
    return dataclasses.replace(rows, targets=targets, known=known)


def row_tensors(rows: TextRows, picks: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """(teacher vectors [row, 384], targets [row, 150], known [row, 11]), float32."""
    return (
        torch.from_numpy(rows.vectors[picks]).float(),
        torch.from_numpy(rows.targets[picks]).float(),
        torch.from_numpy(rows.known[picks]).float(),
    )


class TextTask(Task):
    """The text tower under two teachers."""

    kind = "text"

    def __init__(
        self,
        settings: TextTraining,
        rows: TextRows,
        tokenizer: Tokenizer,
        held: Mapping[str, TextRows],
    ) -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.held = held
        torch.manual_seed(settings.loop.seed)
        self.tower = TextTower(settings.tower).to(settings.device)
        self.rows = rows
        self.encoded = encode_words(tokenizer, rows.sentences)
        if rows.vectors.any():  # a chain at toy size does without the sentence encoder
            head = fit_teacher_head(rows, settings.loop.seed, settings.head_updates)
            self.rows = pseudo_labelled(rows, head, settings.pseudo_weight)
            start_from_bags(self.tower, self.encoded, rows.vectors)
        self.plan = BatchPlan(
            [len(ids) for ids in self.encoded], settings.batch, settings.loop.seed
        )

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return {"text": self.tower}

    def settings_tree(self) -> dict[str, Any]:
        return dataclasses.asdict(self.settings.tower)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        del generator  # the plan decides the rows
        picks = self.plan.picks(number)
        device = self.settings.device
        tokens, present = pad_tokens([self.encoded[int(i)] for i in picks])
        vectors, targets, known = (t.to(device) for t in row_tensors(self.rows, picks))
        self.tower.train()
        with autocast(device):
            reading = self.tower(tokens.to(device), present.to(device))
        distance, attributes = text_losses(reading, vectors, targets, known)
        total = (
            self.settings.imitation_weight * distance
            + self.settings.attribute_weight * attributes.sum()
        )
        figures = {"imitation": distance.item(), "attributes": attributes.sum().item()}
        return {"text": total}, figures

    def judge(self, averaged: nn.Module) -> dict[str, float]:
        assert isinstance(averaged, TextTower)
        figures = {}
        for name, rows in self.held.items():
            read, cosine = read_rows(averaged, self.tokenizer, rows)
            hits = accuracies(read, rows.targets, rows.known)
            figures |= {f"{name}/{k}": v for k, v in ({"imitation": cosine} | hits).items()}
        return figures


def text_losses(
    reading: TextReading, vectors: Tensor, targets: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    """(mean of one minus the cosine to the teacher, attribute losses [11]).

    Rows whose teacher vector is zero do not count in the first.
    """
    asked = vectors.abs().sum(dim=-1) > 0
    away = (1.0 - (reading.imitation * vectors).sum(dim=-1)) * asked
    distance = away.sum() / asked.sum().clamp(min=1)
    return distance, attribute_loss(reading.logits, targets, known, ATTRIBUTE_WEIGHTS)


@torch.no_grad()
def read_rows(tower: TextTower, tokenizer: Tokenizer, rows: TextRows) -> tuple[np.ndarray, float]:
    """(attribute probabilities float32 [row, 150], mean cosine to the sentence encoder)."""
    device = next(tower.parameters()).device
    encoded = encode_words(tokenizer, rows.sentences)
    order = np.argsort([len(ids) for ids in encoded], kind="stable")
    read, cosines = np.zeros((len(rows), ROW_WIDTH), np.float32), []
    for start in range(0, len(order), 256):
        part = order[start : start + 256]
        tokens, present = pad_tokens([encoded[int(i)] for i in part])
        reading = tower(tokens.to(device), present.to(device))
        read[part] = probabilities(reading.logits).cpu().numpy()
        vectors = torch.from_numpy(rows.vectors[part]).float()
        cosines.append((reading.imitation.cpu() * vectors).sum(dim=-1))
    return read, float(torch.cat(cosines).mean())


def train_text(
    settings: TextTraining,
    rows: TextRows,
    tokenizer: Tokenizer,
    folder: Path,
    held: Mapping[str, TextRows],
) -> TextTower:
    """Trains or resumes in `folder`; writes `text.safetensors` there and returns the tower."""
    task = TextTask(settings, rows, tokenizer, held)
    run = Run(task, settings.loop, folder)
    run.resume()
    checkpoint = run.run()
    tower = TextTower(settings.tower)
    tower.load_state_dict(checkpoint.tensors)
    write_text(folder / "text.safetensors", tower, tokenizer)
    return tower.eval()


def write_text(path: Path, tower: TextTower, tokenizer: Tokenizer) -> None:
    """A text tower alone, with its tokenizer."""
    tensors = dict(tower.state_dict())
    words = np.frombuffer(tokenizer.to_str().encode("utf-8"), dtype=np.uint8).copy()
    tensors["tokenizer"] = torch.from_numpy(words)
    settings = dataclasses.asdict(tower.settings)
    write_checkpoint(path, Checkpoint(kind="text", settings=settings, tensors=tensors))


def read_text(path: Path) -> tuple[TextTower, Tokenizer]:
    """What `write_text` wrote."""
    checkpoint = read_checkpoint(path, kind="text")
    tensors = dict(checkpoint.tensors)
    words = tensors.pop("tokenizer").numpy().tobytes().decode("utf-8")
    tower = TextTower(TextTowerSettings(**checkpoint.settings))
    tower.load_state_dict(tensors)
    return tower.eval(), Tokenizer.from_str(words)
