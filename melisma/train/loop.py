"""Training loop of all models: seeding, schedule, averaged weights, checkpoints, logs, resume.

A `Task` owns the models and computes the losses of one update; the loop does everything else. Every
random choice of update n comes from a generator seeded by (seed, n), so a resumed run needs no
stored generator state: after kill -9 it continues, on the same machine, exactly as if it had not
been interrupted.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from melisma.files.checkpoint import (
    Checkpoint,
    expect_fingerprints,
    read_checkpoint,
    write_checkpoint,
)
from melisma.files.shards.lock import locked
from melisma.files.shards.stored_settings import expect_same
from melisma.train.initialization.memory import BYTES_PER_PARAMETER
from melisma.train.log import Log
from melisma.values.errors import MelismaError

STATE_FILE = "state.safetensors"
"""The training state in a run's folder."""
_FREE_SETTINGS = ("checkpoint_updates", "log_updates", "sample_updates")
"""Settings of the loop that do not decide the weights, and may change when a run is resumed."""

_NEAR_ONE = math.nextafter(1.0, 0.0)
_LIMITS: dict[str, tuple[float, float]] = {
    "updates": (0, 10**9), "learning_rate": (0, 1e6), "final_rate": (0, 1e6),
    "warmup_updates": (0, 10**9), "weight_decay": (0, 1e6), "beta1": (0, _NEAR_ONE),
    "beta2": (0, _NEAR_ONE), "clip_norm": (0, 1e18), "average_decay": (0, 1),
    "checkpoint_updates": (1, 10**9), "log_updates": (1, 10**9), "sample_updates": (1, 10**9),
}  # fmt: skip
"""With other values a training cannot run."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """AdamW (Loshchilov and Hutter, 1711.05101) with linear warm-up and cosine decay."""

    updates: int
    """Number of updates."""
    learning_rate: float = 1e-3
    """Peak learning rate, after the warm-up."""
    final_rate: float = 0.05
    """Learning rate at the end, relative to the peak."""
    warmup_updates: int = 200
    """Updates of linear warm-up, also after starting from given weights."""
    weight_decay: float = 0.1
    """Decoupled; of matrices only."""
    beta1: float = 0.9
    """Decay of AdamW's first moments."""
    beta2: float = 0.95
    """Decay of AdamW's second moments."""
    clip_norm: float = 1.0
    """Gradients are clipped to this norm."""
    average_decay: float = 0.999
    """Decay of the averaged weights; lower at the beginning, (1 + n) / (10 + n) in update n."""
    seed: int = 1
    """Of all random choices."""
    checkpoint_updates: int = 500
    """Updates between checkpoints."""
    log_updates: int = 20
    """Updates between log lines."""
    sample_updates: int = 2_000
    """Updates between samples (sound, spectrograms) of the averaged model."""

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise MelismaError(
                    f"{name} of a training lies between {low} and {high}, not {value}"
                )


