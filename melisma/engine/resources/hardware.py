"""What this machine has: cores, memory, the instructions of its processor, how fast memory is read.

Enters: nothing but the system itself. Leaves: `Processor` and `Memory`, and bytes a second as
measured. In a container its limits count (cgroups of both versions), not the machine around it.
Nothing here loads torch.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from melisma.simd.instruction_set import features
from melisma.simd.jit import compiled_loop

SYSTEM = Path("/")
"""Where the files of the system begin."""
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
"""Vector instructions that decide how fast weights are multiplied, as LLVM calls them."""
BUSY = 0.5
"""Running programs for each core from which on the figures are not those of an idle machine."""
CACHE_BYTES = 32 << 20
"""Last level of cache where the system does not tell (chosen: more than most have)."""
_READ_BYTES = 128 << 20
"""Least memory that is read to find out how fast that is."""
_LEAST_READS = 3
"""Passes over it, of which the fastest counts: others are disturbed by the system."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory in bytes, as this process may use it."""

    total_bytes: int | None
    """Of the machine or its container; None where the system does not tell."""
    available_bytes: int | None
    """What can be taken now without pushing others out."""
    contained: bool = False
    """Whether a container's limit decides."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What calculates."""

    name: str
    cores: int
    """Of the machine."""
    usable: float
    """Cores that this process may use; a container's share may be a fraction."""
    instructions: tuple[str, ...]

    @property
    def threads(self) -> int:
        """Threads that can run at once."""
        return max(1, int(self.usable))


def processor(system: Path = SYSTEM) -> Processor:
    """The processor, and how much of it is ours."""
    cores = os.cpu_count() or 1
    affinity = getattr(os, "sched_getaffinity", None)
    usable = float(len(affinity(0)) if affinity else cores)
    share = _container_cores(system)
    usable_features = features()
    known = [words for name, words in INSTRUCTIONS.items() if usable_features.get(name)]
    if platform.machine().lower() in ("arm64", "aarch64") and "NEON" not in known:
        known.insert(0, "NEON")  # every processor of this kind has it, and LLVM may not say so
    return Processor(
        name=_processor_name(system),
        cores=cores,
        usable=usable if share is None else min(usable, share),
        instructions=tuple(known),
    )


def _processor_name(system: Path) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(system / "proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown"


def memory(system: Path = SYSTEM) -> Memory:
    """Memory of the machine, or of the container where that has less."""
    if sys.platform == "win32":
        return _windows_memory()
    if sys.platform == "darwin":
        return _mac_memory()
    told = dict(re.findall(r"^(\w+):\s+(\d+) kB", _text(system / "proc/meminfo"), re.MULTILINE))
    total = int(told["MemTotal"]) * 1024 if "MemTotal" in told else _pages("SC_PHYS_PAGES")
    free = told.get("MemAvailable")
    available = int(free) * 1024 if free else _pages("SC_AVPHYS_PAGES")
    contained = False
    for limit, used in _container_memory(system):
        if total is None or limit < total:
            total, contained = limit, True
        if available is None or limit - used < available:
            available, contained = max(limit - used, 0), True
    return Memory(total_bytes=total, available_bytes=available, contained=contained)


def _pages(name: str) -> int | None:
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # no such name, or no such function
        return None


def _mac_memory() -> Memory:
    try:
        told = subprocess.run(["vm_stat"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        told = ""
    return Memory(total_bytes=_pages("SC_PHYS_PAGES"), available_bytes=free_of_vm_stat(told))


def free_of_vm_stat(told: str) -> int | None:
    """Bytes that macOS can hand out, from what its program vm_stat prints; None where it is not."""
    page = re.search(r"page size of (\d+) bytes", told)
    pages = re.findall(r"^Pages (free|inactive|speculative|purgeable):\s+(\d+)", told, re.MULTILINE)
    return int(page[1]) * sum(int(count) for _, count in pages) if page and pages else None


class _WindowsMemory(ctypes.Structure):
    """MEMORYSTATUSEX of Windows."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("total", "available", "c", "d", "e", "f", "g")),
    ]


def _windows_memory() -> Memory:
    told = _WindowsMemory(length=ctypes.sizeof(_WindowsMemory))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - other systems do not have it
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(told)):
        return Memory(total_bytes=None, available_bytes=None)
    return Memory(total_bytes=told.total, available_bytes=told.available)


def _text(path: Path) -> str:
    """A file of the system; nothing where it is not there."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _whole(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _container_folders(system: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, the innermost first, of both versions.

    Inside a container the path of the group may be that of the machine around it; the folder
    where the tree begins then is the container's own, so it is always among them.
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
    """(limit, used) in bytes of every group that sets a limit. Pages of files count as unused:
    the system takes them back when memory is wanted."""
    files = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    most = 1 << 60  # without a limit, the first version tells a number beyond any memory
    for folder in _container_folders(system, "memory"):
        for limit_file, used_file, files_name in files:
            limit = _whole(folder / limit_file)
            if limit is None or limit >= most:
                continue
            cached = re.search(
                rf"^{files_name} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE
            )
            used = _whole(folder / used_file) or 0
            yield limit, max(used - (int(cached[1]) if cached else 0), 0)


def _container_cores(system: Path) -> float | None:
    """Cores that the groups of this process may use on average; None without a limit."""
    shares = []
    for folder in _container_folders(system, "cpu"):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            shares.append(int(words[0]) / max(int(words[1]), 1))
        quota, period = _whole(folder / "cpu.cfs_quota_us"), _whole(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            shares.append(quota / period)
    return min(shares, default=None)


def busy_programs() -> float | None:
    """Programs that were running in the last minute, where they are enough to spoil what is
    measured; else None."""
    asked = getattr(os, "getloadavg", None)  # Windows has none
    busy = asked()[0] if asked else 0.0
    return busy if busy >= BUSY * (os.cpu_count() or 1) else None


def cache_bytes(system: Path = SYSTEM) -> int:
    """Size of the last level of cache."""
    sizes = []
    for index in (system / "sys/devices/system/cpu/cpu0/cache").glob("index*"):
        found = re.fullmatch(r"(\d+)([KM]?)", _text(index / "size").strip())
        if found:
            sizes.append(int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[found[2]])
    return max(sizes, default=CACHE_BYTES)


def beyond_cache_bytes() -> int:
    """Memory that no cache holds: four times the last level, so that little of it is still there
    when it is read again; less where a quarter of the memory is not so much."""
    available = memory().available_bytes
    wanted = max(_READ_BYTES, 4 * cache_bytes())
    return wanted if available is None else min(wanted, max(available // 4, 1 << 20))


def read_bandwidth(threads: int) -> float:
    """Bytes a second that so many threads read from memory, one stream each; takes about a
    quarter of a second, and a second more when numba must first compile."""
    part = beyond_cache_bytes() // threads // 8
    arrays = [np.ones(part, np.float64) for _ in range(threads)]
    _total(arrays[0][:64])
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_LEAST_READS):
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
