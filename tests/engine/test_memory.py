"""Estimates of memory and speed agree with what the engine really takes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from small_model import write_model

from melisma.codec.encodec.model import Encodec, EncodecSettings
from melisma.engine.cpu import NativeEngine
from melisma.engine.limits import PREFILL_ROWS
from melisma.engine.native.packing import Packed, pack
from melisma.engine.native.trunk import KVCache
from melisma.engine.resources import hardware, memory, micro_benchmark
from melisma.engine.resources.memory import (
    ModelSizes,
    Rates,
    StageShape,
    Workload,
    estimate_memory,
    fits,
    matrix_bytes,
    recommended_precision,
    require_memory,
    sampling_seconds,
    step_seconds,
)
from melisma.files.hub import PUBLISHED, HubCard
from melisma.generation import catalogue, forecast, loading
from melisma.lm import ConditioningSettings, TokenModel, TokenModelSettings
from melisma.lm.musicgen_weights import settings_of
from melisma.lm.patterns import PATTERNS
from melisma.nn.t5 import T5Settings, published_shapes
from melisma.values.errors import MelismaError
from melisma.values.model_ref import PRECISIONS

GIB = 1 << 30
OURS = TokenModelSettings(levels=4, vocabulary=96, width=64, layers=3, heads=2, window_frames=40)
SINGLE = TokenModelSettings(
    levels=4, vocabulary=100, width=64, layers=2, heads=4, window_frames=500, expansion=4.0,
    norm="layer", feed_forward="gelu", positions="sinusoidal",
    conditions=ConditioningSettings(slots=False, text_width=24),
)  # fmt: skip
BEFORE = dataclasses.replace(
    SINGLE, pattern="delayed_pairs",
    conditions=ConditioningSettings(slots=False, text_width=24, text_before=True, chroma_frames=9),
)  # fmt: skip
RATES = Rates(
    threads=2,
    read_bandwidth=2e10,
    matmul_bandwidth={"float32": 2e10, "bfloat16": 2e10, "int8": 1.6e10, "int4": 1.2e10},
    operation_seconds=1e-6,
)


def shape_of(settings: TokenModelSettings, rate_hz: float = 50.0) -> StageShape:
    return StageShape.of(dataclasses.asdict(settings), rate_hz)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (70, 64), (1, 192), (300, 1024)])
def test_a_matrix_is_counted_as_it_is_packed(outputs: int, inputs: int, precision: str) -> None:
    really = pack(np.ones((outputs, inputs), np.float32), precision).bytes
    assert matrix_bytes(outputs, inputs, precision) == really


def array_bytes(engine: NativeEngine) -> int:
    """Bytes of all arrays of an engine."""
    total = engine.heads.bytes + sum(table.nbytes for table in engine.tables)
    for layer in (*engine.trunk.layers, SimpleNamespace(norm=engine.trunk.norm)):
        for part in vars(layer).values():
            if isinstance(part, Packed):
                total += part.bytes
            elif part is not None:
                total += part.weight.nbytes + (0 if part.bias is None else part.bias.nbytes)
    return total


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("settings", [OURS, SINGLE, BEFORE])
def test_weights_and_cache_are_those_of_the_engine(
    settings: TokenModelSettings, precision: str
) -> None:
    shape, workload = shape_of(settings), Workload(seconds=3, pieces=2, text_tokens=7)
    engine = NativeEngine(TokenModel(settings), precision=precision, threads=1)
    assert shape.bytes_per_step(precision) == engine.bytes_per_step
    assert shape.weight_bytes(precision) == pytest.approx(array_bytes(engine), rel=0.02)
    positions = shape.prefix_positions(workload) + TokenModel(settings).pattern.steps(150)
    window = min(TokenModel(settings).window_steps + shape.prefix_positions(workload), positions)
    capacity = min(window + PREFILL_ROWS, positions)
    cache = KVCache(
        engine.trunk, workload.rows, capacity, workload.text_tokens if shape.text else 0
    )
    allocated = sum(array.nbytes for one in cache.layers + cache.texts for array in one.arrays())
    assert shape.cache_bytes(precision, workload) == pytest.approx(allocated, rel=0.02)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_steps_are_those_of_the_pattern(pattern: str) -> None:
    shape = shape_of(dataclasses.replace(OURS, pattern=pattern))
    assert shape.offsets == PATTERNS[pattern](4).offsets
    assert shape.steps(2.01) == PATTERNS[pattern](4).steps(101)
    assert shape.all_steps(2.01) == shape.steps(2.01)


def test_a_long_piece_is_generated_in_windows() -> None:
    shape = dataclasses.replace(shape_of(SINGLE), longest_seconds=30.0, stride_seconds=18.0)
    long, short = Workload(seconds=66), Workload(seconds=30)
    assert shape.cache_bytes("int8", long) == shape.cache_bytes("int8", short)
    assert shape.all_steps(66) == 1503 + 2 * (900 + 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no settings of a token model: width is missing"),
        ({"width": 64, "levels": 2, "layers": 2, "heads": 2, "conditions": 3}, "no settings"),
        ({"width": 64, "levels": 2, "layers": 2, "heads": 2, "pattern": "x"}, 'no pattern "x"'),
        ({"width": 64, "levels": 0, "layers": 2, "heads": 2}, "of 0 levels"),
    ],
)
def test_settings_of_no_token_model(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MelismaError, match=said):
        StageShape.of(settings, 50.0)


def test_another_precision_is_refused() -> None:
    with pytest.raises(MelismaError, match='no precision "int2": known are float32'):
        estimate_memory(ModelSizes(stages=()), "int2", Workload(seconds=1))


def test_parts_of_the_estimate() -> None:
    sizes = ModelSizes(
        stages=(shape_of(SINGLE), dataclasses.replace(shape_of(OURS), causal=False)),
        text_parameters=1000, codec_parameters=500, other_parameters=10, half_precision=True,
        rate_hz=32_000, channels=2,
    )  # fmt: skip
    exact, small = (
        estimate_memory(sizes, name, Workload(seconds=2)).parts for name in ("float32", "int4")
    )
    assert (exact["text encoder"], small["text encoder"]) == (4000, 2000)
    assert (exact["codec"], small["codec"]) == (2000, 1500)
    assert exact["other models"] == 40
    assert exact["sound"] == (memory.SOUND_COPIES + 1) * 2 * 32_000 * 2 * 4
    ten, sixty = (
        estimate_memory(sizes, "int4", Workload(seconds=minutes * 60)).parts["sound"]
        for minutes in (10, 60)
    )
    assert ten == sixty  # longer pieces lie in temporary files
    assert small["token models"] < exact["token models"]
    need = estimate_memory(sizes, "int4", Workload(seconds=2))
    assert need.bytes == sum(need.parts.values())


def test_smaller_weights_and_shorter_pieces_are_faster() -> None:
    shape = shape_of(SINGLE)
    bare = Workload(seconds=10, guidance=False)
    assert bare.rows == 1
    seconds = [step_seconds(shape, name, Workload(seconds=10), RATES) for name in PRECISIONS]
    assert seconds == sorted(seconds, reverse=True)
    long = step_seconds(shape, "int8", Workload(seconds=60), RATES)
    assert step_seconds(shape, "int8", bare, RATES) < seconds[2] < long
    sizes = ModelSizes(stages=(shape, dataclasses.replace(shape, causal=False)))
    seconds_in_all = sampling_seconds(sizes, "int8", Workload(seconds=10), RATES)
    assert seconds_in_all == pytest.approx(503 * seconds[2])


def test_what_is_recommended() -> None:
    needs = {"float32": 8, "bfloat16": 4, "int8": 2, "int4": 1}
    fast: dict[str, float] = dict.fromkeys(PRECISIONS, 2.0)
    slow = {"float32": 0.2, "bfloat16": 0.4, "int8": 0.9, "int4": 0.8}
    assert recommended_precision(needs, fast, None) == "float32"
    assert recommended_precision(needs, fast, 5) == "bfloat16"
    assert recommended_precision(needs, slow, 100) == "int8"
    assert recommended_precision(needs, slow | {"int4": 1.1}, 100) == "int4"
    assert recommended_precision(needs, {}, 3) == "int8"
    assert recommended_precision(needs, fast, 1) is None
    assert recommended_precision(needs, {}, 1) is None


def test_a_lack_of_memory_is_reported_before_loading() -> None:
    require_memory(10 * GIB, None)
    require_memory(8 * GIB, 9 * GIB)
    assert not fits(8_500, 9_000)
    with pytest.raises(MelismaError, match=r"^musicgen needs 9\.7 GB of memory and 8\.6 GB are av"):
        require_memory(9 * GIB, 8 * GIB, "musicgen")


def test_the_text_encoder_and_the_codec_are_counted() -> None:
    base = T5Settings(width=768, layers=12, heads=12, hidden_width=3072)
    sizes = {name: np.prod(shape) for name, shape in published_shapes(base).items()}
    twins = sizes.get("encoder.embed_tokens.weight", 0) if "shared.weight" in sizes else 0
    assert sum(sizes.values()) - twins == catalogue._TEXT_PARAMETERS
    with torch.device("meta"):
        network = Encodec(EncodecSettings.from_config(catalogue._CODEC))
    tensors = [*network.parameters(), *network.buffers()]
    assert sum(one.numel() for one in tensors) == pytest.approx(
        catalogue._CODEC_PARAMETERS, rel=0.01
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_has_the_sizes_of_its_files(name: str) -> None:
    config = catalogue._config(name)
    facts = catalogue._musicgen(name, config)
    (stage,) = facts.sizes.stages
    unbounded = dataclasses.replace(
        stage, longest_seconds=float("inf"), stride_seconds=float("inf")
    )
    assert unbounded == shape_of(settings_of(config))
    token_model = stage.weight_bytes("float32") / 4
    whole = token_model + facts.sizes.text_parameters + facts.sizes.codec_parameters
    assert whole == pytest.approx(PUBLISHED[name].parameters, rel=0.01)
    assert ("stereo" in name, "melody" in name) == (facts.sizes.channels == 2, facts.melody)
    assert not facts.commercial


@pytest.fixture
def nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    card = HubCard(licence=None, bytes=None, parameters=None, cached=False)
    monkeypatch.setattr(catalogue, "hub_card", lambda name, offline: card)  # noqa: ARG005


@pytest.mark.usefixtures("nothing_cached")
def test_all_models_are_listed() -> None:
    models = {facts.name: facts for facts in catalogue.known_models()}
    assert set(models) >= {"default", "facebook/musicgen-small"}
    shipped = models["default"]
    assert (shipped.kind, shipped.commercial) == ("stages+scores", True)
    assert shipped.disk_bytes == sum(p.stat().st_size for p in (shipped.folder or Path()).iterdir())
    medium = models["facebook/musicgen-medium@refs/pr/10"]
    assert (medium.kind, medium.folder, medium.usual_precision) == ("mono", None, "int8")
    assert models["facebook/musicgen-stereo-melody"].kind == "stereo melody"


def test_parameters_of_our_own_are_counted_from_headers() -> None:
    composer = loading.load("default")
    stages = [stage for stage in (composer.semantic, composer.coarse, composer.fine) if stage]  # pyright: ignore[reportAttributeAccessIssue] - ours, not MusicGen
    facts = catalogue.facts_of("default")
    for stage, shape in zip(stages, facts.sizes.stages, strict=True):
        assert shape == shape_of(stage.settings, 25)
        if stage.settings.causal:
            engine = NativeEngine(stage, threads=1)
            assert shape.weight_bytes("float32") == pytest.approx(array_bytes(engine), rel=0.02)


def test_a_folder_of_a_training(tmp_path: Path) -> None:
    write_model(tmp_path)
    facts = catalogue.facts_of(str(tmp_path))
    assert (facts.kind, facts.folder, len(facts.sizes.stages)) == ("stages", tmp_path, 3)
    assert not facts.sizes.stages[2].causal
    (tmp_path / "codec.safetensors").unlink()
    with pytest.raises(MelismaError, match=r"holds no model: it lacks codec.safetensors; give"):
        catalogue.facts_of(str(tmp_path))


def test_a_damaged_folder_of_a_training(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "coarse_lm.safetensors").write_bytes(b"nothing")
    with pytest.raises(MelismaError, match=r"coarse_lm.safetensors is truncated or damaged"):
        catalogue.facts_of(str(tmp_path))
    save_file({"a": np.ones(3)}, tmp_path / "coarse_lm.safetensors")
    with pytest.raises(MelismaError, match=r"coarse_lm.safetensors is no checkpoint of Melisma"):
        catalogue.facts_of(str(tmp_path))


def write_published(folder: Path, **changes: Any) -> dict[str, Any]:
    """A checkpoint of which only headers and configuration are read."""
    config = catalogue._config("facebook/musicgen-small") | changes
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    tensors = {
        "text_encoder.shared.weight": 40,
        "text_encoder.encoder.embed_tokens.weight": 40,
        "audio_encoder.decoder.bias": 30,
        "audio_encoder.quantizer.layers.0.codebook.embed_avg": 9,
        "decoder.bias": 500,
    }
    arrays = {name: np.zeros(size, np.float32) for name, size in tensors.items()}
    save_file(arrays, folder / "model.safetensors")
    return config


def test_a_folder_of_a_published_checkpoint(tmp_path: Path) -> None:
    write_published(tmp_path)
    facts = catalogue.facts_of(str(tmp_path))
    assert (facts.kind, facts.licence, facts.folder) == ("mono", "CC BY-NC 4.0", tmp_path)
    assert (facts.sizes.text_parameters, facts.sizes.codec_parameters) == (40, 30)
    assert facts.disk_bytes == 4 * facts.parameters


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"audio_encoder": None}, "describes no audio_encoder"),
        (
            {"decoder": {"hidden_size": 64}},
            "MusicGen: decoder.ffn_dim is missing",
        ),
        ({"decoder": None}, "not of MusicGen: decoder is null"),
        ({"model_type": "bark"}, 'is of the family "bark"'),
    ],
)
def test_a_configuration_that_is_no_musicgen(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    write_published(tmp_path, **changes)
    with pytest.raises(MelismaError, match=said):
        catalogue.facts_of(str(tmp_path))


def test_a_damaged_checkpoint_in_the_cache_counts_as_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = HubCard(licence=None, bytes=None, parameters=None, cached=True)
    monkeypatch.setattr(catalogue, "hub_card", lambda name, offline: card)  # noqa: ARG005
    monkeypatch.setattr(catalogue, "published_folder", lambda name, offline: tmp_path)  # noqa: ARG005
    write_published(tmp_path)
    assert catalogue.facts_of("facebook/musicgen-small").folder == tmp_path
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    assert catalogue.facts_of("facebook/musicgen-small").folder is None


@pytest.mark.parametrize("name", ["", "nope", "no/such/folder"])
def test_a_name_of_no_model(name: str) -> None:
    with pytest.raises(MelismaError, match=f'no model "{name}": .*known are default'):
        catalogue.facts_of(name)


def test_estimates_need_no_torch() -> None:
    code = (
        "import sys\n"
        "from melisma.engine.resources import hardware, memory, micro_benchmark\n"
        "from melisma.generation import catalogue, forecast\n"
        "facts = catalogue.known_models()\n"
        "memory.estimate_memory(facts[1].sizes, 'int8', memory.Workload(seconds=30))\n"
        "micro_benchmark.run_once(micro_benchmark.random_matrix(64, 64, 'int8'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    root = Path(catalogue.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Micro-benchmarks that take almost no time."""
    monkeypatch.setattr(hardware, "_READ_BYTES", 1 << 20)
    monkeypatch.setattr(hardware, "cache_bytes", lambda: 1 << 18)
    monkeypatch.setattr(micro_benchmark, "_BENCHMARK_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_rates_are_measured() -> None:
    rates = micro_benchmark.measure_rates(1)
    assert set(rates.matmul_bandwidth) == set(PRECISIONS)
    assert min(rates.read_bandwidth, *rates.matmul_bandwidth.values()) > 1e7
    assert 0 < rates.operation_seconds < 0.1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_random_matrix_is_laid_out_as_a_packed_one(precision: str) -> None:
    found = micro_benchmark.random_matrix(130, 64, precision)
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    wanted = pack(np.tile(values, (3, 1)), precision)
    assert (found.outputs, found.tiles, found.bytes) == (130, 3, wanted.bytes)
    assert np.array_equal(found.weights, wanted.weights)
    if found.group_scales is not None and wanted.group_scales is not None:
        assert np.array_equal(found.group_scales, wanted.group_scales)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("settings", [OURS, SINGLE, BEFORE])
def test_a_step_is_timed_on_some_layers(settings: TokenModelSettings, precision: str) -> None:
    deep = dataclasses.replace(settings, layers=60)
    shape, workload = shape_of(deep), Workload(seconds=1)
    tried = micro_benchmark.benchmarked_layers(shape, precision)
    assert 2 <= tried < 60
    assert 0 < micro_benchmark.time_step(shape, precision, workload, 1) < 1
    assert 0 < micro_benchmark.time_step(shape_of(settings), precision, workload, 1) < 1


@pytest.mark.usefixtures("quick")
def test_a_single_stage_is_estimated_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "time_codec", lambda *_: 0.1)
    sizes = ModelSizes(stages=(shape_of(SINGLE),), rate_hz=32_000)
    facts = dataclasses.replace(catalogue.facts_of("default"), single=True, sizes=sizes)
    estimate = forecast.forecast(facts, "int8", Workload(seconds=4), 1)
    assert estimate.steps_a_second is not None
    assert estimate.whole_seconds == pytest.approx(203 / estimate.steps_a_second + 0.4)
    assert estimate.first_sound_seconds == pytest.approx(
        15 / estimate.steps_a_second + 0.1 * 12 / 50
    )
    assert estimate.tried_layers == 2
    assert estimate.load_seconds > 0


