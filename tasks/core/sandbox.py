"""Child processes for hostile input: bounded in wall time, CPU time, memory, file size and output, killed as a group.

The bounds are set with prlimit(2) on the running child. A preexec_fn would deadlock now and then in a worker with
threads, and a wrapping interpreter costs 25 ms for each run; all of these limits are checked by the kernel when a
resource is used, so that the instant before they are set gives nothing away. Where prlimit does not exist (macOS) the
wall-clock bound and the caps on output remain.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUT_BYTES = 4 * 2**20
"""Most stdout that is kept; a child that writes more is killed."""
STDERR_BYTES = 16 * 2**10
"""The first and the last half of this are kept."""
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "HOME", "TZ")

_spent = threading.local()


@dataclass(frozen=True)
class Bounds:
    """What a child may use; `cpu_s` counts all its threads."""

    wall_s: float
    cpu_s: float
    memory_bytes: int = 4 * 2**30
    file_bytes: int = 2**40


@dataclass(frozen=True)
class Finished:
    """How a child ended. `exceeded` names the bound that stopped it, or is None."""

    returncode: int
    stdout: bytes
    stderr: str
    wall_s: float
    cpu_s: float
    exceeded: str | None = None
    peak_bytes: int = 0
    """Most memory that the child held. It inherits the peak of this process: 0 where it held no more than that."""


def child_cpu_s() -> float:
    """CPU seconds of all children that this thread has run: take the difference around a stage."""
    return float(getattr(_spent, "cpu_s", 0.0))


def python(module: str, *arguments: str) -> list[str]:
    """A command that calls `main(*arguments)` of one of our modules, in an isolated interpreter (-I)."""
    start = (
        "import sys, importlib as i; sys.path.insert(0, sys.argv[1]); i.import_module(sys.argv[2]).main(*sys.argv[3:])"
    )
    return [sys.executable, "-I", "-c", start, str(Path(__file__).parents[2]), module, *arguments]


def run_confined(command: Sequence[str], bounds: Bounds) -> Finished:
    """Run `command` without a shell, in a process group of its own, with an empty stdin and a bare environment.

    Never raises for what the child does; OSError when it cannot be started.
    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"LC_ALL": "C", "MALLOC_ARENA_MAX": "2"}
    started = time.monotonic()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        process_group=0,
        close_fds=True,
    )
    assert child.stdout is not None  # noqa: S101
    assert child.stderr is not None  # noqa: S101
    output, errors = _Kept(OUTPUT_BYTES), _Kept(STDERR_BYTES)
    exceeded = None
    try:
        _limit(child.pid, bounds)
        exceeded = _collect({child.stdout: output, child.stderr: errors}, started + bounds.wall_s, output)
        deadline = started + bounds.wall_s
        while exceeded is None and not _reap(child):
            if time.monotonic() > deadline:
                exceeded = "time"
            time.sleep(0.002)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            while not _reap(child):
                time.sleep(0.002)
        child.stdout.close()
        child.stderr.close()
    cpu_s, peak_bytes = child.__dict__.pop("used", (0.0, 0))
    _spent.cpu_s = child_cpu_s() + cpu_s
    if exceeded is None and child.returncode == -signal.SIGXCPU:
        exceeded = "time"
    elif exceeded is None and child.returncode == -signal.SIGXFSZ:
        exceeded = "file size"
    wall_s = time.monotonic() - started
    return Finished(child.returncode, output.data(), errors.text(), wall_s, cpu_s, exceeded, peak_bytes)


class _Kept:
    """The first and the last half of `limit` bytes of what is fed."""

    def __init__(self, limit: int) -> None:
        self.half = limit // 2
        self.head = bytearray()
        self.tail = bytearray()
        self.total = 0

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        room = max(0, self.half - len(self.head))
        self.head += data[:room]
        self.tail += data[room:]
        del self.tail[: -self.half]

    @property
    def full(self) -> bool:
        return self.total > 2 * self.half

    def data(self) -> bytes:
        return bytes(self.head + self.tail)

    def text(self) -> str:
        gap = "\n[...]\n" if self.full else ""
        return self.head.decode(errors="replace") + gap + self.tail.decode(errors="replace")


def _collect(pipes: dict[object, _Kept], deadline: float, output: _Kept) -> str | None:
    with selectors.DefaultSelector() as selector:
        for pipe, kept in pipes.items():
            selector.register(pipe, selectors.EVENT_READ, kept)  # type: ignore[arg-type]
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return "time"
            for key, _ in selector.select(remaining):
                data = os.read(key.fd, 65536)
                if data:
                    key.data.feed(data)
                else:
                    selector.unregister(key.fileobj)
                if output.full:
                    return "output"
    return None


def _limit(pid: int, bounds: Bounds) -> None:
    if not hasattr(resource, "prlimit"):
        return
    cpu_s = max(1, round(bounds.cpu_s))
    with contextlib.suppress(ProcessLookupError):  # it may have ended already
        resource.prlimit(pid, resource.RLIMIT_AS, (bounds.memory_bytes, bounds.memory_bytes))
        resource.prlimit(pid, resource.RLIMIT_CPU, (cpu_s, cpu_s + 2))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (bounds.file_bytes, bounds.file_bytes))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def _reap(child: subprocess.Popen[bytes]) -> bool:
    """Collect the child if it has ended, with the CPU time and memory that Popen.wait would throw away."""
    if child.returncode is not None:
        return True
    pid, status, usage = os.wait4(child.pid, os.WNOHANG)
    if pid == 0:
        return False
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    own = usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child.__dict__["used"] = (usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit if own else 0)
    return True
