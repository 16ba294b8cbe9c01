"""Child processes for hostile input: confined in what they touch, bounded in all they use, ended with all they made.

A child has no secret: it starts with a bare environment, from a process that has none either (starter.py). It reads
and writes the files that it is given, and reaches neither the network nor another process (confine.py). It is bounded
in wall time, CPU time, memory, file size and output. Where it ends, by itself or not, nothing that it started goes on.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tasks.core.sandbox import confine
from tasks.core.sandbox.starter import RECORD

OUTPUT_BYTES: Final = 4 * 2**20
"""Most stdout that is kept; a child that writes more is killed."""
STDERR_BYTES: Final = 16 * 2**10
"""The first and the last half of this are kept."""
PASSED_ON: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")
"""All of this process's environment that children see."""
ENVIRONMENT: Final = {"LC_ALL": "C", "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
GRACE_S: Final = 10.0
"""How long the end of a child that was killed may take to be told."""

START = "import sys; sys.path.insert(0, sys.argv[1]); from tasks.core.sandbox.starter import main; main(sys.argv[2])"
"""What the process that children are forked from begins with."""

_ROOT: Final = Path(__file__).parents[3]
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
    """Most memory that the child held, that of the small process included which it was forked from."""


def child_cpu_s() -> float:
    """CPU seconds of all children that this thread has run: take the difference around a stage."""
    return float(getattr(_spent, "cpu_s", 0.0))


def warm(*modules: str) -> None:
    """Has the process that children are forked from started, and begin to import modules that they will need."""
    for module in modules:
        _starter().send(module)


def run_program(
    command: Sequence[str], bounds: Bounds, *, reads: Sequence[Path] = (), writes: Sequence[Path] = ()
) -> Finished:
    """Run a program without a shell, in a process group of its own, with an empty stdin and a bare environment.

    `command` begins with its path; it sees the files and folders in `reads`, and changes what lies in those of
    `writes`. Never raises for what the child does; OSError when it cannot be started.
    """
    return _run({"program": list(command), "module": ""}, bounds, reads, writes, None)


def run_module(
    module: str,
    arguments: Sequence[str],
    bounds: Bounds,
    *,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    attachment: int | None = None,
) -> Finished:
    """Call `main(*arguments)` of one of our modules in a child, whose stdout is the result; likewise.

    `attachment` is a descriptor that the child has as starter.ATTACHMENT.
    """
    told = {"program": [], "module": module, "arguments": list(arguments)}
    return _run(told, bounds, [*_code(), *reads], writes, attachment)


@functools.cache
def _code() -> tuple[Path, ...]:
    """Folders of Python code that a module may still import from."""
    installed = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return (*installed, _ROOT / "tasks")


def _run(
    told: dict[str, Any], bounds: Bounds, reads: Sequence[Path], writes: Sequence[Path], attachment: int | None
) -> Finished:
    told |= {
        "environment": _environment(),
        "memory_bytes": bounds.memory_bytes,
        "cpu_s": max(1, round(bounds.cpu_s)),
        "file_bytes": bounds.file_bytes,
        "reads": [str(path.absolute()) for path in reads],
        "writes": [str(path.absolute()) for path in writes],
    }
    output, errors, ending = _Kept(OUTPUT_BYTES), _Kept(STDERR_BYTES), _Kept(STDERR_BYTES)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        channel, theirs = socket.socketpair()
        stack.enter_context(channel)
        reading, writing = zip(*(os.pipe() for _ in range(3)), strict=True)
        order = stack.enter_context(os.fdopen(writing[0], "w", encoding="utf-8"))
        ours = [stack.enter_context(os.fdopen(end, "rb", buffering=0)) for end in reading[1:]]
        with theirs:
            ends = [theirs.fileno(), reading[0], *writing[1:], *([] if attachment is None else [attachment])]
            try:
                _starter().send(told["module"], ends)
            finally:
                for end in (reading[0], *writing[1:]):
                    os.close(end)
        with contextlib.suppress(BrokenPipeError):  # the child has ended already
            json.dump(told, order)
            order.close()
        sources = {channel: ending, ours[0]: output, ours[1]: errors}
        exceeded = _collect(sources, channel, output, started + bounds.wall_s)
    if not ending.total:
        raise OSError(0, "the process that children are forked from has ended", None)
    end = json.loads(ending.data())
    if "failed" in end:
        raise OSError(0, end["failed"])
    _spent.cpu_s = child_cpu_s() + end["cpu_s"]
    returncode = end["returncode"]
    if exceeded is None:
        exceeded = {-signal.SIGXCPU: "time", -signal.SIGXFSZ: "file size"}.get(returncode)
    wall_s = time.monotonic() - started
    return Finished(returncode, output.data(), errors.text(), wall_s, end["cpu_s"], exceeded, end["peak"])


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | ENVIRONMENT


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


def _collect(sources: dict[Any, _Kept], channel: socket.socket, output: _Kept, deadline: float) -> str | None:
    """Reads everything up to its end; the bound that was exceeded."""
    exceeded = None
    with selectors.DefaultSelector() as selector:
        for source, kept in sources.items():
            selector.register(source, selectors.EVENT_READ, kept)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if exceeded is None and (remaining <= 0 or output.full):
                exceeded = "time" if remaining <= 0 else "output"
                deadline = time.monotonic() + GRACE_S
                with contextlib.suppress(OSError):
                    channel.send(b"end")
            elif remaining <= 0:
                break
            for key, _ in selector.select(min(remaining, GRACE_S)):
                try:
                    data = os.read(key.fd, 65536)
                except ConnectionError:
                    data = b""
                if data:
                    key.data.feed(data)
                else:
                    selector.unregister(key.fileobj)
    return exceeded


class _Starter:
    """This process's starter.py."""

    def __init__(self) -> None:
        confine.hide_memory()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", START, str(_ROOT), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._lock = threading.Lock()

    def send(self, module: str, descriptors: Sequence[int] = ()) -> None:
        """Raises OSError where it has ended."""
        record = module.encode().ljust(RECORD)
        with self._lock:
            if descriptors:
                socket.send_fds(self._control, [record], descriptors)
            else:
                self._control.sendall(record)

    def lives(self) -> bool:
        return self._process.poll() is None

    def forget(self) -> None:
        """In a forked process, whose it is not."""
        self._control.close()
        self._process.returncode = 0

    def end(self) -> None:
        self._control.close()
        self._process.wait()


_one: _Starter | None = None
_starting = threading.Lock()


def _starter() -> _Starter:
    """The one of this process, started at first use and again when it has ended."""
    global _one
    with _starting:
        if _one is None or not _one.lives():
            _one = _Starter()
        return _one


def _forget() -> None:
    global _one, _starting
    _starting = threading.Lock()
    if _one is not None:
        _one.forget()
        _one = None


def _end() -> None:
    if _one is not None:
        _one.end()


os.register_at_fork(after_in_child=_forget)
atexit.register(_end)
