"""The stated prompts are balanced, agree with their attributes, and are reproducible."""

import importlib.util
import json
import math
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from melisma.joint.settings_words import read_settings
from melisma.values.attributes import TONALITIES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_prompts", BENCHMARKS / "write_prompts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    text = (BENCHMARKS / "prompts" / "stated_prompts.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_leads_tonalities_and_wordings_are_even(rows: list[dict]) -> None:
    assert len(rows) == 240
    assert set(Counter(row["lead"] for row in rows).values()) == {20}
    assert Counter(row["tonality"] for row in rows) == dict.fromkeys(TONALITIES, 10)
    assert Counter(row["wording"] for row in rows) == {"grammar": 120, "template": 120}
    assert sum(row["tempo_stated"] for row in rows) == 160


def test_tempi_are_log_uniform(rows: list[dict]) -> None:
    tempi = sorted(math.log(row["tempo_bpm"]) for row in rows)
    low, high = math.log(60), math.log(180)
    for index, tempo in enumerate(tempi):
        assert tempo == pytest.approx(low + (high - low) * (index + 0.5) / 240, abs=0.02)


def test_prompts_say_their_truth(rows: list[dict]) -> None:
    for row in rows:
        read = read_settings(row["prompt"])
        assert read.tonality == row["tonality"], row["prompt"]
        assert read.tempo_bpm == (row["tempo_bpm"] if row["tempo_stated"] else None), row["prompt"]
        assert row["lead"] in read.families, row["prompt"]


def test_the_same_seed_gives_the_same_prompts(script: ModuleType) -> None:
    assert script.rows(seed=5, count=24) == script.rows(seed=5, count=24)
