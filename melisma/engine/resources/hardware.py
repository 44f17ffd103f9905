"""Hardware detection: cores, memory, vector instructions, cache size and memory bandwidth.

Input: the files and calls of the operating system, by psutil where it knows them. Output:
`Processor`, `Memory`, and measured bytes per second. In a container its limits count (cgroups of
both versions, which psutil does not read), not those of the host. Nothing here loads torch.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from melisma.simd.instruction_set import features
from melisma.simd.jit import compiled_loop

SYSTEM = Path("/")
"""Root of the system's files."""
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512vnni": "VNNI",
    "avxvnni": "AVX-VNNI",
    "avx512bf16": "AVX512-BF16",
    "amx-int8": "AMX",
    "neon": "NEON",
    "dotprod": "dot products",
}
"""Vector instructions that decide how fast weights are multiplied: LLVM's name -> common name."""
BUSY = 0.5
"""Load average per core from which on measurements do not represent an idle machine."""
CACHE_BYTES = 32 << 20
"""Last-level cache where the system does not report it (chosen: more than most have)."""
_READ_BYTES = 128 << 20
"""Least memory that is read to measure the bandwidth."""
_READS = 3
"""Passes over it, of which the fastest counts: the others are disturbed by the system."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory in bytes, as this process may use it."""

    total_bytes: int | None
    """Of the machine or its container; None where the system does not report it."""
    available_bytes: int | None
    """What can be allocated now without swapping."""
    contained: bool = False
    """Whether a container's limit is the lower one."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """The processor, as this process may use it."""

    name: str
    cores: int
    """Logical cores of the machine."""
    usable: float
    """Cores that this process may use; a container's share may be a fraction."""
    instructions: tuple[str, ...]
    """Values of `INSTRUCTIONS`."""

    @property
    def threads(self) -> int:
        """Threads that can run in parallel."""
        return max(1, int(self.usable))


def processor(system: Path = SYSTEM) -> Processor:
    """Detects the processor.

    Args:
        system: Root of the system's files.
    """
    cores = _cores()
    usable = float(_allowed_cores())
    share = _container_cores(system)
    usable_features = features()
    found = [common for name, common in INSTRUCTIONS.items() if usable_features.get(name)]
    if platform.machine().lower() in ("arm64", "aarch64") and "NEON" not in found:
        found.insert(0, "NEON")  # every Arm processor of 64 bits has it; LLVM may not list it
    return Processor(
        name=_processor_name(system),
        cores=cores,
        usable=usable if share is None else min(usable, share),
        instructions=tuple(found),
    )


def _cores() -> int:
    """Logical cores of the machine."""
    return psutil.cpu_count() or 1


def _allowed_cores() -> int:
    """Logical cores on which the system schedules this process (its affinity)."""
    try:
        return len(psutil.Process().cpu_affinity() or ()) or _cores()
    except (AttributeError, OSError, psutil.Error):  # macOS has no affinity; a sandbox no /proc
        return _cores()


def _processor_name(system: Path) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(system / "proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"


def memory(system: Path = SYSTEM) -> Memory:
    """Detects the memory of the machine, or of the container where that has less.

    Args:
        system: Root of the files of the container's limits.
    """
    total, available = _machine_memory()
    contained = False
    for limit, used in _container_memory(system):
        if total is None or limit < total:
            total, contained = limit, True
        if available is None or limit - used < available:
            available, contained = max(limit - used, 0), True
    return Memory(total_bytes=total, available_bytes=available, contained=contained)


def _machine_memory() -> tuple[int | None, int | None]:
    """Total and available bytes of the machine; None where the system does not report them."""
    try:
        found = psutil.virtual_memory()
    except (OSError, psutil.Error):  # e.g. a sandbox without /proc
        return None, None
    return found.total, found.available


def _text(path: Path) -> str:
    """Text of a system file; empty where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _integer(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _container_folders(system: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups of this process, innermost first, of both versions.

    Inside a container the path of the group may be that of the host; the root of the tree is then
    the container's own folder, so it is always included.
    """
    tree = system / "sys/fs/cgroup"
    for line in _text(system / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) < 3 or (parts[1] and controller not in parts[1].split(",")):
            continue
        named = [parts[1], controller, *(["cpu,cpuacct"] if controller == "cpu" else [])]
        roots = [tree / name for name in dict.fromkeys(named)] if parts[1] else [tree]
        for root in roots:
            folder = root / parts[2].strip("/")
            while folder != root:
                yield folder
                folder = folder.parent
            yield root


def _container_memory(system: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of every group that sets a limit. Page cache counts as unused: the
    system reclaims it when memory is needed."""
    files = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    unlimited = 1 << 60  # without a limit, version 1 reports a number beyond any memory
    for folder in _container_folders(system, "memory"):
        for limit_file, used_file, files_name in files:
            limit = _integer(folder / limit_file)
            if limit is None or limit >= unlimited:
                continue
            cached = re.search(
                rf"^{files_name} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE
            )
            used = _integer(folder / used_file) or 0
            yield limit, max(used - (int(cached[1]) if cached else 0), 0)


def _container_cores(system: Path) -> float | None:
    """Cores that the control groups allow on average; None without a limit."""
    shares = []
    for folder in _container_folders(system, "cpu"):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            shares.append(int(words[0]) / max(int(words[1]), 1))
        quota, period = (
            _integer(folder / "cpu.cfs_quota_us"),
            _integer(folder / "cpu.cfs_period_us"),
        )
        if quota is not None and quota > 0 and period:
            shares.append(quota / period)
    return min(shares, default=None)


def busy_programs() -> float | None:
    """Load average of the last minute where it is high enough to disturb measurements (`BUSY` per
    core); else None."""
    load, _, _ = psutil.getloadavg()
    return load if load >= BUSY * _cores() else None


def cache_bytes(system: Path = SYSTEM) -> int:
    """Bytes of the last-level cache, `CACHE_BYTES` where the system does not report it."""
    sizes = []
    for index in (system / "sys/devices/system/cpu/cpu0/cache").glob("index*"):
        found = re.fullmatch(r"(\d+)([KM]?)", _text(index / "size").strip())
        if found:
            sizes.append(int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[found[2]])
    return max(sizes, default=CACHE_BYTES)


def beyond_cache_bytes() -> int:
    """Bytes that exceed every cache: four times the last level, so that little of them is still
    cached when they are read again; at most a quarter of the available memory."""
    available = memory().available_bytes
    wanted = max(_READ_BYTES, 4 * cache_bytes())
    return wanted if available is None else min(wanted, max(available // 4, 1 << 20))


def read_bandwidth(threads: int) -> float:
    """Measures the memory bandwidth of sequential reads.

    Takes about a quarter of a second, and a second more where numba has to compile.

    Args:
        threads: Threads that read in parallel, a stream each.

    Returns:
        Bytes per second.
    """
    part = beyond_cache_bytes() // threads // 8
    arrays = [np.ones(part, np.float64) for _ in range(threads)]
    _total(arrays[0][:64])
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_READS):
            start = time.perf_counter()
            list(pool.map(_total, arrays))
            best = min(best, time.perf_counter() - start)
    return threads * part * 8 / best


@partial(compiled_loop, fastmath=True)
def _total(values):
    total = 0.0
    for index in range(values.shape[0]):
        total += values[index]
    return total
