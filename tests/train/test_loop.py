"""The loop: the same run whether interrupted or not, averaged weights, refusals."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from toy_task import Learner, ToyTask, loop

from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.files.shards.lock import LOCK_NAME, locked
from melisma.train.loop import STATE_FILE, LoopSettings, Run, generator_of, rate_at
from melisma.values.errors import MelismaError


def silent(_: str) -> None:
    """Says nothing."""


def state_of(folder: Path) -> dict[str, Tensor]:
    return read_checkpoint(folder / STATE_FILE).tensors


def assert_bit_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    Run(ToyTask(), loop(10), tmp_path / "whole").run(silent)
    first = Run(ToyTask(), loop(10), tmp_path / "broken")
    first.folder.mkdir()
    for _ in range(4):
        first.update()
    first.save()
    for _ in range(2):
        first.update()  # lost: killed before the next checkpoint
    second = Run(ToyTask(), loop(10), tmp_path / "broken")
    assert second.resume()
    assert second.number == 4
    second.run(silent)
    assert_bit_equal(state_of(tmp_path / "whole"), state_of(tmp_path / "broken"))
    weights = [read_checkpoint(tmp_path / n / "weights.safetensors") for n in ("whole", "broken")]
    assert_bit_equal(weights[0].tensors, weights[1].tensors)
    assert set(weights[0].tensors) == {"layer.weight", "layer.bias", "codes"}
    assert (weights[0].kind, weights[0].fingerprints) == ("toy", {"codec": "abc"})


def test_looking_at_the_averaged_weights_leaves_those_in_training_alone(tmp_path: Path) -> None:
    Run(ToyTask(), loop(10), tmp_path / "a").run(silent)
    Run(ToyTask(), loop(10, sample_updates=1, log_updates=1), tmp_path / "b").run(silent)
    assert_bit_equal(state_of(tmp_path / "a"), state_of(tmp_path / "b"))


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    Run(ToyTask(), loop(4), tmp_path).run(silent)
    before = state_of(tmp_path)
    again = Run(ToyTask(), loop(4), tmp_path)
    assert again.resume()
    again.run(silent)
    assert_bit_equal(state_of(tmp_path), before)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    assert not Run(ToyTask(), loop(4), tmp_path).resume()
    Run(ToyTask(), loop(4), tmp_path).run(silent)
    with pytest.raises(MelismaError, match=r"other settings \(model\.size was 4, now 5\)"):
        Run(ToyTask(size=5), loop(4), tmp_path).resume()
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MelismaError, match="no whole checkpoint"):
        Run(ToyTask(), loop(4), tmp_path).resume()


@pytest.mark.parametrize("field", dataclasses.fields(LoopSettings), ids=lambda field: field.name)
def test_a_run_is_resumed_with_the_same_loop(tmp_path: Path, field: dataclasses.Field[Any]) -> None:
    Run(ToyTask(), loop(4), tmp_path).save()
    before = getattr(loop(4), field.name)
    now = before / 2 if isinstance(before, float) else before * 2
    changed = Run(ToyTask(), dataclasses.replace(loop(4), **{field.name: now}), tmp_path)
    if field.name in ("checkpoint_updates", "log_updates", "sample_updates"):
        assert changed.resume()  # they do not decide the weights
        return
    said = rf"loop\.{field.name} was {before}, now {now}\)"
    with pytest.raises(MelismaError, match=said):
        changed.resume()


@pytest.mark.parametrize(
    "changes",
    [
        {"log_updates": 0}, {"beta1": 1.8}, {"learning_rate": -1.0},
        {"learning_rate": float("nan")}, {"warmup_updates": -1}, {"average_decay": 2.0},
    ],
)  # fmt: skip
def test_settings_of_no_training_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MelismaError, match=f"{next(iter(changes))} of a training lies between"):
        loop(4, **changes)


def test_a_run_is_resumed_with_the_same_data_and_other_settings(tmp_path: Path) -> None:
    class Described(ToyTask):
        described: ClassVar[dict[str, Any]] = {"batch": 2, "data": "abc"}

        def training_settings(self) -> dict[str, Any]:
            return self.described

    Run(Described(), loop(4), tmp_path).save()
    assert Run(Described(), loop(4), tmp_path).resume()
    Described.described = {"batch": 4, "data": "xyz"}
    with pytest.raises(MelismaError, match=r'\(batch was 2, now 4, data was "abc", now "xyz"\)'):
        Run(Described(), loop(4), tmp_path).resume()


def test_states_of_earlier_versions_are_resumed(tmp_path: Path) -> None:
    Run(ToyTask(), loop(4), tmp_path).save()
    state = read_checkpoint(tmp_path / STATE_FILE)
    notes = {name: value for name, value in state.notes.items() if name != "run_settings"}
    write_checkpoint(tmp_path / STATE_FILE, dataclasses.replace(state, notes=notes))
    assert Run(ToyTask(), loop(4), tmp_path).resume()


def test_a_state_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    Run(ToyTask(), loop(4), tmp_path).save()
    state = read_checkpoint(tmp_path / STATE_FILE)
    for name in state.tensors:
        if not name.startswith("optimizer/"):
            rest = {other: tensor for other, tensor in state.tensors.items() if other != name}
            write_checkpoint(tmp_path / STATE_FILE, dataclasses.replace(state, tensors=rest))
            with pytest.raises(MelismaError, match="does not fit this training"):
                Run(ToyTask(), loop(4), tmp_path).resume()


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(MelismaError, match=rf"process {os.getpid()} "):
        Run(ToyTask(), loop(4), tmp_path).run(silent)
    Run(ToyTask(), loop(4), tmp_path).run(silent)
    assert not (tmp_path / LOCK_NAME).exists()


def test_the_same_training_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Run(ToyTask(), loop(4), tmp_path / name).run(silent)
    for name in (STATE_FILE, "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=rf"{tmp_path} is full: {STATE_FILE} was not written"):
        Run(ToyTask(), loop(4), tmp_path).run(silent)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["log.jsonl"]


def test_a_gradient_that_is_no_number_changes_nothing(tmp_path: Path) -> None:
    task = ToyTask()
    run = Run(task, loop(10), tmp_path)
    run.update()
    task.broken_at = 1
    before = {name: p.detach().clone() for name, p in task.learner.named_parameters()}
    figures = run.update()
    assert figures["learner/skipped"] == 1.0
    for name, parameter in task.learner.named_parameters():
        assert torch.equal(parameter, before[name])
    assert "learner/skipped" not in run.update()


def test_a_model_without_a_loss_rests(tmp_path: Path) -> None:
    task = ToyTask()
    run = Run(task, loop(10), tmp_path)
    before = task.critic.weight.detach().clone()
    run.update()
    assert torch.equal(task.critic.weight, before)
    run.update()
    assert not torch.equal(task.critic.weight, before)


def test_parameters_are_averaged_and_codebooks_taken_as_they_are(tmp_path: Path) -> None:
    task = ToyTask()
    run = Run(task, loop(10), tmp_path)
    expected = task.learner.layer.weight.detach().clone()
    for number in range(5):
        run.update()
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * task.learner.layer.weight.detach()
    torch.testing.assert_close(run.average["layer.weight"], expected)
    assert torch.equal(run.average["codes"], task.learner.codes)  # pyright: ignore[reportArgumentType]


def test_training_goes_on_from_weights_alone(tmp_path: Path) -> None:
    weights = Learner().state_dict()
    run = Run(ToyTask(), loop(3), tmp_path)
    run.start_from(weights)
    assert_bit_equal(run.weights().tensors, dict(weights))
    run.run(silent)
    assert run.number == 3


def test_the_rate_warms_up_and_falls() -> None:
    settings = LoopSettings(updates=100, learning_rate=1.0, warmup_updates=10, final_rate=0.05)
    rates = [rate_at(settings, number) for number in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] > 0.97
    assert all(later < earlier for earlier, later in zip(rates[9:], rates[10:], strict=False))  # noqa: RUF007
    assert rates[100] == pytest.approx(0.05)


def test_every_update_has_a_generator_of_its_own() -> None:
    def sample(*key: object) -> float:
        return float(torch.rand((), generator=generator_of(*key)))  # pyright: ignore[reportArgumentType]

    samples = [
        sample(1, 0),
        sample(1, 1),
        sample(2, 0),
        sample(1, 0, "held"),
        sample(11, 0),
        sample(1, 10),
    ]
    assert len(set(samples)) == len(samples)
    assert sample(1, 0) == samples[0]


def test_the_log_has_a_line_for_every_figure(tmp_path: Path) -> None:
    task, said = ToyTask(), []
    task.broken_at = 1
    Run(task, loop(5), tmp_path).run(said.append)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    by_update = {line["update"]: line for line in lines if "loss" in line}
    assert set(by_update) >= {2, 4, 5}
    assert by_update[2]["loss"] is None  # not a number: JSON has no word for it
    assert by_update[4]["loss"] > 0
    assert by_update[4]["seconds_per_update"] > 0
    assert lines[-1]["held/score"] == 1.0
    assert task.judged == 1
    assert sum(words.startswith("toy 4/5, ") for words in said) == 1
