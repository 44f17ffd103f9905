"""Training of the joint embedding, stage one: the text tower alone, on sentences without music.

Two losses: distillation of a pretrained sentence encoder (Reimers and Gurevych, 2004.09813), so
that words which no caption uses are embedded near similar ones; and attribute classification of
sentences with known attributes. Sentences without labels get pseudo-labels from a small head on the
*encoder's* vectors, at a lower weight.

Input: `TextRows`. Output: a `TextTower` and its tokenizer in one checkpoint.
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
from melisma.joint.text_tower import TextTower, TextTowerOutput, TextTowerSettings
from melisma.joint.tokenizer import encode_words, pad_tokens
from melisma.nn.precision import autocast
from melisma.train.datasets.text import TextRows, accuracies
from melisma.train.initialization.fingerprint import other_settings
from melisma.train.initialization.memory import built
from melisma.train.initialization.token_vectors import start_from_bags
from melisma.train.loop import LoopSettings, Run, Task, generator_of

ATTRIBUTE_WEIGHTS: tuple[float, ...] = (1.0, 1.0, 0.5, 1.0, 1.0, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5)
"""Weight of each attribute's loss, in the order of `ATTRIBUTES` (chosen: lower for sums over many
classes and for coarse classes)."""


@dataclass(frozen=True, kw_only=True)
class TextTraining:
    """Settings of a training of stage one."""

    tower: TextTowerSettings = field(default_factory=TextTowerSettings)
    """Of the network."""
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(updates=3_000, learning_rate=1e-3, weight_decay=0.05)
    )
    """Of the training loop."""
    batch: int = 256
    """Sentences per update."""
    imitation_weight: float = 6.0
    """Weight of one minus the cosine to the sentence encoder's vector."""
    attribute_weight: float = 0.3
    """Weight of the attributes' cross-entropies."""
    pseudo_weight: float = 0.3
    """Weight of pseudo-labels relative to labels."""
    head_updates: int = 1_500
    """Updates of the head that makes the pseudo-labels."""
    device: str = "cpu"
    """Device of the training."""


