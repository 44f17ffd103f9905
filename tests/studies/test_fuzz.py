"""Fuzzing: a thousand mutated inputs to readers and commands, and the fuzzer itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from studies.mutations import (
    Mutation,
    mutated_bytes,
    mutated_json,
    mutated_lines,
    mutated_safetensors,
    mutated_tokens,
    words,
)

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
DOCUMENT = json.dumps({"a": [1, 2.5, {"b": None}], "c": "text"}).encode()
TENSORS = save(
    {"x": np.zeros((2, 3), np.float32), "y": np.ones(5, np.int8)},
    {"settings": '{"width": 3}', "kind": "codec"},
)


@pytest.mark.parametrize(("subjects", "count"), [("readers", 850), ("commands", 150)])
def test_a_thousand_damaged_inputs_are_read_or_refused(subjects: str, count: int) -> None:
    command = [sys.executable, str(FUZZ), "--subjects", subjects, "--count", str(count)]
    done = subprocess.run(
        [*command, "--seed", "18"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert f"0 faults in {count} inputs" in done.stdout


@pytest.mark.parametrize(
    ("mutate", "data"),
    [
        (mutated_bytes, DOCUMENT), (mutated_bytes, b""), (mutated_json, DOCUMENT),
        (mutated_lines, DOCUMENT + b"\nplain words\n"), (mutated_safetensors, TENSORS),
        (mutated_tokens, bytes(64)),
    ],
)  # fmt: skip
def test_a_mutation_depends_on_its_number_alone(mutate: Mutation, data: bytes) -> None:
    def made() -> list[bytes]:
        return [mutate(data, np.random.default_rng([1, number])) for number in range(300)]

    first = made()
    assert made() == first
    assert len(set(first)) > 20


def test_words_of_all_kinds_come_up() -> None:
    found = [words(np.random.default_rng(number)) for number in range(300)]
    assert "" in found
    assert any("\udcff" in one for one in found)
    assert any(len(one) > 300 for one in found)


CASES = {
    "raises": ("raise KeyError('x')", "KeyError"),
    "ends": ("os._exit(3)", "ends the process (3)"),
    "crashes": ("os.kill(os.getpid(), 11)", "ends the process (-11)"),
    "hangs": ("time.sleep(60)", "hangs"),
    "allocates": ("bytearray(2**40)", "MemoryError"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_way_to_fail_is_found(case: str, tmp_path: Path) -> None:
    what, said = CASES[case]
    (tmp_path / "a.txt").write_text("text")
    program = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(FUZZ.parent)!r})
import fuzz
from studies.fuzz_subjects import Subject
fuzz.HANG_SECONDS = 1

def read(path):
    if path.read_bytes() == b"3":
        {what}

count = iter(range(10))
mutate = lambda data, rng: str(next(count)).encode()
subject = Subject(name="it", files=(Path("a.txt"),), mutate=mutate, read=read)
for one in fuzz.fuzz([subject], 0, range(6)):
    print("FAULT", one.number, one.words)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(FUZZ.parent)},
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if line.startswith("FAULT")]
    assert len(found) == 1, done.stdout + done.stderr
    assert found[0].startswith("FAULT 3 ")
    assert said in found[0]
