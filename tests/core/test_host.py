"""Cores and memory within the limits of control groups: files as kernels and container engines lay them out."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tasks.core.host import available_cores, available_memory, is_this_host

GIB = 2**30
UNLIMITED_V1 = "9223372036854771712"


def host(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


LAYOUTS = {
    "v2 in a container": ("0::/", {"cpu.max": "100000 100000", "memory.max": f"{2 * GIB}"}),
    "v2, the limit is of a group around it": (
        "0::/user.slice/app.scope",
        {
            "user.slice/app.scope/cpu.max": "max 100000",
            "user.slice/cpu.max": "50000 50000",
            "user.slice/app.scope/memory.max": "max",
            "user.slice/memory.high": f"{2 * GIB}",
        },
    ),
    "v1 in a container, which is told the host's path": (
        "5:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/system.slice",
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "100000",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": f"{2 * GIB}",
        },
    ),
    "v1 on a host": (
        "4:memory:/batch/job\n1:cpu:/batch/job",
        {
            "cpu/batch/job/cpu.cfs_quota_us": "-1",
            "cpu/batch/job/cpu.cfs_period_us": "100000",
            "cpu/batch/cpu.cfs_quota_us": "70000",
            "cpu/batch/cpu.cfs_period_us": "100000",
            "memory/batch/job/memory.limit_in_bytes": UNLIMITED_V1,
            "memory/batch/memory.limit_in_bytes": f"{2 * GIB}",
        },
    ),
}


@pytest.fixture
def large_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores and 256 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    total = type("Memory", (), {"total": 256 * GIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: total)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_limit_of_one_core_and_two_gib_is_found(layout: str, tmp_path: Path, large_host: None) -> None:
    groups, files = LAYOUTS[layout]
    root = host(tmp_path, groups, files)
    assert (available_cores(root), available_memory(root)) == (1, 2 * GIB)


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/", {"cpu.max": "max 100000", "memory.max": "max", "memory.low": "1000"}),
        ("4:memory:/\n1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": UNLIMITED_V1}),
        ("7:pids:/a\n6:freezer:/a", {"cpu.max.burst": "0"}),
    ],
)
def test_without_a_limit_the_host_counts(groups: str, files: dict[str, str], tmp_path: Path, large_host: None) -> None:
    root = host(tmp_path, groups, files)
    assert (available_cores(root), available_memory(root)) == (64, 256 * GIB)
    assert available_cores(tmp_path / "no proc") == 64


def test_a_part_of_a_core_counts_as_one(tmp_path: Path, large_host: None) -> None:
    assert available_cores(host(tmp_path, "0::/", {"cpu.max": "150000 100000"})) == 2
    assert available_cores(host(tmp_path, "0::/", {"cpu.max": "5000 100000"})) == 1


def test_affinity_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert available_cores() == 1


def test_this_hosts_own_addresses_are_told_from_others() -> None:
    own = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == 2]
    for address in ["127.0.0.1", "127.0.0.9", "localhost", "::1", *own]:
        assert is_this_host(address), address
    for address in ["192.0.2.7", "2001:db8::7", "no-such-host.invalid"]:
        assert not is_this_host(address), address
