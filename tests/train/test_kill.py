"""kill -9 in the middle of a training, resume, and the same weights to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_task import TINY_CODEC

from melisma.files.checkpoint import read_checkpoint
from melisma.train.codec import CodecTask, CodecTraining
from melisma.train.loop import STATE_FILE, LoopSettings, Run

UPDATES, KILLED_AFTER = 12, 8


class Unjudged(CodecTask):
    """Judging and samples are slow and have no part in the trajectory."""

    def judge(self, averaged: nn.Module) -> dict[str, float]:
        del averaged
        return {}

    def write_samples(self, averaged: nn.Module, folder: Path, number: int) -> None:
        del averaged, folder, number


def make_run(folder: Path) -> Run:
    """A codec with its discriminators, the training with the most hidden state."""
    settings = CodecTraining(
        codec=TINY_CODEC,
        loop=LoopSettings(
            updates=UPDATES, warmup_updates=2, checkpoint_updates=5, log_updates=1,
            sample_updates=1_000,
        ),
        batch=2, crop_frames=4, depths=(1, 2), adversarial_from=0.25,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    sound = (3_000 * rng.standard_normal((4, 9_600))).astype(np.int16)
    return Run(Unjudged(settings, [sound], [sound]), settings.loop, folder)


def say_now(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":  # the process that is killed
    torch.set_num_threads(1)
    make_run(Path(sys.argv[1])).run(say_now)


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_training(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path / "killed")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if line.startswith(f"codec {KILLED_AFTER}/"):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.wait(timeout=60) == -signal.SIGKILL

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = make_run(tmp_path / "killed")
        assert again.resume()
        assert again.number == 5
        again.run(lambda _: None)
        make_run(tmp_path / "whole").run(lambda _: None)
    finally:
        torch.set_num_threads(threads)
    for name in (STATE_FILE, "weights.safetensors"):
        killed, whole = (read_checkpoint(tmp_path / run / name) for run in ("killed", "whole"))
        assert set(killed.tensors) == set(whole.tensors)
        for key, tensor in whole.tensors.items():
            assert torch.equal(killed.tensors[key], tensor), key