class Task(abc.ABC):
    """A training task: models, data, and the losses of one update."""

    kind: str
    """Kind of the model in its checkpoint."""

    @property
    @abc.abstractmethod
    def models(self) -> Mapping[str, nn.Module]:
        """All trained models by name; the first one is averaged and shipped."""

    @abc.abstractmethod
    def settings_tree(self) -> dict[str, Any]:
        """Settings from which the shipped model can be built, as JSON values."""

    @abc.abstractmethod
    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Computes the losses of one update.

        Args:
            number: of the update, from 0.
            generator: of its random choices, on the CPU.

        Returns:
            (scalar loss of each model by name, figures to log). Models without a loss are not
            updated.
        """

    def rate_factor(self, name: str) -> float:
        """Factor of the learning rate of a parameter, by its name in its model."""
        del name
        return 1.0

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the tokenizers of the training data, by name."""
        return {}

    def training_settings(self) -> dict[str, Any]:
        """What decides the weights beside the network and the loop, as JSON values: the other
        settings of the training, and a fingerprint of its data. A run is resumed with the same."""
        return {}

    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Evaluates the averaged model (the first of `models`) on held-out data."""
        del averaged
        return {}

    def write_samples(self, averaged: nn.Module, folder: Path, number: int) -> None:
        """Writes samples of the averaged model (audio, plots) after update `number`."""
        del averaged, folder, number


def rate_at(settings: LoopSettings, number: int) -> float:
    """Learning rate of update `number` (0-based)."""
    warm = min(1.0, (number + 1) / max(settings.warmup_updates, 1))
    done = min(number / max(settings.updates, 1), 1.0)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return (
        settings.learning_rate * warm * (settings.final_rate + (1 - settings.final_rate) * cosine)
    )


def generator_of(seed: int, number: int, purpose: str = "update") -> torch.Generator:
    """A CPU generator that depends only on seed, number and purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Run:
    """A training run: task, optimizers, averaged weights, and the folder with its state."""

    def __init__(self, task: Task, settings: LoopSettings, folder: Path) -> None:
        """
        Args:
            task: the models and their losses.
            settings: of the loop.
            folder: of the training state, logs, samples and weights.
        """
        self.task = task
        self.settings = settings
        self.folder = folder
        self.number = 0
        self.optimizers = {name: self._optimizer(model) for name, model in task.models.items()}
        self.shipped = next(iter(task.models.values()))
        self.average = {
            name: tensor.detach().clone().float()
            for name, tensor in self.shipped.state_dict().items()
        }

    def _optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                decay = self.settings.weight_decay if parameter.ndim >= 2 else 0.0
                kinds.setdefault((decay, self.task.rate_factor(name)), []).append(parameter)
        groups = [
            {"params": parameters, "weight_decay": decay, "rate_factor": factor}
            for (decay, factor), parameters in kinds.items()
        ]
        betas = (self.settings.beta1, self.settings.beta2)
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=betas, fused=True)

    def update(self) -> dict[str, float]:
        """Performs one update and returns its figures.

        A model whose gradient is not finite is skipped in this update.
        """
        generator = generator_of(self.settings.seed, self.number)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        losses, figures = self.task.losses(self.number, generator)
        rate = rate_at(self.settings, self.number)
        for name, loss in losses.items():
            model, optimizer = self.task.models[name], self.optimizers[name]
            optimizer.zero_grad(set_to_none=True)
            parameters = [p for p in model.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=False)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)
            figures[f"{name}/gradient_norm"] = float(norm)
            if not math.isfinite(float(norm)):
                figures[f"{name}/skipped"] = 1.0
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate_factor"]
            optimizer.step()
        self._update_average()
        self.number += 1
        figures["rate"] = rate
        return figures

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.average_decay, (1 + self.number) / (10 + self.number))
        parameters = {name for name, _ in self.shipped.named_parameters()}
        for name, tensor in self.shipped.state_dict().items():
            if name in parameters:
                self.average[name].lerp_(tensor.float(), 1 - decay)
            else:  # codebooks are moving averages already
                self.average[name].copy_(tensor)

    # Training state: everything that the next update depends on, as named tensors.

    def _state(self) -> dict[str, Tensor]:
        state = {f"average/{name}": tensor for name, tensor in self.average.items()}
        for part, model in self.task.models.items():
            for name, tensor in model.state_dict().items():
                state[f"model/{part}/{name}"] = tensor
            for name, buffer in _non_persistent_buffers(model).items():
                state[f"buffer/{part}/{name}"] = buffer
            for name, parameter in model.named_parameters():
                for key, value in self.optimizers[part].state.get(parameter, {}).items():
                    state[f"optimizer/{part}/{name}/{key}"] = value
        return state

    def _run_settings(self) -> dict[str, Any]:
        """What the run has to be resumed with, beside the network."""
        loop = dataclasses.asdict(self.settings)
        loop = {name: value for name, value in loop.items() if name not in _FREE_SETTINGS}
        return {"loop": loop, **self.task.training_settings()}

    def save(self) -> None:
        """Writes the training state atomically."""
        checkpoint = Checkpoint(
            kind="training",
            settings=self.task.settings_tree(),
            tensors=self._state(),
            fingerprints=self.task.fingerprints(),
            notes={
                "update": self.number,
                "task": self.task.kind,
                "run_settings": self._run_settings(),
            },
        )
        write_checkpoint(self.folder / STATE_FILE, checkpoint)

    def resume(self) -> bool:
        """Loads the training state of the folder.

        Returns:
            Whether there is one.

        Raises:
            MelismaError: where it has other settings or data, or tokens of other tokenizers.
        """
        path = self.folder / STATE_FILE
        if not path.is_file():
            return False
        checkpoint = read_checkpoint(path, kind="training", finite=False)
        stored: dict[str, Any] = {"model": checkpoint.settings}
        given: dict[str, Any] = {"model": self.task.settings_tree()}
        run_settings = checkpoint.notes.get("run_settings")
        if isinstance(run_settings, dict):  # versions up to 0.5 stored the network alone
            stored, given = stored | run_settings, given | self._run_settings()
        expect_fingerprints(path, checkpoint.fingerprints, self.task.fingerprints())
        expect_same(self.folder, stored, given)
        self._load(path, checkpoint)
        return True

    def _load(self, path: Path, checkpoint: Checkpoint) -> None:
        try:
            self._restore(checkpoint.tensors, int(checkpoint.notes["update"]))
        # What torch raises for tensors of other shapes, and a state that lacks some.
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise MelismaError(
                f"{path} does not fit this training: train from the beginning in another folder"
            ) from error

    def _restore(self, tensors: Mapping[str, Tensor], number: int) -> None:
        self.number = number
        for name in self.average:
            self.average[name] = tensors[f"average/{name}"]
        for part, model in self.task.models.items():
            model.load_state_dict({n: tensors[f"model/{part}/{n}"] for n in model.state_dict()})
            for name, buffer in _non_persistent_buffers(model).items():
                buffer.copy_(tensors[f"buffer/{part}/{name}"])
            optimizer = self.optimizers[part]
            for name, parameter in model.named_parameters():
                prefix = f"optimizer/{part}/{name}/"
                found = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                if found:
                    device = parameter.device
                    optimizer.state[parameter] = {
                        k: v if k == "step" else v.to(device) for k, v in found.items()
                    }

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Loads weights of the shipped model, without an optimizer state."""
        self.shipped.load_state_dict(dict(weights))
        for name, tensor in self.shipped.state_dict().items():
            self.average[name] = tensor.detach().clone().float()

    def weights(self, **notes: Any) -> Checkpoint:
        """The averaged weights as a checkpoint of the task's kind; `notes` are added to its own."""
        return Checkpoint(
            kind=self.task.kind,
            settings=self.task.settings_tree(),
            tensors=dict(self.average),
            fingerprints=self.task.fingerprints(),
            notes={"update": self.number, **notes},
        )

    def estimate(self) -> str:
        """Size and memory of the training in one sentence."""
        count = sum(p.numel() for model in self.task.models.values() for p in model.parameters())
        gibibytes = count * BYTES_PER_PARAMETER / 2**30
        return (
            f"{self.task.kind}: {count / 1e6:.1f} M parameters, about {gibibytes:.2f} GiB beside "
            f"the data and the batch, {self.settings.updates - self.number} updates to go"
        )

    def run(self, say: Callable[[str], None] = print) -> Checkpoint:
        """Runs all remaining updates, with logs, checkpoints and evaluations.

        Args:
            say: called with lines of progress.

        Returns:
            The averaged weights, also written to `weights.safetensors` in the folder.

        Raises:
            MelismaError: Another process uses the folder.
            OSError: The folder cannot be written; what was trained since the last checkpoint is
                lost.
        """
        with locked(self.folder):
            return self._run(say)

    def _run(self, say: Callable[[str], None]) -> Checkpoint:
        say(self.estimate())
        with contextlib.closing(Log(self.folder, self.number)) as log:
            started, first = time.monotonic(), self.number
            while self.number < self.settings.updates:
                figures = self.update()
                n, total = self.number, self.settings.updates
                if n % self.settings.log_updates == 0 or n == total or n == first + 3:
                    pace = (time.monotonic() - started) / (n - first)
                    log.write(n, figures | {"seconds_per_update": pace})
                    left = _clock((total - n) * pace)
                    shown = " ".join(f"{k} {v:.4g}" for k, v in figures.items())
                    say(f"{self.task.kind} {n}/{total}, {left} left: {shown}")
                if n % self.settings.sample_updates == 0 or n == total:
                    self._evaluate(log, say)
                if n % self.settings.checkpoint_updates == 0 or n == total:
                    self.save()
        checkpoint = self.weights()
        write_checkpoint(self.folder / "weights.safetensors", checkpoint)
        return checkpoint

    def _evaluate(self, log: Log, say: Callable[[str], None]) -> None:
        """Evaluates the averaged weights and writes samples, then restores the weights."""
        weights = {name: tensor.clone() for name, tensor in self.shipped.state_dict().items()}
        self.shipped.load_state_dict(self.average)
        self.shipped.eval()
        with torch.no_grad():
            figures = self.task.judge(self.shipped)
            self.task.write_samples(self.shipped, self.folder / "samples", self.number)
        self.shipped.train()
        self.shipped.load_state_dict(weights)
        if figures:
            log.write(self.number, {f"held/{k}": v for k, v in figures.items()})
            say(
                f"{self.task.kind} held-out: "
                + " ".join(f"{k} {v:.4g}" for k, v in figures.items())
            )


def _non_persistent_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Buffers that are not in the state dict but that the next update depends on."""
    persistent = model.state_dict()
    return {name: buffer for name, buffer in model.named_buffers() if name not in persistent}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
