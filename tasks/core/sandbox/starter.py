"""The process that confined children are forked from: clean, small and without threads. It never sees any input.

A worker must not fork children itself. It has threads, in which fork deadlocks now and then, and its memory and
environment hold keys, all of which a forked child would have; and a fresh interpreter for each child costs 0.2 s. This
process is started once, imports what children will need, and forks them in milliseconds.

Over its control socket come records of RECORD bytes: the name of a module to import, with the descriptors of a child
to be forked or without any: its channel, a pipe that says what it is to do (JSON, see children.py), its stdout, its
stderr and perhaps an attachment. When the child has ended, how it did comes out of the channel. A channel that is
closed, or anything in it, ends the child; when the control socket closes everything ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from tasks.core.sandbox import confine

RECORD: Final = 128
"""Bytes of a record: a module's name, filled up with spaces."""
ATTACHMENT: Final = 3
"""Descriptor of a child's attachment; 0 to 2 are its standard ones."""

Jobs = dict[int, socket.socket]
"""Channels of the living children by process id."""


def main(control: str) -> None:
    """Serves until the control socket, whose descriptor this is, closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    confine.hide_memory()
    confine.adopt_orphans()
    with socket.socket(fileno=int(control)) as requests:
        _serve(requests)
    os._exit(0)


def _serve(requests: socket.socket) -> None:
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    jobs: Jobs = {}
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ, 0)
        selector.register(awake, selectors.EVENT_READ, -1)
        while True:
            for key, _ in selector.select():
                if key.data == 0:
                    if not _take(requests, selector, jobs):
                        for pid in jobs:
                            _kill(pid)
                        _end_strangers({})
                        return
                elif key.data == -1:
                    os.read(awake, 4096)
                elif key.data in jobs:
                    selector.unregister(jobs[key.data])
                    _kill(key.data)
            _reap(selector, jobs)


def _take(requests: socket.socket, selector: selectors.BaseSelector, jobs: Jobs) -> bool:
    """Deals with one record; False at the end of the control socket."""
    try:
        record, descriptors, _, _ = socket.recv_fds(requests, RECORD, 5)
    except ConnectionError:
        return False
    if len(record) < RECORD:
        return False
    module = record.decode().strip()
    try:
        if module:
            importlib.import_module(module)
    except Exception as error:
        if descriptors:
            _tell(descriptors[0], {"failed": f"{module} cannot be imported ({error})"})
            for descriptor in descriptors[1:]:
                os.close(descriptor)
        return True
    if descriptors:
        pid = os.fork()
        if not pid:
            _child(descriptors)
        channel = socket.socket(fileno=descriptors[0])
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        jobs[pid] = channel
        selector.register(channel, selectors.EVENT_READ, pid)
    return True


def _reap(selector: selectors.BaseSelector, jobs: Jobs) -> None:
    """Reports the children that have ended, after what is left of their groups was killed."""
    ended = []
    for pid in list(jobs):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            continue
        _kill(pid)
        _, status, usage = os.wait4(pid, 0)
        ended.append((jobs.pop(pid), status, usage))
    if not ended:
        return
    _end_strangers(jobs)
    for channel, status, usage in ended:
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(channel)
        told = {
            "returncode": os.waitstatus_to_exitcode(status),
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        }
        _tell(channel.detach(), told)


def _tell(channel: int, said: dict[str, Any]) -> None:
    """The last word of a channel."""
    with socket.socket(fileno=channel) as end, contextlib.suppress(OSError):
        end.sendall(json.dumps(said).encode())


def _kill(pid: int) -> None:
    """The child and its process group; it may not have made that yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _end_strangers(jobs: Jobs) -> None:
    """Ends the descendants that came to this process when the child that made them ended."""
    while strangers := _children() - set(jobs):
        for pid in strangers:
            _kill(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> set[int]:
    try:
        listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        return set()  # of no Linux, or of one built without this list
    return set(map(int, listed.split()))


def _child(descriptors: list[int]) -> None:
    """Does what the channel says; does not return."""
    code = 1
    try:
        os.setpgid(0, 0)
        confine.end_with_parent()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        with os.fdopen(descriptors[1], encoding="utf-8") as source:
            told = json.load(source)
        _settle(descriptors[2:])
        _run(told)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _settle(descriptors: list[int]) -> None:
    """Puts stdin, stdout, stderr and the attachment in their places and closes all else."""
    moved = [os.open(os.devnull, os.O_RDONLY), *descriptors]
    # out of the way of the places first
    moved = [_above(descriptor) for descriptor in moved]
    for place, descriptor in enumerate(moved):
        os.dup2(descriptor, place)
    os.closerange(len(moved), os.sysconf("SC_OPEN_MAX"))


def _above(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, 16)


def _run(told: dict[str, Any]) -> None:
    environment, program = told["environment"], told["program"]
    bounds = {name: told[name] for name in ("memory_bytes", "cpu_s", "file_bytes")}
    reads, writes = ([Path(path) for path in told[name]] for name in ("reads", "writes"))
    if program:
        confine.confine(**bounds, reads=reads, writes=writes, program=Path(program[0]))
        os.execve(program[0], program, environment)  # noqa: S606
    module = sys.modules[told["module"]]
    os.environ.clear()
    os.environ.update(environment)
    confine.confine(**bounds, reads=reads, writes=writes)
    module.main(*told["arguments"])
