"""CPU time of this process and of those that it started."""

from __future__ import annotations

import os
import time
from pathlib import Path

SERVER = b"embedded_server"
"""In the command line of the embedded Prefect server."""


def process_times(pid: int) -> tuple[int, float] | None:
    """(parent, CPU seconds with those of children that ended and were awaited); None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def processor_seconds() -> dict[str, float]:
    """CPU seconds of this process (flow), of the embedded server, and of all others that descend from it (workers)."""
    found = {int(entry.name): process_times(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}
    times = {pid: parent_and_s for pid, parent_and_s in found.items() if parent_and_s}
    spent = {"flow": time.process_time(), "server": 0.0, "workers": 0.0}
    for pid, (parent, seconds) in times.items():
        ancestor = parent
        while ancestor in times and ancestor != os.getpid():
            ancestor = times[ancestor][0]
        if ancestor == os.getpid():
            spent["server" if SERVER in _command(pid) else "workers"] += seconds
    return spent


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
