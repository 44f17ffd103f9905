"""Instruction sets: what this processor has, and which of them the native kernels are made for.

The environment variable `MELISMA_INSTRUCTION_SET` restricts the program to an older set, so that
the kernels of any processor can be tested and timed on one that has more. It decides for our own
code alone; PyTorch's libraries have switches of their own (`benchmarks/processor.py`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from llvmlite import binding

ENVIRONMENT = "MELISMA_INSTRUCTION_SET"
"""Name of the environment variable that restricts the program to one of `NAMES`."""


@dataclass(frozen=True, kw_only=True)
class InstructionSet:
    """What kernels may use."""

    name: str
    needs: tuple[str, ...]
    """Features that the processor must have, by LLVM's names."""
    lanes: int
    """float32 numbers of one vector register (of as many as kernels use of it)."""
    registers: int
    """Vector registers."""
    byte_products: str
    """Instruction for products of bytes: "vpdpbusd" (four products added into 32 bits, VNNI),
    "vpmaddwd" (two products of 16 bits; Intel, SSE2 and later), or "none" (LLVM chooses)."""
    target: str | None
    """A processor, by LLVM's name, that has this set and nothing beyond it; None where nothing is
    beyond it."""

    @property
    def vnni(self) -> bool:
        """Whether bytes are multiplied four at a time."""
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
"""All that there are kernels for, the fastest first."""
NAMES = tuple(one.name for one in INSTRUCTION_SETS)
_BEYOND_AVX2 = ("avx512", "avx10", "avxvnni", "amx")
"""How the names of newer features begin."""


def detected_features() -> Mapping[str, bool]:
    """Features of this processor beyond its family's first, by LLVM's names; empty where LLVM
    cannot tell."""
    try:
        return binding.get_host_cpu_features()
    except RuntimeError:
        return {}


def restriction() -> InstructionSet | None:
    """The set that the environment asks for; None where it asks for nothing.

    Raises:
        ValueError: The name is unknown, or the processor does not have that set.
    """
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return None
    if name not in NAMES:
        raise ValueError(f'{ENVIRONMENT} is one of {", ".join(NAMES)}, not "{name}"')
    found = INSTRUCTION_SETS[NAMES.index(name)]
    missing = [one for one in found.needs if not detected_features().get(one)]
    if missing:
        raise ValueError(f"{ENVIRONMENT}={name}: this processor has no {', '.join(missing)}")
    return found


@cache
def features() -> Mapping[str, bool]:
    """Features that the program may use: those of the processor, less what is beyond a
    restriction."""
    found, asked = detected_features(), restriction()
    if asked is None or asked.target is None:
        return found
    if asked.name == "portable":
        return {"fma": bool(found.get("fma"))}
    return {
        name: there and (name in asked.needs or not name.startswith(_BEYOND_AVX2))
        for name, there in found.items()
    }


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16 (AVX-512, AMX, Arm)."""
    return any(features().get(name) for name in ("avx512bf16", "amx-bf16", "bf16"))


def has_fma() -> bool:
    """Whether the processor multiplies and adds with one rounding; elsewhere a function of the
    system would do it, many times slower."""
    return bool(features().get("fma")) or platform.machine().lower() in ("arm64", "aarch64")


def candidates() -> tuple[InstructionSet, ...]:
    """Sets that are worth a measurement on this processor: the best, and where that has registers
    of 512 bits, the best of 256. Some processors lower their clock while they use the former."""
    asked = restriction()
    if asked is not None:
        return (asked,)
    known = features()
    usable = [one for one in INSTRUCTION_SETS if all(known.get(need) for need in one.needs)]
    best = usable[0]
    if best.lanes == 8:
        return (best,)
    return best, next(one for one in usable[1:] if one.lanes == 8)
