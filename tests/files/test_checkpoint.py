"""Checkpoints: what is written comes back, and everything else is refused in one sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from melisma.files.atomic import atomic_write
from melisma.files.checkpoint import (
    Checkpoint,
    build_model,
    expect_fingerprints,
    fingerprint_of,
    read_checkpoint,
    write_checkpoint,
)
from melisma.lm.score.model import ScoreModel, ScoreModelSettings
from melisma.values.errors import MelismaError

PRECISIONS = ("float32", "float16", "int8")


def example() -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    return Checkpoint(
        kind="codec",
        settings={"width": 3, "pattern": "delayed", "deep": {"list": [1, 2], "none": None}},
        tensors={
            "matrix": torch.randn(6, 40, generator=generator),
            "narrow": torch.randn(6, 4, generator=generator),
            "vector": torch.randn(40, generator=generator),
            "step": torch.tensor(7.0),
            "counts": torch.arange(5),
            "bytes": torch.arange(256, dtype=torch.uint8),
        },
        fingerprints={"codec": "0123456789ab"},
        notes={"update": 12, "größe": 1.5},
    )


def test_float32_comes_back_to_the_bit(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.safetensors", example())
    again = read_checkpoint(tmp_path / "a.safetensors", kind="codec")
    for field in ("kind", "settings", "fingerprints", "notes"):
        assert getattr(again, field) == getattr(example(), field)
    assert set(again.tensors) == set(example().tensors)
    for name, tensor in example().tensors.items():
        assert again.tensors[name].dtype == tensor.dtype
        assert torch.equal(again.tensors[name], tensor)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(-2, 3))
def test_int8_rows_are_within_a_step_and_a_copy_of_a_copy_is_the_same(
    seed: int, scale: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("int8")
    generator = torch.Generator().manual_seed(seed)
    rows = 10**scale * torch.randn(5, 48, generator=generator)
    rows[3] = 0.0
    write_checkpoint(
        folder / "a.safetensors",
        Checkpoint(kind="lm", settings={}, tensors={"rows": rows}),
        precision="int8",
    )
    first = read_checkpoint(folder / "a.safetensors")
    step = rows.abs().amax(dim=1, keepdim=True) / 127
    # Half a step, and the rounding of the scale itself (float16) times 127 of them.
    assert bool(((first.tensors["rows"] - rows).abs() <= 0.57 * step + 1e-6).all())
    write_checkpoint(folder / "b.safetensors", first, precision="int8")
    second = read_checkpoint(folder / "b.safetensors")
    assert torch.equal(second.tensors["rows"], first.tensors["rows"])


def test_smaller_precisions_are_smaller_and_near(tmp_path: Path) -> None:
    wide = dataclasses.replace(
        example(), tensors={"m": torch.randn(64, 256), "v": torch.randn(64), "n": torch.arange(9)}
    )
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        path = tmp_path / f"{precision}.safetensors"
        write_checkpoint(path, wide, precision=precision)
        sizes[precision] = path.stat().st_size
        again = read_checkpoint(path).tensors
        assert torch.equal(again["n"], wide.tensors["n"])
        assert again["m"].dtype == torch.float32
        torch.testing.assert_close(again["m"], wide.tensors["m"], atol=0.03, rtol=0)
        torch.testing.assert_close(again["v"], wide.tensors["v"], atol=2e-3, rtol=1e-3)
    assert sizes["int8"] < 0.6 * sizes["float16"] < 0.6 * sizes["float32"]
    with pytest.raises(MelismaError, match='not "bfloat4"'):
        write_checkpoint(tmp_path / "x.safetensors", wide, precision="bfloat4")


def test_what_is_not_a_whole_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(MelismaError, match="there is no checkpoint at"):
        read_checkpoint(path)
    write_checkpoint(path, example())
    whole = path.read_bytes()
    for damaged in (b"", b"RIFF", whole[:6], whole[:200], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(MelismaError, match="no whole checkpoint"):
            read_checkpoint(path)
    path.write_bytes(b"\xff" * 64 + whole)
    with pytest.raises(MelismaError, match="no whole checkpoint"):
        read_checkpoint(path)


def header(**changes: str | None) -> dict[str, str]:
    """The header of a good checkpoint, changed; None leaves an entry out."""
    good = {
        "format": "melisma", "version": "1", "kind": "codec", "settings": "{}",
        "fingerprints": "{}", "notes": "{}",
    }  # fmt: skip
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "other"}, "not a checkpoint of Melisma"),
        ({"format": None}, "not a checkpoint of Melisma"),
        ({"version": "2"}, "layout 2, this program reads layout 1"),
        ({"kind": "joint"}, 'holds a "joint", but a "codec" is needed'),
        ({"settings": "{"}, "no whole checkpoint"),
        ({"notes": None}, "no whole checkpoint"),
        ({"fingerprints": None}, "no whole checkpoint"),
    ],
)
def test_checkpoints_that_are_not_what_is_needed(
    tmp_path: Path, changes: dict[str, str | None], sentence: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata=header(**changes))
    with pytest.raises(MelismaError, match=sentence):
        read_checkpoint(path, kind="codec")


def test_headers_and_rows_that_lack_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata=header(kind=None))
    with pytest.raises(MelismaError, match="no whole checkpoint"):
        read_checkpoint(path)
    save_file({"w::rows": torch.zeros(2, 2, dtype=torch.int8)}, path, metadata=header())
    with pytest.raises(MelismaError, match="no whole checkpoint"):
        read_checkpoint(path)
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(MelismaError, match="not a checkpoint of Melisma"):
        read_checkpoint(path)


def test_other_tokens_are_named(tmp_path: Path) -> None:
    path = tmp_path / "lm.safetensors"
    expect_fingerprints(path, {"codec": "a"}, {"codec": "a", "joint": "b"})
    expect_fingerprints(path, {"melody": "a"}, {"codec": "a"})
    with pytest.raises(MelismaError, match="the codec a, but the codec here is b"):
        expect_fingerprints(path, {"codec": "a"}, {"codec": "b"})


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, example())
    before = path.read_bytes()

    def interrupted() -> None:
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="does not exist: create it"):
        write_checkpoint(tmp_path / "no" / "a.safetensors", example())


def test_a_full_disk_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr("melisma.files.checkpoint.save_file", refuse)
    with pytest.raises(OSError, match="is full: "):
        write_checkpoint(tmp_path / "a.safetensors", example())
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_changes_with_what_decides_tokens() -> None:
    first = example()
    print_of = fingerprint_of("codec", first.settings, first.tensors)
    assert len(print_of) == 12
    backwards = dict(reversed(list(first.tensors.items())))
    assert fingerprint_of("codec", first.settings, backwards) == print_of
    assert fingerprint_of("joint", first.settings, first.tensors) != print_of
    assert fingerprint_of("codec", first.settings | {"width": 4}, first.tensors) != print_of
    moved = first.tensors | {"matrix": first.tensors["matrix"] * 1.01}
    assert fingerprint_of("codec", first.settings, moved) != print_of
    renamed = {("m" if n == "matrix" else n): t for n, t in first.tensors.items()}
    assert fingerprint_of("codec", first.settings, renamed) != print_of


def damaged(precision: str, position: int, value: float, path: Path) -> None:
    """Writes a checkpoint, then puts a number into the floating-point tensor at a position."""
    tensors = {"w": torch.randn(4, 64), "bias": torch.zeros(4), "x::y": torch.ones(3)}
    write_checkpoint(path, dataclasses.replace(example(), tensors=tensors), precision=precision)
    with safe_open(path, framework="pt") as opened:
        stored = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    floating = sorted(name for name, one in stored.items() if one.is_floating_point())
    stored[floating[position % len(floating)]].view(-1)[1] = value
    save_file(stored, path, metadata=metadata)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_weights_that_are_no_numbers_are_refused(
    precision: str, position: int, value: float, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    damaged(precision, position, value, path)
    with pytest.raises(MelismaError, match=r"the weights in .*a\.safetensors are damaged: .* has "):
        read_checkpoint(path)
    assert read_checkpoint(path, finite=False).kind == example().kind


def test_the_largest_numbers_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"w": torch.full((8, 8), torch.finfo(torch.float32).max)}
    write_checkpoint(path, dataclasses.replace(example(), tensors=tensors))
    assert torch.equal(read_checkpoint(path).tensors["w"], tensors["w"])


SIZES = ScoreModelSettings(width=40, layers=1, heads=2, window_events=20)


@pytest.fixture(scope="module")
def score_checkpoint() -> Checkpoint:
    with torch.random.fork_rng(devices=[]):
        tensors = ScoreModel(SIZES).state_dict()
    return Checkpoint(kind="score_lm", settings=dataclasses.asdict(SIZES), tensors=tensors)


@pytest.mark.parametrize("name", sorted(dataclasses.asdict(SIZES)))
@pytest.mark.parametrize(
    "value", [0, -1, 3, 1_000_000_000, 2**63, 10**400, 0.5, "text", None, [], {}, True, [[1]]],
    ids=str,
)  # fmt: skip
def test_settings_are_compared_with_the_tensors_before_anything_is_allocated(
    name: str, value: object, score_checkpoint: Checkpoint
) -> None:
    settings = {**score_checkpoint.settings, name: value}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    checkpoint, found = dataclasses.replace(score_checkpoint, settings=settings), {}
    # A setting may decide no shape: the model then has the tensors of the checkpoint.
    with contextlib.suppress(MelismaError):
        found = build_model(checkpoint, ScoreModelSettings, ScoreModel).state_dict()
    for own, tensor in found.items():
        assert torch.equal(tensor, score_checkpoint.tensors[own])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # kilobytes


def test_a_model_is_built_of_its_tensors_whatever_torch_prefers(
    score_checkpoint: Checkpoint,
) -> None:
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        model = build_model(score_checkpoint, ScoreModelSettings, ScoreModel)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == score_checkpoint.tensors[name].dtype
        assert torch.equal(tensor, score_checkpoint.tensors[name])
        assert tensor.data_ptr() != score_checkpoint.tensors[name].data_ptr()
    assert not any(buffer.is_meta for buffer in model.buffers())


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_tensors_that_do_not_fit_are_named(change: str, score_checkpoint: Checkpoint) -> None:
    tensors = dict(score_checkpoint.tensors)
    first = next(iter(tensors))
    tensor = tensors.pop(first)
    if change == "unknown":
        tensors |= {first: tensor, "other.weight": torch.zeros(1)}
    if change == "shape":
        tensors[first] = torch.zeros(7)
    checkpoint = dataclasses.replace(score_checkpoint, tensors=tensors)
    with pytest.raises(MelismaError, match="other.weight" if change == "unknown" else first):
        build_model(checkpoint, ScoreModelSettings, ScoreModel)


def test_reading_a_model_does_not_load_symbolic_shapes() -> None:
    """They take a second, and the first random number on the device "meta" asks for them."""
    program = """
import sys, torch
before = set(sys.modules)
from melisma.generation.loading import load, load_scores
load("default"), load_scores("default")
print(sorted({"sympy", "torch._refs"} & (set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
