"""Jobs that are killed at many points and started again end as if nobody had killed them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"
JOBS = 5


@pytest.mark.slow
def test_killed_jobs_end_as_others_do() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--points", "8"],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.findall(r"(\d+) of (\d+) kills left other bytes", done.stdout)
    assert counts == [("0", "8")] * JOBS, done.stdout
