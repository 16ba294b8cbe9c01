"""What this process may use of its host: cores and memory, within the limits of its control groups (v2 and v1)."""

from __future__ import annotations

import ipaddress
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

ROOT = Path("/")


def available_cores(root: Path = ROOT) -> int:
    """Cores that this process may run on: affinity and CPU quotas respected, part of a core counts as one.

    `root` is the folder that holds proc/ and sys/.
    """
    quotas = [math.ceil(quota) for quota in _cpu_quotas(root)]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def available_memory(root: Path = ROOT) -> int:
    """Bytes that this process and its children may hold: the host's memory, or a limit below it."""
    return min([int(psutil.virtual_memory().total), *_memory_limits(root)])


def is_this_host(address: str) -> bool:
    """Is this IP address or name one of this host's, as it sees itself?"""
    own = {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}
    try:
        meant = {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(address, None)}
    except OSError:
        return False
    return any(one in own or ipaddress.ip_address(one).is_loopback for one in meant)


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Cores that each control group around this process is given."""
    for folder in _groups(root, "cpu"):
        for text in _texts(folder / "cpu.max"):  # "max 100000", "150000 100000"
            quota, _, period = text.partition(" ")
            if quota.isdigit() and period.isdigit():
                yield int(quota) / int(period)
        for quota, period in zip(
            _texts(folder / "cpu.cfs_quota_us"), _texts(folder / "cpu.cfs_period_us"), strict=False
        ):
            if quota.isdigit() and period.isdigit():  # -1: none
                yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[int]:
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            yield from (int(text) for text in _texts(folder / name) if text.isdigit() and int(text) > 0)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those around it, where v2 and v1 may have mounted them.

    In a container the group's own folder is often the mount itself, whatever path the process is told.
    """
    mounts = root / "sys/fs/cgroup"
    for text in _texts(root / "proc/self/cgroup"):
        for line in text.splitlines():
            _, names, path = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            group = PurePosixPath(path.lstrip("/"))
            for mount in (mounts / names, mounts / controller) if names else (mounts, mounts / "unified"):
                yield from (mount / folder for folder in (group, *group.parents))


def _texts(file: Path) -> Iterator[str]:
    """The file's content; nothing where it is not there."""
    try:
        yield file.read_text(encoding="utf-8").strip()
    except OSError:
        return
