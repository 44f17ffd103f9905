"""Kernels of every instruction set of this processor give the same integers, at the extremes too;
and whole pieces the same tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from melisma.engine.native.kv_cache import int8_qk_kernel, int8_weighted_values_kernel, kv_layout
from melisma.engine.native.packing import aligned_zeros, byte_layout, pack
from melisma.simd import instruction_set, jit, selection, tuning
from melisma.simd.instruction_set import (
    ENVIRONMENT,
    INSTRUCTION_SETS,
    InstructionSet,
    candidates,
    detected_features,
    features,
    has_fma,
    multiplies_bfloat16,
)
from melisma.simd.tiles import quantized_tile, rows_in_registers, tile_outputs
from melisma.values.errors import MelismaError

AVAILABLE = [
    one for one in INSTRUCTION_SETS if all(detected_features().get(need) for need in one.needs)
]


def quantized_product(
    isa: InstructionSet, weight: np.ndarray, x: np.ndarray, bits: int
) -> np.ndarray:
    """The product with whole numbers x [row, input], which have the scale 1, by the tile alone."""
    tile, rows = quantized_tile(isa, len(x), bits), len(x)

    @numba.njit
    def once(w, gs, rs, x, x_stride, xs, sums, out, size, groups, group):  # type: ignore[no-untyped-def]
        tile(w, gs, rs, x, x_stride, xs, sums, 4 * groups, out, 4 * size, 0, groups, group)

    packed, layout = pack(weight, f"int{bits}", isa=isa), byte_layout(isa, f"int{bits}")
    assert packed.group_scales is not None
    assert packed.row_scales is not None
    groups, size = weight.shape[1] // packed.group_size, tile_outputs(isa)
    near = x.astype((np.int8, np.int16)[layout.activation_bytes - 1])
    scales = np.ones((rows, groups), np.float32)
    sums = -layout.zero_point * x.reshape(rows, groups, -1).sum(axis=2).astype(np.int32)
    sums = np.ascontiguousarray(sums.astype(np.int32))
    out = aligned_zeros((rows, size), np.float32)
    once(
        packed.weights.ctypes.data, packed.group_scales.ctypes.data, packed.row_scales.ctypes.data,
        near.ctypes.data, near.strides[0], scales.ctypes.data, sums.ctypes.data, out.ctypes.data,
        size, groups, packed.group_size,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("isa", AVAILABLE, ids=lambda one: one.name)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("inputs", [8, 40, 256])
def test_products_are_exact_at_the_extremes(isa: InstructionSet, bits: int, inputs: int) -> None:
    """Groups of every length, and products that would saturate sums of 16 bits."""
    rng = np.random.default_rng(inputs)
    most = 127 if bits == 8 else 7
    numbers = rng.integers(-most, most + 1, (tile_outputs(isa), inputs))
    numbers[0], numbers[1] = most, -most
    numbers[:, :: min(inputs, 8)] = most  # so that every group's scale is 1
    for rows in (1, 2, rows_in_registers(isa)[1]):
        x = rng.integers(-127, 128, (rows, inputs))
        x[0] = 127 * np.sign(numbers[2])
        for sign in (1, -1):
            found = quantized_product(isa, numbers.astype(np.float32), sign * x, bits)
            # What rounding of the row's scale, 1 / most, leaves.
            np.testing.assert_allclose(found, sign * x @ numbers.T, rtol=1e-6, atol=0.02)


@pytest.mark.parametrize("isa", AVAILABLE, ids=lambda one: one.name)
def test_attention_to_bytes_is_exact_at_the_extremes(isa: InstructionSet) -> None:
    """The largest head size and number of positions that 32-bit sums can hold."""
    layout, lanes = kv_layout(isa), isa.lanes
    scores_of, sums_of = int8_qk_kernel(isa), int8_weighted_values_kernel(isa, 1)

    @numba.njit
    def once(
        query, high, low, keys, scales, size, out, weights, low_offset, values, stride, steps, to
    ):  # type: ignore[no-untyped-def]
        scores_of(query, high, low, keys, scales, size, 1, out)
        sums_of(weights, low_offset, values, stride, steps, to)

    rng = np.random.default_rng(0)
    size, positions = 512, 512
    query = rng.integers(-32_639, 32_640, size)
    keys = rng.integers(-127, 128, (lanes, size))
    query[:], keys[0], keys[1] = np.where(query > 0, 32_639, -32_639), 127, -127
    keys[2], keys[3] = 127 * np.sign(query), -127 * np.sign(query)
    weights = rng.integers(0, 32_768, positions)
    weights[: positions // 2] = 32_767
    values = rng.integers(-127, 128, (positions, lanes))
    values[:, 0], values[:, 1] = 127, -127
    both: list[Any] = []
    for numbers, unsigned in ((query, False), (weights, True)):
        if not isa.vnni:
            both.append(numbers.astype(np.int16))
            continue
        high = numbers >> 8 if unsigned else (numbers + 128) >> 8
        halves = np.concatenate([high, numbers - 256 * high])
        both.append((halves & 255).astype(np.uint8))
    high = (query + 128) >> 8
    starts = (
        (-128 * int(high.sum()), -128 * int((query - 256 * high).sum())) if isa.vnni else (0, 0)
    )
    key_layout = (
        (keys + layout.key_zero_point).reshape(lanes, -1, layout.interleave).transpose(1, 0, 2)
    )
    value_layout = values.reshape(-1, layout.interleave, lanes).transpose(0, 2, 1)
    arrays = [
        np.ascontiguousarray(one & 255).astype(np.uint8) for one in (key_layout, value_layout)
    ]
    scales, out, to = (np.ones(lanes, np.float32) for _ in range(3))
    once(
        both[0].ctypes.data, *starts, arrays[0].ctypes.data, scales.ctypes.data, size,
        out.ctypes.data, both[1].ctypes.data, positions, arrays[1].ctypes.data,
        layout.interleave * lanes, positions // layout.interleave, to.ctypes.data,
    )  # fmt: skip
    assert out.tolist() == (keys @ query).astype(np.float32).tolist()
    np.testing.assert_allclose(to, 1 + weights @ values, rtol=2e-7)


PROGRAM = """
import hashlib
import json
import sys

