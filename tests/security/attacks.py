"""What hostile media would do once it runs code in a decoder: each attack tries in earnest and says what it got.

Run as a confined child; ATTACKS are the doors. Paths and ports to try are given by the test.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

READ, PTRACE_ATTACH, CLONE_NEWUSER, CLONE_NEWNET = 4096, 16, 0x10000000, 0x40000000


def read_file(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(READ).decode(errors="replace")


def list_folder(path: str) -> str:
    return " ".join(entry.name for entry in Path(path).iterdir())


def write_file(path: str) -> str:
    Path(path).write_text("owned", encoding="utf-8")
    return "written"


def change_mode(path: str) -> str:
    Path(path).chmod(0o777)
    return "changed"


def own_environment() -> str:
    return json.dumps(dict(os.environ)) + read_file("/proc/self/environ")


def environment_of(pid: str) -> str:
    return read_file(f"/proc/{pid}/environ")


def memory_of(pid: str, address: str) -> str:
    with Path(f"/proc/{pid}/mem").open("rb") as file:
        file.seek(int(address))
        return file.read(64).decode(errors="replace")


def memory_call(pid: str, address: str) -> str:
    class Part(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(64)
    here, there = Part(ctypes.addressof(buffer), 64), Part(int(address), 64)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.process_vm_readv(int(pid), ctypes.byref(here), 1, ctypes.byref(there), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return buffer.raw.decode(errors="replace")


def attach(pid: str) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_ATTACH, int(pid), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return "attached"


def signal_to(pid: str) -> str:
    os.kill(int(pid), signal.SIGCONT)
    return "sent"


def connect(port: str) -> str:
    with socket.create_connection(("127.0.0.1", int(port)), 5) as connection:
        return connection.recv(64).decode()


def connect_unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        return connection.recv(64).decode()


def start_program(path: str) -> str:
    return subprocess.run([path], capture_output=True, text=True, check=True).stdout


def become_program(path: str) -> str:
    os.execv(path, [path])  # noqa: S606
    return "never"


def leave_grandchild(path: str, after_s: str) -> str:
    """Out of the group, with another parent, and alive when this child has ended."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            with contextlib.suppress(OSError):
                os.closerange(0, 3)
            time.sleep(float(after_s))
            Path(path).write_text("alive", encoding="utf-8")
        os._exit(0)
    return "left"


def new_namespace() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    return "unshared"


def ring() -> str:
    """io_uring would make calls that no filter of calls sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 8, ctypes.create_string_buffer(120)) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    return "set up"


def allocate(size: str) -> str:
    return str(len(b"x" * int(size)))


def fill_disk(path: str, size: str) -> str:
    with Path(path).open("wb") as file:
        for _ in range(0, int(size), 2**20):
            file.write(b"x" * 2**20)
    return "filled"


def burn() -> str:
    while True:
        pass


def raise_limits() -> str:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "raised"


def escape_limit_of(pid: str) -> str:
    import resource

    resource.prlimit(int(pid), resource.RLIMIT_CORE, (0, 0))
    return "set"


ATTACKS: dict[str, Callable[..., str]] = {
    attack.__name__: attack
    for attack in (
        read_file,
        list_folder,
        write_file,
        change_mode,
        own_environment,
        environment_of,
        memory_of,
        memory_call,
        attach,
        signal_to,
        connect,
        connect_unix,
        start_program,
        become_program,
        leave_grandchild,
        new_namespace,
        ring,
        allocate,
        fill_disk,
        burn,
        raise_limits,
        escape_limit_of,
    )
}


def main(*plan: str) -> None:
    """`plan`: attacks as JSON lists of their name and arguments. Prints {"got" or "failed": ...} for each."""
    for text in plan:
        name, *arguments = json.loads(text)
        try:
            said = {"got": ATTACKS[name](*arguments)}
        except Exception as error:
            said = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