def test_a_codec_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_benchmark, "_BENCHMARK_SECONDS", 0.001)
    config = {
        "sampling_rate": 3_200, "num_filters": 4, "upsampling_ratios": [4, 5, 2], "hidden_size": 8,
        "codebook_size": 32, "target_bandwidths": [1.7], "use_causal_conv": False,
    }  # fmt: skip
    threads = torch.get_num_threads()
    assert 0 < micro_benchmark.time_codec(config, 2, "float32", 1) < 5
    assert torch.get_num_threads() == threads


def test_longer_pieces_are_extrapolated() -> None:
    assert forecast.extrapolated([(2.0, 1.0)], 8.0) == 4.0
    assert forecast.extrapolated([(2.0, 1.0), (5.0, 1.6), (10.0, 2.6)], 20.0) == pytest.approx(4.6)
    assert forecast.extrapolated([(5.0, 2.0), (10.0, 1.9)], 20.0) == 1.9
    tried: list[float] = []
    measured = forecast._measured(tried.append, 60.0)
    assert tried == [length for length, _ in measured] == [2.0, 5.0, 10.0, 20.0]
    tried.clear()
    forecast._measured(tried.append, 7.5)
    assert tried == [2.0, 5.0, 7.5]


def test_our_own_stages_are_tried_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    commands: list[list[str]] = []
    monkeypatch.setattr(forecast, "start_seconds", lambda: 0.5)
    monkeypatch.setattr(forecast.subprocess, "run", lambda command, **_: commands.append(command))
    facts = catalogue.facts_of(str(tmp_path))
    estimate = forecast.forecast(facts, "float32", Workload(seconds=10, pieces=1), 1)
    assert estimate.steps_a_second is None
    assert (estimate.first_sound_seconds or 0.0) > 0
    assert estimate.load_seconds >= 0
    assert estimate.whole_seconds > 0
    assert estimate.total_seconds >= estimate.whole_seconds + 0.5
    assert commands[0][2:5] == ["melisma", "generate", "a piano"]
    with pytest.raises(MelismaError, match="makes scores alone"):
        forecast.forecast(
            dataclasses.replace(facts, sound=False), "float32", Workload(seconds=1), 1
        )


def test_a_command_that_fails_is_said(tmp_path: Path) -> None:
    write_model(tmp_path)
    facts = catalogue.facts_of(str(tmp_path))
    with pytest.raises(MelismaError, match="`melisma generate` does not run here: melisma: "):
        forecast.command_seconds("generate", "a piano", facts, "--threads", "0")
