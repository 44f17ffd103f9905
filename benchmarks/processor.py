"""Which processor a benchmark ran on, and how it is restricted to an older one.

Figures of two kinds of processor cannot be compared, so every benchmark of speed names its own.
With `--instruction-set avx2` all arithmetic keeps to that set: our kernels, PyTorch's, oneDNN's and
MKL's; so what most people's processors do can be measured on any. (A newer processor restricted to
AVX2 is still faster than an older one: what it reaches in float32, and its memory, are measured
beside.)
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict, dataclass

import torch

from melisma.engine.resources.hardware import processor, read_bandwidth
from melisma.nn.idle_threads import SETTINGS
from melisma.nn.precision import compute_dtype
from melisma.simd.instruction_set import ENVIRONMENT, NAMES
from melisma.simd.selection import selected

_RESTRICTIONS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "avxvnni": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2_VNNI",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "portable": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
"""Environment variables that restrict PyTorch, oneDNN and MKL to the same set."""
_SIZE, _SECONDS = 1024, 0.5


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What ran a benchmark."""

    processor: str
    instructions: list[str]
    """Those that were used."""
    instruction_set: str
    """Of our kernels."""
    compute_dtype: str
    """Of networks that are no language model."""
    threads: int
    float32_gflops: float
    """Of a large product of matrices."""
    read_gigabytes: float
    """A second, from memory."""

    @property
    def label(self) -> str:
        """For the names of files: the instruction set and the threads."""
        return f"{self.instruction_set}_{self.threads}"

    def line(self) -> str:
        """For a person."""
        return (
            f"{self.processor} ({', '.join(self.instructions)}), kernels {self.instruction_set}, "
            f"networks in {self.compute_dtype}, {self.threads} threads: "
            f"{self.float32_gflops:.0f} GFLOP/s in float32, memory {self.read_gigabytes:.0f} GB/s"
        )

    def facts(self) -> dict[str, object]:
        """For the results."""
        return asdict(self)


def start(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Machine]:
    """The parsed options of a benchmark of speed, and the machine it runs on: with options for
    threads and instruction set, in a process that is restricted to them."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--instruction-set", choices=NAMES, help="use no newer instructions")
    given = parser.parse_args()
    _restart_restricted(given.instruction_set)
    torch.set_num_threads(given.threads)
    found = _machine(given.threads)
    print(found.line())
    return given, found


def _restart_restricted(name: str | None) -> None:
    """Starts this command anew with the switches of all libraries, which they read only once: those
    of an instruction set, and those that the program sets before it loads PyTorch."""
    wanted = dict(SETTINGS)
    if name is not None:
        wanted |= {ENVIRONMENT: name, **_RESTRICTIONS.get(name, {})}
    if any(os.environ.get(one) != value for one, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def _machine(threads: int) -> Machine:
    """Measures for a second."""
    found = processor()
    one = torch.ones(_SIZE, _SIZE)
    torch.mm(one, one)
    started, count = time.perf_counter(), 0
    while time.perf_counter() < started + _SECONDS:
        torch.mm(one, one)
        count += 1
    flops = 2 * _SIZE**3 * count / (time.perf_counter() - started)
    return Machine(
        processor=found.name,
        instructions=list(found.instructions),
        instruction_set=selected().name,
        compute_dtype=compute_dtype().name,
        threads=threads,
        float32_gflops=round(flops / 1e9, 1),
        read_gigabytes=round(read_bandwidth(threads) / 1e9, 1),
    )
