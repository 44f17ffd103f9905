"""Instruction sets: those of this processor, and those that the native kernels are compiled for.

The environment variable `MELISMA_INSTRUCTION_SET` restricts the program to an older set, so that
the kernels of any processor can be tested and timed on a newer one. It applies to our own kernels
only; PyTorch's libraries have their own switches (`benchmarks/processor.py`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from llvmlite import binding

from melisma.values.errors import MelismaError

ENVIRONMENT = "MELISMA_INSTRUCTION_SET"
"""Name of the environment variable that restricts the program to one of `NAMES`."""


@dataclass(frozen=True, kw_only=True)
class InstructionSet:
    """The instructions and registers that kernels may use."""

    name: str
    needs: tuple[str, ...]
    """Features that the processor must have, under LLVM's names."""
    lanes: int
    """float32 numbers in a vector, which may be narrower than the processor's registers."""
    registers: int
    """Number of vector registers."""
    byte_products: str
    """Instruction for products of bytes: "vpdpbusd" (four products added into 32 bits, VNNI),
    "vpmaddwd" (two products of 16 bits; Intel, SSE2 and later), or "none" (left to LLVM)."""
    target: str | None
    """LLVM's name of a processor with this set and nothing newer; None for the newest set."""

    @property
    def vnni(self) -> bool:
        """Whether bytes are multiplied four at a time (`vpdpbusd`)."""
        return self.byte_products == "vpdpbusd"


INSTRUCTION_SETS = (
    InstructionSet(
        name="avx512vnni", needs=("avx512f", "avx512bw", "avx512vl", "avx512vnni"), lanes=16,
        registers=32, byte_products="vpdpbusd", target=None,
    ),
    InstructionSet(
        name="avx512vnni256", needs=("avx512f", "avx512bw", "avx512vl", "avx512vnni"), lanes=8,
        registers=32, byte_products="vpdpbusd", target=None,
    ),
    InstructionSet(
        name="avxvnni", needs=("avx2", "fma", "f16c", "avxvnni"), lanes=8, registers=16,
        byte_products="vpdpbusd", target="alderlake",
    ),
    InstructionSet(
        name="avx512", needs=("avx512f", "avx512bw", "avx512vl"), lanes=16, registers=32,
        byte_products="vpmaddwd", target="skylake-avx512",
    ),
    InstructionSet(
        name="avx2", needs=("avx2", "fma", "f16c"), lanes=8, registers=16,
        byte_products="vpmaddwd", target="haswell",
    ),
    InstructionSet(
        name="portable", needs=(), lanes=8, registers=16, byte_products="none", target="generic",
    ),
)  # fmt: skip
"""All sets that have kernels, fastest first."""
NAMES = tuple(one.name for one in INSTRUCTION_SETS)
_BEYOND_AVX2 = ("avx512", "avx10", "avxvnni", "amx")
"""Prefixes of the names of features newer than AVX2."""


def detected_features() -> Mapping[str, bool]:
    """Optional features of this processor, under LLVM's names; empty where LLVM does not know."""
    try:
        return binding.get_host_cpu_features()
    except RuntimeError:
        return {}


def restriction() -> InstructionSet | None:
    """The set that the environment variable names; None where it is not set.

    Raises:
        MelismaError: The name is unknown, or the processor lacks that set.
    """
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return None
    if name not in NAMES:
        raise MelismaError(f'{ENVIRONMENT} is one of {", ".join(NAMES)}, not "{name}"')
    found = INSTRUCTION_SETS[NAMES.index(name)]
    missing = [one for one in found.needs if not detected_features().get(one)]
    if missing:
        raise MelismaError(f"{ENVIRONMENT}={name}: this processor has no {', '.join(missing)}")
    return found


@cache
def features() -> Mapping[str, bool]:
    """Features that the program may use: those of the processor, without what a restriction
    excludes."""
    detected, limit = detected_features(), restriction()
    if limit is None or limit.target is None:
        return detected
    if limit.name == "portable":
        return {"fma": bool(detected.get("fma"))}
    return {
        name: present and (name in limit.needs or not name.startswith(_BEYOND_AVX2))
        for name, present in detected.items()
    }


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions that multiply bfloat16 (AVX-512, AMX, Arm)."""
    return any(features().get(name) for name in ("avx512bf16", "amx-bf16", "bf16"))


def has_fma() -> bool:
    """Whether the processor has fused multiply-add, with a single rounding. Without it the C
    library would emulate the operation, many times slower."""
    return bool(features().get("fma")) or platform.machine().lower() in ("arm64", "aarch64")


def candidates() -> tuple[InstructionSet, ...]:
    """Sets worth measuring on this processor: the best one, and where that has registers of 512
    bits, the best with 256. Some processors lower their clock while they use 512 bits."""
    limit = restriction()
    if limit is not None:
        return (limit,)
    available = features()
    usable = [one for one in INSTRUCTION_SETS if all(available.get(need) for need in one.needs)]
    best = usable[0]
    if best.lanes == 8:
        return (best,)
    return best, next(one for one in usable[1:] if one.lanes == 8)