sys.path.insert(0, "tests/lm")
from small_stage import conditions, generators, stage

from melisma.engine.cpu import NativeDecoding, NativeEngine, requests_of
from melisma.engine.generate import sample
from melisma.values.model_ref import PRECISIONS
from melisma.engine.native.program import _run
from melisma.engine.sampling import StageSampling
from melisma.simd.selection import selected
from melisma.nn.precision import compute_dtype

found = {"isa": selected().name, "dtype": compute_dtype().name, "tokens": {}, "logits": {}}
for precision in PRECISIONS:
    model = stage(window=30, width=128)
    engine = NativeEngine(model, precision=precision, threads=2)
    sampling = StageSampling(temperature=1.0, top_k=10, guidance=2.0)
    grid = sample(engine, conditions(60), [60, 50], sampling, generators(1, 2))
    found["tokens"][precision] = [one.tolist() for one in grid]
    # Greedy decoding, beyond the positions of one integer sum, and with a sliding window.
    engine = NativeEngine(stage(window=600, width=128), precision=precision, threads=2)
    requests = requests_of(engine, conditions(700), [700, 700], StageSampling(temperature=0), None)
    decoding = NativeDecoding(engine, requests)
    logits = []
    for steps in (300, 260, 100):
        decoding.advance(steps)
        logits.append(hashlib.sha256(decoding.logits().numpy().tobytes()).hexdigest())
    found["logits"][precision] = logits
found["wide"] = any("zmm" in text for text in _run.inspect_asm().values())
print(json.dumps(found))
"""


def sampled_with(name: str) -> dict[str, Any]:
    """Tokens and logits of a process restricted to an instruction set; conditions come from
    PyTorch, whose own sums depend on the processor."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, ENVIRONMENT: name},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def portable() -> dict[str, Any]:
    return sampled_with("portable")


