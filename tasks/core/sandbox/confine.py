"""What a process does to itself before it meets hostile input; none of it can be undone.

Limits of memory, CPU time and file size; no privileges and none to be had; files only where it needs them, and no
network (landlock.py); no other processes, neither of its own making nor those of others (seccomp.py). Each layer that
a host lacks leaves the others standing: `lacking` says which, and `python -m flows doctor` shows it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tasks.core.sandbox import landlock, seccomp

MOST_OPEN_FILES: Final = 256

# linux/prctl.h, linux/capability.h
_PARENT_DEATH_SIGNAL, _SET_DUMPABLE, _NO_NEW_PRIVILEGES, _CHILD_SUBREAPER = 1, 4, 38, 36
_CAPABILITY_VERSION = 0x2008_0522
_KEPT: Final = 1 << 2
"""CAP_DAC_READ_SEARCH: whoever runs as root reads media that belong to others, within Landlock's bounds."""


def lacking() -> list[str]:
    """What of the confinement this host cannot give, one sentence each; empty where it has all of it."""
    return [f"{what} ({why})" for what, why in _lacking()]


def _lacking() -> Iterator[tuple[str, str]]:
    if why := landlock.missing():
        yield "files and connections are not fully closed to decoders", why
    if why := seccomp.missing():
        yield "system calls are not closed to decoders", why
    if sys.platform == "darwin":
        yield "memory of decoders is not bounded", "macOS does not enforce RLIMIT_AS"


def hide_memory() -> None:
    """Closes this process's memory and environment to others of the same user (/proc/PID/environ, mem, ptrace).

    It can no longer be attached to by a debugger, and leaves no core dumps.
    """
    _control(_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends."""
    _control(_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Has this process killed when the one that forked it ends."""
    _control(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def confine(
    *,
    memory_bytes: int,
    cpu_s: int,
    file_bytes: int,
    reads: Sequence[Path],
    writes: Sequence[Path],
    program: Path | None = None,
) -> None:
    """Confines this process for good; with a `program` it may still become that one.  Raises OSError.

    Where neither Landlock nor seccomp is to be had it does the rest.
    """
    runs = [*_parts_of(program)] if program else []
    if sys.platform == "linux":
        _control(_NO_NEW_PRIVILEGES, 1)
        _drop_capabilities()
    if landlock.version():
        landlock.restrict([*reads, Path("/dev/null"), Path("/dev/urandom")], writes, runs)
    if not seccomp.missing():
        seccomp.forbid(programs=program is not None)
    for kind, limit in (
        (resource.RLIMIT_CORE, (0, 0)),
        (resource.RLIMIT_NOFILE, (MOST_OPEN_FILES, MOST_OPEN_FILES)),
        (resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
        (resource.RLIMIT_CPU, (cpu_s, cpu_s + 2)),
        (resource.RLIMIT_AS, (memory_bytes, memory_bytes)),
    ):
        _limit(kind, limit)


def _limit(kind: int, limit: tuple[int, int]) -> None:
    """No limit is raised: one that stands may be lower already."""
    most = resource.getrlimit(kind)[1]
    hard = limit[1] if most == resource.RLIM_INFINITY else min(limit[1], most)
    try:
        resource.setrlimit(kind, (min(limit[0], hard), hard))
    except ValueError:
        if sys.platform == "linux":
            raise  # macOS refuses RLIMIT_AS


def _parts_of(program: Path) -> Iterator[Path]:
    """The program, and where it is linked to libraries: its loader, and the folders in which these lie."""
    yield program
    if interpreter := _interpreter(program):
        yield from _parts_of(interpreter)
        yield Path(sysconfig.get_path("platlib")) / "imageio_ffmpeg" / "binaries"  # what a wrapper is likely to wrap
    if loader := _loader(program):
        yield loader
        folders = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"]
        folders += os.environ.get("LD_LIBRARY_PATH", "").split(":")
        yield from (Path(folder) for folder in folders if folder)
        yield program.resolve().parent.parent / "lib"
        yield loader.resolve().parent


@functools.cache
def _interpreter(program: Path) -> Path | None:
    """Of a script, from its first line."""
    with program.open("rb") as file:
        head = file.readline(256)
    return Path(os.fsdecode(head[2:].split()[0])) if head.startswith(b"#!") and head[2:].split() else None


@functools.cache
def _loader(program: Path) -> Path | None:
    """The program interpreter that an ELF file names (its segment PT_INTERP); None where it is linked statically."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return None
        (offset,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        for number in range(count):
            file.seek(offset + number * size)
            kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", file.read(size))
            if kind == 3:
                file.seek(start)
                return Path(os.fsdecode(file.read(length).rstrip(b"\0")))
    return None


def _drop_capabilities() -> None:
    held = ctypes.create_string_buffer(24)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    libc = _libc()
    if libc.capget(header, held):
        raise OSError(ctypes.get_errno(), f"capget: {os.strerror(ctypes.get_errno())}")
    kept = struct.unpack("=6I", held.raw)[1] & _KEPT
    if libc.capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")


def _control(option: int, value: int) -> None:
    """prctl(2), on Linux."""
    if sys.platform != "linux":
        return
    if _libc().prctl(option, value, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
