"""Processes of a stack: started in the background, remembered, and ended exactly, never by name.

Every process carries the stack's random id in its environment, and its children inherit it. What ends is what carries
that id, through a descriptor that cannot come to mean another process.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

MARK = "REELFLOW_STACK_ID"


class Process(BaseModel):
    """One process that was started; `started` is its start time as the kernel counts it (clock ticks since boot)."""

    name: str
    pid: int
    started: int
    log: Path


def start(name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Process:
    """Starts a process in a session of its own, with its output in `folder/name.log`."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Process(name=name, pid=process.pid, started=_start_time(process.pid) or 0, log=log)
    entry, deadline = Path(f"/proc/{process.pid}"), time.monotonic() + 5
    while alive(found) and not _carries(entry, environment[MARK]) and time.monotonic() < deadline:
        time.sleep(0.001)  # in its first moments the kernel shows no environment, and `end` would not know it
    return found


def alive(process: Process) -> bool:
    """Does it run, and is it still the one that was started?"""
    return _start_time(process.pid) == process.started


def tail(process: Process, lines: int = 15) -> str:
    """The end of its log."""
    return "\n".join(process.log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def members(stack: str) -> list[int]:
    """Every process that carries the id: those that were started, and all that they have started since."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _carries(entry, stack)]


def memory(stack: str) -> int:
    """Bytes of memory that the stack holds; what processes share is counted once (PSS)."""
    total = 0
    for pid in members(stack):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def end(stack: str, first: Iterable[Process], grace_s: float = 15.0) -> int:
    """Ends each of `first` in order and gently, then whatever else carries the id; returns how many ended."""
    ended = 0
    for process in first:
        if alive(process):
            ended += _end([process.pid], stack, grace_s)
    while left := members(stack):
        ended += _end(left, stack, grace_s / 3)
    return ended


def _end(pids: Sequence[int], stack: str, grace_s: float) -> int:
    handles = [handle for pid in pids if (handle := _handle(pid, stack)) is not None]
    try:
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            running = [handle for handle in handles if not _ended(handle, 0)]
            for handle in running:
                _signal(handle, number)
            deadline = time.monotonic() + patience_s
            if all(_ended(handle, deadline - time.monotonic()) for handle in running):
                break
        return len(handles)
    finally:
        for handle in handles:
            os.close(handle)


def _handle(pid: int, stack: str) -> int | None:
    """A descriptor of the process, if it carries the id: checked after opening, so that a reused number is noticed."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if _carries(Path(f"/proc/{pid}"), stack):
        return handle
    os.close(handle)
    return None


def _signal(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return


def _ended(handle: int, timeout_s: float) -> bool:
    return bool(select.select([handle], [], [], max(0.0, timeout_s))[0])


def _carries(entry: Path, stack: str) -> bool:
    try:
        return f"{MARK}={stack}".encode() in (entry / "environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile, or belongs to someone else
        return False


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(rest[18])