@pytest.mark.slow
@pytest.mark.skipif(not has_fma(), reason="without fused multiply-adds sums are rounded otherwise")
@pytest.mark.parametrize("isa", AVAILABLE, ids=lambda one: one.name)
def test_every_instruction_set_samples_what_the_portable_one_samples(
    isa: InstructionSet, portable: dict[str, Any]
) -> None:
    """In a separate process, restricted to that set: the same tokens in every precision, and
    bit-identical logits."""
    found = sampled_with(isa.name)
    assert found["isa"] == isa.name
    assert found["tokens"] == portable["tokens"]
    assert found["logits"] == portable["logits"]
    assert len({tuple(map(tuple, grid[0])) for grid in found["tokens"].values()}) > 1
    if not isa.name.startswith("avx512"):
        assert not found["wide"]
        assert found["dtype"] == "float32"


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that gives the processor other features."""

    def pretend(*names: str) -> None:
        known = dict.fromkeys(names, True)
        monkeypatch.setattr(instruction_set, "detected_features", lambda: known)
        features.cache_clear()

    yield pretend
    features.cache_clear()


AVX2 = ("avx2", "fma", "f16c")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512vl")


@pytest.mark.parametrize(
    ("has", "names"),
    [
        ((), ["portable"]),
        (("neon", "dotprod"), ["portable"]),
        (AVX2[:1], ["portable"]),
        (AVX2, ["avx2"]),
        ((*AVX2, "avxvnni"), ["avxvnni"]),
        (AVX512, ["avx512", "avx2"]),
        ((*AVX512, "avx512vnni"), ["avx512vnni", "avx512vnni256"]),
    ],
)
def test_candidates_are_what_a_processor_can_run(
    pretended: Any, monkeypatch: pytest.MonkeyPatch, has: tuple[str, ...], names: list[str]
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    pretended(*has)
    assert [one.name for one in candidates()] == names


def test_a_restriction_hides_what_is_beyond_it(
    pretended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended(*AVX512, "avx512vnni", "avx512bf16", "avxvnni", "amx-bf16")
    assert multiplies_bfloat16()
    monkeypatch.setenv(ENVIRONMENT, "avx2")
    features.cache_clear()
    assert not multiplies_bfloat16()
    assert [one.name for one in candidates()] == ["avx2"]
    assert {name for name, present in features().items() if present} == set(AVX2)


def test_a_restriction_to_a_missing_set_is_refused(
    pretended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended(*AVX2)
    monkeypatch.setenv(ENVIRONMENT, "avx512")
    with pytest.raises(MelismaError, match="this processor has no avx512f"):
        candidates()
    monkeypatch.setenv(ENVIRONMENT, "mmx")
    with pytest.raises(MelismaError, match='portable, not "mmx"'):
        candidates()


@pytest.fixture
def two_widths(pretended: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A processor with registers of both widths, a cache of its own, and seconds to be measured."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    pretended(*AVX512, "avx512vnni")
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(selection, "detected_features", instruction_set.detected_features)
    measured: list[int] = []

    def measure(wide: float, narrow: float) -> str:
        def seconds(sets: Any) -> dict[str, float]:
            measured.append(1)
            return dict(zip([one.name for one in sets], (wide, narrow), strict=True))

        monkeypatch.setattr(selection, "time_products", seconds)
        selection.selected.cache_clear()
        jit.cache_folder.cache_clear()
        return selection.selected().name

    measure.times = measured  # type: ignore[attr-defined]
    yield measure
    selection.selected.cache_clear()
    jit.cache_folder.cache_clear()


def test_narrow_registers_are_taken_where_they_are_faster(two_widths: Any, tmp_path: Path) -> None:
    """Measured once; measured again where what was kept is damaged, or of another processor."""
    assert two_widths(wide=1.0, narrow=0.9) == "avx512vnni256"
    assert two_widths(wide=1.0, narrow=2.0) == "avx512vnni256"
    assert len(two_widths.times) == 1
    (kept,) = tmp_path.glob("native-*-selection/selection.json")
    kept.write_text("{")
    assert two_widths(wide=1.0, narrow=0.97) == "avx512vnni"
    kept.write_text(kept.read_text().replace("avx512vl", "avx512xx"))
    assert two_widths(wide=1.0, narrow=0.5) == "avx512vnni256"
    assert len(two_widths.times) == 3
    assert [path.name for path in kept.parent.iterdir()] == ["selection.json"]


def test_products_are_timed() -> None:
    portable = INSTRUCTION_SETS[-1]
    seconds = tuning.time_products([portable])
    assert 1e-5 < seconds["portable"] < 1.0


def test_where_nothing_can_be_written_nothing_is_cached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Machine code of one instruction set must not lie where another looks for its own."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(blocked / "cache"))
    jit.cache_folder.cache_clear()
    function = jit.compiled_for("any", lambda x: x + 1)
    assert function(1) == 2
    assert function.stats.cache_path is None
    jit.cache_folder.cache_clear()
