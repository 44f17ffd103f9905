"""Training for a stated processor time: what makes arms of an ablation comparable."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from melisma.train.loop import LoopSettings, Run, Task


def train_for(
    task: Task,
    loop: LoopSettings,
    minutes: float,
    shared: Callable[[float], None] | None = None,
) -> tuple[int, float]:
    """Trains for a processor time of this process (one thread, so that other programs on the
    machine matter little), the learning rate decaying with the share of it that is used.

    The task's model ends with the averaged weights. Before every update `shared` is called with the
    share of the time that is used. Returns the number of updates and the seconds.
    """
    run = Run(task, loop, Path("unused"))
    started, used = time.process_time(), 0.0
    while used < minutes * 60:
        share = max(used / (minutes * 60), 1e-4)
        if shared is not None:
            shared(share)
        run.settings = dataclasses.replace(loop, updates=max(round((run.number + 1) / share), 400))
        figures = run.update()
        used = time.process_time() - started
        if run.number % 50 == 0:
            shown = " ".join(f"{k} {v:.3f}" for k, v in figures.items())
            print(f"{run.number} {used / 60:.1f} min {shown}", flush=True)
    run.shipped.load_state_dict(run.average)
    run.shipped.eval()
    return run.number, used
