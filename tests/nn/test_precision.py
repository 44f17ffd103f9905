"""Networks compute in what the device does well, or in what was asked for; nowhere else is a type
named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import melisma
from melisma.nn import precision
from melisma.nn.precision import AUTO, autocast, compute_dtype, set_compute_precision
from melisma.values.errors import MelismaError


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    precision._device_dtype.cache_clear()
    yield
    set_compute_precision(AUTO)
    precision._device_dtype.cache_clear()


def product_type() -> torch.dtype:
    with autocast():
        return torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("instructions", "gain", "name", "reason"),
    [
        (False, 4.0, "float32", "no instructions for bfloat16"),
        (True, 4.0, "bfloat16", "4.0 times as fast as float32"),
        (True, 0.02, "float32", "0.0 times float32's speed"),
    ],
)
def test_a_processor_computes_in_what_it_does_well(
    monkeypatch: pytest.MonkeyPatch, instructions: bool, gain: float, name: str, reason: str
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: instructions)
    seconds = {torch.float32: gain, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "_product_seconds", seconds.__getitem__)
    assert compute_dtype().name == name
    assert reason in compute_dtype().reason
    assert product_type() == compute_dtype().dtype


def test_what_is_measured_is_a_product() -> None:
    assert 0 < precision._product_seconds(torch.float32) < 1


def test_a_person_decides() -> None:
    for name in ("bfloat16", "float32"):
        set_compute_precision(name)
        assert compute_dtype().name == name
        assert product_type() == compute_dtype("cuda").dtype
        assert compute_dtype().reason == "asked for"
    with pytest.raises(MelismaError, match='auto, float32, bfloat16, not "half"'):
        set_compute_precision("half")


def test_what_is_loaded_in_float32_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else does: not what is loaded beside it."""
    from melisma.generation.loading import _networks
    from melisma.tokenizers import AudioTokenizers, TokenizerPaths

    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "_product_seconds", lambda dtype: float(dtype.itemsize))
    paths = TokenizerPaths.of(Path(melisma.__file__).parent / "weights" / "default")
    one, other = (AudioTokenizers.read(paths, precision=_networks(p)) for p in ("float32", "int8"))
    sound = torch.randn(1, 9_600, generator=torch.Generator().manual_seed(0))
    exact = one.semantic.encode_states(sound).middle
    assert compute_dtype().name == "bfloat16"
    assert not torch.equal(other.semantic.encode_states(sound).middle, exact)
    set_compute_precision("float32")
    torch.testing.assert_close(other.semantic.encode_states(sound).middle, exact)
    for tokenizers in (one, other):
        assert tokenizers.codec.precision == tokenizers.semantic.precision


def test_every_choice_but_auto_is_a_type() -> None:
    assert (precision.AUTO, *precision.COMPUTE_DTYPES) == precision.COMPUTE_PRECISIONS


def test_no_other_module_names_a_type_to_compute_in() -> None:
    root = Path(melisma.__file__).parent
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if path.name != "precision.py"
        for line in path.read_text().splitlines()
        if re.search(r"torch\.autocast\((?!.*enabled=False)", line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("mine", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ],
)
def test_spinning_is_limited_before_pytorch_is_loaded(mine: dict[str, str], expected: str) -> None:
    program = (
        "import os, sys, melisma; assert 'torch' not in sys.modules; melisma.load; "
        "assert 'torch' in sys.modules; "
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**clean, **mine}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == expected
