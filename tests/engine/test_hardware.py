"""Detection of memory and cores, with and without a container."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from melisma.engine.resources import hardware


def system(folder: Path, **files: str) -> Path:
    """A system's root with some files; "__" in a name is a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def _known_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 GB, of which 9 are available."""
    memory = SimpleNamespace(total=16_384_000_000, available=9_216_000_000)
    monkeypatch.setattr(hardware.psutil, "virtual_memory", lambda: memory)


@pytest.mark.usefixtures("_known_memory")
def test_memory_without_a_container(tmp_path: Path) -> None:
    found = hardware.memory(tmp_path)
    assert (found.total_bytes, found.available_bytes) == (16_384_000_000, 9_216_000_000)
    assert not found.contained


@pytest.mark.usefixtures("_known_memory")
@pytest.mark.parametrize("path", ["/", "/pod/one"])
def test_memory_and_cores_of_a_container(tmp_path: Path, path: str) -> None:
    root = system(tmp_path, proc__self__cgroup=f"0::{path}\n")
    folder = root / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    # Outer groups count where they are seen.
    for name, text in {
        "memory.max": "4000000000\n",
        "memory.current": "1500000000\n",
        "memory.stat": "anon 1\ninactive_file 500000000\n",
        "cpu.max": "150000 100000\n",
    }.items():
        (folder / name).write_text(text)
    found = hardware.memory(root)
    assert (found.total_bytes, found.available_bytes) == (4_000_000_000, 3_000_000_000)
    assert found.contained
    assert hardware.processor(root).usable == min(1.5, hardware.processor(tmp_path / "x").usable)


@pytest.mark.usefixtures("_known_memory")
def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    lines = "5:memory:/a\n4:cpu,cpuacct:/a\n3:freezer:/\nnonsense\n"
    root = system(tmp_path, proc__self__cgroup=lines)
    memory, cpu = (root / f"sys/fs/cgroup/{name}/a" for name in ("memory", "cpu,cpuacct"))
    for folder in (memory, cpu):
        folder.mkdir(parents=True)
    (memory / "memory.limit_in_bytes").write_text("2000000000")
    (memory / "memory.usage_in_bytes").write_text("3000000000")
    (memory.parent / "memory.limit_in_bytes").write_text("9223372036854771712")
    (cpu / "cpu.cfs_quota_us").write_text("-1")
    (cpu / "cpu.cfs_period_us").write_text("100000")
    found = hardware.memory(root)
    assert (found.total_bytes, found.available_bytes) == (2_000_000_000, 0)
    assert hardware._container_cores(root) is None
    (cpu / "cpu.cfs_quota_us").write_text("50000")
    assert hardware._container_cores(root) == 0.5
    assert hardware.processor(root).threads == 1


@pytest.mark.usefixtures("_known_memory")
def test_no_limit_of_a_container(tmp_path: Path) -> None:
    root = system(
        tmp_path, proc__self__cgroup="0::/\n",
        **{"sys__fs__cgroup__memory.max": "max\n", "sys__fs__cgroup__cpu.max": "max 100000\n"},
    )  # fmt: skip
    assert not hardware.memory(root).contained
    assert hardware._container_cores(root) is None


def test_the_cache_of_the_processor(tmp_path: Path) -> None:
    assert hardware.cache_bytes(tmp_path) == hardware.CACHE_BYTES
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cache"
    for index, size in enumerate(("48K", "2048K", "33M", "odd")):
        (folder / f"index{index}").mkdir(parents=True)
        (folder / f"index{index}/size").write_text(size)
    assert hardware.cache_bytes(tmp_path) == 33 << 20


def test_this_machine_is_known() -> None:
    found, memory = hardware.processor(), hardware.memory()
    assert 1 <= found.threads <= found.cores
    assert found.name
    assert memory.total_bytes is None or memory.total_bytes > 1 << 28
    assert hardware.beyond_cache_bytes() >= 1 << 20


def test_a_system_that_reports_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(hardware.psutil, "virtual_memory", fail)
    monkeypatch.setattr(hardware.psutil, "Process", fail)
    unknown = hardware.Memory(total_bytes=None, available_bytes=None)
    assert hardware.memory(tmp_path) == unknown
    found = hardware.processor(tmp_path)
    assert found.usable == found.cores


def test_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware.psutil, "Process", SimpleNamespace)  # as on macOS
    monkeypatch.setattr(hardware.psutil, "cpu_count", lambda: 6)
    found = hardware.processor(tmp_path)
    assert (found.cores, found.threads) == (6, 6)