class BatchPlan:
    """Batch sampler: every row once per epoch, rows of similar length in one batch."""

    POOL = 40
    """Number of batches that are sorted by length together."""

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch: int, seed: int) -> None:
        """
        Args:
            lengths: of each row, in any unit.
            batch: rows of a batch.
            seed: of the shuffling.
        """
        self.lengths = np.asarray(lengths)
        self.batch = batch
        self.seed = seed
        self.each_epoch = max(len(self.lengths) // batch, 1)
        self._epoch = -1
        self._batches: list[np.ndarray] = []

    def picks(self, number: int) -> np.ndarray:
        """Row indices of update `number`, int64 [row]."""
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
    """Attribute classifier on the sentence encoder's vectors, for pseudo-labels only."""

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
    """Trains the head on the rows with at least one known attribute."""
    generator = generator_of(seed, 0, "teacher head")
    torch.manual_seed(seed)
    labelled = np.flatnonzero((rows.known.sum(axis=1) > 0) & rows.vectors.any(axis=1))
    head = TeacherHead(rows.vectors.shape[1])
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        picks = labelled[torch.randint(len(labelled), (512,), generator=generator).numpy()]
        vectors, targets, known = row_tensors(rows, picks)
        loss = attribute_loss(head(vectors), targets, known, ATTRIBUTE_WEIGHTS).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def pseudo_labelled(rows: TextRows, head: TeacherHead, weight: float) -> TextRows:
    """Adds pseudo-labels of the head, known to the degree `weight`, to rows without labels."""
    targets, known = rows.targets.copy(), rows.known.copy()
    unlabelled = np.flatnonzero(known.sum(axis=1) == 0)
    for start in range(0, len(unlabelled), 4_096):
        part = unlabelled[start : start + 4_096]
        predicted = probabilities(head(torch.from_numpy(rows.vectors[part]).float()))
        targets[part] = predicted.numpy().astype(np.float16)
        known[part] = weight
    return dataclasses.replace(rows, targets=targets, known=known)


def row_tensors(rows: TextRows, picks: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """(sentence encoder's vectors [row, 384], targets [row, 150], known [row, 11]) of the rows with
    the indices `picks`, float32."""
    return (
        torch.from_numpy(rows.vectors[picks]).float(),
        torch.from_numpy(rows.targets[picks]).float(),
        torch.from_numpy(rows.known[picks]).float(),
    )


class TextTask(Task):
    """Distillation and attribute classification of the text tower."""

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
        self.tower = built(lambda: TextTower(settings.tower), settings.device)
        self.rows = rows
        self.encoded = encode_words(tokenizer, rows.sentences)
        if rows.vectors.any():  # the toy size has no sentence encoder
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

    def training_settings(self) -> dict[str, Any]:
        return other_settings(self.settings, self.rows)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        del generator  # the batch plan chooses the rows
        picks = self.plan.picks(number)
        device = self.settings.device
        tokens, present = pad_tokens([self.encoded[int(i)] for i in picks])
        vectors, targets, known = (t.to(device) for t in row_tensors(self.rows, picks))
        self.tower.train()
        with autocast(device):
            output = self.tower(tokens.to(device), present.to(device))
        distance, attributes = text_losses(output, vectors, targets, known)
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
            predicted, cosine = read_rows(averaged, self.tokenizer, rows)
            hits = accuracies(predicted, rows.targets, rows.known)
            figures |= {f"{name}/{k}": v for k, v in ({"imitation": cosine} | hits).items()}
        return figures


def text_losses(
    output: TextTowerOutput, vectors: Tensor, targets: Tensor, known: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses of the text tower.

    Args:
        output: of the text tower, for a batch of rows.
        vectors: the sentence encoder's unit vectors [row, 384]; rows of zeros are ignored.
        targets: attribute probabilities [row, 150].
        known: degrees to which each attribute is known [row, 11].

    Returns:
        (mean of one minus the cosine to the sentence encoder's vector, attribute losses [11]).
    """
    encoded = vectors.abs().sum(dim=-1) > 0
    distances = (1.0 - (output.imitation * vectors).sum(dim=-1)) * encoded
    distance = distances.sum() / encoded.sum().clamp(min=1)
    return distance, attribute_loss(output.logits, targets, known, ATTRIBUTE_WEIGHTS)


@torch.no_grad()
def read_rows(tower: TextTower, tokenizer: Tokenizer, rows: TextRows) -> tuple[np.ndarray, float]:
    """(attribute probabilities float32 [row, 150], mean cosine to the sentence encoder's vectors)
    of the text tower, in the order of the rows."""
    device = next(tower.parameters()).device
    encoded = encode_words(tokenizer, rows.sentences)
    order = np.argsort([len(ids) for ids in encoded], kind="stable")
    predicted, cosines = np.zeros((len(rows), ROW_WIDTH), np.float32), []
    for start in range(0, len(order), 256):
        part = order[start : start + 256]
        tokens, present = pad_tokens([encoded[int(i)] for i in part])
        output = tower(tokens.to(device), present.to(device))
        predicted[part] = probabilities(output.logits).cpu().numpy()
        vectors = torch.from_numpy(rows.vectors[part]).float()
        cosines.append((output.imitation.cpu() * vectors).sum(dim=-1))
    return predicted, float(torch.cat(cosines).mean())


def train_text(
    settings: TextTraining,
    rows: TextRows,
    tokenizer: Tokenizer,
    folder: Path,
    held: Mapping[str, TextRows],
) -> TextTower:
    """Runs or resumes the training of the text tower.

    Args:
        settings: of the training.
        rows: training sentences.
        tokenizer: of the text tower.
        folder: of the training state; the result is written there as `text.safetensors`.
        held: sets of held-out sentences by name.
    """
    task = TextTask(settings, rows, tokenizer, held)
    run = Run(task, settings.loop, folder)
    run.resume()
    checkpoint = run.run()
    tower = TextTower(settings.tower)
    tower.load_state_dict(checkpoint.tensors)
    write_text(folder / "text.safetensors", tower, tokenizer)
    return tower.eval()


def write_text(path: Path, tower: TextTower, tokenizer: Tokenizer) -> None:
    """Writes a text tower with its tokenizer as a checkpoint."""
    tensors = dict(tower.state_dict())
    words = np.frombuffer(tokenizer.to_str().encode("utf-8"), dtype=np.uint8).copy()
    tensors["tokenizer"] = torch.from_numpy(words)
    settings = dataclasses.asdict(tower.settings)
    write_checkpoint(path, Checkpoint(kind="text", settings=settings, tensors=tensors))


def read_text(path: Path) -> tuple[TextTower, Tokenizer]:
    """Reads a checkpoint that `write_text` wrote."""
    checkpoint = read_checkpoint(path, kind="text")
    tensors = dict(checkpoint.tensors)
    words = tensors.pop("tokenizer").numpy().tobytes().decode("utf-8")
    tower = TextTower(TextTowerSettings(**checkpoint.settings))
    tower.load_state_dict(tensors)
    return tower.eval(), Tokenizer.from_str(words)
